"""`compare-sets`: whether several neuron sets of a model agree, and which of them does more."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_seed,
    check_set,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.cli.conditions import plan_for_prompt, split_usable
from steering.cli.evaluate_forcing import choose_prompts
from steering.cli.held_out_text import (
    PackText,
    check_has_text,
    choose_text,
    describe_text,
    pack_all,
    uncounted_tokens,
)
from steering.cli.provenance import describe_run
from steering.evaluation.forcing import Condition, ForcingPrompt, ForcingResult, run_forcing
from steering.evaluation.perplexity import PerplexityChange, perplexity_change
from steering.evaluation.report import methods_markdown
from steering.evaluation.set_tables import (
    comparison_json,
    counts_markdown,
    layers_markdown,
    overlap_markdown,
    perplexity_markdown,
    ranks_markdown,
)
from steering.languages import Language
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set, load_neuron_set
from steering.set_comparison import Comparison, compare_sets
from steering.steering_plan import NO_STEERING, SteeringPlan

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_OWN_TEXT = ""  # of the model: `--perplexity` without a folder
_METHOD = "lape"  # moves all neurons of a set, so it shows which neurons those are


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "compare-sets", help="which neurons several sets of a model share, and what each does"
    )
    parser.add_argument("sets", type=Path, nargs="+", help="two or more .safetensors files")
    add_model_arguments(parser)
    parser.add_argument(
        "--perplexity",
        nargs="?",
        const=_OWN_TEXT,
        metavar="TEXT",
        help="also what switching each set's neurons off costs, on a folder of held-out text "
        "(without TEXT, of the bundled model alone: dialogues of its grammar that training never "
        "saw)",
    )
    parser.add_argument("--rows", type=int, default=40, help="rows of text per language")
    parser.add_argument("--row-tokens", type=int, default=192)
    parser.add_argument(
        "--forcing",
        type=int,
        metavar="N",
        help=f"also how often N prompts are answered in the language, by `{_METHOD}` with each set",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and random neurons")
    parser.add_argument("--batch-size", type=int, default=16, help="answers per batch")
    parser.add_argument(
        "--json",
        type=Path,
        help="file for all numbers, and the neurons that only one set finds; written after each "
        "measurement, `is_complete` at the end",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare the sets, measure what was asked for, and print the tables."""
    _check(options)
    sets = load_sets(options.sets)
    comparison = compare_sets(sets)
    _print_comparison(comparison)
    has_perplexity = options.perplexity is not None
    packs = {name: choose_text(options, one) for name, one in sets.items() if has_perplexity}
    content = {
        **describe_run(options),
        "neuron_sets_sha256": {name: hash_neuron_set(one) for name, one in sets.items()},
        "is_complete": False,
        **comparison_json(comparison),
    }
    if packs or options.forcing is not None:
        model = load_chosen_model(options)
        for neurons in sets.values():
            check_set(neurons, model)
        content |= {"model": options.model, **describe_run(options, model=model.identity)}
        content["seed"] = options.seed
        forcing = None if options.forcing is None else _forcing_task(options, sets, comparison)
        _keep(options, content)
        if packs:
            changes = _measure_perplexity(options, model, sets, packs=packs, content=content)
            print(f"\nNeurons of a language switched off:\n\n{perplexity_markdown(changes)}")
        if forcing:
            results = _measure_forcing(options, model, forcing, content=content)
            table = methods_markdown(results, languages=comparison.languages)
            print(f"\n`{_METHOD}` with each set:\n\n{table}")
    _keep(options, content | {"is_complete": True})
    return 0


def _check(options: argparse.Namespace) -> None:
    check_at_least(1, rows=options.rows, batch_size=options.batch_size)
    check_at_least(2, row_tokens=options.row_tokens)
    check_seed(seed=options.seed)
    if options.forcing is not None:
        check_at_least(1, forcing=options.forcing)
    if options.perplexity is not None:
        options.text = Path(options.perplexity) if options.perplexity != _OWN_TEXT else None
        check_has_text(options, flag="--perplexity TEXT")
    if options.json:
        check_writable(options.json)


def _keep(options: argparse.Namespace, content: Mapping[str, object]) -> None:
    """Write what is known so far, so that a matrix of an hour outlives what fails after it."""
    if options.json:
        write_json(options.json, content)


