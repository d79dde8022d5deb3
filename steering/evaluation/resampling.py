"""Means, medians and paired differences with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steering.evaluation.proportions import Proportion

_RESAMPLES = 2000
_SEED = 0
_TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its 95% interval, and how many replies it is of."""

    value: float
    interval: tuple[float, float]
    n: int

    def to_json(self) -> dict[str, object]:
        """Return plain numbers."""
        return {"value": self.value, "interval": list(self.interval), "n": self.n}


def measure_rate(share: Proportion) -> Measure | None:
    """Return a rate with its Wilson interval; None without trials."""
    return Measure(share.rate, share.interval(), share.trials) if share.trials else None


def measure_mean(values: Sequence[float]) -> Measure | None:
    """Return a mean with its percentile bootstrap interval; None without values.

    Source: Efron 1979; 2,000 resamples with a fixed seed, so that the same values give the same.
    """
    return _bootstrap(values, np.mean)


def measure_median(values: Sequence[float]) -> Measure | None:
    """Return a median with its percentile bootstrap interval; None without values."""
    return _bootstrap(values, np.median)


def measure_difference(ours: Sequence[float], theirs: Sequence[float]) -> Measure | None:
    """Return the mean of ours minus theirs, which are of the same prompts in the same order."""
    return measure_mean([one - other for one, other in zip(ours, theirs, strict=True)])


def _bootstrap(
    values: Sequence[float], statistic: Callable[..., npt.NDArray[np.float64]]
) -> Measure | None:
    if not values:
        return None
    drawn = np.asarray(values, dtype=np.float64)
    places = np.random.default_rng(_SEED).integers(0, len(drawn), (_RESAMPLES, len(drawn)))
    low, high = np.quantile(statistic(drawn[places], axis=1), _TAILS)
    return Measure(float(statistic(drawn, axis=0)), (float(low), float(high)), len(drawn))
