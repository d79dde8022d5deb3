"""Measures the parts of a study and says what came out: tables, figures, and sentences.

Every number comes from `evaluation/`, `set_comparison.py` or the report card; here they are put
together. Rates are 0..1 in the numbers. Knows no command line and no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from steering.evaluation.figures import plot_perplexity, plot_sharing
from steering.evaluation.forcing import Condition, ForcingPrompt, ForcingResult, run_forcing
from steering.evaluation.parallel_prompts import ParallelPrompts
from steering.evaluation.perplexity import PerplexityChange, perplexity_change
from steering.evaluation.plots import plot_forcing, plot_matrix
from steering.evaluation.report import lpr, matrix_markdown, methods_markdown
from steering.evaluation.sharing import SharingSummary, measure_sharing
from steering.evaluation.sharing_accuracy import (
    AccuracyOptions,
    Change,
    ChangeOutcome,
    default_changes,
    measure_change,
)
from steering.evaluation.sharing_report import accuracy_markdown, sharing_markdown
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.study.parts import Block, Finding, Progress, figure, words_and_tables

if TYPE_CHECKING:
    from steering.loading import LoadedModel

AMPLIFY = (1.2, 1.5)  # as `sharing` does by default


@dataclass(frozen=True, slots=True)
class ForcingTask:
    """What language forcing is measured on.

    Args:
        prompts: What is asked.
        conditions: How the language is asked for.
        languages: Those the detector chooses from.
        batch_rows: Answers per batch; changes speed alone.
        notes: What was left out, and why.
    """

    prompts: Sequence[ForcingPrompt]
    conditions: Sequence[Condition]
    languages: Sequence[Language]
    batch_rows: int = 16
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PerplexityTask:
    """What perplexity is measured on.

    Args:
        rows: Per language, token ids `(rows, tokens)`.
        text: What it is, in words.
        uncounted: Token ids that are read and not predicted.
        seed: Of the random neurons.
    """

    rows: Mapping[Language, Tensor]
    text: str
    uncounted: Sequence[int]
    seed: int


def measure_forcing(
    folder: Path, progress: Progress, *, task: ForcingTask, model: LoadedModel
) -> Finding:
    """Ask all prompts under all conditions; draw the bars, and the matrix of the last condition."""
    results = run_conditions(task, model=model, progress=progress)
    last = list(results)[-1]
    rates = ", ".join(f"{name} {result.lfs.rate:.1%}" for name, result in results.items())
    summary = f"In the chosen language of {len(task.prompts)} answers each: {rates}."
    if (content := results[last].content) is not None:
        summary += f" In it and right by {last}: {content.rate:.1%}."
    blocks = [
        Block("words", "LFS: answers in the chosen language. LPR: answers without a line in "
              "another one. Content: in it and right. Harmonic: mean of LFS and content."),
        Block("table", methods_markdown(results, languages=task.languages)),
        *(Block("words", note) for note in task.notes),
        figure(folder, "forcing", "Answers in the chosen language, and right, with 95% Wilson "
               "intervals.", partial(plot_forcing, results)),
        Block("words", f"By `{last}`, language of the prompt by chosen language:"),
        Block("table", matrix_markdown(results[last])),
        figure(folder, "forcing-matrix", f"The same, of `{last}`.",
               partial(plot_matrix, results[last])),
    ]  # fmt: skip
    return Finding(summary, forcing_json(task, results), tuple(blocks))


def run_conditions(
    task: ForcingTask, *, model: LoadedModel, progress: Progress
) -> dict[str, ForcingResult]:
    """Ask all prompts under all conditions, greedily."""
    return {
        condition.name: run_forcing(
            model,
            task.prompts,
            condition,
            languages=task.languages,
            batch_rows=task.batch_rows,
            progress=progress,
        )
        for condition in task.conditions
    }


def measure_perplexity(
    folder: Path,
    progress: Progress,
    *,
    task: PerplexityTask,
    named: tuple[str, NeuronSet],
    model: LoadedModel,
) -> Finding:
    """Switch every language's neurons off in turn; the sentences say whose diagonal dominates.

    Args:
        folder: For the figure.
        progress: Called with 1 per plan.
        task: What is measured on.
        named: The set, after its name.
        model: Its model.
    """
    name, neurons = named
    change = change_perplexity(task, neurons=neurons, model=model, progress=progress)
    verdict = change.verdict
    blocks = [
        Block("words", f"Neurons of `{name}`; nats per token, and ratio of perplexities, on "
              f"{task.text}: rows are switched off, columns measured. Beside it as many random "
              "neurons."),
        Block("table", change.to_markdown()),
        *(Block("words", sentence) for sentence in verdict.by_language().values()),
        figure(folder, "perplexity", "Perplexity change, nats per token.",
               partial(plot_perplexity, change)),
    ]  # fmt: skip
    numbers = {"set": name, "text": task.text, "tokens": _count_tokens(task), "seed": task.seed}
    return Finding(verdict.overall(), numbers | change.to_json(), tuple(blocks))


def sharing_changes() -> list[Change]:
    """Return what is done to the groups, with their controls."""
    return default_changes(AMPLIFY)


def measure_shared(
    folder: Path,
    progress: Progress,
    *,
    read: ParallelPrompts,
    model: LoadedModel,
    options: AccuracyOptions,
) -> Finding:
    """Sort neurons into groups on parallel prompts; then switch groups off and amplify them.

    Answers are asked for only where the prompts have right ones.
    """
    summary = measure_sharing(
        model, read.languages, read.prompts, progress=lambda: _advance(progress)
    )
    outcomes = [
        measure_change(
            model, read.languages, read.prompts, summary.groups, change,
            options=options, progress=progress,
        )
        for change in (sharing_changes() if read.has_answers else ())
    ]  # fmt: skip
    blocks = words_and_tables(sharing_markdown(summary))
    shares = {str(group): row for group, row in summary.shares.items()}
    blocks.append(
        figure(folder, "sharing", "Share of each layer's neurons that is in a group.",
               partial(plot_sharing, shares))
    )  # fmt: skip
    if outcomes:
        blocks.append(Block("words", "Answers that are right when a group's values are changed:"))
        blocks += words_and_tables(accuracy_markdown(outcomes))
    else:
        blocks.append(Block("words", "The prompts have no answers, so none were asked for."))
    numbers = {
        **summary.to_json(),
        "positions": options.positions,
        "seed": options.seed,
        "accuracy": [outcome.to_json() for outcome in outcomes],
    }
    return Finding(_sharing_summary(summary, outcomes), numbers, tuple(blocks))


def perplexity_steps(neurons: NeuronSet) -> int:
    """Return how many plans the matrix of a set measures."""
    return 2 * len(neurons.languages) + 1


def change_perplexity(
    task: PerplexityTask, *, neurons: NeuronSet, model: LoadedModel, progress: Progress
) -> PerplexityChange:
    """Switch every language's neurons off in turn, on the rows of the task."""
    return perplexity_change(
        model,
        neurons,
        task.rows,
        seed=task.seed,
        progress=lambda: _advance(progress),
        uncounted=task.uncounted,
    )