def load_sets(paths: list[Path]) -> dict[str, NeuronSet]:
    """Load every set under the shortest name that tells it from the others."""
    sets: dict[str, NeuronSet] = {}
    stems = [path.stem for path in paths]
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else str(path)
        times = sum(known.partition(" (")[0] == name for known in sets)
        sets[f"{name} ({times + 1})" if times else name] = load_neuron_set(path)
    return sets


def _print_comparison(comparison: Comparison) -> None:
    print(
        f"Neurons, and in brackets those that only the set finds:\n\n{counts_markdown(comparison)}"
    )
    print(f"\nJaccard index of a language's neurons:\n\n{overlap_markdown(comparison)}")
    if len(comparison.pairs) == 1:
        print(f"\nThe same by layer:\n\n{layers_markdown(comparison.pairs[0])}")
    print(
        "\nSpearman's rank correlation of scores, on the neurons that both sets hold:\n\n"
        f"{ranks_markdown(comparison)}"
    )


def _measure_perplexity(
    options: argparse.Namespace,
    model: LoadedModel,
    sets: Mapping[str, NeuronSet],
    *,
    packs: Mapping[str, PackText],
    content: dict[str, object],
) -> dict[str, PerplexityChange]:
    """Switch the neurons of each set off, on the same rows of text; *content* gets each matrix."""
    rows = pack_all(model, packs, sets, row_tokens=options.row_tokens)
    uncounted = uncounted_tokens(options, model)
    content |= describe_text(options, rows, model)
    changes: dict[str, PerplexityChange] = {}
    total = sum(2 * len(one.languages) + 1 for one in sets.values())
    with tqdm(total=total, unit="plans", dynamic_ncols=True) as bar:

        def advance() -> None:
            bar.update(1)

        for name, one in sets.items():
            changes[name] = perplexity_change(
                model, one, rows, seed=options.seed, progress=advance, uncounted=uncounted
            )
            content["perplexity"] = {known: done.to_json() for known, done in changes.items()}
            _keep(options, content)
    return changes


@dataclass(frozen=True, slots=True)
class _ForcingTask:
    """What language forcing is measured on, and which sets were left out."""

    prompts: Sequence[ForcingPrompt]
    conditions: Sequence[Condition]
    languages: Sequence[Language]
    notes: Sequence[str]


def _forcing_task(
    options: argparse.Namespace, sets: Mapping[str, NeuronSet], comparison: Comparison
) -> _ForcingTask:
    """Choose the prompts, and say which sets cannot steer, before anything slow happens."""
    asked = argparse.Namespace(
        prompts=None, model=options.model, count=options.forcing, seed=options.seed
    )
    prompts = choose_prompts(asked, comparison.languages)
    of_sets = [condition_of_set(name, neurons) for name, neurons in sets.items()]
    usable, notes = split_usable(of_sets, prompts)
    for note in notes:
        print(f"\nnote: {note}")
    conditions = [Condition("none", lambda _: NO_STEERING), *usable]
    return _ForcingTask(prompts, conditions, comparison.languages, notes)


def _measure_forcing(
    options: argparse.Namespace,
    model: LoadedModel,
    task: _ForcingTask,
    *,
    content: dict[str, object],
) -> dict[str, ForcingResult]:
    """Answer the same prompts without steering and with each set's neurons."""
    results: dict[str, ForcingResult] = {}
    total = len(task.prompts) * len(task.conditions)
    with tqdm(total=total, unit="prompts", dynamic_ncols=True) as bar:
        for condition in task.conditions:
            results[condition.name] = run_forcing(
                model,
                task.prompts,
                condition,
                languages=task.languages,
                batch_rows=options.batch_size,
                progress=bar.update,
            )
            content["forcing"] = {name: one.to_json() for name, one in results.items()}
            content["forcing_notes"] = list(task.notes)
            _keep(options, content)
    return results


def condition_of_set(name: str, neurons: NeuronSet) -> Condition:
    """Return the condition that steers with all neurons of a set and nothing else."""

    def make_plan(prompt: ForcingPrompt) -> SteeringPlan:
        return plan_for_prompt(neurons, prompt, _METHOD, 1.0)

    return Condition(name, make_plan)
