"""The command line: one module per command, thin; `main.py` puts them together."""
