"""Times two or more ways of doing the same, in turn, and says how they compare.

A ratio is always of times of one round, so that a slow moment of the machine takes no side.
Knows nothing of models.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_DRAWS = 2000  # of the bootstrap: the interval's ends move by less than what is printed


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of ratios with its 95% interval."""

    median: float
    low: float
    high: float

    def overhead(self) -> str:
        """Return it as what is added, such as `+2.1% (+1.8% to +2.5%)`."""
        return f"{self.median - 1:+.1%} ({self.low - 1:+.1%} to {self.high - 1:+.1%})"

    def factor(self) -> str:
        """Return it as a factor, such as `3.42 (3.30 to 3.51)`."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def median_ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Return the median of over / under, round by round; the interval is a bootstrap's."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_DRAWS))
    low, high = medians[round(0.025 * _DRAWS)], medians[round(0.975 * _DRAWS) - 1]
    return Ratio(statistics.median(ratios), low, high)


def time_in_turn(
    ways: Mapping[str, Callable[[int], float]], *, rounds: int
) -> dict[str, list[float]]:
    """Return what each way measured in each round; the order within a round is random.

    Args:
        ways: Each is called with the round's number, -1 to warm up, and returns seconds.
        rounds: How many count.
    """
    order = list(ways)
    shuffle = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        shuffle.shuffle(order)
        for name in order:
            seconds = ways[name](number)
            if number >= 0:
                times[name].append(seconds)
    return times
