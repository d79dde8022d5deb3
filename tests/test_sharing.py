"""The four groups, their stability and scores agree with loops over single neurons."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from steering.errors import StatsError
from steering.sharing import (
    GROUPS,
    by_layer,
    contribution_scores,
    effective_scores,
    find_specific_languages,
    group_neurons,
    group_shares,
    measure_stability,
    score_groups,
    shares_of_total,
)

LANGUAGES, LAYERS, NEURONS, PROMPTS = 3, 2, 20, 4


def random_activations(seed: int, *, languages: int = LANGUAGES) -> Tensor:
    shape = (languages, LAYERS, NEURONS)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_groups() -> Tensor:
    return torch.stack([group_neurons(random_activations(seed)) for seed in range(PROMPTS)])


def slow_group(activations: Tensor, layer: int, index: int, threshold: float) -> str:
    count = 0
    for language in range(len(activations)):
        if float(activations[language, layer, index]) > threshold:
            count += 1
    if count == len(activations):
        return "all-shared"
    if count == 0:
        return "non-activated"
    return "specific" if count == 1 else "partial-shared"


@pytest.mark.parametrize("threshold", [0.0, 0.5, -0.5])
@pytest.mark.parametrize("languages", [2, 3, 7])
def test_groups_are_those_of_counting_one_by_one(threshold: float, languages: int) -> None:
    activations = random_activations(0, languages=languages)

    groups = group_neurons(activations, threshold=threshold)

    for layer, index in itertools.product(range(LAYERS), range(NEURONS)):
        expected = slow_group(activations, layer, index, threshold)
        assert GROUPS[int(groups[layer, index])] == expected


def test_two_languages_have_no_partial_shared_neurons_and_three_have_all_groups() -> None:
    two, three = (group_neurons(random_activations(0, languages=count)) for count in (2, 3))

    assert {GROUPS[place] for place in two.unique()} == set(GROUPS) - {"partial-shared"}
    assert {GROUPS[place] for place in three.unique()} == set(GROUPS)


def test_a_neuron_at_the_threshold_is_not_active() -> None:
    activations = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]])

    assert [GROUPS[place] for place in group_neurons(activations)[0]] == [
        "non-activated",
        "all-shared",
    ]
    assert GROUPS[int(group_neurons(activations, threshold=1.0)[0, 1])] == "non-activated"


def test_order_of_languages_changes_no_group() -> None:
    activations = random_activations(1)

    assert torch.equal(group_neurons(activations), group_neurons(activations.flip(0)))


@pytest.mark.parametrize("threshold", [0.0, 0.5, -0.5])
def test_specific_neurons_know_their_language_and_others_have_none(threshold: float) -> None:
    activations = random_activations(2)
    groups = group_neurons(activations, threshold=threshold)

    only = find_specific_languages(activations, threshold=threshold)

    for layer, index in itertools.product(range(LAYERS), range(NEURONS)):
        active = [k for k in range(LANGUAGES) if activations[k, layer, index] > threshold]
        assert int(only[layer, index]) == (active[0] if len(active) == 1 else -1)
        assert (len(active) == 1) == (GROUPS[int(groups[layer, index])] == "specific")


def test_one_language_is_refused_in_words() -> None:
    with pytest.raises(StatsError, match=r"'1' language.*at least two"):
        group_neurons(random_activations(0, languages=1))


def test_shares_count_the_neurons_of_every_layer_and_add_up_to_one() -> None:
    groups = random_groups()

    shares = group_shares(groups)

    assert torch.allclose(shares.sum(dim=-2), torch.ones(PROMPTS, LAYERS, dtype=torch.float64))
    for prompt, place, layer in itertools.product(range(PROMPTS), range(4), range(LAYERS)):
        count = sum(int(one) == place for one in groups[prompt, layer])
        assert float(shares[prompt, place, layer]) == pytest.approx(count / NEURONS)


def test_shares_by_layer_are_a_mapping_from_group_to_a_number_per_layer() -> None:
    table = torch.arange(8.0).view(4, 2)

    mapping = by_layer(table)

    assert list(mapping) == list(GROUPS)
    assert mapping["partial-shared"] == (2.0, 3.0)


def test_modal_share_is_that_of_the_most_frequent_group() -> None:
    groups = random_groups()
    shares = []
    for layer, index in itertools.product(range(LAYERS), range(NEURONS)):
        seen = [int(groups[prompt, layer, index]) for prompt in range(PROMPTS)]
        shares.append(max(seen.count(place) for place in range(4)) / PROMPTS)

    stability = measure_stability(groups)

    assert stability is not None
    assert stability.modal_share == pytest.approx(statistics.mean(shares))
    assert stability.modal_share_by_layer == pytest.approx(
        [statistics.mean(shares[:NEURONS]), statistics.mean(shares[NEURONS:])]
    )


def test_jaccard_is_that_of_sets_and_of_sets_of_equal_sizes_drawn_at_random() -> None:
    groups = random_groups()
    stability = measure_stability(groups)
    assert stability is not None

    for place, group in enumerate(GROUPS):
        sets = [
            {
                (layer, index)
                for layer, index in itertools.product(range(LAYERS), range(NEURONS))
                if int(groups[prompt, layer, index]) == place
            }
            for prompt in range(PROMPTS)
        ]
        found, chance = [], []
        for one, other in itertools.combinations(sets, 2):
            found.append(len(one & other) / len(one | other))
            common = 0.0
            for layer in range(LAYERS):
                sizes = [sum(neuron[0] == layer for neuron in some) for some in (one, other)]
                common += sizes[0] * sizes[1] / NEURONS
            chance.append(common / (len(one) + len(other) - common))
        assert stability.jaccard[group] == pytest.approx(statistics.mean(found))
        assert stability.jaccard_by_chance[group] == pytest.approx(statistics.mean(chance))


def test_the_same_groups_on_every_prompt_are_wholly_stable() -> None:
    groups = random_groups()[:1].expand(5, -1, -1)

    stability = measure_stability(groups)

    assert stability is not None
    assert stability.modal_share == 1
    assert stability.modal_share_by_chance < 0.8
    assert set(stability.jaccard.values()) == {1.0}


def test_groups_dealt_at_random_are_as_stable_as_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 4, (12, 1, 4000), generator=generator, dtype=torch.uint8)

    stability = measure_stability(groups)

    assert stability is not None
    assert stability.modal_share == pytest.approx(stability.modal_share_by_chance, abs=0.01)
    for group in GROUPS:
        assert stability.jaccard[group] == pytest.approx(
            stability.jaccard_by_chance[group], abs=0.01
        )


def test_stability_of_one_prompt_is_not_known_and_an_empty_group_has_no_jaccard() -> None:
    assert measure_stability(random_groups()[:1]) is None

    stability = measure_stability(torch.zeros(2, LAYERS, NEURONS, dtype=torch.uint8))

    assert stability is not None
    assert stability.jaccard == {
        "all-shared": 1.0, "partial-shared": None, "specific": None, "non-activated": None,
    }  # fmt: skip


def test_scores_are_the_products_that_the_paper_names() -> None:
    values, columns = random_activations(3), torch.randn(LAYERS, NEURONS, 5)
    token = torch.randn(LANGUAGES, 5)

    contribution = contribution_scores(values, columns.norm(dim=-1))
    effective = effective_scores(values, torch.einsum("lnh,kh->kln", columns, token))

    for k, layer, i in itertools.product(range(LANGUAGES), range(LAYERS), range(NEURONS)):
        written = [float(values[k, layer, i]) * float(x) for x in columns[layer, i]]
        length = math.sqrt(sum(x * x for x in written))
        logit = sum(x * float(e) for x, e in zip(written, token[k], strict=True))
        assert float(contribution[k, layer, i]) == pytest.approx(length, rel=1e-4)
        assert float(effective[k, layer, i]) == pytest.approx(logit, abs=1e-4)


def test_scores_of_groups_are_those_of_loops_and_nan_where_a_group_is_empty() -> None:
    scores, groups = random_activations(4), group_neurons(random_activations(5))
    groups[0][groups[0] == GROUPS.index("specific")] = GROUPS.index("all-shared")

    found = score_groups(scores, groups)

    for k, place, layer in itertools.product(range(LANGUAGES), range(4), range(LAYERS)):
        mine = [
            float(s) for s, g in zip(scores[k, layer], groups[layer], strict=True) if g == place
        ]
        at = (k, place, layer)
        assert float(found.total[at]) == pytest.approx(sum(mine))
        if mine:
            assert float(found.mean[at]) == pytest.approx(statistics.mean(mine))
            assert float(found.largest[at]) == pytest.approx(max(mine))
            assert float(found.smallest[at]) == pytest.approx(min(mine))
        else:
            assert all(math.isnan(t[at]) for t in (found.mean, found.largest, found.smallest))
    assert found.mean.isnan().any()


def test_shares_of_a_total_add_up_to_one_and_are_zero_of_nothing() -> None:
    totals = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0], [4.0, 0.0]])

    assert shares_of_total(totals).tolist() == [[0.125, 0], [0.375, 0], [0, 0], [0.5, 0]]
