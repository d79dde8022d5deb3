"""Tests of statistics: what is derived from the sums, and that adding them up is a plain sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats, StatsPhase
from steering.errors import StatsError
from steering.languages import Language
from tests.toy import EN, HIDDEN, SW, TOY_LANGUAGES, VOCAB, make_phase_stats

SEEDS = st.integers(0, 10_000)


def make_integral_stats(seed: int) -> PhaseStats:
    """Statistics whose float sums are small integers, so that adding them is exact."""
    stats = make_phase_stats(seed, tokens=1 + seed % 90, layers=1, neurons=3)
    rounded = {
        name: getattr(stats, name).round() for name in ("gate_sum", "value_sum", "residual_sum")
    }
    routed = torch.tensor([[stats.token_count, seed % 3, 0]])  # three experts of a neuron each
    return replace(stats, **rounded, routed_count=routed)


def are_equal(first: PhaseStats, second: PhaseStats) -> bool:
    pairs = [(getattr(first, f.name), getattr(second, f.name)) for f in fields(PhaseStats)]
    return all(
        a is b if a is None else torch.equal(torch.as_tensor(a), torch.as_tensor(b))
        for a, b in pairs
    )


@given(SEEDS, SEEDS)
def test_adding_is_commutative(first: int, second: int) -> None:
    one, other = make_integral_stats(first), make_integral_stats(second)

    assert are_equal(one + other, other + one)


@given(SEEDS, SEEDS, SEEDS)
def test_adding_is_associative(first: int, second: int, third: int) -> None:
    one, two, three = (make_integral_stats(seed) for seed in (first, second, third))

    assert are_equal((one + two) + three, one + (two + three))


def test_every_field_is_added_and_keeps_its_type() -> None:
    one, other = make_phase_stats(1), make_phase_stats(2)

    total = one + other

    assert total.token_count == 400
    for name in ("active_count", "token_id_count"):
        assert getattr(total, name).dtype == torch.int64
        assert torch.equal(getattr(total, name), getattr(one, name) + getattr(other, name))
    for name in ("gate_sum", "value_sum", "residual_sum"):
        assert getattr(total, name).dtype == torch.float64
        assert torch.equal(getattr(total, name), getattr(one, name) + getattr(other, name))


def test_probabilities_are_counts_divided_by_tokens(toy_stats: ActivationStats) -> None:
    probs = toy_stats.activation_prob("text")

    assert probs.shape == (2, 48, 5)
    assert probs.dtype == torch.float64
    for k, language in enumerate(TOY_LANGUAGES):
        expected = toy_stats.phases["text"][language].active_count.double() / 200
        assert torch.equal(probs[..., k], expected)


def test_means_are_sums_divided_by_tokens(toy_stats: ActivationStats) -> None:
    row = toy_stats.phases["onset"][EN]

    assert torch.equal(toy_stats.mean("onset", "gate")[..., 2], row.gate_sum / 200)
    assert torch.equal(toy_stats.mean("onset", "value")[..., 2], row.value_sum / 200)
    assert torch.equal(toy_stats.residual_mean("onset")[2], row.residual_sum / 200)
    assert toy_stats.residual_mean("onset").shape == (5, 2, 32)


def test_one_layer_and_chosen_neurons_are_those_of_all(toy_stats: ActivationStats) -> None:
    chosen = torch.tensor([1, 0, 1]), torch.tensor([47, 0, 5])
    reads: list[Callable[..., Tensor]] = [
        lambda *at: toy_stats.activation_prob("body", *at),
        lambda *at: toy_stats.mean("body", "gate", *at),
        lambda *at: toy_stats.mean("body", "value", *at),
    ]

    assert toy_stats.shape("body") == (2, 48)
    for read in reads:
        assert torch.equal(read(1), read()[1])
        assert torch.equal(read(chosen), read()[chosen])
        assert read(chosen).shape == (3, 5)


def test_token_counts_are_by_language(toy_stats: ActivationStats) -> None:
    assert toy_stats.token_counts("body") == dict.fromkeys(TOY_LANGUAGES, 200)


def with_row(stats: ActivationStats, language: Language, row: PhaseStats) -> ActivationStats:
    phases: Mapping[StatsPhase, Mapping[Language, PhaseStats]] = {
        **stats.phases,
        "text": {**stats.phases["text"], language: row},
    }
    return replace(stats, phases=phases)


def test_language_without_tokens_is_refused_by_name(toy_stats: ActivationStats) -> None:
    empty = replace(toy_stats.phases["text"][SW], token_count=0)
    stats = with_row(toy_stats, SW, empty)

    asks: list[Callable[[], Tensor]] = [
        lambda: stats.activation_prob("text"),
        lambda: stats.mean("text", "gate"),
        lambda: stats.residual_mean("text"),
        lambda: stats.activation_prob("text", at=0),
        lambda: torch.tensor(stats.shape("text")),
    ]
    for ask in asks:
        with pytest.raises(StatsError, match="'sw' has no tokens in phase 'text'"):
            ask()
    assert stats.activation_prob("onset").shape == (2, 48, 5)


def test_phase_that_was_not_recorded_is_refused(toy_stats: ActivationStats) -> None:
    stats = replace(toy_stats, phases={"text": toy_stats.phases["text"]})

    with pytest.raises(StatsError, match="'onset' was not recorded; these were: text"):
        stats.activation_prob("onset")


@pytest.mark.parametrize(
    "change",
    [
        {"active_count": torch.zeros(3, 48, dtype=torch.int64)},
        {"residual_sum": torch.zeros(2, 1, dtype=torch.float64)},
        {"token_id_count": torch.zeros(1, dtype=torch.int64)},
        {"routed_count": torch.zeros(2, 4, dtype=torch.int64)},
    ],
    ids=["neurons", "hidden", "vocabulary", "experts"],
)
def test_statistics_of_another_model_are_refused_even_where_they_would_broadcast(
    change: dict[str, torch.Tensor],
) -> None:
    one = make_phase_stats(1)

    with pytest.raises(StatsError, match="Expected the same model") as caught:
        one + replace(one, **change)  # type: ignore[arg-type]  # tensors only

    assert str([(2, 48), (2, HIDDEN), (VOCAB,)]) in str(caught.value)
