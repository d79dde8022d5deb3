"""The report card of a neuron set: numbers (`card`), their sections, and two renderings of them."""
