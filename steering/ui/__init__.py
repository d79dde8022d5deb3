"""The page: pick a language, chat, and read which language the answer is in.

A folder per tab (`chat`, `compare`, `results`, `inside`, `about`), each with its `tab.py` where it
begins, and `making`, the panel for a model without a neuron set; `chat` begins at `layout.py` and
`listeners.py`. What several of them use lies here: `launching.py` opens the page, `asking.py` is
what they ask of the engine, `choices.py` are the choices above them. Importing this package loads
no gradio.
"""
