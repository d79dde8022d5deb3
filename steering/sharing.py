"""Which FFN neurons several languages share on a prompt: four groups, their stability, two scores.

For a prompt given in K languages a neuron is, by how many of them it is active in, all-shared,
partial-shared, specific or non-activated. Pure: activations in, tables out. Knows no model, no
text and no file; `last_token.py` records, `evaluation/sharing.py` puts all of it together.
Source: Wang et al. 2024, "Sharing Matters", arXiv 2406.09265, and the authors' notebook.
Dimension key: K languages, L layers, N neurons per layer, P prompts, G the four groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from steering.errors import StatsError

SharingGroup: TypeAlias = Literal["all-shared", "partial-shared", "specific", "non-activated"]
GROUPS: tuple[SharingGroup, ...] = get_args(SharingGroup)

# Per group, a number of every layer; the form in which others draw them.
ByLayer: TypeAlias = Mapping[SharingGroup, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Stability:
    """How often the same neurons have the same group, over the prompts.

    Args:
        modal_share: Mean over all neurons of the share of prompts on which a neuron has the group
            that it has most often; 1 when every neuron always has one group.
        modal_share_by_layer: The same over the neurons of each layer.
        modal_share_by_chance: The same after each layer's groups were dealt to its neurons at
            random, prompt by prompt.
        jaccard: Per group, the mean over all pairs of prompts of |A and B| / |A or B|, where A and
            B are the group's neurons of all layers; None where no pair has any.
        jaccard_by_chance: The same for random sets that are as large in every layer, by the
            expected size of what two have in common.
    """

    modal_share: float
    modal_share_by_layer: tuple[float, ...]
    modal_share_by_chance: float
    jaccard: Mapping[SharingGroup, float | None]
    jaccard_by_chance: Mapping[SharingGroup, float | None]


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Scores of the neurons of every group, float64 `(..., groups, layers)` each.

    Args:
        total: Their sum; 0 where a group is empty.
        mean: nan where a group is empty, as `largest` and `smallest` are.
        largest: The largest of them.
        smallest: The smallest of them.
    """

    total: Tensor
    mean: Tensor
    largest: Tensor
    smallest: Tensor


