"""Tests of the other ways to choose neurons: each against loops, and what all have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steering.activation_stats import ActivationStats
from steering.baselines import WAYS, average_precision, check_probe_can_run
from steering.errors import SettingsError, StatsError
from steering.lape import lape
from steering.neuron_choice import (
    CHOOSING_WAYS,
    ChoosingWay,
    Evidence,
    LineMeans,
    NeuronChoice,
    choose_highest,
)
from tests.oracles import (
    average_precision_by_loops,
    highest_by_loops,
    value_entropy_by_loops,
)
from tests.toy import FR, LAYERS, NEURONS, TOY_LANGUAGES, TOY_PARAMETERS

SIZES = (5, 7, 0, 3, 4)
OF_LINES: tuple[ChoosingWay, ...] = ("ap", "ap-top", "probe")


def make_lines(seed: int = 0, *, per_language: int = 12) -> LineMeans:
    """Lines in which neuron 8 x i + k of each layer is high where the language is the k-th."""
    random = torch.Generator().manual_seed(seed)
    language_of = torch.arange(len(TOY_LANGUAGES)).repeat_interleave(per_language)
    means = torch.rand(len(language_of), LAYERS, NEURONS, generator=random)
    for k in range(len(TOY_LANGUAGES)):
        means[language_of == k, :, k::8] += 2
    return LineMeans(TOY_LANGUAGES, language_of, means)


@pytest.fixture
def evidence(toy_stats: ActivationStats) -> Evidence:
    random = torch.Generator().manual_seed(7)
    shape = (LAYERS, NEURONS, len(TOY_LANGUAGES))
    variation = torch.rand(shape, generator=random, dtype=torch.float64)
    return Evidence(toy_stats, "text", 0.7, make_lines(), variation)


def sets_of(choice: NeuronChoice) -> list[set[tuple[int, int]]]:
    places = list(zip(choice.layer.tolist(), choice.index.tolist(), strict=True))
    return [
        {place for place, is_own in zip(places, row.tolist(), strict=True) if is_own}
        for row in choice.is_member
    ]


def test_every_way_but_lape_has_a_function() -> None:
    assert set(WAYS) == set(CHOOSING_WAYS) - {"lape"}


@pytest.mark.parametrize("way", WAYS)
def test_every_language_gets_as_many_neurons_as_asked(way: ChoosingWay, evidence: Evidence) -> None:
    if way == "probe":
        pytest.importorskip("sklearn", reason="the probe needs scikit-learn")

    choice = WAYS[way](evidence, SIZES)

    assert choice.way == way
    assert choice.is_member.sum(dim=1).tolist() == list(SIZES)
    assert choice.is_member.any(dim=0).all()
    assert choice.score.shape == choice.is_member.shape
    assert choice.score.isfinite().all()
    assert ((choice.layer * NEURONS + choice.index).diff() > 0).all()
    assert torch.equal(WAYS[way](evidence, SIZES).is_member, choice.is_member)


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_highest_are_those_that_loops_find(seed: int, has_ties: bool, is_limited: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, 6, 3, generator=random, dtype=torch.float64)
    scores = (scores * 4).round() if has_ties else scores
    candidates = torch.rand(2, 6, 3, generator=random) > 0.5 if is_limited else None
    sizes = (0, 4, 12)

    choice = choose_highest(scores, sizes, way="lap", is_candidate=candidates)

    by_loops = highest_by_loops(
        scores.tolist(), sizes, None if candidates is None else candidates.tolist()
    )
    assert sets_of(choice) == by_loops
    assert torch.equal(choice.score, scores[choice.layer, choice.index].T)


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 3, 4, -1), (1, 2, 3, 4, 97)])
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[int, ...], evidence: Evidence) -> None:
    with pytest.raises(StatsError, match="Neurons per language are"):
        WAYS["lap"](evidence, sizes)


def test_lap_takes_the_most_active_neurons_whatever_they_do_elsewhere(
    toy_stats: ActivationStats, evidence: Evidence
) -> None:
    rows = [toy_stats.phases["text"][language] for language in TOY_LANGUAGES]
    probs = [
        [
            [int(row.active_count[layer, n]) / row.token_count for row in rows]
            for n in range(NEURONS)
        ]
        for layer in range(LAYERS)
    ]

    assert sets_of(WAYS["lap"](evidence, SIZES)) == highest_by_loops(probs, SIZES)


@pytest.mark.parametrize("sizes", [SIZES, (LAYERS * NEURONS,) * 5])
def test_lave_is_the_entropy_of_mean_values_among_high_ones(
    toy_stats: ActivationStats, evidence: Evidence, sizes: tuple[int, ...]
) -> None:
    """Where all are asked for, those at the bar and below it are left out."""
    rows = [toy_stats.phases["text"][language] for language in TOY_LANGUAGES]
    means = [
        [[float(row.gate_sum[layer, n]) / row.token_count for row in rows] for n in range(NEURONS)]
        for layer in range(LAYERS)
    ]
    everything = sorted(max(0.0, m) for layer in means for neuron in layer for m in neuron)
    bar = everything[round(len(everything) * evidence.quantile) - 1]
    scores = [[[-value_entropy_by_loops(n)] * len(rows) for n in layer] for layer in means]
    candidates = [[[m > bar for m in neuron] for neuron in layer] for layer in means]

    choice = WAYS["lave"](evidence, sizes)

    # Loops and tensors may differ in the last bit where entropies are equal.
    rounded = [[[round(s, 12) for s in n] for n in layer] for layer in scores]
    assert sets_of(choice) == highest_by_loops(rounded, sizes, candidates)


def test_lave_gives_a_language_without_high_values_fewer_neurons(
    toy_stats: ActivationStats, evidence: Evidence
) -> None:
    rows = dict(toy_stats.phases["text"])
    rows[FR] = replace(rows[FR], gate_sum=-rows[FR].gate_sum.abs())
    changed = replace(evidence, stats=ActivationStats(TOY_LANGUAGES, {"text": rows}))

    choice = WAYS["lave"](changed, (5, 5, 5, 5, 5))

    assert choice.is_member.sum(dim=1).tolist() == [0, 5, 5, 5, 5]


def test_pv_takes_the_neurons_that_vary_most(evidence: Evidence) -> None:
    variation = evidence.variation
    assert variation is not None

    choice = WAYS["pv"](evidence, SIZES)

    assert sets_of(choice) == highest_by_loops(variation.tolist(), SIZES)


def test_pv_gives_no_language_a_neuron_that_tuning_on_it_left_as_it_was(
    evidence: Evidence,
) -> None:
    variation = torch.zeros(LAYERS, NEURONS, len(TOY_LANGUAGES), dtype=torch.float64)
    variation[0, 40, 0], variation[1, 3, 0], variation[1, 5, 3] = 0.2, 1e-9, 0.5

    choice = WAYS["pv"](replace(evidence, variation=variation), SIZES)

    assert sets_of(choice) == [{(0, 40), (1, 3)}, set(), set(), {(1, 5)}, set()]


@pytest.mark.parametrize("variation", [None, torch.zeros(LAYERS, NEURONS, 2)])
def test_pv_without_fitting_variation_is_refused(
    variation: Tensor | None, evidence: Evidence
) -> None:
    with pytest.raises(StatsError, match="--tuned"):
        WAYS["pv"](replace(evidence, variation=variation), SIZES)


def test_random_neurons_depend_on_the_seed_alone(
    toy_stats: ActivationStats, evidence: Evidence
) -> None:
    first, again = (WAYS["random"](Evidence(toy_stats, seed=1), SIZES) for _ in range(2))

    assert sets_of(first) == sets_of(again)
    assert sets_of(first) != sets_of(WAYS["random"](evidence, SIZES))


@given(
    st.lists(st.integers(0, 4), min_size=4, max_size=12),
    st.data(),
)
def test_average_precision_is_that_of_loops_and_of_scikit_learn(
    values: Sequence[int], data: st.DataObject
) -> None:
    language_of = [0, 1] + [data.draw(st.integers(0, 1)) for _ in values[2:]]
    lines = LineMeans(
        TOY_LANGUAGES[:2],
        torch.tensor(language_of),
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1),
    )

    found = average_precision(lines)[0, 0]

    for k in range(2):
        is_own = [place == k for place in language_of]
        assert float(found[k]) == pytest.approx(average_precision_by_loops(values, is_own))
        if "sklearn" in sys.modules:
            from sklearn.metrics import average_precision_score

            assert float(found[k]) == pytest.approx(average_precision_score(is_own, values))


@pytest.mark.parametrize("way", ["ap-top", "probe"])
def test_ways_of_lines_find_neurons_that_are_high_in_a_language(
    way: ChoosingWay, evidence: Evidence
) -> None:
    if way == "probe":
        pytest.importorskip("sklearn", reason="the probe needs scikit-learn")

    choice = WAYS[way](evidence, (4, 4, 4, 4, 4))

    for k, places in enumerate(sets_of(choice)):
        assert {index % 8 for _, index in places} == {k}


def test_ap_takes_half_from_either_end(evidence: Evidence) -> None:
    lines = evidence.line_means
    assert lines is not None
    precision = average_precision(lines)[..., 0].flatten()

    choice = WAYS["ap"](evidence, (6, 0, 0, 0, 0))

    order = precision.argsort(stable=True).tolist()
    flat = (choice.layer * NEURONS + choice.index).tolist()
    assert set(flat) == set(order[:3] + order[-3:])


def test_probe_says_how_good_it_is(evidence: Evidence) -> None:
    pytest.importorskip("sklearn", reason="the probe needs scikit-learn")

    assert WAYS["probe"](evidence, SIZES).note == (
        "12 lines per language, 100.0% of 10 held out right"
    )
    few = replace(evidence, line_means=make_lines(per_language=4))
    assert WAYS["probe"](few, SIZES).note == "4 lines per language, no line held out"


def make_hard_lines() -> LineMeans:
    """Lines of languages that overlap; neurons differ in scale a hundredfold, one never moves."""
    random = torch.Generator().manual_seed(2)
    language_of = torch.randperm(150, generator=random) % len(TOY_LANGUAGES)
    means = torch.randn(150, LAYERS, NEURONS, generator=random)
    for k in range(len(TOY_LANGUAGES)):
        means[language_of == k, :, k::8] += 0.5
    means = means * torch.logspace(-1, 1, NEURONS) + 3
    means[:, 0, 0] = 1.0
    return LineMeans(TOY_LANGUAGES, language_of, means)


def test_probe_is_a_plain_pipeline_of_scikit_learn_on_lines_that_are_hard(
    evidence: Evidence,
) -> None:
    pytest.importorskip("sklearn", reason="the probe needs scikit-learn")
    from sklearn.linear_model import LogisticRegression

    lines = make_hard_lines()
    seen = dict.fromkeys(range(len(TOY_LANGUAGES)), 0)
    kept: list[int] = []
    held_out: list[int] = []
    for line, language in enumerate(lines.language_of.tolist()):
        seen[language] += 1
        (kept if seen[language] % 5 else held_out).append(line)
    raw, language_of = lines.means.flatten(1).numpy(), lines.language_of.numpy()
    spread = raw[kept].std(axis=0, ddof=1)
    spread[spread == 0] = 1
    scaled = (raw - raw[kept].mean(axis=0)) / spread
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(scaled[kept], language_of[kept])

    choice = WAYS["probe"](replace(evidence, line_means=lines), (LAYERS * NEURONS,) * 5)

    assert choice.score.numpy() == pytest.approx(plain.coef_, abs=1e-3)
    right = plain.score(scaled[held_out], language_of[held_out])
    assert choice.note == f"30 lines per language, {right:.1%} of 30 held out right"
    assert right < plain.score(scaled[kept], language_of[kept]), "not hard enough to tell"


def test_probe_of_two_languages_has_opposite_scores(toy_stats: ActivationStats) -> None:
    pytest.importorskip("sklearn", reason="the probe needs scikit-learn")
    two = TOY_LANGUAGES[:2]
    lines = make_lines()
    is_kept = lines.language_of < 2
    evidence = Evidence(
        ActivationStats(two, {"text": {one: toy_stats.phases["text"][one] for one in two}}),
        line_means=LineMeans(two, lines.language_of[is_kept], lines.means[is_kept]),
    )

    choice = WAYS["probe"](evidence, (4, 4))

    assert torch.equal(choice.score[0], -choice.score[1])
    assert [{index % 8 for _, index in places} for places in sets_of(choice)] == [{0}, {1}]


@pytest.mark.parametrize("way", OF_LINES)
def test_ways_of_lines_refuse_lines_that_are_missing_or_of_other_languages(
    way: ChoosingWay, evidence: Evidence
) -> None:
    if way == "probe":
        pytest.importorskip("sklearn", reason="the probe needs scikit-learn")
    lines = evidence.line_means
    assert lines is not None

    for other in (None, replace(lines, languages=TOY_LANGUAGES[::-1])):
        with pytest.raises(StatsError, match="Means of single lines are of"):
            WAYS[way](replace(evidence, line_means=other), SIZES)


def test_probe_without_scikit_learn_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, evidence: Evidence
) -> None:
    monkeypatch.setattr("steering.baselines.find_spec", lambda _: None)

    with pytest.raises(SettingsError, match=r"requirements-study\.txt"):
        check_probe_can_run()
    with pytest.raises(SettingsError, match=r"requirements-study\.txt"):
        WAYS["probe"](evidence, SIZES)


def test_sizes_of_lape_can_be_taken_by_every_way(evidence: Evidence) -> None:
    own = lape(evidence.stats, parameters=TOY_PARAMETERS)
    sizes = tuple(own.is_member.sum(dim=1).tolist())

    assert WAYS["lap"](evidence, sizes).is_member.sum(dim=1).tolist() == list(sizes)
