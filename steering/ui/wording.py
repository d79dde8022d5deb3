"""What a person is told of an error: its own words, or one plain sentence and the rest in the log.

Knows no component.
"""

import logging

from steering.errors import SteeringError

log = logging.getLogger(__name__)

_WENT_WRONG = "Something went wrong inside the program. Try again; its log says what it was."


def in_words(err: Exception) -> str:
    """Return what to tell a person of an error; an unexpected one goes to the log."""
    if isinstance(err, SteeringError):
        return str(err)
    log.error("Something on the page failed", exc_info=err)
    return _WENT_WRONG
