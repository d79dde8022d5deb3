"""Tests of the methods on neurons: what each does to which neuron, at which site and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steering.errors import PlanError, StatsError
from steering.languages import Language
from steering.neuron_plans import (
    amplify_own,
    damp_others,
    deactivate,
    fix_own,
    pull_in_subspace,
    replace_union,
    shift_own,
    shift_own_by_difference,
    shift_random,
    shift_union,
    steer_as_published,
)
from steering.neuron_set import NeuronSet
from steering.steering_plan import EVERY_POSITION, Where, combine_plans
from tests.plans import TOLERANCE, Effects, assert_effects, effects
from tests.toy import FR, SW, TOY_LANGUAGES, without_neurons

AT_ONSET = Where("value", ("onset",))
PUBLISHED = Where("gate", EVERY_POSITION)
ON_NEURONS = (
    shift_union, shift_own, shift_own_by_difference, replace_union, fix_own, amplify_own,
    damp_others, steer_as_published,
)  # fmt: skip


def neurons_at(neurons: NeuronSet) -> list[tuple[int, int]]:
    return list(zip(neurons.layer.tolist(), neurons.index.tolist(), strict=True))


def onset_value_means(neurons: NeuronSet, place: int) -> list[float]:
    """Per language, one neuron's mean at the value site at the onset."""
    means: list[float] = neurons.value_means["onset"][:, place].tolist()
    return means


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_published_method_switches_others_off_and_adds_the_mean_to_its_own(
    target: Language, toy_set: NeuronSet
) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = steer_as_published(toy_set, target, 0.5, PUBLISHED)

    expected = {}
    for place, (layer, index) in enumerate(neurons_at(toy_set)):
        is_own = bool(toy_set.is_member[row, place])
        mean = float(toy_set.gate_means["text"][row, place])
        for phase in EVERY_POSITION:
            expected["gate", phase, layer, index] = (1.0, 0.5 * mean) if is_own else (0.0, 0.0)
    assert_effects(plan, expected)


def test_published_method_leaves_a_shared_neuron_of_the_target_on(toy_set: NeuronSet) -> None:
    shared = replace(toy_set, is_member=torch.ones_like(toy_set.is_member))

    plan = steer_as_published(shared, FR, 1.0, PUBLISHED)

    assert {scale for scale, _ in effects(plan).values()} == {1.0}


def test_published_method_takes_means_of_answers_where_no_text_was_recorded(
    toy_set: NeuronSet,
) -> None:
    body = toy_set.gate_means["body"]

    plan = steer_as_published(replace(toy_set, gate_means={"body": body}), FR, 1.0, PUBLISHED)

    first = int(toy_set.neurons_of(FR)[0])
    key = ("gate", "body", int(toy_set.layer[first]), int(toy_set.index[first]))
    assert effects(plan)[key][1] == pytest.approx(float(body[0, first]), abs=TOLERANCE)


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
@pytest.mark.parametrize(
    ("method", "rule", "whose"),
    [
        (shift_union, lambda t, mean, others: (1.0, 2 * (t - mean)), "all"),
        (shift_own, lambda t, mean, others: (1.0, 2 * t), "own"),
        (shift_own_by_difference, lambda t, mean, others: (1.0, 2 * (t - others)), "own"),
        (replace_union, lambda t, mean, others: (-1.0, 2 * t), "all"),
        (fix_own, lambda t, mean, others: (0.0, 2 * t), "own"),
        (amplify_own, lambda t, mean, others: (3.0, 0.0), "own"),
        (damp_others, lambda t, mean, others: (0.0, 0.0), "others"),
    ],
)
def test_method_makes_the_edit_that_its_formula_says(  # type: ignore[no-untyped-def]  # a table
    method, rule, whose: str, target: Language, toy_set: NeuronSet
) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = method(toy_set, target, 2.0, AT_ONSET)

    expected: Effects = {}
    for place, (layer, index) in enumerate(neurons_at(toy_set)):
        is_own = bool(toy_set.is_member[row, place])
        if whose == "all" or is_own == (whose == "own"):
            means = onset_value_means(toy_set, place)
            others = (sum(means) - means[row]) / 4
            key = ("value", "onset", layer, index)
            expected[key] = rule(means[row], sum(means) / 5, others)
    assert_effects(plan, expected)


def test_damping_by_half_halves(toy_set: NeuronSet) -> None:
    plan = damp_others(toy_set, FR, 0.5, AT_ONSET)

    assert {effect for effect in effects(plan).values()} == {(0.5, 0.0)}


def test_union_of_all_targets_cancels_out(toy_set: NeuronSet) -> None:
    shifts = [effects(shift_union(toy_set, one, 1.0, AT_ONSET)) for one in TOY_LANGUAGES]

    for key in shifts[0]:
        assert sum(shift[key][1] for shift in shifts) == pytest.approx(0, abs=5 * TOLERANCE)


