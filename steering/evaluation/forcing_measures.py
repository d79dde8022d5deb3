"""All numbers of one condition of language forcing, each with its interval, also per language.

- `lfs`: replies in the chosen language, by our detector;
- `lpr_lid176`, `wpr`: as the Language Confusion Benchmark computes and averages them;
- `lpr`: replies without a line in another language, by our detector;
- `own_words`: of the replies in the chosen language, those without a foreign word;
- `looping`: replies with fewer than 60% distinct 4-grams;
- `nll_nats`: negative log-likelihood under the instructed model, per token, mean of the replies;
- `median_tokens`: length of the replies;
- `recall`, `f1`: of the right answer's words, where there is one in the target language;
- `right`: correct replies in any language, where there is a way to check;
- `right_forced`: those that are also in the chosen language.

Rates are 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steering.evaluation.answer_overlap import overlap_with
from steering.evaluation.forcing import ForcingOutcome, ForcingResult
from steering.evaluation.foreign_words import foreign_words
from steering.evaluation.language_confusion import (
    ConfusionVerdict,
    LineIdentifier,
    average_by_language,
    judge_confusion,
    line_pass_rate,
    word_pass_rate,
)
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import line_pass
from steering.evaluation.resampling import (
    Measure,
    measure_difference,
    measure_mean,
    measure_median,
    measure_rate,
)
from steering.languages import Language
from steering.looping import is_looping

# What is a number per reply, and so can be compared prompt by prompt.
_PAIRED = ("lfs", "looping", "nll_nats", "recall", "f1", "right")


@dataclass(frozen=True, slots=True)
class Referees:
    """What judges beside our own detector; None where it is not installed."""

    identify: LineIdentifier | None = None
    english: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class JudgedReplies:
    """The replies under one condition with all that is said of each.

    Args:
        result: The replies.
        confusion: The benchmark's verdicts; empty without an identifier.
        passes_lines: Whether our detector finds no line in another language.
        has_own_words: Whether a reply has no foreign word.
        values: Per name, a number per reply, None where there is none.
    """

    result: ForcingResult
    confusion: tuple[ConfusionVerdict, ...]
    passes_lines: tuple[bool, ...]
    has_own_words: tuple[bool, ...]
    values: Mapping[str, tuple[float | None, ...]] = field(repr=False)

    def of_target(self, target: Language) -> JudgedReplies:
        """Return those whose chosen language is *target*."""
        outcomes = self.result.outcomes
        chosen = [n for n, one in enumerate(outcomes) if one.prompt.target == target]
        return JudgedReplies(
            self.result.of_target(target),
            tuple(self.confusion[n] for n in chosen if self.confusion),
            tuple(self.passes_lines[n] for n in chosen),
            tuple(self.has_own_words[n] for n in chosen),
            {name: tuple(row[n] for n in chosen) for name, row in self.values.items()},
        )

    def measures(self) -> dict[str, Measure]:
        """Return all numbers that there are, by name."""
        outcomes = self.result.outcomes
        forced = [n for n, one in enumerate(outcomes) if one.is_forced]
        found = {
            "lfs": measure_rate(self.result.lfs),
            **self._confusion_measures(),
            "lpr": measure_rate(_share(self.passes_lines)),
            "own_words": measure_rate(_share([self.has_own_words[n] for n in forced])),
            "looping": measure_rate(_share(self._known("looping"))),
            "nll_nats": measure_mean(self._known("nll_nats")),
            "median_tokens": measure_median([float(one.tokens) for one in outcomes]),
            "recall": measure_mean(self._known("recall")),
            "f1": measure_mean(self._known("f1")),
            "right": measure_rate(_share(self._known("right"))),
            "right_forced": measure_rate(self.result.content or Proportion(0, 0)),
        }
        return {name: measure for name, measure in found.items() if measure is not None}

    def to_json(self) -> dict[str, object]:
        """Return the numbers as `evaluate forcing --json` writes them."""
        targets = sorted({one.prompt.target for one in self.result.outcomes})
        return {
            "measures": _json_of(self.measures()),
            "measures_by_language": {
                str(target): _json_of(self.of_target(target).measures()) for target in targets
            },
        }

    def minus(self, other: JudgedReplies) -> dict[str, Measure]:
        """Return differences to another condition on the same prompts, where both have numbers."""
        found = {}
        for name in _PAIRED:
            pairs = zip(self.values[name], other.values[name], strict=True)
            both = [(a, b) for a, b in pairs if a is not None and b is not None]
            found[name] = measure_difference([a for a, _ in both], [b for _, b in both])
        return {name: measure for name, measure in found.items() if measure is not None}

    def _known(self, name: str) -> list[float]:
        return [value for value in self.values[name] if value is not None]

    def _confusion_measures(self) -> dict[str, Measure | None]:
        cells: dict[tuple[str, str], list[ConfusionVerdict]] = {}
        for outcome, verdict in zip(self.result.outcomes, self.confusion, strict=False):
            cell = (outcome.prompt.source, str(outcome.prompt.target))
            cells.setdefault(cell, []).append(verdict)
        found = {}
        for name, rate in (("lpr_lid176", line_pass_rate), ("wpr", word_pass_rate)):
            rates = {cell: rate(verdicts) for cell, verdicts in cells.items()}
            average = average_by_language(rates)
            counted = sum(one.trials for one in rates.values())
            found[name] = average and Measure(average[0], average[1], counted)
        return found


def judge_condition(
    result: ForcingResult,
    *,
    languages: Sequence[Language],
    referees: Referees,
    nll_nats: Mapping[int, float] | None = None,
) -> JudgedReplies:
    """Judge every reply under one condition.

    Args:
        result: The replies.
        languages: Those that our detector chooses from.
        referees: Who judges beside it.
        nll_nats: Likelihoods by place of the reply, as far as they are known.
    """
    outcomes = result.outcomes
    identify = referees.identify
    overlaps = [overlap_with(o.reply, o.prompt.gold) if o.prompt.gold else None for o in outcomes]
    return JudgedReplies(
        result,
        ()
        if identify is None
        else tuple(
            judge_confusion(
                o.reply, target=o.prompt.target, identify=identify, english=referees.english
            )
            for o in outcomes
        ),
        tuple(line_pass(o.reply, target=o.prompt.target, languages=languages) for o in outcomes),
        tuple(map(_has_own_words, outcomes)),
        {
            "lfs": tuple(float(o.is_forced) for o in outcomes),
            "looping": tuple(float(is_looping(o.reply)) for o in outcomes),
            "nll_nats": tuple((nll_nats or {}).get(place) for place in range(len(outcomes))),
            "recall": tuple(None if one is None else one.recall for one in overlaps),
            "f1": tuple(None if one is None else one.f1 for one in overlaps),
            "right": tuple(None if o.is_right is None else float(o.is_right) for o in outcomes),
        },
    )


def _has_own_words(outcome: ForcingOutcome) -> bool:
    prompt = outcome.prompt
    return not foreign_words(outcome.reply, target=prompt.target, prompt_language=prompt.language)


def _share(values: Sequence[float]) -> Proportion:
    return Proportion(sum(map(bool, values)), len(values))


def _json_of(measures: Mapping[str, Measure]) -> dict[str, object]:
    return {name: measure.to_json() for name, measure in measures.items()}
