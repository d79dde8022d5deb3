"""The demo world: categories, facts and question-answer frames, the same in every language.

Reads `facts.yaml`. Knows no language: `language_pack.py` puts words to what is defined here.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

GRAMMAR_DIR = Path(__file__).parent

Slots = dict[str, str]


@dataclass(frozen=True, slots=True)
class Frame:
    """One kind of question and its answer.

    Args:
        name: Key in `facts.yaml` and in every language file.
        ask: Slots of the question, slot -> category.
        derive: Slots of the answer that follow from others, slot -> (table or rule, sources).
        combine: True where an unseen slot combination can be answered from its parts.
    """

    name: str
    ask: Mapping[str, str]
    derive: Mapping[str, tuple[str, ...]]
    combine: bool


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is true in the demo world."""

    categories: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Mapping[str, str]]
    frames: Mapping[str, Frame]

    def category_of(self, frame: Frame, slot: str) -> str:
        """Return the category of a slot; that of a table is the first that holds all its values."""
        if slot in frame.ask:
            return frame.ask[slot]
        rule, *sources = frame.derive[slot]
        if rule in ("larger", "smaller"):
            return self.category_of(frame, sources[0])
        if rule in ("sum", "difference"):
            return "count"
        values = set(self.tables[rule].values())
        return next(name for name, members in self.categories.items() if values <= set(members))

    def complete(self, frame: Frame, asked: Mapping[str, str]) -> Slots | None:
        """Return the asked slots with all derived ones, or None where the question has no sense.

        Two slots of one category (two animals, two cities) must differ, digits excepted.
        """
        same = [value for slot, value in asked.items() if frame.ask[slot] != "digit"]
        if len(set(same)) < len(same):
            return None
        slots = dict(asked)
        for slot, (rule, *sources) in frame.derive.items():
            value = self._derive(rule, [slots[source] for source in sources])
            if value is None:
                return None
            slots[slot] = value
        return slots

    def combinations(self, frame: Frame) -> Iterator[Slots]:
        """Yield all sensible slot values of a frame, in a fixed order."""
        for values in itertools.product(*(self.categories[c] for c in frame.ask.values())):
            slots = self.complete(frame, dict(zip(frame.ask, values, strict=True)))
            if slots is not None:
                yield slots

    def _derive(self, rule: str, values: list[str]) -> str | None:
        if rule == "sum":
            return str(int(values[0]) + int(values[1]))
        if rule == "difference":
            difference = int(values[0]) - int(values[1])
            return str(difference) if difference >= 0 else None
        if rule in ("larger", "smaller"):
            rank = self.tables["size_rank"]
            ordered = sorted(values, key=lambda value: int(rank[value]))
            return ordered[-1] if rule == "larger" else ordered[0]
        return self.tables[rule][values[0]]


@functools.cache
def load_world() -> World:
    """Read `facts.yaml`; the result is shared and must not be changed."""
    data = yaml.safe_load((GRAMMAR_DIR / "facts.yaml").read_text(encoding="utf-8"))
    frames = {
        name: Frame(
            name=name,
            ask=row.get("ask", {}),
            derive={slot: tuple(rule) for slot, rule in row.get("derive", {}).items()},
            combine=row.get("combine", False),
        )
        for name, row in data["frames"].items()
    }
    categories = {name: tuple(values) for name, values in data["categories"].items()}
    return World(categories=categories, tables=data["tables"], frames=frames)
