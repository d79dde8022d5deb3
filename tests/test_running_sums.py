"""Running sums are exact, whatever the order, the blocks, and how often they were stored."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steering.errors import StatsError
from steering.running_sums import CountedPositions, RunningSums

UNITS = 5


def random_chunk(seed: int, rows: int, tokens: int, share: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn((rows, tokens, UNITS), generator=generator)
    return activation, torch.rand((rows, tokens), generator=generator) < share


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 3),
    tokens=st.integers(1, 200),
    share=st.sampled_from([0.0, 0.02, 0.5, 0.97, 1.0]),
)
def test_only_counted_positions_are_added_and_counted(
    seed: int, rows: int, tokens: int, share: float
) -> None:
    activation, mask = random_chunk(seed, rows, tokens, share)

    positions = CountedPositions.of(mask)

    counted = activation[mask].double()
    assert torch.equal(positions.count_active(activation), (counted > 0).sum(dim=0))
    assert torch.allclose(positions.sum(activation), counted.sum(dim=0), rtol=1e-6, atol=1e-4)


def test_a_byte_holds_every_block_of_active_positions() -> None:
    activation = torch.ones(2, 1000, UNITS)

    positions = CountedPositions.of(torch.ones(2, 1000, dtype=torch.bool))

    assert positions.count_active(activation).tolist() == [2000] * UNITS


def test_rows_beside_one_change_nothing_of_its_sum() -> None:
    activation, mask = random_chunk(3, 4, 300, 1.0)
    together = CountedPositions.of(mask).sum(activation)

    alone = [CountedPositions.of(mask[i : i + 1]).sum(activation[i : i + 1]) for i in range(4)]

    assert torch.allclose(together, torch.stack(alone).sum(dim=0), rtol=1e-14, atol=1e-12)


def sums_of(terms: list[Tensor]) -> RunningSums:
    sums = RunningSums(layers=1, neurons=UNITS, hidden=UNITS, vocabulary=3)
    for term in terms:
        sums.add("gate", 0, term)
        sums.add_active(0, (term > 0).long())
    return sums


@pytest.fixture
def terms() -> list[Tensor]:
    """Terms whose plain float64 sum depends on the order in the last bits."""
    generator = torch.Generator().manual_seed(1)
    scale = 10.0 ** torch.randint(-6, 7, (40, UNITS), generator=generator)
    return list(torch.randn((40, UNITS), generator=generator, dtype=torch.float64) * scale)


def test_order_of_adding_does_not_show(terms: list[Tensor]) -> None:
    forward, backward = sums_of(terms).result(), sums_of(terms[::-1]).result()

    assert torch.equal(forward.gate_sum, backward.gate_sum)
    assert torch.equal(forward.active_count, backward.active_count)
    plain = (sum(terms), sum(terms[::-1]))
    assert not torch.equal(*plain)  # type: ignore[arg-type]  # tensors: what would go wrong


def test_activation_that_is_not_finite_is_refused_by_its_layer() -> None:
    sums = RunningSums(layers=3, neurons=UNITS, hidden=UNITS, vocabulary=3)
    sums.add("residual", 2, torch.tensor([1.0, torch.inf, 0, 0, 0], dtype=torch.float64))

    with pytest.raises(StatsError, match="at the residual site of layer 2 are 'inf' or 'nan'"):
        sums.result()


def test_parts_that_were_stored_or_sent_add_up_to_the_whole(terms: list[Tensor]) -> None:
    whole = sums_of(terms).result()
    parts = [sums_of(list(part)) for part in (terms[::3], terms[1::3], terms[2::3])]

    for order in itertools.permutations(parts):
        total = RunningSums.zeros_like(parts[0].to_tensors())
        for part in order:
            total.add_tensors(part.to_tensors())
        assert torch.equal(total.result().gate_sum, whole.gate_sum)
        assert torch.equal(total.result().active_count, whole.active_count)
