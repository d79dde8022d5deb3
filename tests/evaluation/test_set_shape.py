"""Layers and overlap of a set, counted by loops over Python sets."""

from __future__ import annotations

import math

import pytest

from steering.evaluation.set_shape import count_shared, jaccard, quarter_of, quarter_shares
from steering.neuron_set import NeuronSet


@pytest.mark.parametrize(("layers", "quarter"), [(1, 1), (4, 1), (5, 2), (6, 2), (8, 2), (32, 8)])
def test_a_quarter_is_rounded_up(layers: int, quarter: int) -> None:
    assert quarter_of(layers) == quarter


@pytest.mark.parametrize(
    ("counts", "shares"),
    [
        ([6, 0, 0, 0, 1, 3], (0.6, 0.4)),
        ([1, 1, 1, 1], (0.25, 0.25)),
        ([0, 5, 0, 0, 0, 0, 5, 0], (0.5, 0.5)),
        ([3], (1.0, 1.0)),
        ([0, 0, 0, 0], None),
    ],
)
def test_quarter_shares_are_counted(counts: list[int], shares: tuple[float, float] | None) -> None:
    assert quarter_shares(counts) == shares


def test_overlap_is_that_of_sets_of_neurons(toy_set: NeuronSet) -> None:
    members = []
    for language in toy_set.languages:
        places = toy_set.neurons_of(language).tolist()
        members.append({(int(toy_set.layer[p]), int(toy_set.index[p])) for p in places})

    shared = count_shared(toy_set)
    shares = jaccard(shared)

    assert sum(map(len, members)) > 0
    for i, ours in enumerate(members):
        for j, theirs in enumerate(members):
            assert int(shared[i, j]) == len(ours & theirs)
            if ours | theirs:
                assert float(shares[i, j]) == len(ours & theirs) / len(ours | theirs)
            else:
                assert math.isnan(shares[i, j])
