"""One language of the grammar: its words, its wordings, and how a wording becomes a sentence.

Reads `<code>.yaml`; `en.yaml` explains the format. Knows nothing of parsing or training.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from demo_model.grammar.world import GRAMMAR_DIR, Frame, Slots, World, load_world

LANGUAGE_CODES = ("en", "zh", "fr", "es", "vi", "id", "ja")  # the order of Tang et al. 2024

_REFERENCE = re.compile(r"\{(\w+)(?:\.(\w+)|@(\w+))?\}")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?¡¿。！？]))[\s«\"]*[¡¿]?(\w)")


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a wording where a slot's word stands: `{slot}`, `{slot.form}`, `{slot@noun}`."""

    slot: str
    form: str
    agrees_with: str | None


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to say a question or a reply: literal text and references, in order."""

    parts: tuple[str | Reference, ...]

    @property
    def slots(self) -> set[str]:
        """Return the slots that the wording mentions."""
        return {part.slot for part in self.parts if isinstance(part, Reference)}


@dataclass(frozen=True, slots=True)
class LanguagePack:
    """All words and wordings of one language."""

    code: str
    words: Mapping[str, Mapping[str, Mapping[str, str]]]
    ask: Mapping[str, tuple[Wording, ...]]
    reply: Mapping[str, tuple[Wording, ...]]
    instructions: tuple[str, ...]
    language_names: Mapping[str, str]
    world: World

    def forms(self, frame: Frame, slot: str, value: str) -> Mapping[str, str]:
        """Return all forms of a slot's word; a value without a word is written as it is."""
        category = self.world.category_of(frame, slot)
        return self.words.get(category, {}).get(value, {"bare": value})

    def word(self, frame: Frame, reference: Reference, slots: Slots) -> str:
        """Return the form of a slot's word that a reference asks for."""
        forms = self.forms(frame, reference.slot, slots[reference.slot])
        if reference.agrees_with is None:
            return forms[reference.form]
        noun = self.forms(frame, reference.agrees_with, slots[reference.agrees_with])
        return forms[noun["agr"]]

    def render(self, frame: Frame, wording: Wording, slots: Slots) -> str:
        """Return the sentence that a wording makes of the slots' words."""
        text = "".join(
            part if isinstance(part, str) else self.word(frame, part, slots)
            for part in wording.parts
        )
        return _SENTENCE_START.sub(lambda match: match.group().upper(), text)

    def instruction(self, target: str, variant: int) -> str:
        """Return "Answer in <target>." in this language; *variant* counts the wordings round."""
        template = self.instructions[variant % len(self.instructions)]
        text = template.replace("{language}", self.language_names[target])
        return text[0].upper() + text[1:]


def _parse_wording(text: str) -> Wording:
    parts: list[str | Reference] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts += [text[end : match.start()]] if match.start() > end else []
        slot, form, noun = match.groups()
        parts.append(Reference(slot=slot, form=form or "bare", agrees_with=noun))
        end = match.end()
    parts += [text[end:]] if end < len(text) else []
    return Wording(tuple(parts))


@functools.cache
def load_language_pack(code: str) -> LanguagePack:
    """Read `<code>.yaml`; the result is shared and must not be changed."""
    data = yaml.safe_load((GRAMMAR_DIR / f"{code}.yaml").read_text(encoding="utf-8"))
    words = {
        category: {
            value: forms if isinstance(forms, dict) else {"bare": forms}
            for value, forms in values.items()
        }
        for category, values in data["words"].items()
    }
    wordings = {
        side: {name: tuple(map(_parse_wording, row[side])) for name, row in data["frames"].items()}
        for side in ("ask", "reply")
    }
    return LanguagePack(
        code=code,
        words=words,
        ask=wordings["ask"],
        reply=wordings["reply"],
        instructions=tuple(data["instructions"]),
        language_names=data["language_names"],
        world=load_world(),
    )
