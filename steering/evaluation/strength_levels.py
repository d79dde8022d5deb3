"""Which strengths of a method are gentle, normal and strong, read off what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from steering.evaluation.proportions import Proportion
from steering.evaluation.reply_scores import (
    Curve,
    Measured,
    choose_best,
    join,
    reaches,
    standard_error,
)
from steering.languages import Language
from steering.neuron_set import StrengthLevel

LEVELS: tuple[StrengthLevel, ...] = ("gentle", "normal", "strong")
# Gentle is to be felt but not to decide: it reaches this share of the success at normal.
_GENTLE_SHARE = 0.8
# Strong goes on until a reply costs this much more than at normal, as far as was measured.
_STRONG_LOSS_NATS = 0.1
STRONG_FACTOR = 1.5
# The margin is applied only if it costs no more than this.
_MARGIN_LOSS_NATS = 0.01


def choose_levels(
    curve: Curve, wanted_success: float, margin: float = 1.0
) -> dict[StrengthLevel, float]:
    """Return the strengths of gentle, normal and strong on one language's curve.

    Normal is the smallest strength that reaches the wanted success, or the one with the most
    success, times the margin as far as was measured, as the success is still reached, and as it
    costs next to nothing; gentle the smallest with most of that success; strong the largest beyond
    normal that keeps the success, costs little more and loops no more.
    """
    normal = smallest_reaching(curve, wanted_success)
    if normal is None:
        normal = most_success(curve)
    reached = curve[normal].success.rate
    wanted = min(wanted_success, reached)
    free = curve[normal].quality_nats + _MARGIN_LOSS_NATS
    kept = [
        strength
        for strength, point in curve.items()
        if strength <= margin * normal and reaches(point, wanted) and point.quality_nats <= free
    ]
    normal = max([normal, *kept])
    gentle = smallest_reaching(curve, _GENTLE_SHARE * reached) or normal
    bound = curve[normal].quality_nats + _STRONG_LOSS_NATS
    further = [
        strength
        for strength, point in curve.items()
        if normal < strength <= STRONG_FACTOR * normal
        and point.success.rate >= reached
        and point.quality_nats <= bound
        and _loops_no_more(point, curve[normal])
    ]
    return {"gentle": gentle, "normal": normal, "strong": max(further, default=normal)}


def shared_levels(
    curve: Curve, *, wanted_success: float, usual_tokens: float
) -> dict[StrengthLevel, float]:
    """Return the strengths of the levels on a curve of all languages together.

    Normal is 1 unless another strength is better beyond a tie, by `choose_best`'s rule
    without its words: pushed harder, a model mixes less and writes less likely text.
    """
    wordless = {s: replace(point, pure=Proportion(0, 0)) for s, point in curve.items()}
    best, reasons = choose_best(wordless, wanted_success=wanted_success, usual_tokens=usual_tokens)
    normal = 1.0 if reasons.get(1.0, "likelihood") == "likelihood" else best
    at_normal = curve[normal]
    gentle = (s for s, point in curve.items() if s < normal and is_gentle(point, at_normal))
    strong = (s for s, point in curve.items() if s > normal and holds(point, at_normal))
    return {
        "gentle": min(gentle, default=normal),
        "normal": normal,
        "strong": max(strong, default=normal),
    }


def is_gentle(point: Measured, at_normal: Measured) -> bool:
    """Say whether a weaker push has most of the success of normal."""
    return point.success.rate >= _GENTLE_SHARE * at_normal.success.rate


def holds(point: Measured, at_normal: Measured) -> bool:
    """Say whether a stronger push keeps success and text, within a tie."""
    return (
        point.success.rate >= at_normal.success.rate - standard_error(at_normal.success)
        and _loops_no_more(point, at_normal)
        and point.quality_nats <= at_normal.quality_nats + _STRONG_LOSS_NATS
    )


def _loops_no_more(point: Measured, at_normal: Measured) -> bool:
    bound = at_normal.looping.rate + standard_error(at_normal.looping)
    return point.looping.rate <= bound


def pool(curves: Mapping[Language, Curve]) -> dict[float, Measured]:
    """Return one curve over the strengths that every language was measured at."""
    shared = set.intersection(*(set(curve) for curve in curves.values()))
    return {
        strength: join([curve[strength] for curve in curves.values()])
        for strength in sorted(shared)
    }


def smallest_reaching(curve: Curve, success: float) -> float | None:
    """Return the smallest strength with at least this success; None if there is none."""
    reaching = [strength for strength, point in curve.items() if reaches(point, success)]
    return min(reaching, default=None)


def most_success(curve: Curve) -> float:
    """Return the strength with the most success; of several the one with the best quality."""
    return max(
        curve,
        key=lambda strength: (
            curve[strength].success.rate,
            -curve[strength].quality_nats if math.isfinite(curve[strength].quality_nats) else -1e9,
        ),
    )
