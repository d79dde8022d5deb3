"""Finds a set's method and how hard to push: enough of the language first, then the better text.

The methods are compared by successive halving: all of them on a few prompts, the best on more.
The one that is kept is then measured at other strengths. Asks and judges through a callable.

`reply_scores.choose_best` says which candidate is better, `strength_levels.py` which strengths are
gentle, normal and strong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.reply_scores import (
    Curve,
    Measured,
    Reason,
    ReplyScore,
    choose_best,
    join,
    reaches,
    score_by_target,
)
from steering.evaluation.strength_levels import (
    LEVELS,
    STRONG_FACTOR,
    choose_levels,
    holds,
    is_gentle,
    most_success,
    pool,
    shared_levels,
    smallest_reaching,
)
from steering.languages import Language
from steering.neuron_set import StrengthLevel

# What the levels stand for without calibration, and steps between them for when those fail.
USUAL_STRENGTHS = (0.6, 0.8, 1.0, 1.2, 1.4)
INSTRUCTION = "instruction"  # measured beside the methods: the prompt asks for the language
FIRST_PROMPTS = 16  # on which all methods are compared
SEARCH_PROMPTS = 48  # on which those that are left are compared
PER_LANGUAGE_PROMPTS = 24  # with fewer for every language, strengths are shared by all languages
_LEFT_METHODS = 3  # after the first prompts, or a third of all
_REFINEMENTS = 3

# (method, strength, prompts) -> a score for every prompt
Measure: TypeAlias = Callable[[str, float, Sequence[ForcingPrompt]], Sequence[ReplyScore]]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a calibration is after.

    Args:
        wanted_success: Share of replies in the language that normal is to reach, 0..1.
        strengths: That the kept method is measured at; 1 always is.
        margin: With strengths per language, normal is so many times the smallest one that reaches
            the wanted success, as far as it still does: what people type is less easy.
        rescue: A step such as `tokens@5`, tried beside the kept method when that falls short.
    """

    wanted_success: float = 0.99
    strengths: tuple[float, ...] = USUAL_STRENGTHS
    margin: float = 1.0
    rescue: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is measured next.

    Args:
        method: A method, or `INSTRUCTION`.
        strength: Times the method's own weights.
        answers_left: Answers to come from here on, at most and about.
    """

    method: str
    strength: float
    answers_left: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A method that was given up.

    Args:
        method: Its name.
        reason: Why; see `Reason`.
        measured: What it gave, on as many prompts as it was asked; None when it was not.
        note: In words, for an unusable one.
    """

    method: str
    reason: Reason
    measured: Measured | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found.

    Args:
        method: The method that was kept.
        levels: Per language, the strength of each level.
        curves: Per language, everything measured of that method.
        instructed: Per language, what the instruction in the prompt gave; a part of the prompts.
        rejected: The methods that were given up, the first first.
        is_shared: Whether the levels are the same for all languages, as prompts were too few to
            tell languages apart.
        total: The kept method at normal, all languages together.
        total_instructed: The instruction, all languages together.
    """

    method: str
    levels: Mapping[Language, Mapping[StrengthLevel, float]]
    curves: Mapping[Language, Curve]
    instructed: Mapping[Language, Measured]
    rejected: tuple[Rejected, ...]
    is_shared: bool
    total: Measured
    total_instructed: Measured

    @property
    def usual_levels(self) -> dict[StrengthLevel, float]:
        """Return the median over the languages of every level."""
        return {name: median(levels[name] for levels in self.levels.values()) for name in LEVELS}

    @property
    def at_normal(self) -> dict[Language, Measured]:
        """Return what the kept method gave at normal, per language."""
        return {
            target: self.curves[target][levels["normal"]] for target, levels in self.levels.items()
        }

    def short_of(self, wanted_success: float) -> list[Language]:
        """Return the languages that do not reach a success at normal."""
        return [
            target for target, point in self.at_normal.items() if not reaches(point, wanted_success)
        ]


def calibrate(
    measure: Measure,
    prompts: Sequence[ForcingPrompt],
    *,
    methods: Sequence[str],
    goal: Goal | None = None,
    notice: Callable[[Step], object] = lambda _: None,
) -> Calibration:
    """Choose the best of the methods, as the module says, and its strengths.

    All methods are compared at strength 1 on the first 16 prompts, then the best third of them (at
    least three) on 48. A method whose 95% interval of success ends below where the leader's begins
    leaves at once. With 24 prompts per language each gets its own strengths, else all share theirs.

    Args:
        measure: Answers prompts and judges the replies; never asked twice for the same.
        prompts: In an order such that the first ones are spread over the targets.
        methods: As `methods.parse_method` reads them, at least one.
        goal: Of success, strengths and margin.
        notice: Told before every measurement.
    """
    goal = goal or Goal()
    run = _Run(measure, tuple(prompts), goal, notice)
    instructed = run.measure(INSTRUCTION, 1.0, run.searched, left=run.left_of(len(methods), 0))
    run.usual_tokens = Measured.of(instructed).median_tokens
    run.usual_purity = Measured.of(instructed).pure.rate
    method, rejected = _search(run, methods)
    if goal.rescue:
        method, rejected = _try_rescue(run, method, goal.rescue, rejected)
    curves = _curves_of_all(run, method) if run.is_shared else _curves_of_each(run, method)
    if run.is_shared:
        shared = shared_levels(
            pool(curves), wanted_success=run.wanted, usual_tokens=run.usual_tokens
        )
        levels = dict.fromkeys(curves, shared)
    else:
        levels = {
            target: choose_levels(curve, goal.wanted_success, goal.margin)
            for target, curve in curves.items()
        }
    return Calibration(
        method=method,
        levels=levels,
        curves=curves,
        instructed=score_by_target(run.searched, instructed),
        rejected=tuple(rejected),
        is_shared=run.is_shared,
        total=join([curves[target][levels[target]["normal"]] for target in curves]),
        total_instructed=Measured.of(instructed),
    )


def expected_answers(methods: int, prompts: int) -> int:
    """Return about how many answers a calibration of so many methods asks for, at most.

    For prompts that are too few for strengths per language.
    """
    searched = min(SEARCH_PROMPTS, prompts)
    first = min(FIRST_PROMPTS, searched)
    search = methods * first + min(methods, _left_after(methods)) * (searched - first)
    return searched + search + prompts - searched + 2 * prompts


class _Run:
    """One calibration: what it asks, and how much of it is left."""

    def __init__(
        self,
        measure: Measure,
        prompts: tuple[ForcingPrompt, ...],
        goal: Goal,
        notice: Callable[[Step], object],
    ) -> None:
        self._measure, self._notice = measure, notice
        self.prompts, self.wanted, self.margin = prompts, goal.wanted_success, goal.margin
        self.strengths = tuple(sorted({*goal.strengths, 1.0}))
        self.searched = prompts[:SEARCH_PROMPTS]
        self.usual_tokens, self.usual_purity = 0.0, 1.0
        self._known: dict[tuple[str, float], dict[int, ReplyScore]] = {}
        self.by_target: dict[Language, list[ForcingPrompt]] = {}
        for prompt in prompts:
            self.by_target.setdefault(prompt.target, []).append(prompt)
        self.is_shared = min(map(len, self.by_target.values())) < PER_LANGUAGE_PROMPTS

    def measure(
        self, method: str, strength: float, prompts: Sequence[ForcingPrompt], *, left: int
    ) -> Sequence[ReplyScore]:
        """Measure what is not known yet; *left* says how many answers follow it."""
        known = self._known.setdefault((method, strength), {})
        if missing := [prompt for prompt in prompts if id(prompt) not in known]:
            self._notice(Step(method, strength, left + len(missing)))
            scores = self._measure(method, strength, missing)
            known.update(zip(map(id, missing), scores, strict=True))
        return [known[id(prompt)] for prompt in prompts]

    def left_of(self, methods: int, asked: int) -> int:
        """Return the answers that are left when so many methods have answered so many prompts."""
        first, whole = min(FIRST_PROMPTS, len(self.searched)), len(self.searched)
        later = min(methods, _left_after(methods)) if asked < first else methods
        search = methods * max(0, first - asked) + later * (whole - max(first, asked))
        return search + self.left_of_strengths(2 if self.is_shared else len(self.strengths))

    def left_of_strengths(self, strengths: int) -> int:
        """Return the answers for so many strengths beyond what the search asked."""
        return strengths * len(self.prompts) + len(self.prompts) - len(self.searched)


def _left_after(methods: int) -> int:
    return max(_LEFT_METHODS, -(-methods // 3))


def _search(run: _Run, methods: Sequence[str]) -> tuple[str, list[Rejected]]:
    """Halve the methods until one is left; return it and why the others are not."""
    alive, asked = list(methods), 0
    rejected: list[Rejected] = []
    while len(alive) > 1 and asked < len(run.searched):
        upto = min(asked + FIRST_PROMPTS, len(run.searched))
        points = {}
        for place, method in enumerate(alive):
            left = run.left_of(len(alive), asked) - (place + 1) * (upto - asked)
            points[method] = Measured.of(run.measure(method, 1.0, run.searched[:upto], left=left))
        hopeless = _hopeless(points)
        rejected += [Rejected(method, "hopeless", points.pop(method)) for method in hopeless]
        keep = _left_after(len(methods)) if upto < len(run.searched) else 1
        left_over, reasons = _rank(points, run, keep)
        rejected += [Rejected(method, why, points[method]) for method, why in reasons.items()]
        alive, asked = left_over, upto
    return alive[0], rejected


def _rank(
    points: Mapping[str, Measured], run: _Run, keep: int
) -> tuple[list[str], dict[str, Reason]]:
    """Return the best so many, the best first, and why each other one is not among them."""
    rest = dict(points)
    best: list[str] = []
    reasons: dict[str, Reason] = {}
    while rest and len(best) < keep:
        first, reasons = choose_best(
            rest,
            wanted_success=run.wanted,
            usual_tokens=run.usual_tokens,
            usual_purity=run.usual_purity,
        )
        best.append(first)
        del rest[first]
    return best, {name: reasons[name] for name in rest}


def _hopeless(points: Mapping[str, Measured]) -> list[str]:
    """Return what the leader is better than beyond doubt."""
    floor = max(point.success.interval()[0] for point in points.values())
    return [name for name, point in points.items() if point.success.interval()[1] < floor]


def _try_rescue(
    run: _Run, method: str, rescue: str, rejected: list[Rejected]
) -> tuple[str, list[Rejected]]:
    """Add a step to a method that falls short of the wanted success; keep it if that pays."""
    left = run.left_of_strengths(2)
    alone = Measured.of(run.measure(method, 1.0, run.searched, left=left))
    if reaches(alone, run.wanted):
        return method, rejected
    both = f"{method}+{rescue}"
    points = {method: alone}
    points[both] = Measured.of(run.measure(both, 1.0, run.searched, left=left))
    (best,), reasons = _rank(points, run, 1)
    ((other, why),) = reasons.items()
    return best, [*rejected, Rejected(other, why, points[other])]


def _curves_of_all(run: _Run, method: str) -> dict[Language, dict[float, Measured]]:
    """Measure a method at 1, at the gentlest strength that does, and the strongest that holds."""
    curves: dict[Language, dict[float, Measured]] = {target: {} for target in run.by_target}

    def measure(strength: float, further: int) -> Measured:
        scores = run.measure(method, strength, run.prompts, left=further * len(run.prompts))
        for target, point in score_by_target(run.prompts, scores).items():
            curves[target][strength] = point
        return Measured.of(scores)

    usual = measure(1.0, 2)
    for strength in (one for one in run.strengths if one < 1):
        if is_gentle(measure(strength, 1), usual):
            break
    for strength in (one for one in reversed(run.strengths) if one > 1):
        if holds(measure(strength, 0), usual):
            break
    return {target: dict(sorted(curve.items())) for target, curve in curves.items()}


def _curves_of_each(run: _Run, method: str) -> dict[Language, dict[float, Measured]]:
    """Measure a method at all strengths, then refine every language's curve by halving."""
    curves: dict[Language, dict[float, Measured]] = {target: {} for target in run.by_target}
    for place, strength in enumerate(run.strengths):
        left = (len(run.strengths) - place - 1) * len(run.prompts)
        scores = run.measure(method, strength, run.prompts, left=left)
        for target, point in score_by_target(run.prompts, scores).items():
            curves[target][strength] = point
    refined = {}
    for place, (target, own) in enumerate(run.by_target.items()):
        left = (len(run.by_target) - place - 1) * len(own)

        def measure_at(
            strength: float, own: Sequence[ForcingPrompt] = own, left: int = left
        ) -> Measured:
            return Measured.of(run.measure(method, strength, own, left=left))

        refined[target] = _refine(curves[target], measure_at, run.wanted, run.margin)
    return refined


def _refine(
    coarse: Curve, measure_at: Callable[[float], Measured], wanted_success: float, margin: float
) -> dict[float, Measured]:
    """Halve the way between the strongest that fails and the weakest that succeeds.

    Then measure once more, where strong may be.
    """
    curve = dict(coarse)
    for _ in range(_REFINEMENTS):
        high = smallest_reaching(curve, wanted_success)
        if high is None:
            high = most_success(curve)
        low = max((strength for strength in curve if strength < high), default=0.0)
        middle = round((low + high) / 2, 3)
        if middle in curve or middle in (low, high):
            break
        curve[middle] = measure_at(middle)
    smallest = choose_levels(curve, wanted_success)["normal"]
    for further in (round(margin * smallest, 3), round(margin * STRONG_FACTOR * smallest, 3)):
        if further not in curve:
            curve[further] = measure_at(further)
    return dict(sorted(curve.items()))
