"""What a person is told of an error: its own words, or one plain sentence and the rest in the log.

Knows no component.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

from steering.errors import SteeringError

log = logging.getLogger(__name__)

_WENT_WRONG = "Something went wrong inside the program. Try again; its log says what it was."


def in_words(err: Exception) -> str:
    """Return what to tell a person of an error; an unexpected one goes to the log."""
    if isinstance(err, SteeringError):
        return str(err)
    log.error("Something on the page failed", exc_info=err)
    return _WENT_WRONG


@contextmanager
def errors_in_words(*, is_page: bool = True) -> Iterator[None]:
    """Turn every error into one that gradio shows; a page shows HTML, so there it is escaped."""
    try:
        yield
    except Exception as err:
        text = escape(in_words(err), quote=False) if is_page else in_words(err)
        raise gr.Error(text, print_exception=False) from err
