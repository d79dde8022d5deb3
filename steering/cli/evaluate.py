"""`evaluate forcing` and `evaluate perplexity`: measurements as a table and as JSON."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.conversation import context_tokens
from steering.corpus import iter_text, open_corpus
from steering.errors import CorpusError, SettingsError
from steering.evaluation.forcing import Condition, ForcingPrompt, run_forcing, to_markdown
from steering.evaluation.perplexity import pack_rows, perplexity_change
from steering.languages import LANGUAGES, parse_language
from steering.loading import BUNDLED_MODEL
from steering.neuron_plans import DEFAULT_METHOD, METHODS, SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.steerer import check_set_fits_model
from steering.steering_plan import NO_STEERING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_DEFAULT_CONDITIONS = "none,instruction,lape-paper,lape-own,lape"


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the two commands and their arguments."""
    group = commands.add_parser("evaluate", help="measure whether steering works").add_subparsers(
        metavar="WHAT", required=True
    )
    forcing = group.add_parser("forcing", help="how often the answer comes in the language")
    add_model_arguments(forcing)
    forcing.add_argument("--neuron-set", type=Path, default=BUNDLED_NEURON_SET)
    forcing.add_argument(
        "--paper-set", type=Path, help="set found on text, for lape-paper (default: --neuron-set)"
    )
    forcing.add_argument(
        "--prompts",
        type=Path,
        help="JSONL with `prompt`, `language`, `target` and `instructed` "
        "(default: the bundled grammar's held-out prompts)",
    )
    forcing.add_argument("--count", type=int, default=200, help="of the grammar's prompts")
    forcing.add_argument("--seed", type=int, default=0, help="of the grammar's prompts")
    forcing.add_argument(
        "--conditions",
        default=_DEFAULT_CONDITIONS,
        help="none, instruction, or METHOD or METHOD@STRENGTH, with commas",
    )
    forcing.add_argument("--json", type=Path, help="file to write the numbers to")
    forcing.set_defaults(run=run_forcing_command)
    perplexity = group.add_parser("perplexity", help="what switching neurons off costs")
    add_model_arguments(perplexity)
    perplexity.add_argument("--neuron-set", type=Path, default=BUNDLED_PAPER_SET)
    perplexity.add_argument("--text", type=Path, required=True, help="folder of held-out text")
    perplexity.add_argument("--rows", type=int, default=40, help="rows of text per language")
    perplexity.add_argument("--row-tokens", type=int, default=192)
    perplexity.add_argument("--json", type=Path, help="file to write the numbers to")
    perplexity.set_defaults(run=run_perplexity_command)


def run_forcing_command(options: argparse.Namespace) -> int:
    """Measure language forcing under every condition."""
    _check_at_least(1, count=options.count)
    if options.json:
        check_writable(options.json)
    neurons = load_neuron_set(options.neuron_set)
    paper_path = options.paper_set
    if paper_path is None and options.model == BUNDLED_MODEL:
        paper_path = BUNDLED_PAPER_SET
    paper = load_neuron_set(paper_path) if paper_path else neurons
    conditions = [_condition(text, neurons, paper) for text in options.conditions.split(",")]
    prompts = _read_prompts(options)
    model = load_chosen_model(options)
    for neuron_set in (neurons, paper):
        check_set_fits_model(neuron_set, model)
    results = {}
    with tqdm(total=len(prompts) * len(conditions), unit="prompts", dynamic_ncols=True) as bar:
        for condition in conditions:
            bar.set_description(condition.name)
            results[condition.name] = run_forcing(
                model,
                prompts,
                condition,
                languages=neurons.languages,
                progress=lambda done: _advance(bar, done),
            )
    print(to_markdown(results))
    if options.json:
        write_json(
            options.json,
            {
                "model": options.model,
                "prompts": len(prompts),
                "methods": {name: result.to_json() for name, result in results.items()},
            },
        )
    return 0


