"""Where a set's neurons lie, and how many of them two languages share.

Computes from a neuron set alone. Knows no model and no plot.
Dimension: K languages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steering.neuron_set import NeuronSet


def quarter_of(layers: int) -> int:
    """Return how many layers a quarter of the layers is, rounded up."""
    return -(-layers // 4)


def quarter_shares(layer_counts: Sequence[int]) -> tuple[float, float] | None:
    """Return the shares, 0..1, of a language's neurons in the first and in the last quarter.

    In words: neurons in the first ceil(L / 4) layers, and in the last ceil(L / 4), each over all
    of them; None without neurons. Spread evenly both would be ceil(L / 4) / L.

    Args:
        layer_counts: Neurons per layer, `(layers,)`.

    Source: ours; Tang et al. 2024 say of the same (abstract) that most lie in the top and bottom
    layers, without a number.
    """
    total, quarter = sum(layer_counts), quarter_of(len(layer_counts))
    if not total:
        return None
    return sum(layer_counts[:quarter]) / total, sum(layer_counts[-quarter:]) / total


def count_shared(neurons: NeuronSet) -> Tensor:
    """Return how many neurons belong to both of two languages, int64 `(languages, languages)`.

    On the diagonal: how many a language has.
    """
    member_KN = neurons.is_member.long()
    return member_KN @ member_KN.T


def jaccard(shared: Tensor) -> Tensor:
    """Return the Jaccard index of every pair of languages, 0..1, float64 `(languages, languages)`.

    In words: the neurons of both over the neurons of either, |A and B| / |A or B|; nan where
    neither has any.

    Args:
        shared: From `count_shared`.

    Source: Jaccard 1912, New Phytologist 11:37-50.
    """
    own = shared.diagonal()
    either = own[:, None] + own[None, :] - shared
    return shared.double() / torch.where(either > 0, either.double(), torch.nan)
