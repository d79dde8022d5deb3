"""Chooses the next token of every row of a batch, each row by its own settings and its own seed.

Knows logits and settings, not the model or what the tokens say.
Dimension key: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from steering.errors import GenerationError
from steering.token_bias import TokenBiasProcessor

if TYPE_CHECKING:
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList


# Below this a division by the temperature overflows; what it would draw is the likeliest token.
_LEAST_TEMPERATURE = 1e-4
# So many of the likeliest tokens are looked at first for `top_p`: mostly enough, and a tenth of the
# time of sorting 150,000.
_FIRST_LOOK = 1024
# What is passed as the ids so far to processors that do not look at them.
_NO_IDS = cast("torch.LongTensor", torch.empty(0, dtype=torch.long))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; the seed makes sampling repeatable.

    Args:
        max_new_tokens: The answer's greatest length.
        temperature: Divides the logits.
        top_p: Draw from the likeliest tokens that have this probability together.
        seed: Of this row's draws, whatever else is in the batch.
        stop: Texts that end the answer where they would begin; they are left out of it.
        repetition_penalty: Divides the logits of tokens of the prompt and the answer so far (or
            multiplies negative ones); 1 for none. None takes the larger of what the model's makers
            recommend and what the steering plan asks for.
    """

    max_new_tokens: int = 120
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name, is_good, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature <= 5, "between 0 and 5"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("stop", all(self.stop), "texts that are not empty"),
            (
                "repetition_penalty",
                self.repetition_penalty is None or 1 <= self.repetition_penalty <= 5,
                "between 1 and 5",
            ),
        ):
            if not is_good:
                raise GenerationError(
                    f"'{name}' is '{getattr(self, name)}'. Expected {expected}; correct it."
                )


@dataclass(slots=True)
class RowChoice:
    """What one row's choice depends on.

    Args:
        sampling: Its settings.
        draws: Its own source of chance.
        ids: Prompt and answer so far, for penalties; grows.
        plan_penalty: The repetition penalty of its steering plan; 1 for none.
    """

    sampling: Sampling
    draws: random.Random
    ids: list[int]
    plan_penalty: float = 1.0


class TokenChooser:
    """Chooses for the rows that a batch has at the moment."""

    def __init__(
        self,
        rows: Sequence[RowChoice],
        *,
        bias: TokenBiasProcessor | None,
        own: OwnProcessors,
    ) -> None:
        """Sort the rows by their settings, so that rows with the same are chosen for together.

        Args:
            rows: In the order of the batch.
            bias: Of the rows' plans, for all rows.
            own: What the model's makers recommend.
        """
        self._rows, self._bias = rows, bias
        self._penalties = [own.penalty_of(row) for row in rows]
        groups: dict[tuple[float, float], list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            if row.sampling.temperature >= _LEAST_TEMPERATURE:
                groups[row.sampling.temperature, row.sampling.top_p].append(place)
        self._groups = [
            (places, own.warpers(temperature), top_p)
            for (temperature, top_p), places in groups.items()
        ]

    def choose(self, logits_BV: Tensor) -> list[int]:
        """Return one token id per row."""
        scores: Tensor = logits_BV.float()
        if any(self._penalties):
            scores = scores.clone()
        for place, penalty in enumerate(self._penalties):
            if penalty is not None:
                ids = torch.tensor([self._rows[place].ids], device=scores.device)
                own = cast("torch.FloatTensor", scores[place : place + 1])
                scores[place] = penalty(cast("torch.LongTensor", ids), own)[0]
        if self._bias is not None:
            scores = self._bias(_NO_IDS, cast("torch.FloatTensor", scores))
        chosen: list[int] = scores.argmax(dim=-1).tolist()
        for places, warpers, top_p in self._groups:
            part = scores[places] if len(places) < len(self._rows) else scores
            warped = warpers(_NO_IDS, cast("torch.FloatTensor", part))
            drawn = _draw(warped, [self._rows[p].draws for p in places], top_p)
            for place, token in zip(places, drawn, strict=True):
                chosen[place] = token
        return chosen


@dataclass(frozen=True, slots=True)
class OwnProcessors:
    """What a model's own generation settings ask for, beside temperature and top-p.

    Args:
        penalty: Against repetition; 1 where the settings have none.
        top_k: How many of the likeliest tokens to draw from; None for all.
    """

    penalty: float
    top_k: int | None

    def penalty_of(self, row: RowChoice) -> LogitsProcessor | None:
        """Return what keeps a row from repeating itself; None for nothing."""
        from transformers import RepetitionPenaltyLogitsProcessor

        penalty = row.sampling.repetition_penalty
        if penalty is None:
            penalty = max(self.penalty, row.plan_penalty)
        return None if penalty == 1 else RepetitionPenaltyLogitsProcessor(penalty)

    def warpers(self, temperature: float) -> LogitsProcessorList:
        """Return what makes of scores those that are drawn from, `top_p` apart."""
        from transformers import (  # not before the page is open: imports of transformers are slow
            LogitsProcessorList,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
        )

        warpers = LogitsProcessorList([TemperatureLogitsWarper(float(temperature))])
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k))
        return warpers


def read_own_processors(config: GenerationConfig | None) -> OwnProcessors:
    """Return what a model's generation settings ask for; what they leave open is left open."""
    return OwnProcessors(
        penalty=getattr(config, "repetition_penalty", None) or 1.0,
        top_k=getattr(config, "top_k", None) or None,
    )


def _draw(scores: Tensor, sources: Sequence[random.Random], top_p: float) -> list[int]:
    """Draw one token per row, where one number from the row's own source falls.

    A number from Python's generator and not torch's: the same on every device, and one per token.
    """
    ids = None
    if top_p < 1:
        scores, ids = _keep_likeliest(scores, top_p)
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    up_to = scores.softmax(dim=-1).to(exact).cumsum(dim=-1)
    where = torch.tensor([[source.random()] for source in sources], dtype=exact)
    where = where.to(scores.device) * up_to[:, -1:]
    places = torch.searchsorted(up_to, where, right=True).clamp(max=scores.shape[-1] - 1)
    if ids is not None:
        places = ids.gather(-1, places)
    drawn: list[int] = places[:, 0].tolist()
    return drawn


def _keep_likeliest(scores_BV: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the likeliest tokens of each row that have a probability together, and their ids.

    Both `(B, K)`, in the order of ids, with -inf where a row keeps fewer than K. As transformers'
    `TopPLogitsWarper`, which sorts the whole vocabulary: at eight rows of 150,000 tokens that took
    more than half of a small model's step.
    """
    count, vocabulary = _FIRST_LOOK, scores_BV.shape[-1]
    total = scores_BV.logsumexp(dim=-1, keepdim=True)
    while True:
        scores, ids = scores_BV.topk(min(count, vocabulary))
        probs = (scores - total).exp()
        is_kept = probs.cumsum(dim=-1) - probs < top_p  # until those before are enough
        if count >= vocabulary or not is_kept[:, -1].any():
            break
        count *= 8
    is_kept[:, 0] = True
    scores = scores.masked_fill(~is_kept, -torch.inf)
    ids, order = ids.sort(dim=-1)
    return scores.gather(-1, order), ids
