"""Tests of plans as data: what an edit may be, and that combining is applying one after another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steering.errors import PlanError
from steering.steering_plan import (
    EVERY_POSITION,
    NO_STEERING,
    PHASES,
    Edit,
    Place,
    SteeringPlan,
    SubspacePull,
    combine_plans,
    plan_from_neurons,
)

SMALL = st.integers(-3, 3)  # whole numbers, so that float arithmetic is exact
ROWS = st.dictionaries(st.integers(0, 5), st.tuples(SMALL, SMALL), max_size=5)
PLACES = st.tuples(
    st.sampled_from(["gate", "value", "residual"]),
    st.sampled_from(PHASES),
    st.integers(0, 1),
)


def make_edit(rows: dict[int, tuple[int, int]]) -> Edit:
    """An edit from {unit: (scale, shift)}."""
    return Edit(
        torch.tensor(list(rows), dtype=torch.int64),
        torch.tensor([float(scale) for scale, _ in rows.values()]),
        torch.tensor([float(shift) for _, shift in rows.values()]),
    )


def make_plan(edits: dict[tuple[str, str, int], Edit]) -> SteeringPlan:
    return SteeringPlan(edits)  # type: ignore[arg-type]  # places are drawn as plain words


PLANS = st.dictionaries(PLACES, ROWS.map(make_edit), max_size=4).map(make_plan)


def apply_at(plan: SteeringPlan, place: tuple[str, str, int], values: Tensor) -> Tensor:
    edited = values.clone()
    if edit := plan.edits.get(place):  # type: ignore[arg-type]  # drawn as plain words
        for unit, scale, shift in zip(edit.units, edit.scale, edit.shift, strict=True):
            edited[unit] = edited[unit] * scale + shift
    return edited


@given(PLANS, PLANS)
def test_combined_plan_does_the_first_and_then_the_second(
    first: SteeringPlan, second: SteeringPlan
) -> None:
    values = torch.arange(6.0) - 2

    both = combine_plans(first, second)

    assert both.edits.keys() == first.edits.keys() | second.edits.keys()
    for place in both.edits:
        expected = apply_at(second, place, apply_at(first, place, values))
        assert torch.equal(apply_at(both, place, values), expected)


@given(
    shares=st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
    seed=st.integers(0, 9),
)
def test_combined_pull_does_the_first_and_then_the_second(
    shares: tuple[float, float], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(6, 2, generator=random))[0].T.contiguous()
    points = torch.randn(2, 2, generator=random)
    place: Place = ("residual", "onset", 0)
    plans = [
        SteeringPlan({}, {place: SubspacePull(directions, point, share)})
        for point, share in zip(points, shares, strict=True)
    ]
    stream = torch.randn(6, generator=random)

    both = combine_plans(*plans).pulls[place]

    expected = stream
    for plan in plans:
        expected = pull_by_hand(plan.pulls[place], expected)
    assert torch.allclose(pull_by_hand(both, stream), expected, atol=1e-5)


def pull_by_hand(pull: SubspacePull, stream: Tensor) -> Tensor:
    moved = stream.clone()
    for direction, coordinate in zip(pull.directions, pull.point, strict=True):
        moved += pull.share * (coordinate - (stream * direction).sum()) * direction
    return moved


def test_pulls_of_two_places_are_both_kept_and_of_other_subspaces_are_refused() -> None:
    first = SubspacePull(torch.eye(3)[:1], torch.ones(1), 0.5)
    other = SubspacePull(torch.eye(3)[1:2], torch.ones(1), 0.5)
    here, there = ("residual", "onset", 0), ("residual", "onset", 1)

    both = combine_plans(SteeringPlan({}, {here: first}), SteeringPlan({}, {there: other}))

    assert both.pulls == {here: first, there: other}
    with pytest.raises(PlanError, match="in different subspaces"):
        combine_plans(SteeringPlan({}, {here: first}), SteeringPlan({}, {here: other}))


@pytest.mark.parametrize(
    ("directions", "points", "share", "said"),
    [(2, 3, 0.5, "shapes"), (2, 2, 1.5, "goes '1.5' of the way"), (2, 2, -0.1, "goes '-0.1'")],
)
def test_pull_that_makes_no_sense_is_refused(
    directions: int, points: int, share: float, said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        SubspacePull(torch.eye(4)[:directions], torch.zeros(points), share)


def test_combining_leaves_its_arguments_alone() -> None:
    first = SteeringPlan({("value", "onset", 0): make_edit({1: (2, 3)})})
    second = SteeringPlan({("value", "onset", 0): make_edit({1: (5, 7)})})

    both = combine_plans(first, second)

    combined = both.edits["value", "onset", 0]
    assert (float(combined.scale), float(combined.shift)) == (10.0, 22.0)
    assert float(first.edits["value", "onset", 0].shift) == 3.0
    assert float(second.edits["value", "onset", 0].shift) == 7.0


@given(PLANS)
def test_no_steering_combined_with_a_plan_is_the_plan(plan: SteeringPlan) -> None:
    for both in (combine_plans(plan, NO_STEERING), combine_plans(NO_STEERING, plan)):
        assert both.edits == plan.edits


@pytest.mark.parametrize(("units", "scale", "shift"), [(2, 1, 2), (2, 2, 1), (1, 2, 2), (0, 1, 0)])
def test_edit_of_unequal_lengths_is_refused(units: int, scale: int, shift: int) -> None:
    with pytest.raises(PlanError, match="Expected three equal lengths"):
        Edit(torch.arange(units), torch.ones(scale), torch.ones(shift))


def test_edit_that_names_a_unit_twice_is_refused() -> None:
    with pytest.raises(PlanError, match="names '3' units, some twice"):
        Edit(torch.tensor([4, 2, 4]), torch.ones(3), torch.ones(3))


def test_plan_from_neurons_sorts_them_into_layers_and_repeats_them_in_phases() -> None:
    layer, index = torch.tensor([1, 0, 1]), torch.tensor([5, 6, 7])
    scale, shift = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]).double()

    plan = plan_from_neurons(
        site="gate", phases=EVERY_POSITION, layer=layer, index=index, scale=scale, shift=shift
    )

    expected = {0: ([6], [2.0], [5.0]), 1: ([5, 7], [1.0, 3.0], [4.0, 6.0])}
    assert len(plan.edits) == 2 * len(EVERY_POSITION)
    for (site, _, number), edit in plan.edits.items():
        assert site == "gate"
        assert (edit.units.tolist(), edit.scale.tolist(), edit.shift.tolist()) == expected[number]
        assert edit.scale.dtype == edit.shift.dtype == torch.float32


def test_plan_from_no_neurons_is_empty() -> None:
    none = torch.empty(0, dtype=torch.int64)

    plan = plan_from_neurons(
        site="value", phases=("body",), layer=none, index=none, scale=none, shift=none
    )

    assert plan.edits == {}
