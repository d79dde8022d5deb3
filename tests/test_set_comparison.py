"""Tests of comparing sets: identities, parity with loops, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.building import SetOrigin, build_neuron_set
from steering.errors import NeuronSetMismatchError, SettingsError
from steering.lape import LapeParameters
from steering.neuron_set import NeuronSet
from steering.set_comparison import (
    chance_jaccard,
    compare_sets,
    jaccard,
    scores_of,
    spearman,
)
from tests.oracles import spearman_by_loops
from tests.toy import (
    EN,
    FR,
    JA,
    LAYERS,
    NEURONS,
    TH,
    TOY_IDENTITY,
    TOY_LANGUAGES,
    WITH_NEURONS,
    make_toy_set,
    make_toy_stats,
    without_neurons,
)


def places_of(neurons: NeuronSet, code: int) -> set[tuple[int, int]]:
    """Neurons of the language at a place, by loops."""
    return {
        (int(neurons.layer[u]), int(neurons.index[u]))
        for u in range(len(neurons.layer))
        if neurons.is_member[code, u]
    }


@pytest.fixture(scope="module")
def other() -> NeuronSet:
    """A larger set of other statistics, which shares some neurons with the toy set."""
    return build_neuron_set(
        TOY_IDENTITY,
        make_toy_stats(3),
        phase="text",
        parameters=LapeParameters(0.7, 0.5, 0.7),
        origin=SetOrigin(corpus_name="toy", corpus_sha256="1" * 64),
    )


def test_identical_sets_agree_in_all(toy_set: NeuronSet) -> None:
    comparison = compare_sets({"a": toy_set, "b": toy_set})

    (pair,) = comparison.pairs
    assert pair.ranked == len(toy_set.layer)
    assert pair.mean_jaccard == 1
    for one in pair.languages:
        has_neurons = one.language in WITH_NEURONS
        assert one.jaccard == (1 if has_neurons else None)
        assert all(value in (1, None) for value in one.jaccard_by_layer)
        assert one.first_count == one.second_count == one.shared
        assert one.rank_correlation == pytest.approx(1)
    assert not any(places for by_lang in comparison.only.values() for places in by_lang.values())


def test_a_pair_is_what_loops_say(toy_set: NeuronSet, other: NeuronSet) -> None:
    comparison = compare_sets({"a": toy_set, "b": other})

    (pair,) = comparison.pairs
    for k, (language, found) in enumerate(zip(TOY_LANGUAGES, pair.languages, strict=True)):
        a, b = places_of(toy_set, k), places_of(other, k)
        assert found.language == language
        assert (found.first_count, found.second_count, found.shared) == (len(a), len(b), len(a & b))
        assert found.jaccard == (len(a & b) / len(a | b) if a | b else None)
        for layer in range(LAYERS):
            here = [{place for place in one if place[0] == layer} for one in (a, b)]
            either = here[0] | here[1]
            expected = len(here[0] & here[1]) / len(either) if either else None
            assert found.jaccard_by_layer[layer] == expected
        assert set(comparison.only["a"][language]) == a - b
        assert set(comparison.only["b"][language]) == b - a
    assert (
        0
        < sum(one.shared for one in pair.languages)
        < sum(one.first_count for one in pair.languages)
    )


def test_scores_are_correlated_on_the_neurons_of_both(toy_set: NeuronSet, other: NeuronSet) -> None:
    (pair,) = compare_sets({"a": toy_set, "b": other}).pairs

    scores = [
        {
            (int(one.layer[u]), int(one.index[u])): -float(one.lape_score[u])
            for u in range(len(one.layer))
        }
        for one in (toy_set, other)
        if one.lape_score is not None
    ]
    shared = sorted(scores[0].keys() & scores[1].keys())
    assert pair.ranked == len(shared) > 3
    expected = spearman_by_loops(*([one[place] for place in shared] for one in scores))
    assert pair.languages[0].rank_correlation == pytest.approx(expected)


def test_scores_of_another_way_are_its_own_per_language(toy_set: NeuronSet) -> None:
    random = torch.Generator().manual_seed(0)
    shape = toy_set.is_member.shape
    made = replace(toy_set, choice_score=torch.rand(shape, generator=random))

    (pair,) = compare_sets({"a": toy_set, "b": made}).pairs

    lape_scores = scores_of(toy_set)
    assert lape_scores is not None
    for k, found in enumerate(pair.languages):
        expected = spearman_by_loops(lape_scores[k].tolist(), scores_of(made)[k].tolist())  # type: ignore[index]  # it has scores
        assert found.rank_correlation == pytest.approx(expected)


def test_what_only_one_of_three_finds_no_other_has(toy_set: NeuronSet, other: NeuronSet) -> None:
    third = make_toy_set(seed=9)

    comparison = compare_sets({"a": toy_set, "b": other, "c": third})

    assert [(pair.first, pair.second) for pair in comparison.pairs] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    for k, language in enumerate(TOY_LANGUAGES):
        a, b, c = (places_of(one, k) for one in (toy_set, other, third))
        assert set(comparison.only["c"][language]) == c - a - b


def test_languages_in_common_are_compared_wherever_they_stand(toy_set: NeuronSet) -> None:
    turned = replace(
        toy_set,
        metadata=toy_set.metadata.model_copy(
            update={"languages": ("ja", "de", "fr"), "token_counts": {}}
        ),
        is_member=toy_set.is_member[[1, 3, 0]],
        activation_prob=toy_set.activation_prob[[1, 3, 0]],  # type: ignore[index]  # it has them
    )

    comparison = compare_sets({"a": toy_set, "b": turned})

    assert comparison.languages == (FR, JA)
    assert [one.jaccard for one in comparison.pairs[0].languages] == [1, 1]


def test_a_set_without_neurons_is_compared(toy_set: NeuronSet) -> None:
    (pair,) = compare_sets({"a": toy_set, "b": without_neurons(toy_set)}).pairs

    by_language = {one.language: one for one in pair.languages}
    assert by_language[EN].jaccard == 0
    assert by_language[TH].jaccard is by_language[TH].chance is None
    assert by_language[EN].rank_correlation is None
    assert pair.mean_jaccard == 0


def test_a_set_without_scores_has_no_correlation(toy_set: NeuronSet) -> None:
    bare = replace(toy_set, lape_score=None)

    (pair,) = compare_sets({"a": toy_set, "b": bare}).pairs

    assert {one.rank_correlation for one in pair.languages} == {None}


def test_one_set_is_refused(toy_set: NeuronSet) -> None:
    with pytest.raises(SettingsError, match="at least two"):
        compare_sets({"a": toy_set})


@pytest.mark.parametrize(
    "change",
    [
        {"layers": 3},
        {"neurons_per_layer": 64},
        {"tokenizer_sha256": "9" * 64},
        {"model_revision": "sha256:" + "2" * 16},
    ],
)
def test_sets_of_two_models_are_refused_in_words(
    change: dict[str, object], toy_set: NeuronSet
) -> None:
    own = {"model_revision": "sha256:" + "1" * 16}
    first = replace(toy_set, metadata=toy_set.metadata.model_copy(update=own))
    foreign = {**own, "model_id": "another", **change}
    second = replace(toy_set, metadata=toy_set.metadata.model_copy(update=foreign))

    with pytest.raises(NeuronSetMismatchError, match=r"'a' is of 'toy'.*'b' of 'another'"):
        compare_sets({"a": first, "b": second})


def test_a_set_whose_tokenizer_is_not_known_is_compared_both_ways(toy_set: NeuronSet) -> None:
    unknown = toy_set.metadata.model_copy(update={"tokenizer_sha256": ""})
    imported = replace(toy_set, metadata=unknown)

    assert compare_sets({"a": toy_set, "b": imported}).pairs[0].mean_jaccard == 1
    assert compare_sets({"a": imported, "b": toy_set}).pairs[0].mean_jaccard == 1


def test_sets_without_a_common_language_are_refused(toy_set: NeuronSet) -> None:
    metadata = toy_set.metadata.model_copy(
        update={"languages": ("de", "es", "it", "ko", "pt"), "token_counts": {}}
    )

    with pytest.raises(SettingsError, match="languages in common"):
        compare_sets({"a": toy_set, "b": replace(toy_set, metadata=metadata)})


@given(st.lists(st.integers(0, 3), min_size=3, max_size=12), st.randoms())
def test_spearman_is_that_of_loops_with_ties(first: Sequence[int], random: object) -> None:
    second = [random.randint(0, 3) for _ in first]  # type: ignore[attr-defined]  # a random.Random

    found = spearman(torch.tensor(first), torch.tensor(second))

    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearman_by_loops(first, second), abs=1e-9)


def test_two_values_have_no_rank_correlation() -> None:
    assert spearman(torch.tensor([1, 2]), torch.tensor([2, 1])) is None


def test_jaccard_of_nothing_is_unknown() -> None:
    nothing, some = torch.tensor([], dtype=torch.int64), torch.tensor([1, 5])

    assert jaccard(nothing, nothing) is None
    assert jaccard(nothing, some) == 0


def test_random_groups_have_the_jaccard_of_chance_on_average() -> None:
    random = torch.Generator().manual_seed(0)
    among, a, b = 96, 30, 40

    drawn = [
        jaccard(*(torch.randperm(among, generator=random)[:n] for n in (a, b))) or 0.0
        for _ in range(400)
    ]

    # The index of the expected overlap, not the expected index: they differ by some thousandths.
    assert sum(drawn) / len(drawn) == pytest.approx(chance_jaccard(a, b, among), abs=0.01)
    assert chance_jaccard(0, 0, among) is None
    assert TOY_IDENTITY.layers * NEURONS == among
