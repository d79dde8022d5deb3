"""The OpenAI-compatible API: chat completions in a chosen language, models, health, metrics.

`application.py` has the routes, `asked.py` the fields of a request, `choosing.py` what steers its
answer, `answering.py` how the engine writes it, `replies.py` what is sent back, `refusals.py` what
is sent instead, `gates.py` what every request passes first, `metrics.py` what is counted.
How to use it: docs/api.md. Knows nothing of the page.
"""
