"""What a plan does, as a table that tests can compare."""

from __future__ import annotations

import pytest

from steering.steering_plan import SteeringPlan

# Effects are float32 with one or two roundings, of values below 10.
TOLERANCE = 1e-6

# (site, phase, layer, unit) -> (scale, shift)
Effects = dict[tuple[str, str, int, int], tuple[float, float]]


def effects(plan: SteeringPlan) -> Effects:
    return {
        (site, phase, layer, int(unit)): (float(scale), float(shift))
        for (site, phase, layer), edit in plan.edits.items()
        for unit, scale, shift in zip(edit.units, edit.scale, edit.shift, strict=True)
    }


def assert_effects(plan: SteeringPlan, expected: Effects) -> None:
    found = effects(plan)
    assert found.keys() == expected.keys()
    for key, effect in found.items():
        assert effect == pytest.approx(expected[key], abs=TOLERANCE), key
