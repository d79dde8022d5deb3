"""Rates and their Wilson intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.evaluation.proportions import Proportion, harmonic_mean


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Solutions of (p - rate)^2 = z^2 p (1 - p) / n, worked out with a bisection.
    [(0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0), (5, 10, 0.236593, 0.763407)],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    interval = Proportion(successes, trials).interval()

    assert interval == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_of_the_interval_solve_the_test_they_invert(pair: tuple[int, int]) -> None:
    successes, trials = pair
    for bound in Proportion(successes, trials).interval():
        if 0 < bound < 1:
            distance = (bound - successes / trials) ** 2
            assert distance == pytest.approx(1.959964**2 * bound * (1 - bound) / trials, rel=1e-4)


def test_without_trials_nothing_is_known() -> None:
    assert Proportion(0, 0).rate == 0
    assert Proportion(0, 0).interval() == (0.0, 1.0)


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    assert harmonic_mean(0.0, 0.0) == 0
    assert harmonic_mean(1.0, 0.5) == pytest.approx(2 / 3)
