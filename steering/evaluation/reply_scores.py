"""What the replies of a calibration are worth, and which of several candidates is the best.

What is better, always in this order (`choose_best`):

1. Success, the share of replies in the language, up to the wanted share. Candidates within one
   standard error of the best are tied (the one-standard-error rule of cross-validation).
2. Among those, replies without a word of another language, as a share of those in the language:
   no fewer than under the instruction, again within one standard error. More count no more.
3. Then a median length from half to twice that of the instructed answers, if any has it.
4. Then the smallest share of looping replies, within one standard error.
5. Then the lowest mean negative log-likelihood of the replies under the instructed model.
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

_USUAL_LENGTHS = (0.5, 2.0)  # of the instructed answers' median

_Name = TypeVar("_Name")

# Why a method was given up: it can't act with this set; its success is below the leader's beyond
# doubt; it is worse than the kept one in one of the measures of the module.
Reason: TypeAlias = Literal[
    "unusable", "hopeless", "success", "words", "length", "looping", "likelihood"
]


@dataclass(frozen=True, slots=True)
class ReplyScore:
    """What one reply is worth.

    Args:
        is_forced: Whether it is in the language that was chosen.
        is_pure: Whether no word of it is of another language, as `foreign_words` finds them.
        is_looping: As `looping.is_looping` says.
        tokens: Its length.
        nll_nats: Mean negative log-likelihood per token under the instructed, unsteered model;
            None for an empty reply.
    """

    is_forced: bool
    is_pure: bool
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
        pure: Of the replies in the language, those without a word of another.
        median_tokens: Of a reply.
    """

    success: Proportion
    quality_nats: float
    looping: Proportion = Proportion(0, 0)  # noqa: RUF009 - a frozen value
    median_tokens: float = 0.0
    pure: Proportion = Proportion(0, 0)  # noqa: RUF009 - a frozen value

    @classmethod
    def of(cls, scores: Sequence[ReplyScore]) -> Measured:
        """Return the summary of scores."""
        nats = [score.nll_nats for score in scores if score.nll_nats is not None]
        return cls(
            Proportion(sum(score.is_forced for score in scores), len(scores)),
            sum(nats) / len(nats) if nats else math.inf,
            Proportion(sum(score.is_looping for score in scores), len(scores)),
            median([score.tokens for score in scores]) if scores else 0.0,
            Proportion(
                sum(score.is_forced and score.is_pure for score in scores),
                sum(score.is_forced for score in scores),
            ),
        )


Curve: TypeAlias = Mapping[float, Measured]


def choose_best(
    points: Mapping[_Name, Measured],
    *,
    wanted_success: float,
    usual_tokens: float = 0.0,
    usual_purity: float = 1.0,
) -> tuple[_Name, dict[_Name, Reason]]:
    """Return the best, by the rule of the module, and why each other one is not.

    Args:
        points: At least one; of equals the first is the best.
        wanted_success: More success than this counts no more.
        usual_tokens: Median length of the instructed answers; 0 leaves length out.
        usual_purity: Share of the instructed answers in the language without a word of another.
    """
    reasons: dict[_Name, Reason] = {}
    left = dict(points)

    def keep(reason: Reason, is_kept: Callable[[Measured], bool]) -> None:
        for name in [name for name, point in left.items() if not is_kept(point)]:
            reasons[name] = reason
            del left[name]

    leader = max((point.success for point in points.values()), key=lambda success: success.rate)
    floor = min(wanted_success, leader.rate) - standard_error(leader, most=wanted_success)
    keep("success", lambda point: point.success.rate >= floor)
    purest = max((point.pure for point in left.values()), key=lambda pure: pure.rate)
    pure_floor = min(usual_purity, purest.rate) - standard_error(purest, most=usual_purity)
    keep("words", lambda point: point.pure.rate >= pure_floor)
    if usual_tokens and any(_is_usually_long(point, usual_tokens) for point in left.values()):
        keep("length", lambda point: _is_usually_long(point, usual_tokens))
    least = min((point.looping for point in left.values()), key=lambda looping: looping.rate)
    ceiling = least.rate + standard_error(least)
    keep("looping", lambda point: point.looping.rate <= ceiling)
    best = min(left, key=lambda name: left[name].quality_nats)
    return best, {**reasons, **{name: "likelihood" for name in left if name != best}}


def standard_error(share: Proportion, *, most: float = 1.0) -> float:
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


def score_by_target(
    prompts: Sequence[ForcingPrompt], scores: Sequence[ReplyScore]
) -> dict[Language, Measured]:
    """Return what the replies are worth, language by language."""
    grouped: dict[Language, list[ReplyScore]] = {}
    for prompt, score in zip(prompts, scores, strict=True):
        grouped.setdefault(prompt.target, []).append(score)
    return {target: Measured.of(own) for target, own in grouped.items()}


def join(points: Sequence[Measured]) -> Measured:
    """Return several languages together: all replies, and the means of what is a mean."""
    return Measured(
        _add([point.success for point in points]),
        sum(point.quality_nats for point in points) / len(points),
        _add([point.looping for point in points]),
        median(point.median_tokens for point in points),
        _add([point.pure for point in points]),
    )


def _add(shares: Sequence[Proportion]) -> Proportion:
    return Proportion(sum(s.successes for s in shares), sum(s.trials for s in shares))


def reaches(point: Measured, success: float) -> bool:
    """Say whether a success is reached, as far as so few prompts can tell.

    Of 98 replies a success of 0.99 asks for 97: rounded down, else it would ask for all of them.
    """
    trials = point.success.trials
    return trials > 0 and point.success.successes >= math.floor(success * trials + 1e-9)