def run_perplexity_command(options: argparse.Namespace) -> int:
    """Measure the perplexity change of every language's neurons."""
    _check_at_least(1, rows=options.rows)
    _check_at_least(2, row_tokens=options.row_tokens)
    if options.json:
        check_writable(options.json)
    neurons = load_neuron_set(options.neuron_set)
    corpus = open_corpus(options.text, list(neurons.languages), suffix=".txt")
    model = load_chosen_model(options)
    check_set_fits_model(neurons, model)
    row_tokens = min(options.row_tokens, context_tokens(model))
    rows = {
        language: pack_rows(
            model, list(iter_text(corpus, language)), row_tokens=row_tokens, rows=options.rows
        )
        for language in neurons.languages
    }
    with tqdm(total=2 * len(neurons.languages) + 1, unit="plans", dynamic_ncols=True) as bar:
        change = perplexity_change(model, neurons, rows, progress=lambda: _advance(bar, 1))
    print(change.to_markdown())
    if options.json:
        write_json(options.json, {"model": options.model, **change.to_json()})
    return 0


def _advance(bar: "tqdm[NoReturn]", done: int) -> None:
    bar.update(done)


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(f"`{flag}` is '{value}'. Expected at least {least}; correct it.")


def _condition(text: str, neurons: NeuronSet, paper: NeuronSet) -> Condition:
    """Read `none`, `instruction`, `METHOD` or `METHOD@STRENGTH`."""
    name, _, number = text.strip().partition("@")
    if name in ("none", "instruction"):
        return Condition(name, lambda _: NO_STEERING, is_instructed=name == "instruction")
    if name not in METHODS:
        known = ", ".join(["none", "instruction", *METHODS])
        raise SettingsError(f"Unknown condition '{text}'. Expected one of: {known}; see `--help`.")
    chosen = paper if name == "lape-paper" else neurons
    try:
        strength = float(number) if number else _default_strength(name, chosen)
    except ValueError:
        raise SettingsError(
            f"Condition '{text}' has strength '{number}'. Expected a number, such as {name}@2."
        ) from None
    return Condition(
        text.strip(),
        lambda prompt: make_plan(chosen, SteeringRequest(prompt.target, name, strength)),
    )


def _default_strength(name: str, neurons: NeuronSet) -> float:
    """Return 1 as published, the set's normal strength for its own method, else 8 (measured)."""
    if name == "lape-paper":
        return 1.0
    if name == (neurons.metadata.steering_method or DEFAULT_METHOD):
        return neurons.metadata.strengths.get("normal", 4.0)
    return 8.0


def _read_prompts(options: argparse.Namespace) -> Sequence[ForcingPrompt]:
    if options.prompts is not None:
        return [_file_prompt(line, options.prompts) for line in _lines(options.prompts)]
    if options.model != BUNDLED_MODEL:
        raise SettingsError(
            f"Model '{options.model}' has no prompts of its own. Expected `--prompts FILE.jsonl`."
        )
    from demo_model.forcing_prompts import make_forcing_prompts  # the grammar belongs to the demo

    return [
        ForcingPrompt(
            text=made.prompt.text,
            instructed_text=made.instructed_text,
            language=LANGUAGES[made.prompt.language],
            target=LANGUAGES[made.prompt.target],
            is_right=made.is_right,
        )
        for made in make_forcing_prompts(options.count, seed=options.seed)
    ]


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise CorpusError(f"Cannot read '{path}': {err}. Expected a UTF-8 JSONL file.") from err


def _file_prompt(line: str, path: Path) -> ForcingPrompt:
    try:
        row = json.loads(line)
        target = parse_language(row["target"])
        default = f"{row['prompt']} Answer in {target.english_name}."
        return ForcingPrompt(
            text=row["prompt"],
            instructed_text=row.get("instructed", default),
            language=parse_language(row["language"]),
            target=target,
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as err:
        raise CorpusError(
            f"'{path}' has the line '{line[:60]}', which is not a prompt ({err!r}). Expected a "
            "JSON object with `prompt`, `language` and `target`; repair or remove it."
        ) from err
