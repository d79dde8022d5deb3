"""Finds a set's method and how hard to push: enough of the language first, then the better text.

The methods are compared by successive halving: all of them on a few prompts, the best on more.
The one that is kept is then measured at other strengths. Asks and judges through a callable.

What is better, always in this order (`choose_best`):

1. Success, the share of replies in the language, up to the wanted share. Candidates within one
   standard error of the best are tied (the one-standard-error rule of cross-validation).
2. Among those, a median length from half to twice that of the instructed answers, if any has it.
3. Then the smallest share of looping replies, again within one standard error.
4. Then the lowest mean negative log-likelihood of the replies under the instructed model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias, TypeVar

from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.proportions import Proportion
from steering.languages import Language
from steering.neuron_set import StrengthLevel

# What the levels stand for without calibration, and steps between them for when those fail.
USUAL_STRENGTHS = (0.6, 0.8, 1.0, 1.2, 1.4)
LEVELS: tuple[StrengthLevel, ...] = ("gentle", "normal", "strong")
INSTRUCTION = "instruction"  # measured beside the methods: the prompt asks for the language
FIRST_PROMPTS = 16  # on which all methods are compared
SEARCH_PROMPTS = 48  # on which those that are left are compared
PER_LANGUAGE_PROMPTS = 24  # with fewer for every language, strengths are shared by all languages
_LEFT_METHODS = 3  # after the first prompts, or a third of all
_REFINEMENTS = 3
# Gentle is to be felt but not to decide: it reaches this share of the success at normal.
_GENTLE_SHARE = 0.8
# Strong goes on until a reply costs this much more than at normal, as far as was measured.
_STRONG_LOSS_NATS = 0.1
_STRONG_FACTOR = 1.5
# A margin is taken as long as it costs no more than this.
_MARGIN_LOSS_NATS = 0.01
_USUAL_LENGTHS = (0.5, 2.0)  # of the instructed answers' median

_Name = TypeVar("_Name")

# Why a method was given up: it can't act with this set; its success is below the leader's beyond
# doubt; it is worse than the kept one in success, length, looping or likelihood.
Reason: TypeAlias = Literal["unusable", "hopeless", "success", "length", "looping", "likelihood"]


@dataclass(frozen=True, slots=True)
class ReplyScore:
    """What one reply is worth.

    Args:
        is_forced: Whether it is in the language that was chosen.
        is_looping: As `looping.is_looping` says.
        tokens: Its length.
        nll_nats: Mean negative log-likelihood per token under the instructed, unsteered model;
            None for an empty reply.
    """

    is_forced: bool
    is_looping: bool
    tokens: int
    nll_nats: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What several replies are worth.

    Args:
        success: Replies in the language.
        quality_nats: Mean negative log-likelihood of the replies per token; inf without replies.
        looping: Replies that repeat themselves.
        median_tokens: Of a reply.
    """

    success: Proportion
    quality_nats: float
    looping: Proportion = Proportion(0, 0)  # noqa: RUF009 - a frozen value
    median_tokens: float = 0.0

    @classmethod
    def of(cls, scores: Sequence[ReplyScore]) -> Measured:
        """Return the summary of scores."""
        nats = [score.nll_nats for score in scores if score.nll_nats is not None]
        return cls(
            Proportion(sum(score.is_forced for score in scores), len(scores)),
            sum(nats) / len(nats) if nats else math.inf,
            Proportion(sum(score.is_looping for score in scores), len(scores)),
            median([score.tokens for score in scores]) if scores else 0.0,
        )