def group_neurons(activations: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Sort every neuron into its group on one prompt.

    In words: a neuron is active in a language when its activation there is above the threshold;
    active in all languages it is all-shared, in none non-activated, in exactly one specific, else
    partial-shared (so there are no partial-shared neurons of two languages).

    Args:
        activations: Output of the activation function at one position, the last of the prompt, in
            every language, float `(languages, layers, neurons)`.
        threshold: Published: 0.

    Returns:
        Places in GROUPS, uint8 `(layers, neurons)`.

    Raises:
        StatsError: With fewer than two languages.

    Source: Wang et al. 2024. Differs: see docs/sources.md#sharing.
    """
    languages = len(activations)
    if languages < 2:
        raise StatsError(
            f"Cannot compare '{languages}' language: nothing is shared by one. Expected a prompt "
            "in at least two languages; add another."
        )
    count_LN = (activations > threshold).sum(dim=0)
    groups_LN = torch.full(count_LN.shape, GROUPS.index("partial-shared"), dtype=torch.uint8)
    groups_LN[count_LN == languages] = GROUPS.index("all-shared")
    groups_LN[count_LN == 1] = GROUPS.index("specific")
    groups_LN[count_LN == 0] = GROUPS.index("non-activated")
    return groups_LN


def find_specific_languages(activations: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Say which language each specific neuron is active in.

    Args:
        activations: As for `group_neurons`.
        threshold: As there.

    Returns:
        Places in the first axis, int64 `(layers, neurons)`; -1 for a neuron of another group.
    """
    is_active_KLN = activations > threshold
    is_specific_LN = is_active_KLN.sum(dim=0) == 1
    return torch.where(is_specific_LN, is_active_KLN.to(torch.int64).argmax(dim=0), -1)


def group_shares(groups: Tensor) -> Tensor:
    """Return the share of each layer's neurons that is in each group.

    Args:
        groups: From `group_neurons`, `(..., layers, neurons)`.

    Returns:
        0..1, float64 `(..., groups, layers)`; the groups of a layer add up to 1.
    """
    counts = [(groups == place).sum(dim=-1) for place in range(len(GROUPS))]
    return torch.stack(counts, dim=-2).double() / groups.shape[-1]


def by_layer(table: Tensor) -> ByLayer:
    """Return a table `(groups, layers)` as a mapping from a group to its row."""
    return {group: tuple(row) for group, row in zip(GROUPS, table.tolist(), strict=True)}


def measure_stability(groups: Tensor, *, seed: int = 0) -> Stability | None:
    """Say how stable the groups are over prompts; None for a single prompt.

    Args:
        groups: From `group_neurons`, uint8 `(prompts, layers, neurons)`.
        seed: Of the dealing at random.

    Source: ours; the paper tells of no such measure.
    """
    if len(groups) < 2:
        return None
    modal_LN = _modal_shares(groups)
    order = torch.rand(groups.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=-1)
    pairs = {group: _jaccard(groups == place) for place, group in enumerate(GROUPS)}
    return Stability(
        modal_share=float(modal_LN.mean()),
        modal_share_by_layer=tuple(modal_LN.mean(dim=1).tolist()),
        modal_share_by_chance=float(_modal_shares(groups.gather(-1, order)).mean()),
        jaccard={group: found for group, (found, _) in pairs.items()},
        jaccard_by_chance={group: chance for group, (_, chance) in pairs.items()},
    )


def _modal_shares(groups_PLN: Tensor) -> Tensor:
    """Return per neuron the share of prompts that have its most frequent group, (L, N)."""
    counts = [(groups_PLN == place).sum(dim=0) for place in range(len(GROUPS))]
    return torch.stack(counts).amax(dim=0).double() / len(groups_PLN)


def _jaccard(is_in_PLN: Tensor) -> tuple[float | None, float | None]:
    """Return the mean Jaccard index of all pairs of prompts, and what chance alone would give."""
    prompts, neurons = len(is_in_PLN), is_in_PLN.shape[-1]
    both_PP, chance_PP = (torch.zeros(prompts, prompts, dtype=torch.float64) for _ in range(2))
    for layer in range(is_in_PLN.shape[1]):
        one_PN = is_in_PLN[:, layer].float()  # exact: counts stay below 2 ** 24
        size_P = one_PN.sum(dim=1).double()
        both_PP += (one_PN @ one_PN.T).double()
        chance_PP += torch.outer(size_P, size_P) / neurons
    total_P = is_in_PLN.flatten(1).sum(dim=1).double()
    either_PP = total_P[:, None] + total_P
    pairs = torch.tensor(list(itertools.combinations(range(prompts), 2))).T
    sizes, both, chance = (table[pairs[0], pairs[1]] for table in (either_PP, both_PP, chance_PP))
    has_any = sizes > 0
    if not has_any.any():
        return None, None
    found = both[has_any] / (sizes - both)[has_any]
    expected = chance[has_any] / (sizes - chance)[has_any]
    return float(found.mean()), float(expected.mean())


def contribution_scores(values: Tensor, column_norms: Tensor) -> Tensor:
    """Return |a_i| * ||W_down column i||: how much a neuron writes into the stream.

    Args:
        values: What enters the down projection, `(..., layers, neurons)`; in gated models
            act(gate) * up, because that is what multiplies the column.
        column_norms: Euclidean, `(layers, neurons)`.

    Source: Wang et al. 2024, contribution score; as in Geva et al. 2022.
    """
    return values.abs() * column_norms


def effective_scores(values: Tensor, projections: Tensor) -> Tensor:
    """Return (a_i * W_down column i) . E[token]: what a neuron adds to the token's logit directly.

    Directly: without the final norm and what later layers make of it.

    Args:
        values: As for `contribution_scores`.
        projections: W_down column i . E[token], of the same shape.

    Source: Wang et al. 2024, effective score.
    """
    return values * projections


def score_groups(scores: Tensor, groups: Tensor) -> GroupScores:
    """Put the scores of a prompt's neurons together by group and layer.

    Args:
        scores: `(..., layers, neurons)`, for instance one row per language.
        groups: From `group_neurons`, `(layers, neurons)`.
    """
    exact = scores.double()
    tables = []
    for place in range(len(GROUPS)):
        is_in = groups == place
        size = is_in.sum(dim=-1)
        total = (exact * is_in).sum(dim=-1)
        largest = torch.where(is_in, exact, -torch.inf).amax(dim=-1)
        smallest = torch.where(is_in, exact, torch.inf).amin(dim=-1)
        extremes = [torch.where(size > 0, one, torch.nan) for one in (largest, smallest)]
        tables.append((total, total / size, *extremes))  # 0 / 0 is nan
    return GroupScores(*(torch.stack(rows, dim=-2) for rows in zip(*tables, strict=True)))


def shares_of_total(totals: Tensor) -> Tensor:
    """Return each group's share of its layer's total, `(..., groups, layers)`; 0 of a total 0."""
    whole = totals.sum(dim=-2, keepdim=True)
    return torch.where(whole > 0, totals / whole, 0.0)
