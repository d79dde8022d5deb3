"""What becomes of right answers when the neurons of a group are switched off or amplified.

Every prompt has its own groups. Beside each intervention stands the same one on as many random
neurons of the same layers, and no change at all. Knows neither files nor how groups are found.
Source: Wang et al. 2024, arXiv 2406.09265 (switching off); that amplifying all-shared neurons
helps is claimed in its first version only, without code. Dimension key: see `sharing.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from steering.errors import CorpusError
from steering.evaluation.parallel_prompts import ParallelPrompt, holds_answer
from steering.evaluation.proportions import Proportion
from steering.generation import generate
from steering.hooks import attached, find_sites
from steering.languages import Language
from steering.sharing import GROUPS, SharingGroup
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# `every`: at every position of prompt and answer. `onset`: where the groups were found alone.
Positions: TypeAlias = Literal["every", "onset"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to the neurons of a group: their values are multiplied.

    Args:
        group: Whose; None for no change at all.
        factor: 0 switches off.
        is_random: Whether as many random neurons of the same layers are taken instead.
    """

    group: SharingGroup | None = None
    factor: float = 1.0
    is_random: bool = False

    @property
    def name(self) -> str:
        """Return it in words."""
        if self.group is None:
            return "no change"
        done = "off" if self.factor == 0 else f"x {self.factor:g}"
        return f"as many random as {self.group}, {done}" if self.is_random else (
            f"{self.group}, {done}"
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """How many answers were right under one change.

    Args:
        change: What was done.
        neurons: How many were changed, the mean over prompts.
        right: Replies that hold a right answer in the prompt's language.
        right_anywhere: Replies that hold a right answer in any of the languages.
        by_language: `right`, per language of the prompt.
    """

    change: Change
    neurons: float
    right: Proportion
    right_anywhere: Proportion
    by_language: dict[Language, Proportion]

    def to_json(self) -> dict[str, object]:
        """Return plain numbers, as `sharing --json` writes them."""
        return {
            "name": self.change.name,
            "group": self.change.group,
            "factor": self.change.factor,
            "is_random": self.change.is_random,
            "neurons": self.neurons,
            "n": self.right.trials,
            "right": self.right.rate,
            "right_interval": list(self.right.interval()),
            "right_anywhere": self.right_anywhere.rate,
            "right_anywhere_interval": list(self.right_anywhere.interval()),
            "by_language": {str(one): share.rate for one, share in self.by_language.items()},
        }


@dataclass(frozen=True, slots=True)
class AccuracyOptions:
    """How answers are got.

    Args:
        positions: Where values are changed.
        max_new_tokens: Of a reply.
        batch_rows: Replies per batch; changes speed alone.
        seed: Of the random neurons.
    """

    positions: Positions = "every"
    max_new_tokens: int = 80
    batch_rows: int = 64
    seed: int = 0


def default_changes(amplify: Sequence[float]) -> list[Change]:
    """Return no change, every group off, and all-shared times each factor, with their controls."""
    changes = [Change()]
    for is_random in (False, True):
        changes += [Change(group, 0.0, is_random) for group in GROUPS]
        changes += [Change("all-shared", factor, is_random) for factor in amplify]
    return changes


def measure_change(
    model: LoadedModel,
    languages: Sequence[Language],
    prompts: Sequence[ParallelPrompt],
    groups: Tensor,
    change: Change,
    *,
    options: AccuracyOptions | None = None,
    progress: Callable[[int], object] | None = None,
) -> ChangeOutcome:
    """Answer every prompt in every language under one change, greedily, and count right answers.

    In words: an answer is right when the reply holds, as whole words, one of the answers that the
    file accepts in the prompt's language. Accuracy is the share of right ones.

    Args:
        model: From `load_model`; left as it was.
        languages: Those that every prompt has.
        prompts: With answers.
        groups: Of every prompt, from `SharingSummary.groups`.
        change: What is done meanwhile.
        options: See `AccuracyOptions`.
        progress: Called with the number of replies since the last call.

    Raises:
        CorpusError: If a prompt has no answer.
    """
    options = options or AccuracyOptions()
    _check_answers(prompts)
    scales = [_scale(one, change, f"{options.seed}:{place}") for place, one in enumerate(groups)]
    rows = _rows_of(prompts, languages)
    right, anywhere = dict.fromkeys(languages, 0), 0
    for start in range(0, len(rows), options.batch_rows):
        batch = rows[start : start + options.batch_rows]
        texts = [prompts[place].texts[language] for place, language in batch]
        scale_BLN = torch.stack([scales[place] for place, _ in batch])
        replies = _answer(model, texts, scale_BLN, options)
        for (place, language), reply in zip(batch, replies, strict=True):
            answers = prompts[place].answers
            right[language] += holds_answer(reply, answers[language])
            anywhere += any(holds_answer(reply, one) for one in answers.values())
        if progress is not None:
            progress(len(batch))
    return ChangeOutcome(
        change=change,
        neurons=sum(int((scale != 1).sum()) for scale in scales) / len(prompts),
        right=Proportion(sum(right.values()), len(rows)),
        right_anywhere=Proportion(anywhere, len(rows)),
        by_language={one: Proportion(count, len(prompts)) for one, count in right.items()},
    )


def _rows_of(
    prompts: Sequence[ParallelPrompt], languages: Sequence[Language]
) -> list[tuple[int, Language]]:
    """Return every prompt in every language, short ones first, so that there is little padding."""
    rows = [(place, language) for place in range(len(prompts)) for language in languages]
    return sorted(rows, key=lambda row: len(prompts[row[0]].texts[row[1]]))


def _check_answers(prompts: Sequence[ParallelPrompt]) -> None:
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.answers:
            raise CorpusError(
                f"Prompt '{number}' has no answer, so nobody can tell a right one. Expected an "
                "answer per language; add them to the file."
            )


def _scale(groups_LN: Tensor, change: Change, seed: str) -> Tensor:
    """Return what every neuron's value is multiplied with on one prompt, float32 (L, N)."""
    scale_LN = torch.ones(groups_LN.shape)
    if change.group is None:
        return scale_LN
    is_in_LN = groups_LN == GROUPS.index(change.group)
    if change.is_random:
        is_in_LN = _as_many_at_random(is_in_LN, f"{seed}:{change.group}")
    scale_LN[is_in_LN] = change.factor
    return scale_LN


def _as_many_at_random(is_in_LN: Tensor, seed: str) -> Tensor:
    """Return as many neurons of every layer, drawn from all of its neurons."""
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
    place_LN = torch.rand(is_in_LN.shape, generator=generator).argsort(dim=-1)
    return place_LN < is_in_LN.sum(dim=-1, keepdim=True)


def _answer(
    model: LoadedModel, texts: Sequence[str], scale_BLN: Tensor, options: AccuracyOptions
) -> list[str]:
    """Answer a batch whose rows' values are multiplied by (B, L, N)."""
    begun: set[int] = set()  # layers that have read the prompts

    def edit(layer: int, value: Tensor) -> Tensor | None:  # (B, T, N)
        scale_BN = scale_BLN[:, layer].to(value)
        if options.positions == "every":
            return value * scale_BN[:, None]
        if layer in begun:
            return None
        begun.add(layer)
        edited = value.clone()
        edited[:, -1] *= scale_BN  # prompts are padded to the left
        return edited

    sampling = Sampling(max_new_tokens=options.max_new_tokens)
    if bool((scale_BLN == 1).all()):
        return generate(model, texts, sampling=sampling)
    with attached(find_sites(model.model), {"value": edit}):
        return generate(model, texts, sampling=sampling)
