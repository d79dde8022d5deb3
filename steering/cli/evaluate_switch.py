"""`evaluate switch`: whether the answer follows when the chosen language changes in a chat."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.cli.bundled_prompts import held_out_conversations
from steering.cli.conditions import (
    add_bias_argument,
    add_set_arguments,
    load_chosen_sets,
    read_conditions,
    with_token_bias,
)
from steering.errors import SettingsError
from steering.evaluation.everyday import everyday_conversations
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.switching import SwitchingResult, run_switching
from steering.generation import Sampling
from steering.languages import Language
from steering.loading import BUNDLED_MODEL
from steering.steerer import check_set_fits_model

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("switch", help="a change of language in the middle of a chat")
    add_model_arguments(parser)
    add_set_arguments(parser)
    add_bias_argument(parser)
    parser.add_argument("--turns", type=int, default=2, help="questions per conversation")
    parser.add_argument("--count", type=int, default=100, help="conversations")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of sampling")
    parser.add_argument("--conditions", default="none,default", help="as in `evaluate forcing`")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--max-new-tokens", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=16, help="conversations per batch")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure every condition."""
    check_at_least(1, count=options.count, batch_size=options.batch_size)
    check_at_least(2, turns=options.turns)
    if options.json:
        check_writable(options.json)
    sampling = Sampling(options.max_new_tokens, options.temperature, seed=options.seed)
    sets = load_chosen_sets(options)
    conditions = read_conditions(options.conditions, sets)
    conversations = _conversations(options, sets.neurons.languages)
    model = load_chosen_model(options)
    for neuron_set in sets.all():
        check_set_fits_model(neuron_set, model)
    conditions = with_token_bias(conditions, options.token_bias, model=model, neurons=sets.neurons)
    results = {}
    total = len(conversations) * options.turns * len(conditions)
    with tqdm(total=total, unit="answers", dynamic_ncols=True) as bar:
        for condition in conditions:
            results[condition.name] = run_switching(
                model,
                conversations,
                condition,
                languages=sets.neurons.languages,
                sampling=sampling,
                batch_rows=options.batch_size,
                progress=lambda done: _advance(bar, done),
            )
    print(_to_markdown(results))
    if options.json:
        numbers = {name: result.to_json() for name, result in results.items()}
        write_json(options.json, {"model": options.model, "methods": numbers})
    return 0


def _conversations(
    options: argparse.Namespace, languages: Sequence[Language]
) -> Sequence[Sequence[ForcingPrompt]]:
    if options.model != BUNDLED_MODEL:
        return everyday_conversations(languages, count=options.count, turns=options.turns)
    made = held_out_conversations(
        options.count, turns=options.turns, seed=options.seed, languages=languages
    )
    if not made:
        raise SettingsError(
            f"None of '{options.count}' conversations is about languages of this set. Expected "
            "some; raise `--count`, or use a set of more languages."
        )
    return made


def _to_markdown(results: dict[str, SwitchingResult]) -> str:
    turns = len(next(iter(results.values())).turns)
    heads = " | ".join(f"turn {turn + 1}" for turn in range(turns))
    lines = [
        f"| condition | n | {heads} | first after the switch | 95% interval |",
        "|---" * (turns + 4) + "|",
    ]
    for name, result in results.items():
        rates = " | ".join(f"{result.success(turn).rate:.1%}" for turn in range(turns))
        first = result.success(result.switch_turn)
        low, high = first.interval()
        lines.append(
            f"| {name} | {len(result.turns[0])} | {rates} | {first.rate:.1%} | "
            f"{low:.1%} to {high:.1%} |"
        )
    return "\n".join(lines)


def _advance(bar: "tqdm[NoReturn]", done: int) -> None:
    bar.update(done)
