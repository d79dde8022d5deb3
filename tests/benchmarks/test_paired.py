"""Ratios are of one round, and every way has its turn in each."""

from __future__ import annotations

import pytest

from benchmarks.paired import median_ratio, time_in_turn


def test_ratio_of_a_constant_factor_is_that_factor_however_slow_the_rounds_are() -> None:
    rounds = [1.0, 50.0, 2.0, 0.1, 7.0]

    found = median_ratio([1.25 * seconds for seconds in rounds], rounds)

    assert (found.median, found.low, found.high) == pytest.approx((1.25, 1.25, 1.25))
    assert found.overhead() == "+25.0% (+25.0% to +25.0%)"


def test_interval_holds_the_median_and_grows_with_the_noise() -> None:
    calm = median_ratio([1.0, 1.01, 1.02, 1.03, 1.04] * 4, [1.0] * 20)
    wild = median_ratio([0.8, 0.9, 1.02, 1.2, 1.4] * 4, [1.0] * 20)

    assert wild.low <= calm.low < calm.median < calm.high <= wild.high
    assert wild.high - wild.low > calm.high - calm.low


def test_every_way_has_one_turn_in_each_round_and_the_first_round_warms_up() -> None:
    turns: list[tuple[int, str]] = []

    def way(name: str, number: int) -> float:
        turns.append((number, name))
        return float(number)

    names = ("one", "two", "three")
    times = time_in_turn(
        {name: lambda number, name=name: way(name, number) for name in names}, rounds=8
    )

    assert times == {name: [float(number) for number in range(8)] for name in names}
    assert sorted(turns) == sorted((number, name) for number in range(-1, 8) for name in names)
    assert len({tuple(name for _, name in turns[at : at + 3]) for at in range(0, 27, 3)}) > 1
