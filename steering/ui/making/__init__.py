"""The panel above the tabs that makes a missing neuron set: its thread, its words, its buttons."""
