"""Conversations in which the chosen language changes: does the answer follow at once?

The model reads its own earlier answers, in the language chosen before. Knows neither files nor the
grammar that may judge answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from steering.conversation import Message
from steering.evaluation.forcing import Condition, ForcingOutcome, ForcingPrompt, judge_reply
from steering.evaluation.proportions import Proportion
from steering.generation import generate_conversations
from steering.languages import Language
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class SwitchingResult:
    """What happened turn by turn.

    Args:
        condition: How the language was asked for.
        switch_turn: 0-based turn of the first answer in the second language.
        turns: Per turn, one outcome per conversation.
    """

    condition: str
    switch_turn: int
    turns: tuple[tuple[ForcingOutcome, ...], ...] = field(repr=False)

    def success(self, turn: int) -> Proportion:
        """Return how many answers of a turn are in the language chosen for it."""
        outcomes = self.turns[turn]
        return Proportion(sum(o.is_forced for o in outcomes), len(outcomes))

    @property
    def after_switch(self) -> Proportion:
        """Return the success of all answers from the switch on."""
        shares = [self.success(turn) for turn in range(self.switch_turn, len(self.turns))]
        return Proportion(sum(s.successes for s in shares), sum(s.trials for s in shares))

    def to_json(self) -> dict[str, object]:
        """Return plain numbers."""
        return {
            "switch_turn": self.switch_turn,
            "lfs_by_turn": [self.success(turn).rate for turn in range(len(self.turns))],
            "content_by_turn": [_content_rate(outcomes) for outcomes in self.turns],
            "lfs_at_switch": self.success(self.switch_turn).rate,
            "lfs_at_switch_interval": list(self.success(self.switch_turn).interval()),
            "lfs_after_switch": self.after_switch.rate,
            "n": len(self.turns[0]),
        }


def run_switching(
    model: LoadedModel,
    conversations: Sequence[Sequence[ForcingPrompt]],
    condition: Condition,
    *,
    languages: Sequence[Language],
    sampling: Sampling | None = None,
    batch_rows: int = 16,
    progress: Callable[[int], object] | None = None,
) -> SwitchingResult:
    """Answer conversations turn by turn; each turn's prompt says which language it is to be in.

    Args:
        model: From `load_model`; left as it was.
        conversations: Equally many turns each; all change their target at the same turn.
        condition: How the language is asked for.
        languages: Those the detector chooses from.
        sampling: Greedy, 120 tokens, when omitted. Its seed is the first conversation's, the next
            number the second's, and so on.
        batch_rows: Conversations per batch.
        progress: Called with the number of answers since the last call.
    """
    turns: list[list[ForcingOutcome]] = [[] for _ in conversations[0]]
    chosen = sampling or Sampling()
    for start in range(0, len(conversations), batch_rows):
        batch = conversations[start : start + batch_rows]
        histories: list[tuple[Message, ...]] = [()] * len(batch)
        settings = [replace(chosen, seed=chosen.seed + start + row) for row in range(len(batch))]
        for turn, outcomes in enumerate(turns):
            prompts = [conversation[turn] for conversation in batch]
            texts = [p.instructed_text if condition.is_instructed else p.text for p in prompts]
            asked = [
                (*history, Message("user", text))
                for history, text in zip(histories, texts, strict=True)
            ]
            plans = [condition.make_plan(prompt) for prompt in prompts]
            replies = generate_conversations(model, asked, plans=plans, sampling=settings)
            histories = [
                (*messages, Message("assistant", reply))
                for messages, reply in zip(asked, replies, strict=True)
            ]
            outcomes += [
                judge_reply(prompt, reply, languages=languages)
                for prompt, reply in zip(prompts, replies, strict=True)
            ]
            if progress is not None:
                progress(len(batch))
    return SwitchingResult(condition.name, _switch_turn(conversations[0]), tuple(map(tuple, turns)))


def _switch_turn(conversation: Sequence[ForcingPrompt]) -> int:
    """Return the first turn whose target is not the first turn's; the last when none is."""
    turns = range(len(conversation))
    return next((t for t in turns if conversation[t].target != conversation[0].target), turns[-1])


def _content_rate(outcomes: Sequence[ForcingOutcome]) -> float | None:
    if not outcomes or any(o.is_right is None for o in outcomes):
        return None
    return sum(bool(o.is_right) and o.is_forced for o in outcomes) / len(outcomes)
