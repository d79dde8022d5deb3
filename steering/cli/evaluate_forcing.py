"""`evaluate forcing`: how often the answer comes in the chosen language, beside all controls."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import (
    check_at_least,
    check_seed,
    check_writable,
    write_json,
    write_text,
)
from steering.cli.bundled_prompts import held_out_prompts
from steering.cli.conditions import (
    DEFAULT_CONDITIONS,
    add_measuring_arguments,
    load_chosen_sets,
    load_model_for,
    read_conditions,
)
from steering.cli.provenance import describe_run
from steering.evaluation.everyday import everyday_forcing_prompts
from steering.evaluation.forcing import ForcingPrompt, ForcingResult, run_forcing
from steering.evaluation.plots import check_plot_path, plot_forcing, plot_matrix
from steering.evaluation.prompt_files import read_prompts
from steering.evaluation.quality import instructed_nll_nats
from steering.evaluation.report import lpr, matrix_markdown, methods_markdown, success_matrix
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set import NeuronSet
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("forcing", help="how often the answer comes in the language")
    add_measuring_arguments(
        parser, conditions=DEFAULT_CONDITIONS, count=200, of="the grammar's prompts", tokens=120
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        help="JSONL with `prompt`, `target` and perhaps `language`; CSV with `text`, `target` and "
        "perhaps `language`; or CLaS-Bench's or the Language Confusion Benchmark's files "
        "(default: the bundled grammar's held-out prompts, or everyday prompts)",
    )
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw the numbers in")
    parser.add_argument(
        "--matrix-plot", type=Path, help="PNG or SVG of the last condition, prompt by target"
    )
    parser.add_argument("--replies", type=Path, help="JSONL to write every reply to")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure language forcing under every condition."""
    check_at_least(1, count=options.count, batch_size=options.batch_size)
    check_seed(seed=options.seed)
    for path in filter(None, (options.json, options.replies)):
        check_writable(path)
    for path in filter(None, (options.plot, options.matrix_plot)):
        check_plot_path(path)
    sampling = Sampling(
        options.max_new_tokens, options.temperature, top_p=options.top_p, seed=options.seed
    )
    sets = load_chosen_sets(options)
    conditions = read_conditions(options.conditions, sets)
    prompts = choose_prompts(options, sets.neurons.languages)
    model = load_model_for(sets, options)
    results = {}
    with tqdm(total=len(prompts) * len(conditions), unit="prompts", dynamic_ncols=True) as bar:
        for condition in conditions:
            bar.set_description(condition.name)
            results[condition.name] = run_forcing(
                model,
                prompts,
                condition,
                languages=sets.neurons.languages,
                sampling=sampling,
                batch_rows=options.batch_size,
                progress=bar.update,
            )
    _report(options, model, results, neurons=sets.neurons)
    return 0


def choose_prompts(
    options: argparse.Namespace, languages: Sequence[Language]
) -> Sequence[ForcingPrompt]:
    """Return the prompts of a file, of the bundled grammar, or of the everyday list."""
    if options.prompts is not None:
        read = read_prompts(options.prompts, targets=languages)
        for note in read.notes:
            print(f"note: {note}")
        return read.prompts
    if options.model == BUNDLED_MODEL:
        return held_out_prompts(options.count, seed=options.seed, languages=languages)
    return everyday_forcing_prompts(languages, count=options.count)


def _report(
    options: argparse.Namespace,
    model: LoadedModel,
    results: dict[str, ForcingResult],
    *,
    neurons: NeuronSet,
) -> None:
    """Print the table and the matrix of the last condition, and write what was asked for."""
    languages = neurons.languages
    print(methods_markdown(results, languages=languages))
    last = list(results)[-1]
    print(f"\n{last}, prompt language by chosen language:\n\n{matrix_markdown(results[last])}")
    if options.json:
        methods = {
            name: {
                **result.to_json(),
                "lpr": lpr(result, languages=languages).rate,
                "reply_nll_nats": instructed_nll_nats(model, result),
                "matrix": _matrix_json(result),
            }
            for name, result in results.items()
        }
        write_json(
            options.json,
            {
                "model": options.model,
                **describe_run(options, neurons, model=model.identity),
                "prompts": max(len(result.outcomes) for result in results.values()),
                "temperature": options.temperature,
                "top_p": options.top_p,
                "seed": options.seed,
                "methods": methods,
            },
        )
    if options.plot:
        plot_forcing(results, options.plot)
    if options.matrix_plot:
        plot_matrix(results[last], options.matrix_plot)
    if options.replies:
        _write_replies(options.replies, results)


def _matrix_json(result: ForcingResult) -> dict[str, dict[str, float]]:
    return {
        str(language): {str(target): share.rate for target, share in row.items()}
        for language, row in success_matrix(result).items()
    }


def _write_replies(path: Path, results: dict[str, ForcingResult]) -> None:
    lines = [
        json.dumps(
            {
                "condition": name,
                "prompt": outcome.prompt.text,
                "prompt_language": str(outcome.prompt.language),
                "target": str(outcome.prompt.target),
                "reply": outcome.reply,
                "reply_language": None if outcome.language is None else str(outcome.language),
                "is_right": outcome.is_right,
            },
            ensure_ascii=False,
        )
        for name, result in results.items()
        for outcome in result.outcomes
    ]
    write_text(path, "\n".join(lines) + "\n")
