"""Tables of language forcing: per method, and per pair of prompt and target language.

Computes from replies that are already judged; knows no models, no steering and no files.
Rates are 0..1; percent exists in the tables alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering.detection import detect
from steering.errors import SettingsError
from steering.evaluation.proportions import Proportion, harmonic_mean
from steering.languages import Language

if TYPE_CHECKING:
    from steering.evaluation.forcing import ForcingResult


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What one strength of a method gave, for a calibration.

    Args:
        strength: As the method counts it.
        success: Replies in the chosen language.
        quality_nats: Negative log-likelihood of the replies, nats per token (`quality.py`); lower
            is better, and nan leaves a gap in the plot.
    """

    strength: float
    success: Proportion
    quality_nats: float


def success_matrix(result: ForcingResult) -> dict[Language, dict[Language, Proportion]]:
    """Return language forcing success per language of the prompt, then per target.

    Both orders are those of the codes; a pair that was not asked is absent.
    """
    counts: dict[tuple[Language, Language], tuple[int, int]] = {}
    for outcome in result.outcomes:
        pair = (outcome.prompt.language, outcome.prompt.target)
        forced, asked = counts.get(pair, (0, 0))
        counts[pair] = (forced + outcome.is_forced, asked + 1)
    matrix: dict[Language, dict[Language, Proportion]] = {}
    for (language, target), (forced, asked) in sorted(counts.items()):
        matrix.setdefault(language, {})[target] = Proportion(forced, asked)
    return matrix


def matrix_markdown(result: ForcingResult) -> str:
    """Return the matrix as a table, with the totals of every row and column.

    A cell is a percentage and its counts, or `-` where nothing was asked.
    """
    matrix = success_matrix(result)
    targets = sorted({target for row in matrix.values() for target in row})
    lines = [
        f"| prompt in | {' | '.join(f'to {target}' for target in targets)} | all |",
        "|---" * (len(targets) + 2) + "|",
    ]
    for language, row in matrix.items():
        cells = [row.get(target) for target in targets]
        lines.append(_matrix_line(str(language), [*cells, _add(row.values())]))
    totals = [result.of_target(target).lfs for target in targets]
    return "\n".join([*lines, _matrix_line("all", [*totals, result.lfs])])


def line_pass(reply: str, *, target: Language, languages: Sequence[Language]) -> bool:
    """Say whether a reply has no line in a language other than *target*.

    Args:
        reply: The whole reply; lines too short to tell do not count, nor does a reply without any.
        target: The language that was asked for.
        languages: Those in play; `detect` adds the target and English.
    """
    return detect(reply, expected=target, languages=languages).has_only_target_lines


def lpr(result: ForcingResult, *, languages: Sequence[Language]) -> Proportion:
    """Return the line-level pass rate: the share of replies for which `line_pass` holds.

    Args:
        result: Under one condition.
        languages: Those in play, as for `run_forcing`.

    Source: Marchisio et al. 2024, Language Confusion Benchmark. Differs: our detector in place of
    fastText; a line counts when the detector can decide it, not from five words; a reply without
    such a line passes, where theirs is left out, so this belongs beside LFS and never alone.
    """
    passed = sum(
        line_pass(outcome.reply, target=outcome.prompt.target, languages=languages)
        for outcome in result.outcomes
    )
    return Proportion(passed, len(result.outcomes))


def clas_bench_score(forcing_rate: float, relevance_rate: float) -> float:
    """Return CLaS-Bench's steering score, 0..1: the harmonic mean of its two rates.

    In words: twice their product over their sum; 0 when either is 0. A score over several
    languages is that of the two overall rates, not the mean of the languages' scores.

    Args:
        forcing_rate: Language forcing success, 0..1.
        relevance_rate: How relevant the replies are, 0..1.

    Raises:
        SettingsError: If a rate is outside 0..1; the benchmark's own files hold percent.

    Source: Gurgurov et al. 2026, arXiv 2601.08331, `get_steering_score.py`. There the second rate
    is half the mean of a language model's marks 0, 1 or 2 for relevance and coherence, whatever the
    language of the reply. Differs: `methods_markdown` gives it content, the share of replies that
    are in the chosen language and right, because our grammar can tell and needs no judge; a right
    reply in another language counts there and not here, so the two scores are not comparable.
    """
    for name, rate in (("Forcing", forcing_rate), ("Relevance", relevance_rate)):
        if not 0 <= rate <= 1:
            raise SettingsError(f"{name} rate is '{rate}'. Expected 0 to 1; divide percent by 100.")
    return harmonic_mean(forcing_rate, relevance_rate)


def methods_markdown(
    results: Mapping[str, ForcingResult], *, languages: Sequence[Language] | None = None
) -> str:
    """Return the table of all methods: n, LFS with its 95% Wilson interval, LPR, content, harmonic.

    Args:
        results: Per name of a condition.
        languages: Those in play, as for `run_forcing`; those of the prompts and the targets when
            omitted. LPR alone needs them.

    Returns:
        Markdown; `-` stands where nobody can tell.
    """
    in_play = _languages_of(results.values()) if languages is None else languages
    lines = [
        "| method | n | LFS | 95% interval | LPR | content | harmonic |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        low, high = result.lfs.interval()
        content = result.content
        score = "-"
        if content is not None and content.trials:
            score = f"{clas_bench_score(result.lfs.rate, content.rate):.1%}"
        lines.append(
            f"| {name} | {len(result.outcomes)} | {_percent(result.lfs)} | "
            f"{low:.1%} to {high:.1%} | {_percent(lpr(result, languages=in_play))} | "
            f"{_percent(content)} | {score} |"
        )
    return "\n".join(lines)


def _languages_of(results: Iterable[ForcingResult]) -> list[Language]:
    prompts = [outcome.prompt for result in results for outcome in result.outcomes]
    return sorted({language for p in prompts for language in (p.language, p.target)})


def _matrix_line(name: str, cells: Sequence[Proportion | None]) -> str:
    shown = [
        "-" if not cell else f"{_percent(cell)} ({cell.successes}/{cell.trials})" for cell in cells
    ]
    return f"| {name} | {' | '.join(shown)} |"


def _add(parts: Iterable[Proportion]) -> Proportion:
    counts = [(part.successes, part.trials) for part in parts]
    return Proportion(sum(forced for forced, _ in counts), sum(asked for _, asked in counts))


def _percent(share: Proportion | None) -> str:
    return "-" if share is None or not share.trials else f"{share.rate:.1%}"
