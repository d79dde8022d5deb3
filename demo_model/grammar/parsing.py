"""The parser of the grammar: which language and frame a text is, with which slots, or none.

A text is compared without case, punctuation and spaces. Each wording becomes a regular expression
whose slots may hold any word of their category; a match counts only when rendering the slots that
were found gives the text again, so wrong agreement ("la chat") does not parse.
"""

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from demo_model.grammar.language_pack import (
    LANGUAGE_CODES,
    LanguagePack,
    Reference,
    Wording,
    load_language_pack,
)
from demo_model.grammar.world import Frame, Slots, load_world

Side = Literal["ask", "reply"]


@dataclass(frozen=True, slots=True)
class Parse:
    """What a text says in the grammar.

    Args:
        language: Code of the language.
        side: Whether it is a question or a reply.
        frame: Name of the frame.
        slots: The slot values that the text itself states.
    """

    language: str
    side: Side
    frame: str
    slots: Slots

    def answers(self, question: "Parse") -> bool:
        """Say whether this reply is a right answer to the question, whatever the languages."""
        world = load_world()
        frame = world.frames[question.frame]
        asked = {slot: question.slots[slot] for slot in frame.ask}
        expected = world.complete(frame, asked)
        return (
            self.side == "reply"
            and self.frame == question.frame
            and expected is not None
            and self.slots.items() <= expected.items()
        )


def normal_form(text: str) -> str:
    """Return the text in NFC, case-folded, without punctuation and spaces."""
    folded = unicodedata.normalize("NFC", text).casefold()
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c)[0] != "P")


def parse(text: str, *, side: Side = "reply") -> Parse | None:
    """Return the first reading of a text in any language, or None."""
    return next(iter_parses(text, side=side), None)


def iter_parses(text: str, *, side: Side) -> Iterator[Parse]:
    """Yield every reading of a text as a question or as a reply."""
    normal = normal_form(text)
    for code in LANGUAGE_CODES:
        for rule in _rules(code, side):
            if match := rule.pattern.fullmatch(normal):
                yield from _readings(rule, match, normal)


@dataclass(frozen=True, slots=True)
class _Rule:
    pack: LanguagePack
    side: Side
    frame: Frame
    wording: Wording
    pattern: re.Pattern[str]
    references: tuple[Reference, ...]


@functools.cache
def _rules(code: str, side: Side) -> tuple[_Rule, ...]:
    pack = load_language_pack(code)
    wordings = pack.ask if side == "ask" else pack.reply
    return tuple(
        _rule(pack, side, pack.world.frames[name], wording)
        for name, rows in wordings.items()
        for wording in rows
    )


def _rule(pack: LanguagePack, side: Side, frame: Frame, wording: Wording) -> _Rule:
    pattern = ""
    for part in wording.parts:
        if isinstance(part, str):
            pattern += re.escape(normal_form(part))
        else:
            words = {word for forms in _all_words(pack, frame, part) for word in forms}
            pattern += "(" + "|".join(sorted(map(re.escape, words), key=len, reverse=True)) + ")"
    references = tuple(part for part in wording.parts if isinstance(part, Reference))
    return _Rule(pack, side, frame, wording, re.compile(pattern), references)


def _all_words(pack: LanguagePack, frame: Frame, reference: Reference) -> list[set[str]]:
    """Return, for every value of the reference's category, its words in normal form."""
    words = []
    for value in pack.world.categories[pack.world.category_of(frame, reference.slot)]:
        forms = pack.forms(frame, reference.slot, value)
        chosen = forms.values() if reference.agrees_with else [forms[reference.form]]
        words.append({normal_form(word) for word in chosen})
    return words


def _readings(rule: _Rule, match: re.Match[str], normal: str) -> Iterator[Parse]:
    candidates: dict[str, set[str]] = {}
    for reference, word in zip(rule.references, match.groups(), strict=True):
        category = rule.pack.world.category_of(rule.frame, reference.slot)
        values = rule.pack.world.categories[category]
        all_words = _all_words(rule.pack, rule.frame, reference)
        fitting = {v for v, words in zip(values, all_words, strict=True) if word in words}
        candidates[reference.slot] = candidates.get(reference.slot, fitting) & fitting
    for chosen in itertools.product(*(sorted(values) for values in candidates.values())):
        slots = dict(zip(candidates, chosen, strict=True))
        if normal_form(rule.pack.render(rule.frame, rule.wording, slots)) == normal:
            yield Parse(rule.pack.code, rule.side, rule.frame.name, slots)
