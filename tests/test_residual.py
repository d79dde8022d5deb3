"""Tests of the residual methods: which dimensions move where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steering.errors import PlanError, StatsError
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.residual import (
    DIMENSION_FRACTION,
    SOURCE_SHARE,
    difference_from_source,
    difference_of_means,
    specific_dimensions,
)
from steering.steering_plan import Where
from tests.plans import assert_effects, effects
from tests.toy import FR, HIDDEN, JA, TOY_LANGUAGES

LAST = Where("residual", ("onset",), (1,))


def test_difference_of_means_adds_it_to_every_dimension(toy_set: NeuronSet) -> None:
    means = toy_set.residual_means["onset"][:, 1]  # (K, H)

    plan = difference_of_means(toy_set, JA, 2.0, LAST)

    expected = {}
    for unit in range(HIDDEN):
        others = [float(means[k, unit]) for k in (0, 2, 3, 4)]
        shift = 2 * (float(means[1, unit]) - sum(others) / 4)
        expected["residual", "onset", 1, unit] = (1.0, shift)
    assert_effects(plan, expected)


@pytest.mark.parametrize("source", [FR, JA], ids=str)
def test_difference_from_source_starts_mostly_at_the_prompts_language(
    source: Language, toy_set: NeuronSet
) -> None:
    means = toy_set.residual_means["onset"][:, 1]

    plan = difference_from_source(toy_set, JA, 2.0, LAST, source)

    start = means[TOY_LANGUAGES.index(source)]
    others = means[[0, 2, 3, 4]].mean(dim=0)
    shift = 2 * (means[1] - SOURCE_SHARE * start - (1 - SOURCE_SHARE) * others)
    assert_effects(
        plan,
        {("residual", "onset", 1, unit): (1.0, float(shift[unit])) for unit in range(HIDDEN)},
    )


def test_prompt_in_the_target_gets_the_smaller_push(toy_set: NeuronSet) -> None:
    same = effects(difference_from_source(toy_set, JA, 1.0, LAST, JA))
    plain = effects(difference_of_means(toy_set, JA, 1.0, LAST))

    for key, (_, shift) in plain.items():
        assert same[key][1] == pytest.approx((1 - SOURCE_SHARE) * shift, abs=1e-5)


def test_dimensions_moves_those_that_differ_most_to_the_targets_mean(toy_set: NeuronSet) -> None:
    means = toy_set.residual_means["onset"][:, 1]
    gaps = [abs(float(means[0, u]) - float(means[1:, u].mean())) for u in range(HIDDEN)]
    count = round(HIDDEN * DIMENSION_FRACTION)
    largest = sorted(range(HIDDEN), key=lambda unit: -gaps[unit])[:count]

    plan = specific_dimensions(toy_set, FR, 0.25, LAST)

    assert_effects(
        plan,
        {("residual", "onset", 1, u): (0.75, 0.25 * float(means[0, u])) for u in largest},
    )


def test_phases_use_their_own_means(toy_set: NeuronSet) -> None:
    both = difference_of_means(toy_set, FR, 1.0, Where("residual", ("prompt", "body"), (0,)))

    shift = effects(both)["residual", "body", 0, 3][1]
    means = toy_set.residual_means["body"][:, 0, 3]
    assert shift == pytest.approx(float(means[0] - means[1:].mean()), abs=1e-6)
    assert effects(both)["residual", "prompt", 0, 3][1] != pytest.approx(shift)


def test_without_layers_one_two_thirds_up_is_taken(toy_set: NeuronSet) -> None:
    deep = replace(
        toy_set,
        metadata=toy_set.metadata.model_copy(update={"layers": 30}),
        residual_means={"onset": toy_set.residual_means["onset"].repeat(1, 15, 1)},
    )

    plan = difference_of_means(deep, FR, 1.0, Where("residual", ("onset",)))

    assert [layer for _, _, layer in plan.edits] == [20]


@pytest.mark.parametrize("method", [difference_of_means, specific_dimensions])
def test_what_cannot_be_edited_is_refused(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PlanError, match=r"site 'value'\. Expected residual"):
        method(toy_set, FR, 1.0, Where("value", ("onset",)))
    with pytest.raises(PlanError, match="Cannot edit layer '2': the model has 2 layers"):
        method(toy_set, FR, 1.0, Where("residual", ("onset",), (2,)))
    with pytest.raises(StatsError, match="no residual means for phase 'onset'; it has: none"):
        method(replace(toy_set, residual_means={}), FR, 1.0, LAST)
