"""Proportions with their confidence intervals. Knows no models and no languages."""

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Proportion:
    """Successes among trials, 0..1 as `rate`."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        """Return the share of successes; 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the Wilson score interval of the rate; (0, 1) without trials.

        In words: the rates that a two-sided normal test at this confidence would not reject.
        Source: Wilson 1927, JASA 22:209-212.
        """
        if not self.trials:
            return 0.0, 1.0
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        n, p = self.trials, self.rate
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        return max(0.0, centre - half), min(1.0, centre + half)


def harmonic_mean(first: float, second: float) -> float:
    """Return the harmonic mean of two rates; 0 when both are 0."""
    return 2 * first * second / (first + second) if first + second else 0.0
