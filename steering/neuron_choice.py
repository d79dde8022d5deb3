"""What neurons are chosen by, and what a way of choosing returns: plain data.

The ways themselves are in `lape.py` and `baselines.py`. Knows no models and no text.
Dimension key: see `activation_stats.py`; here also S lines of text.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import StatsError
from steering.languages import Language

ChoosingWay: TypeAlias = Literal["lape", "lap", "lave", "pv", "random", "ap", "ap-top", "probe"]
CHOOSING_WAYS: tuple[ChoosingWay, ...] = get_args(ChoosingWay)


@dataclass(frozen=True, slots=True, eq=False)
class LineMeans:
    """Mean activations of single lines (or dialogues), in memory; see `line_recording.py`.

    Args:
        languages: Their order is that of the numbers in `language_of`.
        language_of: Place of each line's language, int64 `(lines,)`.
        means: Mean over a line's counted positions at the gate site, float32
            `(lines, layers, neurons)`.
    """

    languages: tuple[Language, ...]
    language_of: Tensor
    means: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What neurons are chosen by. Each way reads what it needs and refuses when that is missing.

    Args:
        stats: The recording; its languages are the order of every language axis.
        phase: Whose counts and means of the recording are used.
        quantile: LAPE's membership quantile, which LAVE uses on mean values.
        line_means: Of single lines, for average precision and the probe.
        variation: How much each neuron's parameters vary between a base model and one tuned for
            the language, float64 `(layers, neurons, languages)`; see `parameter_variation.py`.
        seed: Of the random choice.
    """

    stats: ActivationStats
    phase: StatsPhase = "text"
    quantile: float = 0.95
    line_means: LineMeans | None = None
    variation: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class NeuronChoice:
    """The neurons that one way chose, ordered by layer and index.

    Args:
        way: Which way.
        layer: int64 `(selected,)`.
        index: int64 `(selected,)`.
        is_member: bool `(languages, selected)`; every selected neuron has a language.
        score: What the way ranked by, float64 `(languages, selected)`, also for languages that a
            neuron does not belong to; a higher one is chosen first. Scores of different ways are
            in different units: only their order can be compared.
        note: What the choice depends on beside the recording, in words.
    """

    way: ChoosingWay
    layer: Tensor
    index: Tensor
    is_member: Tensor
    score: Tensor
    note: str = ""


def choose_highest(
    score_LNK: Tensor,
    sizes: tuple[int, ...],
    *,
    way: ChoosingWay,
    note: str = "",
    is_candidate: Tensor | None = None,
) -> NeuronChoice:
    """Give every language the neurons with its highest scores; a neuron may have several languages.

    Args:
        score_LNK: Finite, float64 `(layers, neurons, languages)`.
        sizes: Neurons per language. Of equal scores the first by layer and index are taken.
        way: Goes into the choice.
        note: As above.
        is_candidate: Which neurons a language may have, bool, shaped as the scores; all when
            omitted. A language with fewer candidates than its size gets all of them.

    Raises:
        StatsError: If there is not one size per language, or not between 0 and all neurons.
    """
    _, neurons, languages = score_LNK.shape
    flat_MK = score_LNK.flatten(0, 1)  # M = L x N
    if len(sizes) != languages or not all(0 <= size <= len(flat_MK) for size in sizes):
        raise StatsError(
            f"Neurons per language are '{', '.join(map(str, sizes))}' for {languages} languages. "
            f"Expected one number for each, from 0 to {len(flat_MK)}; correct them."
        )
    is_member_MK = torch.zeros(flat_MK.shape, dtype=torch.bool)
    for k, size in enumerate(sizes):
        order = flat_MK[:, k].argsort(descending=True, stable=True)
        if is_candidate is not None:
            order = order[is_candidate.flatten(0, 1)[order, k]]
        is_member_MK[order[:size], k] = True
    chosen = is_member_MK.any(dim=1).nonzero().flatten()
    return NeuronChoice(
        way=way,
        layer=chosen // neurons,
        index=chosen % neurons,
        is_member=is_member_MK[chosen].T,
        score=flat_MK[chosen].T,
        note=note,
    )
