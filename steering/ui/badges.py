"""Puts the verdict on an answer into words, and the words into a line of HTML under the answer.

Says it by sign and words, never by colour alone. Knows no chat and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from steering.detection import LineVerdict, ReplyVerdict, detect, identify_reply, is_decided
from steering.languages import Language
from steering.ui.strings import Told, as_html, direction_of, enumerate_in, say

Tone = Literal["good", "bad", "neutral"]

# How the line under an answer begins that is being written: by it, and by its class in the browser
# (`watch_server.js`), one is known that never came to its end.
BEING_WRITTEN = '<span class="note being-written"'

_SHOWN_WORDS = 3

SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✗", "neutral": "·"}


@dataclass(frozen=True, slots=True)
class Badge:
    """What is said of an answer.

    Args:
        tone: How it is coloured, and its sign.
        words: Such as `French, as chosen`.
    """

    tone: Tone
    words: str

    @property
    def text(self) -> str:
        """Return sign and words."""
        return f"{SIGNS[self.tone]} {self.words}"


def judge_answer(
    answer: str, *, chosen: Language | None, languages: Sequence[Language], locale: str = "en"
) -> Badge:
    """Say which language an answer is in, and whether it is the chosen one.

    Args:
        answer: Plain text.
        chosen: None if no language was chosen.
        languages: The languages in play.
        locale: What it is said in.
    """
    if chosen is None:
        guess = identify_reply(answer, languages=languages)
        known = guess.language if is_decided(guess) else None
        words = name_in(known, locale) if known else say("badge_too_short", locale)
        return Badge("neutral", words)
    verdict = detect(answer, expected=chosen, languages=languages)
    name = name_in(chosen, locale)
    if verdict.verdict == "on_target":
        return Badge("good", say("badge_as_chosen", locale, language=name))
    if verdict.verdict == "off_target":
        if words := _intruding(verdict, chosen):
            return Badge("bad", say("badge_intrusions", locale, language=name, words=words))
        found = _found(verdict, chosen, locale)
        return Badge("bad", say("badge_not_as_chosen", locale, found=found, language=name))
    if verdict.verdict == "no_language":
        return Badge("neutral", say("badge_no_words", locale))
    return Badge("neutral", say("badge_too_short", locale))


def name_in(language: Language | None, locale: str) -> str:
    """Return a language's name: in English for English readers, else its own; None is another."""
    if language is None:
        return say("another_language", locale)
    return language.english_name if locale == "en" else language.native_name


def badge_html(badge: Badge | None, notes: Sequence[str | Told], locale: str = "en") -> str:
    """Return the line under an answer: the badge, then notes such as `(stopped)`.

    Each runs in the direction of the locale, whatever the answer above it does.
    """
    spoken = f'lang="{locale}" dir="{direction_of(locale)}"'
    parts = []
    if badge is not None:
        parts.append(f'<span class="badge badge-{badge.tone}" {spoken}>{escape(badge.text)}</span>')
    parts += [f'<span class="note" {spoken}>{as_html(note)}</span>' for note in notes if note]
    return " ".join(parts)


def being_written_html(waits: str, locale: str = "en") -> str:
    """Return the line under an answer that is being written: what it waits for, in words."""
    return f'{BEING_WRITTEN} lang="{locale}" dir="{direction_of(locale)}">{escape(waits)}</span>'


def _strays(verdict: ReplyVerdict) -> list[LineVerdict]:
    pieces = (*verdict.lines, *verdict.sentences)
    return [one for one in pieces if one.verdict == "off_target"]


def _intruding(verdict: ReplyVerdict, chosen: Language) -> str:
    """Return the words in another script where nothing else is wrong with an answer."""
    if verdict.language != chosen or _strays(verdict):
        return ""
    words = dict.fromkeys(one.text for one in verdict.intrusions if one.is_decisive)
    return ", ".join(list(words)[:_SHOWN_WORDS])


def _found(verdict: ReplyVerdict, chosen: Language, locale: str) -> str:
    """Name what was found instead of the chosen language."""
    if verdict.language is not None and verdict.language != chosen:
        return name_in(verdict.language, locale)
    strays = [one.language for one in _strays(verdict)]
    names = sorted({name_in(stray, locale) for stray in strays if stray is not None})
    found = enumerate_in(locale, names) or name_in(None, locale)
    if verdict.language != chosen:
        return found
    return say("partly", locale, found=found if names else found.lower())
