"""Tests of the methods: what each does to which neuron, and how a request becomes a plan."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from steering.errors import PlanError, StatsError, UnknownLanguageError
from steering.languages import LANGUAGES, Language
from steering.neuron_plans import (
    DEFAULT_METHOD,
    DEFAULT_STRENGTHS,
    METHODS,
    SteeringRequest,
    deactivate,
    make_plan,
    plan_as_published,
    plan_own_at_onset,
    plan_union_at_onset,
    resolve_strength,
)
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING, SteeringPlan
from tests.toy import EN, FR, JA, SW, TOY_LANGUAGES, without_neurons

# Effects are float32 with one or two roundings, of values below 10.
TOLERANCE = 1e-6

Effects = dict[tuple[str, str, int, int], tuple[float, float]]


def effects(plan: SteeringPlan) -> Effects:
    """(site, phase, layer, unit) -> (scale, shift)."""
    return {
        (site, phase, layer, int(unit)): (float(scale), float(shift))
        for (site, phase, layer), edit in plan.edits.items()
        for unit, scale, shift in zip(edit.units, edit.scale, edit.shift, strict=True)
    }


def neurons_at(neurons: NeuronSet) -> list[tuple[int, int]]:
    return list(zip(neurons.layer.tolist(), neurons.index.tolist(), strict=True))


def assert_effects(plan: SteeringPlan, expected: Effects) -> None:
    found = effects(plan)
    assert found.keys() == expected.keys()
    for key, effect in found.items():
        assert effect == pytest.approx(expected[key], abs=TOLERANCE), key


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_published_method_switches_others_off_and_adds_the_mean_to_its_own(
    target: Language, toy_set: NeuronSet
) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = plan_as_published(toy_set, target, 0.5)

    expected = {}
    for place, (layer, index) in enumerate(neurons_at(toy_set)):
        is_own = bool(toy_set.is_member[row, place])
        mean = float(toy_set.gate_means["text"][row, place])
        for phase in ("prompt", "onset", "body"):
            expected["gate", phase, layer, index] = (1.0, 0.5 * mean) if is_own else (0.0, 0.0)
    assert_effects(plan, expected)


def test_published_method_leaves_a_shared_neuron_of_the_target_on(toy_set: NeuronSet) -> None:
    shared = replace(toy_set, is_member=torch.ones_like(toy_set.is_member))

    plan = plan_as_published(shared, FR, 1.0)

    assert {scale for scale, _ in effects(plan).values()} == {1.0}


def test_published_method_takes_means_of_answers_where_no_text_was_recorded(
    toy_set: NeuronSet,
) -> None:
    body = toy_set.gate_means["body"]

    plan = plan_as_published(replace(toy_set, gate_means={"body": body}), FR, 1.0)

    first = int(toy_set.neurons_of(FR)[0])
    key = ("gate", "body", int(toy_set.layer[first]), int(toy_set.index[first]))
    assert effects(plan)[key][1] == pytest.approx(float(body[0, first]), abs=TOLERANCE)


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_own_at_onset_adds_the_mean_to_its_own_alone(target: Language, toy_set: NeuronSet) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = plan_own_at_onset(toy_set, target, 3.0)

    assert_effects(
        plan,
        {
            ("value", "onset", layer, index): (
                1.0,
                3 * float(toy_set.value_means["onset"][row, place]),
            )
            for place, (layer, index) in enumerate(neurons_at(toy_set))
            if toy_set.is_member[row, place]
        },
    )


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_union_at_onset_moves_every_neuron_towards_the_target(
    target: Language, toy_set: NeuronSet
) -> None:
    row = TOY_LANGUAGES.index(target)
    expected = {}
    for place, (layer, index) in enumerate(neurons_at(toy_set)):
        means = toy_set.value_means["onset"][:, place].tolist()
        expected["value", "onset", layer, index] = (1.0, 2 * (means[row] - sum(means) / 5))

    assert_effects(plan_union_at_onset(toy_set, target, 2.0), expected)


def test_union_of_all_targets_cancels_out(toy_set: NeuronSet) -> None:
    shifts = [effects(plan_union_at_onset(toy_set, one, 1.0)) for one in TOY_LANGUAGES]

    for key in shifts[0]:
        assert sum(shift[key][1] for shift in shifts) == pytest.approx(0, abs=5 * TOLERANCE)


@pytest.mark.parametrize("target", TOY_LANGUAGES, ids=str)
def test_deactivating_zeroes_its_neurons_everywhere(target: Language, toy_set: NeuronSet) -> None:
    row = TOY_LANGUAGES.index(target)

    plan = deactivate(toy_set, target)

    assert effects(plan) == {
        ("value", phase, layer, index): (0.0, 0.0)
        for place, (layer, index) in enumerate(neurons_at(toy_set))
        if toy_set.is_member[row, place]
        for phase in ("prompt", "onset", "body")
    }


def test_language_without_neurons_has_nothing_of_its_own_to_move(toy_set: NeuronSet) -> None:
    assert plan_own_at_onset(toy_set, SW, 1.0).edits == {}
    assert deactivate(toy_set, SW).edits == {}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_an_empty_plan_of_an_empty_set(method: str, toy_set: NeuronSet) -> None:
    assert METHODS[method](without_neurons(toy_set), EN, 1.0).edits == {}


@pytest.mark.parametrize("method", ["lape", "lape-own"])
def test_onset_method_is_refused_where_no_dialogues_were_recorded(
    method: str, toy_set: NeuronSet
) -> None:
    only_text = replace(toy_set, value_means={"text": toy_set.value_means["text"]})

    with pytest.raises(StatsError, match="no means for phase 'onset'"):
        make_plan(only_text, SteeringRequest(FR, method))


def test_no_target_and_no_strength_are_no_steering(toy_set: NeuronSet) -> None:
    assert make_plan(toy_set, SteeringRequest(None)) is NO_STEERING
    assert make_plan(toy_set, SteeringRequest(None, "guess", -1)) is NO_STEERING
    for method in METHODS:
        assert make_plan(toy_set, SteeringRequest(FR, method, 0)) is NO_STEERING


@pytest.mark.parametrize("method", METHODS)
def test_request_becomes_the_plan_of_its_method(method: str, toy_set: NeuronSet) -> None:
    plan = make_plan(toy_set, SteeringRequest(JA, method, 1.5))

    assert effects(plan) == effects(METHODS[method](toy_set, JA, 1.5))


def test_method_and_strength_are_the_sets_own_unless_named(toy_set: NeuronSet) -> None:
    own = {"steering_method": "lape-own", "strengths": {"normal": 7.0}}
    tuned = replace(toy_set, metadata=toy_set.metadata.model_copy(update=own))

    assert effects(make_plan(tuned, SteeringRequest(JA))) == effects(
        plan_own_at_onset(tuned, JA, 7.0)
    )
    assert effects(make_plan(tuned, SteeringRequest(JA, "lape", "strong"))) == effects(
        plan_union_at_onset(tuned, JA, DEFAULT_STRENGTHS["strong"])
    )
    assert effects(make_plan(toy_set, SteeringRequest(JA))) == effects(
        METHODS[DEFAULT_METHOD](toy_set, JA, DEFAULT_STRENGTHS["normal"])
    )


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, "loud", ""])
def test_strength_that_is_none_is_refused(strength: float | str, toy_set: NeuronSet) -> None:
    with pytest.raises(PlanError, match=f"Strength is '{strength}'. Expected gentle, normal"):
        make_plan(toy_set, SteeringRequest(FR, "lape", strength))  # type: ignore[arg-type]  # wrong


@pytest.mark.parametrize(("strength", "expected"), [(0, 0.0), (2, 2.0), ("gentle", 2.0)])
def test_strength_is_a_level_or_a_number(
    strength: float, expected: float, toy_set: NeuronSet
) -> None:
    assert resolve_strength(toy_set, strength) == expected


def test_unknown_method_is_refused_with_the_known_ones(toy_set: NeuronSet) -> None:
    with pytest.raises(PlanError, match=r"method 'guess'. Expected one of: lape, lape-own, lape-p"):
        make_plan(toy_set, SteeringRequest(FR, "guess"))


@pytest.mark.parametrize("method", METHODS)
def test_language_that_the_set_does_not_hold_is_refused(method: str, toy_set: NeuronSet) -> None:
    with pytest.raises(UnknownLanguageError, match="'de'"):
        make_plan(toy_set, SteeringRequest(LANGUAGES["de"], method))
