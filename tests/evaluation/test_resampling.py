"""Bootstrap intervals hold the value, narrow with more of it, and are the same every time."""

import pytest

from steering.evaluation.proportions import Proportion
from steering.evaluation.resampling import (
    measure_difference,
    measure_mean,
    measure_median,
    measure_rate,
)


def test_a_mean_lies_in_its_interval_which_narrows() -> None:
    few, many = measure_mean([0.0, 1.0] * 10), measure_mean([0.0, 1.0] * 500)

    assert few is not None
    assert many is not None
    assert few.value == many.value == 0.5
    assert few.interval[0] < 0.5 < few.interval[1]
    # Of 1,000 coin flips the standard error is 0.0158, so 95% is 0.062 wide.
    assert many.interval[1] - many.interval[0] == pytest.approx(0.062, abs=0.006)
    assert measure_mean([0.0, 1.0] * 10) == few


def test_the_difference_is_of_pairs() -> None:
    ours = [float(n) for n in range(50)]

    found = measure_difference([one + 1 for one in ours], ours)

    assert found is not None
    assert found.value == pytest.approx(1)
    assert found.interval == pytest.approx((1, 1))


def test_nothing_has_no_number() -> None:
    assert measure_mean([]) is None
    assert measure_median([]) is None
    assert measure_rate(Proportion(0, 0)) is None
    assert measure_median([1.0, 2.0, 9.0]).value == 2  # type: ignore[union-attr]
