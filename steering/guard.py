"""Reads an answer as it is written, and has a sentence written again when it drifts.

Knows texts, languages and plans, not the model, its cache or how a plan is made to act: a batch
shows it the text so far and goes back where it says.
"""

from __future__ import annotations

from dataclasses import dataclass

from steering.languages import Language
from steering.steering_plan import SteeringPlan


@dataclass(frozen=True, slots=True, eq=False)
class GuardSpec:
    """What a guard is to watch for; plain data, so that it can go to another process.

    Args:
        target: The language that the answer should be in.
        languages: The languages in play, such as those of the neuron set.
        harder: What to steer with at the first further attempt at a sentence, the second, ...;
            as many as there may be.
    """

    target: Language
    languages: tuple[Language, ...]
    harder: tuple[SteeringPlan, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A passage that was dropped and written again.

    Args:
        start: Where it stood in the answer, in characters of the final text.
        text: What was dropped.
        language: What it was in; None if that is none of the languages in play.
        tokens: How many tokens were dropped.
        attempt: 1 for the first time that this passage was dropped.
    """

    start: int
    text: str
    language: Language | None
    tokens: int
    attempt: int


class Guard:
    """Placeholder until the guard is merged."""

    settled = 0
    rewrites: tuple[Rewrite, ...] = ()

    def __init__(self, spec: GuardSpec, plan: SteeringPlan, ends: frozenset[int]) -> None:
        self.plan = plan

    def is_due(self, token_id: int, tokens: int) -> bool:
        return False

    def read(self, text: str, tokens: int, *, is_over: bool) -> int | None:
        return None


def sentence_end_ids(tokenizer: object) -> frozenset[int]:
    return frozenset()