@pytest.mark.parametrize("method", ON_NEURONS)
@pytest.mark.parametrize("site", ["gate", "value"])
def test_every_phase_is_edited_with_its_own_means(method, site, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    both = method(toy_set, FR, 1.5, Where(site, ("onset", "start", "body")))

    onset = method(toy_set, FR, 1.5, Where(site, ("onset",)))
    start = method(toy_set, FR, 1.5, Where(site, ("start",)))
    body = method(toy_set, FR, 1.5, Where(site, ("body",)))
    assert effects(both) == effects(onset) | effects(start) | effects(body)
    assert {key[0] for key in effects(both)} == {site}


def test_only_the_given_layers_are_edited(toy_set: NeuronSet) -> None:
    plan = shift_union(toy_set, FR, 1.0, Where("value", ("onset",), layers=(1,)))

    everywhere = effects(shift_union(toy_set, FR, 1.0, AT_ONSET))
    assert effects(plan) == {key: effect for key, effect in everywhere.items() if key[2] == 1}
    assert effects(plan)


def test_random_neurons_are_moved_by_their_own_means_and_are_none_of_the_set(
    toy_set: NeuronSet,
) -> None:
    control = toy_set.control
    assert control is not None

    plan = shift_random(toy_set, FR, 2.0, AT_ONSET)

    means = control.value_means["onset"]
    shifts = 2 * (means[0] - means.mean(dim=0))
    expected = {
        ("value", "onset", int(layer), int(index)): (1.0, float(shifts[u]))
        for u, (layer, index) in enumerate(zip(control.layer, control.index, strict=True))
    }
    assert_effects(plan, expected)
    assert not {key[2:] for key in expected} & set(neurons_at(toy_set))


def test_random_is_refused_for_a_set_without_random_neurons(toy_set: NeuronSet) -> None:
    with pytest.raises(PlanError, match="no random neurons"):
        shift_random(replace(toy_set, control=None), FR, 1.0, AT_ONSET)


@pytest.mark.parametrize("method", ON_NEURONS)
def test_method_on_neurons_refuses_the_residual(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PlanError, match="Expected gate or value"):
        method(toy_set, FR, 1.0, Where("residual", ("onset",)))


@pytest.mark.parametrize("method", ON_NEURONS)
def test_every_method_makes_an_empty_plan_of_an_empty_set(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    assert method(without_neurons(toy_set), FR, 1.0, AT_ONSET).edits == {}


@pytest.mark.parametrize("method", [shift_union, shift_own])
def test_onset_is_refused_where_no_dialogues_were_recorded(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    only_text = replace(toy_set, value_means={"text": toy_set.value_means["text"]})

    with pytest.raises(StatsError, match="no means for phase 'onset'"):
        method(only_text, FR, 1.0, AT_ONSET)


@pytest.mark.parametrize("method", [amplify_own, damp_others])
def test_scaling_needs_no_means(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    bare = replace(toy_set, value_means={}, gate_means={})

    plan = method(bare, FR, 0.5, AT_ONSET)

    assert effects(plan) == effects(method(toy_set, FR, 0.5, AT_ONSET)) != {}


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_deactivating_zeroes_its_neurons_everywhere(target: Language, toy_set: NeuronSet) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = deactivate(toy_set, target)

    assert effects(plan) == {
        ("value", phase, layer, index): (0.0, 0.0)
        for place, (layer, index) in enumerate(neurons_at(toy_set))
        if toy_set.is_member[row, place]
        for phase in EVERY_POSITION
    }


def test_language_without_neurons_has_nothing_of_its_own_to_move(toy_set: NeuronSet) -> None:
    assert shift_own(toy_set, SW, 1.0, AT_ONSET).edits == {}
    assert deactivate(toy_set, SW).edits == {}


def test_neuron_pull_leads_to_the_targets_means_and_leaves_the_rest(toy_set: NeuronSet) -> None:
    plan = pull_in_subspace(toy_set, FR, 1.0, AT_ONSET)

    for (site, phase, layer), pull in plan.pulls.items():
        assert (site, phase) == ("value", "onset")
        assert pull.units is not None
        places = [
            int(((toy_set.layer == layer) & (toy_set.index == unit)).nonzero())
            for unit in pull.units
        ]
        means_KU = toy_set.value_means["onset"][:, places]
        start = torch.randn(len(places), generator=torch.Generator().manual_seed(layer))
        end = start + (pull.point - pull.directions @ start) @ pull.directions
        for mean in means_KU:  # what tells languages apart is where French has it
            gap = (means_KU[0] - mean).double()
            assert float(gap @ (end - means_KU[0]).double()) == pytest.approx(0, abs=1e-4)
        outside = (end - start) - ((end - start) @ pull.directions.T) @ pull.directions
        assert outside.abs().max() < 1e-5
    assert {layer for *_, layer in plan.pulls} == set(toy_set.layer.tolist())


def test_pulls_of_the_same_neurons_join(toy_set: NeuronSet) -> None:
    half = pull_in_subspace(toy_set, FR, 0.5, AT_ONSET)

    joined = combine_plans(half, half)

    for place, pull in joined.pulls.items():
        assert pull.share == pytest.approx(0.75)
        assert torch.allclose(pull.point, half.pulls[place].point)
