"""Tests of the residual methods: which dimensions move where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steering.errors import PlanError, StatsError
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.residual import (
    DIMENSION_FRACTION,
    SOURCE_SHARE,
    difference_from_source,
    difference_of_means,
    pull_in_subspace,
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


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.7])
def test_pull_moves_what_tells_languages_apart_to_the_target_and_nothing_else(
    strength: float, toy_set: NeuronSet
) -> None:
    means = toy_set.residual_means["onset"][:, 1].double()  # (K, H)
    spread = means - means.mean(dim=0)

    (place, pull), *others = pull_in_subspace(toy_set, JA, strength, LAST).pulls.items()

    assert place == ("residual", "onset", 1)
    assert not others
    stream = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(0))
    moved = (
        stream + pull.share * (pull.point - pull.directions @ stream) @ pull.directions
    ).double()
    aim = means.mean(dim=0) + max(strength, 1.0) * spread[1]
    # Least squares finds the part of a vector in the span by another way than the code.
    basis = spread[:-1].T  # the rows of the spread add up to 0
    outside = lambda x: x - basis @ torch.linalg.lstsq(basis, x[:, None]).solution[:, 0]  # noqa: E731
    inside = lambda x: x - outside(x)  # noqa: E731
    share = min(strength, 1.0)
    assert torch.allclose(outside(moved), outside(stream.double()), atol=1e-4)
    expected = (1 - share) * inside(stream.double()) + share * inside(aim)
    assert torch.allclose(inside(moved), expected, atol=1e-4)


def test_languages_with_equal_means_are_not_pulled(toy_set: NeuronSet) -> None:
    flat = {
        phase: means[:1].expand_as(means).clone() for phase, means in toy_set.residual_means.items()
    }

    plan = pull_in_subspace(replace(toy_set, residual_means=flat), JA, 1.0, LAST)

    assert [len(pull.point) for pull in plan.pulls.values()] == [0]


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


def test_without_layers_one_three_quarters_up_is_taken(toy_set: NeuronSet) -> None:
    deep = replace(
        toy_set,
        metadata=toy_set.metadata.model_copy(update={"layers": 30}),
        residual_means={"onset": toy_set.residual_means["onset"].repeat(1, 15, 1)},
    )

    plan = difference_of_means(deep, FR, 1.0, Where("residual", ("onset",)))

    assert [layer for _, _, layer in plan.edits] == [22]


@pytest.mark.parametrize("method", [difference_of_means, specific_dimensions])
def test_what_cannot_be_edited_is_refused(method, toy_set: NeuronSet) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PlanError, match=r"site 'value'\. Expected residual"):
        method(toy_set, FR, 1.0, Where("value", ("onset",)))
    with pytest.raises(PlanError, match="Cannot edit layer 2: the model has layers 0 to 1"):
        method(toy_set, FR, 1.0, Where("residual", ("onset",), (2,)))
    with pytest.raises(StatsError, match="no residual means for phase 'onset'; it has: none"):
        method(replace(toy_set, residual_means={}), FR, 1.0, LAST)
