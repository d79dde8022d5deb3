"""Tests of LAPE: parity with exact fractions and loops, and what must not change the selection."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats
from steering.errors import StatsError
from steering.languages import LANGUAGES
from steering.lape import LapeParameters, LapeSelection, lape, lape_score, quantile_of_all
from tests.golden.regenerate import LAPE_FILE, selection_to_json, small_stats
from tests.oracles import has_tie_at_rounding_edge, lape_by_loops
from tests.toy import TOY_LANGUAGES, TOY_PARAMETERS, make_toy_stats


def make_stats(active_KLN: Tensor, tokens: Sequence[int]) -> ActivationStats:
    """Statistics with these counts, and nothing at the places that LAPE does not read."""
    languages = tuple(LANGUAGES.values())[: len(tokens)]
    nothing = torch.zeros(1)
    rows = {
        language: PhaseStats(count, active_LN, nothing, nothing, nothing, nothing)
        for language, count, active_LN in zip(languages, tokens, active_KLN, strict=True)
    }
    return ActivationStats(languages, {"text": rows})


@st.composite
def counts(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    """Random counts of 2 to 32 languages, of which the first, middle or last may never be active.

    Few tokens make equal probabilities, equal entropies and zeros common; and half of the neurons
    may be others with their languages swapped, which have the same entropy.
    """
    languages = draw(st.integers(2, 32))
    layers, neurons = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    most, is_same_for_all = draw(st.sampled_from([1, 6, 1000, 10**8])), draw(st.booleans())
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    tokens_K11 = torch.randint(1, most + 1, (languages, 1, 1), generator=random)
    if is_same_for_all:
        tokens_K11[:] = most
    uniform_KLN = torch.rand(languages, layers, neurons, generator=random, dtype=torch.float64)
    active_KLN = (uniform_KLN * (tokens_K11 + 1)).long()
    if is_same_for_all and draw(st.booleans()):
        order = torch.randperm(languages, generator=random)
        active_KLN[..., neurons // 2 :] = active_KLN[order, :, : (neurons + 1) // 2]
    for silent in draw(st.sets(st.sampled_from([0, languages // 2, languages - 1]))):
        active_KLN[silent] = 0
    tokens = tokens_K11.flatten().tolist()
    assume(not has_tie_at_rounding_edge(active_KLN.tolist(), tokens))
    return active_KLN, tokens


@st.composite
def thresholds(draw: st.DrawFn) -> LapeParameters:
    quantiles = st.sampled_from([0.05, 0.3, 0.5, 0.8, 0.95])
    return LapeParameters(
        prob_quantile=draw(quantiles),
        select_fraction=draw(st.sampled_from([0.01, 0.1, 0.4, 1.0])),
        membership_quantile=draw(quantiles),
    )


def places(selection: LapeSelection) -> list[tuple[int, int]]:
    return list(zip(selection.layer.tolist(), selection.index.tolist(), strict=True))


@given(counts(), thresholds())
def test_selection_is_that_of_exact_fractions_and_loops(
    recorded: tuple[Tensor, list[int]], parameters: LapeParameters
) -> None:
    active_KLN, tokens = recorded
    expected = lape_by_loops(active_KLN.tolist(), tokens, parameters)

    selection = lape(make_stats(active_KLN, tokens), parameters=parameters)

    assert places(selection) == [(one.layer, one.index) for one in expected]
    assert selection.is_member.T.tolist() == [one.members for one in expected]
    assert selection.activation_prob.T.tolist() == [one.probs for one in expected]
    # Both are float64 and add few terms; the oracle rounds at 12 decimals.
    assert selection.lape_score.tolist() == pytest.approx(
        [one.score for one in expected], abs=1e-11
    )


@given(counts(), thresholds(), st.sampled_from(["first", "middle", "last"]))
def test_language_without_neurons_keeps_its_place(
    recorded: tuple[Tensor, list[int]], parameters: LapeParameters, where: str
) -> None:
    active_KLN, tokens = recorded
    languages = len(tokens)
    place = {"first": 0, "middle": languages // 2, "last": languages}[where]
    silent_KLN = torch.cat(
        [active_KLN[:place], torch.zeros_like(active_KLN[:1]), active_KLN[place:]]
    )
    with_silent = [*tokens[:place], 7, *tokens[place:]]
    assume(languages < 32 and not has_tie_at_rounding_edge(silent_KLN.tolist(), with_silent))

    selection = lape(make_stats(silent_KLN, with_silent), parameters=parameters)

    expected = lape_by_loops(silent_KLN.tolist(), with_silent, parameters)
    assert selection.is_member.shape == (languages + 1, len(expected))
    assert selection.is_member.T.tolist() == [one.members for one in expected]
    assert not selection.is_member[place].any()
    assert (selection.activation_prob[place] == 0).all()


@given(counts(), thresholds())
def test_layer_by_layer_gives_the_bits_of_all_at_once(
    recorded: tuple[Tensor, list[int]], parameters: LapeParameters
) -> None:
    stats = make_stats(*recorded)
    probs_LNK = stats.activation_prob("text")
    k = max(1, round(probs_LNK.numel() * parameters.membership_quantile))
    bar = probs_LNK.flatten().kthvalue(k).values

    selection = lape(stats, parameters=parameters)

    at = selection.layer, selection.index
    assert torch.equal(selection.lape_score, lape_score(probs_LNK)[at])
    assert torch.equal(selection.activation_prob, probs_LNK[at].T)
    assert torch.equal(selection.is_member, probs_LNK[at].T.gt(bar))


@given(counts(), thresholds(), st.randoms(use_true_random=False))
def test_order_of_languages_does_not_matter(
    recorded: tuple[Tensor, list[int]], parameters: LapeParameters, random: object
) -> None:
    active_KLN, tokens = recorded
    order = list(range(len(tokens)))
    random.shuffle(order)  # type: ignore[attr-defined]  # a random.Random

    one = lape(make_stats(active_KLN, tokens), parameters=parameters)
    other = lape(make_stats(active_KLN[order], [tokens[k] for k in order]), parameters=parameters)

    assert places(other) == places(one)
    assert torch.equal(other.is_member, one.is_member[order])
    assert torch.equal(other.activation_prob, one.activation_prob[order])


@given(counts(), thresholds(), st.integers(0, 99))
def test_order_of_neurons_does_not_matter_where_nothing_is_tied(
    recorded: tuple[Tensor, list[int]], parameters: LapeParameters, seed: int
) -> None:
    active_KLN, tokens = recorded
    stats = make_stats(active_KLN, tokens)
    scores = lape_score(stats.activation_prob("text")).flatten().round(decimals=9)
    assume(len(set(scores.tolist())) == len(scores))
    order = torch.randperm(active_KLN.shape[2], generator=torch.Generator().manual_seed(seed))

    one = lape(stats, parameters=parameters)
    other = lape(make_stats(active_KLN[:, :, order], tokens), parameters=parameters)

    assert sorted((layer, int(order[index])) for layer, index in places(other)) == places(one)


def test_scores_that_differ_in_the_last_bits_are_ties_and_the_first_neuron_wins() -> None:
    """Shares are 1 : 3 : 5 in both neurons, but their quotients round apart by one bit."""
    stats = make_stats(torch.tensor([[[5, 6]], [[15, 18]], [[25, 30]]]), [307] * 3)

    selection = lape(stats, parameters=LapeParameters(0.1, 0.5, 0.1))

    first, second = lape_score(stats.activation_prob("text"))[0].tolist()
    assert 0 < first - second < 1e-15
    assert places(selection) == [(0, 0)]


def test_number_selected_is_that_of_the_paper() -> None:
    """round(select_fraction x layers x neurons): 1 % of 2 x 450 neurons is 9."""
    active = torch.randint(1, 1000, (3, 2, 450), generator=torch.Generator().manual_seed(1))
    parameters = LapeParameters(prob_quantile=0.5, membership_quantile=0.5)

    selection = lape(make_stats(active, [1000] * 3), parameters=parameters)

    assert len(selection.layer) == 9
    assert LapeParameters() == LapeParameters(0.95, 0.01, 0.95)


def test_set_sizes_add_up_to_the_memberships_above_the_bar() -> None:
    """The sizes that the authors print: per language, selected neurons whose p is over the bar."""
    stats = make_toy_stats()
    probs_LNK = stats.activation_prob("text")
    bar = sorted(probs_LNK.flatten().tolist())[round(480 * 0.95) - 1]

    selection = lape(stats, parameters=TOY_PARAMETERS)

    sizes = [
        sum(float(probs_LNK[layer, index, k]) > bar for layer, index in places(selection))
        for k in range(5)
    ]
    assert selection.is_member.sum(dim=1).tolist() == sizes == [6, 2, 4, 0, 0]


def test_languages_without_neurons_survive_in_the_middle_and_at_the_end() -> None:
    selection = lape(make_toy_stats(), parameters=TOY_PARAMETERS)

    assert selection.is_member.shape == selection.activation_prob.shape == (5, 12)
    assert [str(TOY_LANGUAGES[k]) for k in range(5) if not selection.is_member[k].any()] == [
        "th",
        "sw",
    ]
    assert (selection.activation_prob[4] == 0).all()


def test_neuron_may_belong_to_several_languages() -> None:
    active = torch.ones(3, 1, 40, dtype=torch.int64)
    active[:2, 0, 7] = 90

    selection = lape(make_stats(active, [100] * 3), parameters=LapeParameters(select_fraction=0.5))

    assert places(selection) == [(0, 7)]
    assert selection.is_member[:, 0].tolist() == [True, True, False]


def test_quiet_neurons_are_out_even_when_their_entropy_is_lowest() -> None:
    active = torch.full((2, 1, 40), 10)
    active[:, 0, 0] = torch.tensor([5, 0])
    active[:, 0, 1] = torch.tensor([90, 20])

    selection = lape(make_stats(active, [100] * 2), parameters=LapeParameters(select_fraction=1))

    assert places(selection) == [(0, 1)]


def test_neuron_that_no_language_activates_scores_zero_and_is_never_selected() -> None:
    active = torch.zeros(2, 1, 3, dtype=torch.int64)
    active[0, 0, 1] = 9

    stats = make_stats(active, [10, 10])
    selection = lape(stats, parameters=LapeParameters(0.1, 1, 0.1))

    assert lape_score(stats.activation_prob("text")).tolist() == [[0.0, 0.0, 0.0]]
    assert places(selection) == [(0, 1)]


def test_nothing_is_selected_where_nothing_stands_out() -> None:
    selection = lape(make_stats(torch.full((2, 2, 5), 3), [10, 10]))

    assert len(selection.layer) == 0
    assert selection.is_member.shape == (2, 0)


@pytest.mark.parametrize(
    ("quantile", "expected"), [(0.01, 1.0), (0.25, 2.0), (0.35, 4.0), (0.95, 10.0), (0.999, 10.0)]
)
def test_quantile_is_the_kth_smallest_with_k_rounded_half_to_even(
    quantile: float, expected: float
) -> None:
    values = torch.arange(10, 0, -1, dtype=torch.float64).view(5, 2)

    assert quantile_of_all(lambda: values.split(2), quantile) == expected


@given(
    st.lists(
        st.floats(min_value=0, allow_infinity=False) | st.floats(0.3, 0.3 + 1e-15), min_size=1
    ),
    st.floats(0.001, 0.999),
    st.integers(1, 9),
)
def test_quantile_is_exact_to_the_last_bit_of_any_floats(
    values: list[float], quantile: float, part: int
) -> None:
    parts = torch.tensor(values, dtype=torch.float64).split(part)
    expected = sorted(values)[max(1, round(len(values) * quantile)) - 1]

    assert quantile_of_all(lambda: parts, quantile) == expected


def test_entropy_is_in_nats() -> None:
    probs = torch.tensor([[[0.4, 0.4], [0.3, 0.0], [0.6, 0.2]]], dtype=torch.float64)

    scores = lape_score(probs)[0].tolist()

    expected = [math.log(2), 0.0, -0.75 * math.log(0.75) - 0.25 * math.log(0.25)]
    assert scores == pytest.approx(expected, abs=1e-15)  # a few roundings of float64


def test_another_phase_can_be_used() -> None:
    stats = make_toy_stats()

    assert places(lape(stats, phase="body", parameters=TOY_PARAMETERS)) == places(
        lape(
            ActivationStats(stats.languages, {"text": stats.phases["body"]}),
            parameters=TOY_PARAMETERS,
        )
    )


@pytest.mark.parametrize("name", ["prob_quantile", "select_fraction", "membership_quantile"])
@pytest.mark.parametrize("value", [0, -0.1, 1.5, math.nan, math.inf])
def test_thresholds_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(StatsError, match=f"'{name}' is '{value}'. Expected a fraction"):
        replace(LapeParameters(), **{name: value})


def test_everything_may_be_selected_but_no_quantile_may_be_one() -> None:
    assert LapeParameters(select_fraction=1).select_fraction == 1
    with pytest.raises(StatsError, match="'prob_quantile' is '1'"):
        LapeParameters(prob_quantile=1)


def test_one_language_is_refused() -> None:
    with pytest.raises(StatsError, match=r"statistics have '1'\. Expected at least two"):
        lape(make_stats(torch.ones(1, 2, 3, dtype=torch.int64), [5]))


def test_language_without_tokens_is_refused() -> None:
    with pytest.raises(StatsError, match="'bo' has no tokens"):
        lape(make_stats(torch.ones(2, 2, 3, dtype=torch.int64), [5, 0]))


def test_golden_selection_has_not_changed() -> None:
    golden = json.loads(LAPE_FILE.read_text(encoding="utf-8"))

    assert selection_to_json(lape(small_stats(), parameters=TOY_PARAMETERS)) == golden