def _count_tokens(task: PerplexityTask) -> dict[str, int]:
    return {str(language): rows.numel() for language, rows in task.rows.items()}


def forcing_json(task: ForcingTask, results: Mapping[str, ForcingResult]) -> dict[str, object]:
    """Return the numbers of every condition, as `evaluate forcing --json` writes them."""
    methods = {
        name: {**result.to_json(), "lpr": lpr(result, languages=task.languages).rate}
        for name, result in results.items()
    }
    return {"prompts": len(task.prompts), "notes": list(task.notes), "methods": methods}


def _sharing_summary(summary: SharingSummary, outcomes: Sequence[ChangeOutcome]) -> str:
    means = ", ".join(f"{sum(row) / len(row):.1%} {group}" for group, row in summary.shares.items())
    text = f"Of all neurons, on the mean of {summary.prompts} prompts: {means}."
    if not outcomes:
        return text
    rates = {one.change: f"{one.right.rate:.1%}" for one in outcomes}
    shown = [
        f"{change.name} {rate}"
        + ("" if change.group is None else f" ({rates[replace(change, is_random=True)]})")
        for change, rate in rates.items()
        if not change.is_random
    ]
    return f"{text} Right answers (as many random neurons): {'; '.join(shown)}."


def _advance(progress: Progress) -> None:
    progress(1)
