"""How long making a set takes: what was timed, kind by kind of work, and told for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

# answering: the model answers prompts; recording: its activations on them; calibrating: methods
# are tried out.
Work: TypeAlias = Literal["answering", "recording", "calibrating"]

_INSTANT_S = 0.02  # what took less was read from a file, and says nothing of the rest
# A position that is only read costs about this share of one that is written, in batches
# (Qwen2.5-Coder-0.5B on two cores: 170 against 35 a second).
_READ_SHARE = 0.2
_PROMPT_TOKENS = 48  # of an everyday prompt in a chat template, about


@dataclass(slots=True)
class _Kind:
    """Units of one kind of work: how many, and how long they took."""

    unit_cost: float
    total: float
    done: float = 0.0
    timed: float = 0.0
    seconds: float = 0.0
    guessed_s: float = 0.0  # per unit, from a trial; 0 without one

    @property
    def unit_s(self) -> float | None:
        if self.timed:
            return self.seconds / self.timed
        return self.guessed_s or None


class Pace:
    """What there is to do, and at which pace it is done."""

    def __init__(
        self, units: Mapping[Work, float], *, answer_tokens: int, calibration_tokens: int
    ) -> None:
        """Plan the work.

        Args:
            units: Answers to be written, answers to be recorded on, answers of the calibration.
            answer_tokens: Length of an answer.
            calibration_tokens: The same in the calibration.
        """
        costs: dict[Work, float] = {
            "answering": answer_tokens,
            "recording": _READ_SHARE * (_PROMPT_TOKENS + 2 * answer_tokens),
            "calibrating": calibration_tokens + _READ_SHARE * (_PROMPT_TOKENS + calibration_tokens),
        }
        self._kinds = {work: _Kind(costs[work], total) for work, total in units.items()}

    def guess(self, work: Work, unit_s: float) -> None:
        """Say how many seconds a unit takes, from a trial before the work."""
        self._kinds[work].guessed_s = unit_s

    def advance(self, work: Work, done: float, total: float, *, seconds: float) -> None:
        """Say how far a kind of work is, and what it took since the last time."""
        kind = self._kinds[work]
        if done > kind.done and seconds >= _INSTANT_S:
            kind.timed += done - kind.done
            kind.seconds += seconds
        kind.done, kind.total = done, total

    def begin_anew(self) -> None:
        """Forget what is done and keep what was timed."""
        for kind in self._kinds.values():
            kind.done = 0.0

    @property
    def left_s(self) -> float | None:
        """Return seconds to the end; None before anything was timed."""
        return self._sum(lambda kind: max(0.0, kind.total - kind.done))

    @property
    def fraction(self) -> float:
        """Return the share of the whole time that is over, 0..1."""
        left, whole = self.left_s, self._sum(lambda kind: kind.total)
        return min(1.0, max(0.0, 1 - left / whole)) if left is not None and whole else 0.0

    def _sum(self, units: Callable[[_Kind], float]) -> float | None:
        known = [kind.unit_s / kind.unit_cost for kind in self._kinds.values() if kind.unit_s]
        if not known:
            return None
        usual = sum(known) / len(known)
        return sum(
            units(kind) * (kind.unit_s or usual * kind.unit_cost) for kind in self._kinds.values()
        )
