"""`evaluate switch`: whether the answer follows when the chosen language changes in a chat."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import check_at_least, check_seed, check_writable, write_json
from steering.cli.bundled_prompts import held_out_conversations
from steering.cli.conditions import (
    add_measuring_arguments,
    load_chosen_sets,
    load_model_for,
    read_conditions,
)
from steering.cli.provenance import describe_run
from steering.errors import SettingsError
from steering.evaluation.everyday import everyday_conversations
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.switching import SwitchingResult, run_switching
from steering.languages import Language
from steering.loading import BUNDLED_MODEL
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("switch", help="a change of language in the middle of a chat")
    add_measuring_arguments(
        parser, conditions="none,default", count=100, of="the conversations", tokens=80
    )
    parser.add_argument("--turns", type=int, default=2, help="questions per conversation")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure every condition."""
    check_at_least(1, count=options.count, batch_size=options.batch_size)
    check_at_least(2, turns=options.turns)
    check_seed(seed=options.seed)
    if options.json:
        check_writable(options.json)
    sampling = Sampling(
        options.max_new_tokens,
        options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        repetition_penalty=options.repetition_penalty,
    )
    sets = load_chosen_sets(options)
    conditions = read_conditions(options.conditions, sets)
    conversations = _conversations(options, sets.neurons.languages)
    model = load_model_for(sets, options)
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
                progress=bar.update,
            )
    print(_to_markdown(results))
    if options.json:
        numbers = {name: result.to_json() for name, result in results.items()}
        about = {
            "model": options.model,
            **describe_run(options, sets.neurons, model=model.identity),
            "conversations": len(conversations),
            "temperature": options.temperature,
            "top_p": options.top_p,
            "repetition_penalty": options.repetition_penalty,
            "seed": options.seed,
        }
        write_json(options.json, {**about, "methods": numbers})
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
