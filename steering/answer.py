"""One answer as it is written: its tokens, its text, its end, and what its guard drops.

Written by the thread that owns the model and read by others. Knows tokens and texts, not the
model's cache or other rows.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from steering.conversation import FittedPrompt, Message
from steering.guard import Guard, GuardSpec, Rewrite, sentence_end_ids
from steering.steering_plan import NO_STEERING, START_TOKENS, Phase, SteeringPlan
from steering.token_bias import spared_prompt_ids
from steering.token_choice import RowChoice, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steering.loading import LoadedModel

# `end`: the model's own end, or a stop text; `time`: the request took as long as it may.
FinishReason: TypeAlias = Literal["end", "length", "stopped", "time"]


@dataclass(frozen=True, slots=True)
class AnswerView:
    """An answer at one moment.

    Args:
        text: The whole text so far.
        settled: How many of its characters stay, whatever comes.
        reason: Why it ended; None while it is written.
        tokens: How many there are, those that were dropped left out.
        rewrites: The passages that the guard had written again.
    """

    text: str
    settled: int
    reason: FinishReason | None
    tokens: int
    rewrites: tuple[Rewrite, ...]


class Answer:
    """A row of a batch: one prompt, and what has been written to it."""

    def __init__(
        self,
        model: LoadedModel,
        conversation: Sequence[Message],
        prompt: FittedPrompt,
        *,
        plan: SteeringPlan = NO_STEERING,
        sampling: Sampling | None = None,
        guard: GuardSpec | None = None,
    ) -> None:
        """Begin with nothing written.

        Args:
            model: Whose tokenizer and end tokens to use.
            conversation: What is answered; names in its last message are spared by a token bias.
            prompt: The same, fitted into the context.
            plan: How to steer.
            sampling: How to choose tokens; greedy when omitted.
            guard: What to watch for.
        """
        self.prompt = prompt
        self.sampling = sampling or Sampling()
        self.spared_ids = (
            spared_prompt_ids(model.tokenizer, conversation[-1].content)
            if plan.token_bias is not None or guard is not None
            else set()
        )
        self.choice = RowChoice(
            self.sampling, random.Random(self.sampling.seed), list(prompt.token_ids)
        )
        self._tokenizer = model.tokenizer
        self._end_ids = end_ids(model)
        self._plan = plan
        self._guard = (
            None if guard is None else Guard(guard, plan, sentence_end_ids(model.tokenizer))
        )
        self._ids: list[int] = []
        self._begun_at = 0  # tokens before the passage that was written again last
        self._reason: FinishReason | None = None
        self._stopped_at: int | None = None  # character where a stop text begins
        self._settled = 0
        self._lock = threading.Lock()

    @property
    def plan(self) -> SteeringPlan:
        """Return what the next token is to be steered with."""
        return self._plan if self._guard is None else self._guard.plan

    @property
    def phase(self) -> Phase:
        """Return which phase the position is in that predicts the next token.

        A passage that is written again begins with an onset of its own: what comes later in an
        answer is pushed too little to change its language.
        """
        count = len(self._ids) - self._begun_at
        if count == 0:
            return "onset"
        return "start" if count <= START_TOKENS else "body"

    @property
    def is_over(self) -> bool:
        """Say whether nothing more is to be written."""
        return self._reason is not None

    @property
    def last_id(self) -> int:
        """Return the token that comes before the next one, of the prompt at first."""
        return self._ids[-1] if self._ids else self.prompt.token_ids[-1]

    def take(self, token: int) -> int:
        """Take the next token; return how many of those taken last are taken back, mostly 0.

        The token that ends an answer is not part of its text, but was taken.
        """
        with self._lock:
            before = len(self._ids) + 1
            self._append(token)
            kept = self._read_again(token)
            if kept is not None:
                del self._ids[kept:]
                del self.choice.ids[len(self.prompt.token_ids) + kept :]
                self._reason, self._stopped_at = None, None
                self._begun_at = kept
                return before - kept
            return 0

    def stop(self, reason: FinishReason) -> None:
        """End the answer here, unless it has ended."""
        with self._lock:
            self._reason = self._reason or reason

    def view(self) -> AnswerView:
        """Return the answer so far; may be called from any thread."""
        with self._lock:
            ids, reason, cut = list(self._ids), self._reason, self._stopped_at
            settled = self._settled
            rewrites = () if self._guard is None else self._guard.rewrites
        text = decode_answer(self._tokenizer, ids)[:cut]
        if reason is not None:
            settled = len(text)
        else:
            is_free = self._guard is None or self._guard.has_given_up
            whole = len(text) if is_free else settled
            settled = min(whole, _length_without_stop(text, self.sampling.stop))
        return AnswerView(text, settled, reason, len(ids), rewrites)

    def _append(self, token: int) -> None:
        if token in self._end_ids:
            self._reason = "end"
            return
        self._ids.append(token)
        self.choice.ids.append(token)
        if self.sampling.stop:
            text = decode_answer(self._tokenizer, self._ids)
            found = [at for stop in self.sampling.stop if (at := text.find(stop)) >= 0]
            if found:
                self._reason, self._stopped_at = "end", min(found)
                return
        if len(self._ids) >= self.sampling.max_new_tokens:
            self._reason = "length"

    def _read_again(self, token: int) -> int | None:
        """Let the guard read; return how many tokens stay where it drops some."""
        guard, count = self._guard, len(self._ids)
        if guard is None or not (self.is_over or guard.is_due(token, count)):
            return None
        text = decode_answer(self._tokenizer, self._ids)[: self._stopped_at]
        kept = guard.read(text, count, is_over=self.is_over, token_id=token)
        self._settled = min(guard.settled, len(text))
        return kept


def decode_answer(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Return the text of an answer, without a character whose last bytes are still to come."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip().rstrip("\ufffd")


def end_ids(model: LoadedModel) -> frozenset[int]:
    """Return the tokens that end an answer of this model."""
    config = model.model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = model.tokenizer.eos_token_id if ends is None else ends
    return frozenset(ends if isinstance(ends, list) else [ends])


def _length_without_stop(text: str, stops: Sequence[str]) -> int:
    """Return how much of a text cannot be the beginning of a stop text."""
    longest = max(
        (
            size
            for stop in stops
            for size in range(1, min(len(stop), len(text) + 1))
            if text.endswith(stop[:size])
        ),
        default=0,
    )
    return len(text) - longest
