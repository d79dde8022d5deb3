"""What a person is told of an error, in the page's language as far as the page makes the text.

What the page itself refuses has a text in every language (`Refusal`), and so have a few errors that
say no more than their kind. All others speak English alone: a sentence in the page's language says
what failed, then come their own words, marked as English. Knows no component.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import gradio as gr

from steering.errors import (
    EngineClosedError,
    GenerationError,
    OutOfMemoryError,
    QueueFullError,
    SteeringError,
)
from steering.languages import Language
from steering.ui.badges import SIGNS, name_in
from steering.ui.strings import Told, direction_of, in_locale, say

log = logging.getLogger(__name__)

# Kinds of errors that a sentence of the page says as well as their own words do.
_BY_KIND: dict[type[SteeringError], str] = {
    QueueFullError: "queue_full",
    OutOfMemoryError: "out_of_memory",
    EngineClosedError: "server_closing",
}


# (locale) -> what somebody who reads that is told: for what is said to several people.
Words: TypeAlias = Callable[[str], Told]


class Refusal(GenerationError):
    """What the page itself refuses; as text it is in English."""

    def __init__(self, key: str, **values: object) -> None:
        """Name the text, and the values that are put in."""
        super().__init__(say(key, "en", **values))
        self._key, self._values = key, values

    def say_in(self, locale: str) -> str:
        """Return the same in another of the page's languages."""
        return say(self._key, locale, **self._values)


def saying(key: str, **values: object) -> Words:
    """Return a text for people of all locales; languages among the values are named in each."""

    def words(locale: str) -> Told:
        named = {
            name: name_in(value, locale) if isinstance(value, Language) else value
            for name, value in values.items()
        }
        return Told(say(key, locale, **named))

    return words


def trouble(key: str, err: Exception) -> Words:
    """Return what to tell people of an error; an unexpected one goes to the log, once.

    Args:
        key: Of the sentence that says what failed. English readers do without, as the library's
            messages begin with it.
        err: What happened.
    """
    if not isinstance(err, SteeringError):
        log.error("Something on the page failed", exc_info=err)
    return functools.partial(_tell, key, err)


def tell(key: str, err: Exception, locale: str) -> Told:
    """Return what to tell one person of an error; see `trouble`."""
    return trouble(key, err)(locale)


def with_lead(key: str, english: str, locale: str) -> Told:
    """Return an English text of the library, with a sentence before it for who reads another."""
    return Told(english) if locale == "en" else Told(say(key, locale), english)


def failure_html(told: Told, locale: str, *, is_broken_off: bool = False) -> str:
    """Return what went wrong as the line that stands where an answer's badge would.

    Args:
        told: What went wrong.
        locale: What it is said in.
        is_broken_off: Whether the server may be gone: the browser then looks (`watch_server.js`).
    """
    name = "badge badge-bad broken-off" if is_broken_off else "badge badge-bad"
    return (
        f'<span class="{name}" lang="{locale}" dir="{direction_of(locale)}">'
        f"{SIGNS['bad']} {told.html}</span>"
    )


@contextmanager
def errors_in_words(key: str, locale: str) -> Iterator[None]:
    """Turn every error into one that gradio shows on the page, as HTML; see `trouble`."""
    try:
        yield
    except Exception as err:
        html = in_locale(tell(key, err, locale).html, locale)
        raise gr.Error(html, print_exception=False) from err


@contextmanager
def errors_for_programs() -> Iterator[None]:
    """Turn every error into one that gradio hands to a program: plain text in English."""
    try:
        yield
    except Exception as err:
        raise gr.Error(str(tell("failed_answer", err, "en")), print_exception=False) from err


def _tell(key: str, err: Exception, locale: str) -> Told:
    if isinstance(err, Refusal):
        return Told(err.say_in(locale))
    for kind, own in _BY_KIND.items():
        if isinstance(err, kind) and locale != "en":
            return Told(say(own, locale))
    if isinstance(err, SteeringError):
        return with_lead(key, str(err), locale)
    return Told(say("went_wrong", locale))
