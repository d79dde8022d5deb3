"""Puts the verdict on an answer into words, and the words into a line of HTML under the answer.

Says it by sign and words, never by colour alone. Knows no chat and no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from steering.detection import ReplyVerdict, detect, identify_reply, is_decided
from steering.languages import Language

Tone = Literal["good", "bad", "neutral"]

_SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✗", "neutral": "·"}


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
        return f"{_SIGNS[self.tone]} {self.words}"


def judge_answer(answer: str, *, chosen: Language | None, languages: Sequence[Language]) -> Badge:
    """Say which language an answer is in, and whether it is the chosen one.

    Args:
        answer: Plain text.
        chosen: None if no language was chosen.
        languages: The languages in play.
    """
    if chosen is None:
        guess = identify_reply(answer, languages=languages)
        known = guess.language if is_decided(guess) else None
        return Badge("neutral", known.english_name if known else "too short to tell the language")
    verdict = detect(answer, expected=chosen, languages=languages)
    if verdict.verdict == "on_target":
        return Badge("good", f"{chosen.english_name}, as chosen")
    if verdict.verdict == "off_target":
        return Badge("bad", f"{_found(verdict, chosen)}, {chosen.english_name} was chosen")
    if verdict.verdict == "no_language":
        return Badge("neutral", "no words in any language")
    return Badge("neutral", "too short to tell the language")


def badge_html(badge: Badge | None, notes: Sequence[str]) -> str:
    """Return the line under an answer: the badge, then notes such as `(stopped)`."""
    parts = []
    if badge is not None:
        parts.append(f'<span class="badge badge-{badge.tone}">{escape(badge.text)}</span>')
    parts += [f'<span class="note">{escape(note)}</span>' for note in notes if note]
    return " ".join(parts)


def _found(verdict: ReplyVerdict, chosen: Language) -> str:
    """Name what was found instead of the chosen language."""
    if verdict.language is not None and verdict.language != chosen:
        return verdict.language.english_name
    strays = [line.language for line in verdict.lines if line.verdict == "off_target"]
    names = sorted({stray.english_name for stray in strays if stray is not None})
    if verdict.language == chosen:
        return f"partly {' and '.join(names) or 'another language'}"
    return " and ".join(names) or "Another language"
