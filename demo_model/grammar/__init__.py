"""A dialogue grammar in seven languages: it makes questions and replies, and it parses them.

`world.py` holds what is true in the demo world and the frames, `language_pack.py` renders a frame
in one language, `parsing.py` says of any text which language and frame it is, or none.
"""
