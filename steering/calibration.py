"""Finds how hard to push: the smallest strength per language that reaches a wanted success.

Every method is measured at a coarse row of strengths; the best one is kept and its strengths are
refined by halving, language by language. Success is the detector's; quality is the replies'
likelihood under the unsteered model that was asked in words. Knows neither files nor the grammar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.proportions import Proportion
from steering.languages import Language
from steering.neuron_set import StrengthLevel

COARSE_STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEVELS: tuple[StrengthLevel, ...] = ("gentle", "normal", "strong")
_REFINEMENTS = 3
# Gentle is to be felt but not to decide: it reaches this share of the wanted success.
_GENTLE_SHARE = 0.8
# Strong goes on until a reply costs this much more than at normal, as far as was measured.
_STRONG_LOSS_NATS = 0.1
_STRONG_FACTOR = 1.5
# A margin is taken as long as it costs no more than this.
_MARGIN_LOSS_NATS = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """What one strength gave for one language.

    Args:
        success: Replies in the language.
        quality_nats: Mean negative log-likelihood of the replies per token; inf without replies.
    """

    success: Proportion
    quality_nats: float


# (method, strength, target, its prompts) -> what came of it
Measure: TypeAlias = Callable[[str, float, Language, Sequence[ForcingPrompt]], Measured]
Curve: TypeAlias = Mapping[float, Measured]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found.

    Args:
        method: The method that was kept.
        levels: Per language, the strength of each level.
        curves: Per language, everything measured of that method.
        others: Per method that was not kept, its coarse curves.
    """

    method: str
    levels: Mapping[Language, Mapping[StrengthLevel, float]]
    curves: Mapping[Language, Curve]
    others: Mapping[str, Mapping[Language, Curve]] = field(default_factory=dict)

    @property
    def usual_levels(self) -> dict[StrengthLevel, float]:
        """Return the median over the languages of every level."""
        return {name: median(levels[name] for levels in self.levels.values()) for name in LEVELS}


def calibrate(
    measure: Measure,
    prompts: Mapping[Language, Sequence[ForcingPrompt]],
    *,
    methods: Sequence[str],
    wanted_success: float = 0.99,
    coarse: Sequence[float] = COARSE_STRENGTHS,
    margin: float = 1.0,
) -> Calibration:
    """Choose the best of the methods and its strengths.

    Args:
        measure: Answers prompts and judges the replies.
        prompts: Per target language, what to ask.
        methods: As `methods.parse_method` reads them.
        wanted_success: Share of replies in the language that normal is to reach, 0..1.
        coarse: Strengths that every method is measured at.
        margin: Normal is so many times the smallest strength that reaches the wanted success, as
            far as it still does: what people type is less easy than the prompts to tune on.
    """
    curves = {
        method: {
            target: {
                strength: measure(method, strength, target, asked) for strength in sorted(coarse)
            }
            for target, asked in prompts.items()
        }
        for method in methods
    }
    best = min(methods, key=lambda method: _cost(curves[method].values(), wanted_success))
    refined = {
        target: _refine(
            curves[best][target],
            lambda strength, target=target: measure(best, strength, target, prompts[target]),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            wanted_success,
            margin,
        )
        for target in prompts
    }
    return Calibration(
        method=best,
        levels={
            target: choose_levels(curve, wanted_success, margin)
            for target, curve in refined.items()
        },
        curves=refined,
        others={method: curves[method] for method in methods if method != best},
    )


def choose_levels(
    curve: Curve, wanted_success: float, margin: float = 1.0
) -> dict[StrengthLevel, float]:
    """Return the strengths of gentle, normal and strong on a measured curve.

    Normal is the smallest strength that reaches the wanted success, or the one with the most
    success, times the margin as far as was measured, as the success is still reached, and as it
    costs next to nothing; gentle the smallest with most of that success; strong the largest beyond
    normal that keeps the success and costs little more.
    """
    normal = _smallest_reaching(curve, wanted_success)
    if normal is None:
        normal = _most_success(curve)
    reached = curve[normal].success.rate
    wanted = min(wanted_success, reached)
    free = curve[normal].quality_nats + _MARGIN_LOSS_NATS
    kept = [
        strength
        for strength, point in curve.items()
        if strength <= margin * normal and _reaches(point, wanted) and point.quality_nats <= free
    ]
    normal = max([normal, *kept])
    gentle = _smallest_reaching(curve, _GENTLE_SHARE * reached) or normal
    bound = curve[normal].quality_nats + _STRONG_LOSS_NATS
    further = [
        strength
        for strength, point in curve.items()
        if normal < strength <= _STRONG_FACTOR * normal
        and point.success.rate >= reached
        and point.quality_nats <= bound
    ]
    return {"gentle": gentle, "normal": normal, "strong": max(further, default=normal)}


def _refine(
    coarse: Curve, measure_at: Callable[[float], Measured], wanted_success: float, margin: float
) -> dict[float, Measured]:
    """Halve the way between the strongest that fails and the weakest that succeeds.

    Then measure once more, where strong may be.
    """
    curve = dict(coarse)
    for _ in range(_REFINEMENTS):
        high = _smallest_reaching(curve, wanted_success)
        if high is None:
            high = _most_success(curve)
        low = max((strength for strength in curve if strength < high), default=0.0)
        middle = round((low + high) / 2, 3)
        if middle in curve or middle in (low, high):
            break
        curve[middle] = measure_at(middle)
    smallest = choose_levels(curve, wanted_success)["normal"]
    for further in (round(margin * smallest, 3), round(margin * _STRONG_FACTOR * smallest, 3)):
        if further not in curve:
            curve[further] = measure_at(further)
    return dict(sorted(curve.items()))


def _cost(curves: Iterable[Curve], wanted_success: float) -> tuple[float, float]:
    """Return what is worse about a method first: success that is missing, then quality."""
    missing, quality = 0.0, 0.0
    for curve in curves:
        normal = choose_levels(curve, wanted_success)["normal"]
        missing += max(0.0, wanted_success - curve[normal].success.rate)
        quality += curve[normal].quality_nats
    return round(missing, 6), quality


def _smallest_reaching(curve: Curve, success: float) -> float | None:
    """Return the smallest strength with at least this success, as far as so few prompts can tell.

    Of 98 replies a success of 0.99 asks for 97: rounded down, else it would ask for all of them.
    """
    reaching = [strength for strength, point in curve.items() if _reaches(point, success)]
    return min(reaching, default=None)


def _reaches(point: Measured, success: float) -> bool:
    trials = point.success.trials
    return trials > 0 and point.success.successes >= math.floor(success * trials + 1e-9)


def _most_success(curve: Curve) -> float:
    """Return the strength with the most success; of several the one with the best quality."""
    return max(
        curve,
        key=lambda strength: (
            curve[strength].success.rate,
            -curve[strength].quality_nats if math.isfinite(curve[strength].quality_nats) else -1e9,
        ),
    )
