"""Tests of the methods by name: how one is written, and how a request becomes a plan."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from steering.errors import PlanError, UnknownLanguageError
from steering.languages import LANGUAGES, Language
from steering.methods import (
    DEFAULT_STRENGTHS,
    METHODS,
    UNCALIBRATED_METHOD,
    SteeringRequest,
    default_method,
    make_plan,
    parse_method,
    resolve_strength,
    with_random,
    without_lape,
)
from steering.neuron_set import ImportedFrom, NeuronSet
from steering.residual import difference_from_source
from steering.steering_plan import EVERY_POSITION, NO_STEERING, Where, layers_of
from tests.plans import TOLERANCE, effects
from tests.toy import FR, JA


def test_no_target_and_no_strength_are_no_steering(toy_set: NeuronSet) -> None:
    assert make_plan(toy_set, SteeringRequest(None)) is NO_STEERING
    assert make_plan(toy_set, SteeringRequest(None, "guess", -1)) is NO_STEERING
    for method in METHODS:
        assert make_plan(toy_set, SteeringRequest(FR, method, 0)) is NO_STEERING


@pytest.mark.parametrize("name", METHODS)
def test_strength_one_is_the_usual_strength_of_the_method(name: str, toy_set: NeuronSet) -> None:
    method = METHODS[name]

    plan = make_plan(toy_set, SteeringRequest(JA, name, 1.5))

    assert plan.edits or plan.pulls or plan.token_bias or plan.repetition_penalty > 1
    expected = method.make_plan(toy_set, JA, 1.5 * method.usual_strength, method.where)
    assert effects(plan) == effects(expected)
    assert plan.pulls.keys() == expected.pulls.keys()
    for place, pull in plan.pulls.items():
        assert torch.equal(pull.point, expected.pulls[place].point)
        assert pull.share == expected.pulls[place].share
    assert plan.repetition_penalty == expected.repetition_penalty
    bounds = [one.token_bias and one.token_bias.bound_nats for one in (plan, expected)]
    assert bounds[0] == bounds[1]


def test_method_and_strength_are_the_sets_own_unless_named(toy_set: NeuronSet) -> None:
    own = {
        "steering_method": "lape-own@2",
        "strengths": {"normal": 7.0},
        "language_strengths": {"ja": {"normal": 3.0}},
    }
    tuned = replace(toy_set, metadata=toy_set.metadata.model_copy(update=own))

    def at(language: str, strength: float, method: str = "lape-own@1") -> object:
        return effects(make_plan(tuned, SteeringRequest(LANGUAGES[language], method, strength)))

    assert effects(make_plan(tuned, SteeringRequest(JA))) == at("ja", 6.0)
    assert effects(make_plan(tuned, SteeringRequest(FR))) == at("fr", 14.0)
    assert effects(make_plan(tuned, SteeringRequest(JA, "lape", "strong"))) == at(
        "ja", DEFAULT_STRENGTHS["strong"], "lape"
    )


def test_without_a_method_of_its_own_a_set_steers_by_what_it_holds(toy_set: NeuronSet) -> None:
    of_neurons = replace(toy_set, residual_means={"text": toy_set.residual_means["text"]})
    origin = {"imported_from": ImportedFrom(file="x.pth", sha256="0" * 64), "token_counts": {}}
    bare = replace(
        toy_set,
        metadata=toy_set.metadata.model_copy(update=origin),
        gate_means={},
        value_means={},
        residual_means={},
    )

    expected = (toy_set, UNCALIBRATED_METHOD), (of_neurons, "lape-paper"), (bare, "amplify")
    for neurons, method in expected:
        usual = SteeringRequest(JA, method, DEFAULT_STRENGTHS["normal"], FR)
        plan = make_plan(neurons, SteeringRequest(JA, source=FR))
        assert default_method(neurons) == method
        assert plan.edits or plan.pulls
        assert effects(plan) == effects(make_plan(neurons, usual))
        assert plan.pulls.keys() == make_plan(neurons, usual).pulls.keys()


def test_steps_act_one_after_the_other(toy_set: NeuronSet) -> None:
    both = effects(make_plan(toy_set, SteeringRequest(FR, "lape@2+diffmean/L1@3", 0.5)))
    lape = effects(make_plan(toy_set, SteeringRequest(FR, "lape@1", 1)))
    diffmean = effects(make_plan(toy_set, SteeringRequest(FR, "diffmean/L1@1.5", 1)))

    assert both.keys() == lape.keys() | diffmean.keys()
    for key, effect in both.items():
        assert effect == pytest.approx((lape | diffmean)[key], abs=TOLERANCE)


def test_tokens_bias_the_logits_and_edit_nothing(toy_set: NeuronSet) -> None:
    alone = make_plan(toy_set, SteeringRequest(FR, "tokens@2", 1.5))
    joined = make_plan(toy_set, SteeringRequest(FR, "tokens@2+lape+tokens@4", 1.5))

    assert alone.token_bias is not None
    assert joined.token_bias is not None
    assert alone.token_bias.target == joined.token_bias.target == FR
    assert (alone.token_bias.bound_nats, joined.token_bias.bound_nats) == (3.0, 9.0)
    assert not alone.edits
    assert effects(joined) == effects(make_plan(toy_set, SteeringRequest(FR, "lape", 1.5)))


def test_tokens_use_the_targets_own_log_odds(toy_set: NeuronSet) -> None:
    rows = torch.arange(len(toy_set.languages) * 2.0).view(-1, 2)

    known = make_plan(replace(toy_set, token_log_odds=rows), SteeringRequest(FR, "tokens"))
    unknown = make_plan(replace(toy_set, token_log_odds=None), SteeringRequest(FR, "tokens"))

    assert known.token_bias is not None
    assert known.token_bias.log_odds is not None
    assert torch.equal(known.token_bias.log_odds, rows[toy_set.position(FR)])
    assert unknown.token_bias is not None
    assert unknown.token_bias.log_odds is None


def test_penalty_grows_with_the_strength_and_the_larger_one_counts(toy_set: NeuronSet) -> None:
    plan = make_plan(toy_set, SteeringRequest(FR, "penalty@0.1+lape@1+penalty@0.05", 1.4))

    assert plan.repetition_penalty == pytest.approx(1.14)
    assert effects(plan) == effects(make_plan(toy_set, SteeringRequest(FR, "lape@1", 1.4)))


@pytest.mark.parametrize("option", ["L0", "value", "onset"])
def test_tokens_in_a_place_are_refused(option: str) -> None:
    with pytest.raises(PlanError, match="it acts on the logits of every token"):
        parse_method(f"lape+tokens/{option}")


def test_redirect_uses_the_prompts_language_where_the_set_knows_it(toy_set: NeuronSet) -> None:
    def plan(source: Language | None) -> object:
        return effects(make_plan(toy_set, SteeringRequest(FR, "redirect/L1@2", 1.0, source)))

    known = difference_from_source(toy_set, FR, 2.0, Where("residual", ("onset",), (1,)), JA)
    assert plan(JA) == effects(known)
    assert plan(None) == plan(LANGUAGES["de"]) != plan(JA)
    assert plan(None) == effects(make_plan(toy_set, SteeringRequest(FR, "diffmean/L1@2", 1.0)))


@pytest.mark.parametrize(
    ("text", "where", "weight"),
    [
        ("lape", Where("value", ("onset",)), 3.0),
        ("lape/gate/every@2", Where("gate", EVERY_POSITION), 2.0),
        ("lape/every/gate@2", Where("gate", EVERY_POSITION), 2.0),
        ("lape/answer", Where("value", ("onset", "start", "body")), 3.0),
        ("lape/start@1", Where("value", ("start",)), 1.0),
        ("diffmean/L4@0", Where("residual", ("onset",), (4,)), 0.0),
        ("diffmean/L3-5/body@1e-1", Where("residual", ("start", "body"), (3, 4, 5)), 0.1),
        ("subspace/D0.75@1", Where("residual", ("onset",), depths=(0.75, 0.75)), 1.0),
        ("subspace/D.5-1/body@1", Where("residual", ("start", "body"), depths=(0.5, 1.0)), 1.0),
    ],
)
def test_a_step_is_read(text: str, where: Where, weight: float) -> None:
    (step,) = parse_method(text)

    assert step.where == where
    assert step.weight == weight


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guess", "method 'guess'. Expected one of: lape, lape-own"),
        ("", "method ''"),
        ("lape+", "method ''"),
        ("lape/middle", "option 'middle'. Expected a site"),
        ("lape/L5-3", "option 'L5-3'"),
        ("lape/L0-99999", "option 'L0-99999'"),
        ("lape@many", "weight 'many'. Expected a number from 0 up, such as lape@2"),
        ("lape@-1", "weight '-1'"),
        ("lape@nan", "weight 'nan'"),
        ("lape@inf", "weight 'inf'"),
        ("lape@", "weight ''"),
        ("lape/onset/body", "gives the phase twice, the second time as 'body'"),
        ("lape/gate/L1/value", "gives the site twice"),
        ("lape/L1/L2", "gives the layers twice"),
        ("lape/L1/D0.5", "gives the layers twice"),
        ("subspace/D1.5", "option 'D1.5'"),
        ("subspace/D0.8-0.6", "option 'D0.8-0.6'"),
        ("subspace/Dhalf", "depths such as D0.75"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused_by_the_part(text: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_method(text)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("depths", "layers", "expected"),
    [
        ((0.75, 0.75), 24, (18,)),
        ((0.75, 0.75), 28, (21,)),
        ((0.6, 0.8), 10, (6, 7, 8)),
        ((0.0, 0.0), 10, (0,)),
        ((1.0, 1.0), 10, (9,)),
    ],
)
def test_depths_are_shares_of_the_layers(
    depths: tuple[float, float], layers: int, expected: tuple[int, ...]
) -> None:
    assert layers_of(Where("residual", ("body",), depths=depths), layers) == expected


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, "loud", ""])
def test_strength_that_is_none_is_refused(strength: float | str, toy_set: NeuronSet) -> None:
    with pytest.raises(PlanError, match=f"Strength is '{strength}'. Expected gentle, normal"):
        make_plan(toy_set, SteeringRequest(FR, "lape", strength))  # type: ignore[arg-type]  # wrong


@pytest.mark.parametrize(("strength", "expected"), [(0, 0.0), (2, 2.0), ("gentle", 0.6)])
def test_strength_is_a_level_or_a_number(
    strength: float, expected: float, toy_set: NeuronSet
) -> None:
    assert resolve_strength(toy_set, FR, strength) == expected


@pytest.mark.parametrize("method", METHODS)
def test_language_that_the_set_does_not_hold_is_refused(method: str, toy_set: NeuronSet) -> None:
    with pytest.raises(UnknownLanguageError, match="'de'"):
        make_plan(toy_set, SteeringRequest(LANGUAGES["de"], method))


@pytest.mark.parametrize(
    ("method", "without", "random"),
    [
        (
            "lape/answer@0.5+subspace/L1/answer@1",
            "subspace/L1/answer@1",
            "random/answer/value@0.5+subspace/L1/answer@1",
        ),
        ("diffmean + lape-own/L1", "diffmean", "diffmean+random/L1/value/onset@8"),
        ("lape-paper+tokens", "tokens", "random/gate/every@1+tokens"),
    ],
)
def test_lape_steps_are_taken_out_or_made_random_where_they_act(
    method: str, without: str, random: str
) -> None:
    assert without_lape(method) == without
    assert with_random(method) == random
    ours, theirs = (
        [(step.where, step.weight) for step in parse_method(one)] for one in (method, random)
    )
    assert ours == theirs


def test_a_method_of_lape_alone_has_nothing_without_it() -> None:
    assert with_random("lape") == "random/value/onset@3"
    with pytest.raises(PlanError, match="nothing beside"):
        without_lape("lape")
    with pytest.raises(PlanError, match="no LAPE step"):
        with_random("diffmean")
