"""`sharing`: which neurons several languages share on parallel prompts, and what they are worth."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_seed,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.cli.bundled_prompts import parallel_questions_file
from steering.cli.provenance import describe_run, hash_json
from steering.errors import CorpusError, SettingsError
from steering.evaluation.parallel_prompts import ParallelPrompts, read_parallel_prompts
from steering.evaluation.sharing import SharingSummary, measure_sharing
from steering.evaluation.sharing_accuracy import (
    POSITIONS,
    AccuracyOptions,
    ChangeOutcome,
    default_changes,
    measure_change,
)
from steering.evaluation.sharing_report import accuracy_markdown, sharing_markdown
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_BUNDLED_COUNT = 50  # a question of every topic; some minutes


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "sharing", help="which neurons languages share on the same prompts, and what they do"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--prompts",
        type=Path,
        help='JSONL, a line such as {"prompt": {"en": "...", "fr": "..."}, "answer": {"en": '
        '"...", "fr": "..."}} (default: the bundled questions, for the bundled model)',
    )
    parser.add_argument(
        "--count",
        type=int,
        help="use so many of the prompts, the first "
        f"(default: all of a file, {_BUNDLED_COUNT} of the bundled questions)",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.0, help="a neuron is active above it (published: 0)"
    )
    parser.add_argument(
        "--groups-only", action="store_true", help="do not ask anything; prompts need no answers"
    )
    parser.add_argument(
        "--amplify",
        default="1.2,1.5",
        help="factors for the all-shared neurons, with commas; empty for none",
    )
    parser.add_argument(
        "--positions",
        choices=POSITIONS,
        default="every",
        help="where neurons are switched off or amplified: everywhere, or at the onset alone",
    )
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=64, help="answers per batch")
    parser.add_argument("--seed", type=int, default=0, help="of the random neurons")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sort neurons into groups, then switch the groups off and amplify them."""
    check_at_least(1, batch_size=options.batch_size, max_new_tokens=options.max_new_tokens)
    check_seed(seed=options.seed)
    if options.count is not None:
        check_at_least(1, count=options.count)
    if not math.isfinite(options.threshold):
        raise SettingsError(f"`--threshold` is '{options.threshold}'. Expected a number; give 0.")
    if options.json:
        check_writable(options.json)
    factors = _read_factors(options.amplify)
    read = read_questions(options)
    model = load_chosen_model(options)
    with tqdm(total=len(read.prompts), unit="prompts", dynamic_ncols=True) as bar:
        summary = measure_sharing(
            model,
            read.languages,
            read.prompts,
            threshold=options.threshold,
            progress=lambda: _advance(bar),
        )
    print(sharing_markdown(summary))
    outcomes: list[ChangeOutcome] = []
    if not options.groups_only:
        outcomes = _measure_changes(options, model, read, summary, factors)
        print(f"\n{accuracy_markdown(outcomes)}")
    if options.json:
        about = {
            "model": options.model,
            **describe_run(options, model=model.identity),
            "prompts_file": None if options.prompts is None else options.prompts.name,
            "prompts_sha256": hash_questions(read),
        }
        write_json(options.json, about | _to_json(options, summary, outcomes))
    return 0


def _read_factors(text: str) -> list[float]:
    try:
        factors = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        factors = [-1.0]
    if not all(1 < factor < 1000 for factor in factors):
        raise SettingsError(
            f"`--amplify` is '{text}'. Expected factors above 1 with commas, such as 1.2,1.5."
        )
    return factors


def read_questions(options: argparse.Namespace) -> ParallelPrompts:
    """Return the first prompts of a file, or of the bundled questions.

    Raises:
        SettingsError: If there is no file and the model is not the bundled one.
        CorpusError: If the file cannot be read, or has no answers where they are asked for.
    """
    path = options.prompts
    if path is None and options.model != BUNDLED_MODEL:
        raise SettingsError(
            f"There are no parallel prompts for the model '{options.model}'. Expected a file; "
            "name it with `--prompts`. The bundled questions are about a toy world that only the "
            "bundled model knows."
        )
    count = options.count
    if path is None:
        path, count = parallel_questions_file(), count or _BUNDLED_COUNT
    read = read_parallel_prompts(path)
    if not read.has_answers and not options.groups_only:
        raise CorpusError(
            f"The prompts of '{path}' have no answers, so nobody can tell a right one. Expected an "
            "`answer` per language in every line; add them, or give `--groups-only`."
        )
    return replace(read, prompts=read.prompts[:count])


def hash_questions(read: ParallelPrompts) -> str:
    """Return the SHA-256 of all prompts and answers, in order."""
    return hash_json([[_by_code(one.texts), _by_code(one.answers)] for one in read.prompts])


def _by_code(values: Mapping[Language, object]) -> dict[str, object]:
    return {str(language): value for language, value in values.items()}


def _measure_changes(
    options: argparse.Namespace,
    model: LoadedModel,
    read: ParallelPrompts,
    summary: SharingSummary,
    factors: Sequence[float],
) -> list[ChangeOutcome]:
    changes = default_changes(factors)
    how = AccuracyOptions(
        positions=options.positions,
        max_new_tokens=options.max_new_tokens,
        batch_rows=options.batch_size,
        seed=options.seed,
    )
    total = len(changes) * len(read.prompts) * len(read.languages)
    outcomes = []
    with tqdm(total=total, unit="answers", dynamic_ncols=True) as bar:
        for change in changes:
            bar.set_description(change.name)
            outcomes.append(
                measure_change(
                    model,
                    read.languages,
                    read.prompts,
                    summary.groups,
                    change,
                    options=how,
                    progress=bar.update,
                )
            )
    return outcomes


def _to_json(
    options: argparse.Namespace, summary: SharingSummary, outcomes: Sequence[ChangeOutcome]
) -> dict[str, object]:
    return {
        **summary.to_json(),
        "positions": options.positions,
        "seed": options.seed,
        "accuracy": [outcome.to_json() for outcome in outcomes],
    }


def _advance(bar: "tqdm[NoReturn]") -> None:
    bar.update(1)
