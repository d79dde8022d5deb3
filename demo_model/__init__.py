"""The bundled toy model: the grammar of its dialogues, its training, its weights.

Nothing in `steering/` below the command line knows this package.
"""
