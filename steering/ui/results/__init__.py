"""The tab "Does it work?": what was measured with the neuron set, and prompts run live."""