# (method, strength, prompts) -> a score for every prompt
Measure: TypeAlias = Callable[[str, float, Sequence[ForcingPrompt]], Sequence[ReplyScore]]
Curve: TypeAlias = Mapping[float, Measured]


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
            target
            for target, point in self.at_normal.items()
            if not _reaches(point, wanted_success)
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

    All methods are compared at strength 1 on the first 16 prompts, the better third of them (at
    least three) on 48; whichever is worse beyond doubt (its 95% interval of success ends below
    where the leader's begins) leaves at once. With at least 24 prompts for every language the
    kept method has strengths of its own for each; with fewer, all languages share them, normal
    is 1 unless another strength is better beyond a tie, and gentle and strong are looked for.

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
    method, rejected = _search(run, methods)
    if goal.rescue:
        method, rejected = _try_rescue(run, method, goal.rescue, rejected)
    curves = _curves_of_all(run, method) if run.is_shared else _curves_of_each(run, method)
    if run.is_shared:
        shared = _shared_levels(run, _pool(curves))
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
        instructed=_by_target(run.searched, instructed),
        rejected=tuple(rejected),
        is_shared=run.is_shared,
        total=_join([curves[target][levels[target]["normal"]] for target in curves]),
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
        self.usual_tokens = 0.0
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
        first, reasons = choose_best(rest, wanted_success=run.wanted, usual_tokens=run.usual_tokens)
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
    if _reaches(alone, run.wanted):
        return method, rejected
    both = f"{method}+{rescue}"
    points = {method: alone}
    points[both] = Measured.of(run.measure(both, 1.0, run.searched, left=left))
    (best,), reasons = _rank(points, run, 1)
    ((other, why),) = reasons.items()
    return best, [*rejected, Rejected(other, why, points[other])]


def choose_best(
    points: Mapping[_Name, Measured], *, wanted_success: float, usual_tokens: float = 0.0
) -> tuple[_Name, dict[_Name, Reason]]:
    """Return the best, by the rule of the module, and why each other one is not.

    Args:
        points: At least one; of equals the first is the best.
        wanted_success: More success than this counts no more.
        usual_tokens: Median length of the instructed answers; 0 leaves length out.
    """
    reasons: dict[_Name, Reason] = {}
    left = dict(points)

    def keep(reason: Reason, is_kept: Callable[[Measured], bool]) -> None:
        for name in [name for name, point in left.items() if not is_kept(point)]:
            reasons[name] = reason
            del left[name]

    leader = max((point.success for point in points.values()), key=lambda success: success.rate)
    floor = min(wanted_success, leader.rate) - _standard_error(leader, most=wanted_success)
    keep("success", lambda point: point.success.rate >= floor)
    if usual_tokens and any(_is_usually_long(point, usual_tokens) for point in left.values()):
        keep("length", lambda point: _is_usually_long(point, usual_tokens))
    least = min((point.looping for point in left.values()), key=lambda looping: looping.rate)
    ceiling = least.rate + _standard_error(least)
    keep("looping", lambda point: point.looping.rate <= ceiling)
    best = min(left, key=lambda name: left[name].quality_nats)
    return best, {**reasons, **{name: "likelihood" for name in left if name != best}}


def _standard_error(share: Proportion, *, most: float = 1.0) -> float:
    """Return the standard error of a rate; with one success and one failure added, never 0.

    A rate above *most* is taken for that.
    """
    if not share.trials:
        return 0.0
    rate = min(most, (share.successes + 1) / (share.trials + 2))
    return math.sqrt(rate * (1 - rate) / share.trials)


def _is_usually_long(point: Measured, usual_tokens: float) -> bool:
    low, high = _USUAL_LENGTHS
    return low * usual_tokens <= point.median_tokens <= high * usual_tokens


def _curves_of_all(run: _Run, method: str) -> dict[Language, dict[float, Measured]]:
    """Measure a method at 1, at the gentlest strength that does, and the strongest that holds."""
    curves: dict[Language, dict[float, Measured]] = {target: {} for target in run.by_target}

    def measure(strength: float, further: int) -> Measured:
        scores = run.measure(method, strength, run.prompts, left=further * len(run.prompts))
        for target, point in _by_target(run.prompts, scores).items():
            curves[target][strength] = point
        return Measured.of(scores)

    usual = measure(1.0, 2)
    for strength in (one for one in run.strengths if one < 1):
        if _is_gentle(measure(strength, 1), usual):
            break
    for strength in (one for one in reversed(run.strengths) if one > 1):
        if _holds(measure(strength, 0), usual):
            break
    return {target: dict(sorted(curve.items())) for target, curve in curves.items()}


def _shared_levels(run: _Run, curve: Curve) -> dict[StrengthLevel, float]:
    best, reasons = choose_best(curve, wanted_success=run.wanted, usual_tokens=run.usual_tokens)
    normal = 1.0 if reasons.get(1.0, "likelihood") == "likelihood" else best
    at_normal = curve[normal]
    gentle = (s for s, point in curve.items() if s < normal and _is_gentle(point, at_normal))
    strong = (s for s, point in curve.items() if s > normal and _holds(point, at_normal))
    return {
        "gentle": min(gentle, default=normal),
        "normal": normal,
        "strong": max(strong, default=normal),
    }


def _is_gentle(point: Measured, at_normal: Measured) -> bool:
    return point.success.rate >= _GENTLE_SHARE * at_normal.success.rate


def _holds(point: Measured, at_normal: Measured) -> bool:
    """Say whether a stronger push keeps success and text, within a tie."""
    return (
        point.success.rate >= at_normal.success.rate - _standard_error(at_normal.success)
        and _loops_no_more(point, at_normal)
        and point.quality_nats <= at_normal.quality_nats + _STRONG_LOSS_NATS
    )


def _loops_no_more(point: Measured, at_normal: Measured) -> bool:
    bound = at_normal.looping.rate + _standard_error(at_normal.looping)
    return point.looping.rate <= bound


def _by_target(
    prompts: Sequence[ForcingPrompt], scores: Sequence[ReplyScore]
) -> dict[Language, Measured]:
    grouped: dict[Language, list[ReplyScore]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        grouped.setdefault(prompt.target, []).append(score)
    return {target: Measured.of(own) for target, own in grouped.items()}


def _pool(curves: Mapping[Language, Curve]) -> dict[float, Measured]:
    """Return one curve over the strengths that every language was measured at."""
    shared = set.intersection(*(set(curve) for curve in curves.values()))
    return {
        strength: _join([curve[strength] for curve in curves.values()])
        for strength in sorted(shared)
    }


def pool_curves(found: Calibration) -> dict[float, Measured]:
    """Return all languages together at the strengths that every one was measured at."""
    return _pool(found.curves)


def _join(points: Sequence[Measured]) -> Measured:
    """Return several languages together: all replies, and the means of what is a mean."""
    return Measured(
        _add([point.success for point in points]),
        sum(point.quality_nats for point in points) / len(points),
        _add([point.looping for point in points]),
        median(point.median_tokens for point in points),
    )


def _add(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(s.successes for s in shares), sum(s.trials for s in shares))


def _curves_of_each(run: _Run, method: str) -> dict[Language, dict[float, Measured]]:
    """Measure a method at all strengths, then refine every language's curve by halving."""
    curves: dict[Language, dict[float, Measured]] = {target: {} for target in run.by_target}
    for place, strength in enumerate(run.strengths):
        left = (len(run.strengths) - place - 1) * len(run.prompts)
        scores = run.measure(method, strength, run.prompts, left=left)
        for target, point in _by_target(run.prompts, scores).items():
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


def choose_levels(
    curve: Curve, wanted_success: float, margin: float = 1.0
) -> dict[StrengthLevel, float]:
    """Return the strengths of gentle, normal and strong on one language's curve.

    Normal is the smallest strength that reaches the wanted success, or the one with the most
    success, times the margin as far as was measured, as the success is still reached, and as it
    costs next to nothing; gentle the smallest with most of that success; strong the largest beyond
    normal that keeps the success, costs little more and loops no more.
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
        and _loops_no_more(point, curve[normal])
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
