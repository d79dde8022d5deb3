"""The page: pick a language, chat, and read which language the answer is in.

`launching.py` opens it, `layout.py` lays it out, `listeners.py` connects it, `chat.py` is a turn,
`messages.py` and `badges.py` say how a turn is shown. Importing this package loads no gradio.
"""
