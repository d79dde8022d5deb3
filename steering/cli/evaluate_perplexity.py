"""`evaluate perplexity`: what switching a language's neurons off costs every language."""

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor
from tqdm import tqdm

from steering.bundled import BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    add_set_argument,
    check_at_least,
    check_seed,
    check_set,
    check_writable,
    choose_neuron_set,
    load_chosen_model,
    write_json,
)
from steering.cli.held_out_text import (
    check_has_text,
    choose_text,
    describe_text,
    hash_rows,
    name_text,
    pack_all,
    uncounted_tokens,
)
from steering.cli.provenance import describe_run
from steering.errors import SettingsError
from steering.evaluation.figures import plot_perplexity
from steering.evaluation.kept_losses import KeptLosses
from steering.evaluation.perplexity import (
    PerplexityChange,
    perplexity_change,
)
from steering.evaluation.plots import check_plot_path
from steering.languages import Language
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("perplexity", help="what switching neurons off costs")
    add_model_arguments(parser)
    add_set_argument(parser, bundled=BUNDLED_PAPER_SET)
    parser.add_argument(
        "--text",
        type=Path,
        help="folder of held-out text, a file per language (default, of the bundled model alone: "
        "dialogues of its grammar that training never saw)",
    )
    parser.add_argument("--rows", type=int, default=40, help="rows of text per language")
    parser.add_argument("--row-tokens", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0, help="of random neurons and of the grammar")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw both matrices in")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where a killed run with the same `--json` was: it keeps finished plans in "
        "FILE.part.json; without this they are measured anew",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure the perplexity change of every language's neurons."""
    _check(options)
    neurons = load_neuron_set(choose_neuron_set(options, bundled=BUNDLED_PAPER_SET))
    packs = {"set": choose_text(options, neurons)}
    model = load_chosen_model(options)
    check_set(neurons, model)
    rows = pack_all(model, packs, {"set": neurons}, row_tokens=options.row_tokens)
    kept = _kept_losses(options, model, rows)
    change = _measure(options, neurons, model, rows, kept=kept)
    _report(options, change, rows, model=model, neurons=neurons)
    if kept is not None:
        kept.remove()
    return 0


def _check(options: argparse.Namespace) -> None:
    check_at_least(1, rows=options.rows)
    check_at_least(2, row_tokens=options.row_tokens)
    check_seed(seed=options.seed)
    if options.json:
        check_writable(options.json)
    if options.plot:
        check_plot_path(options.plot)
    if options.resume and not options.json:
        raise SettingsError(
            "`--resume` was given without `--json`. Expected the file that the killed run was to "
            "write, because what it finished is kept beside it; name it."
        )
    check_has_text(options, flag="--text")


def _kept_losses(
    options: argparse.Namespace,
    model: LoadedModel,
    rows: Mapping[Language, Tensor],
) -> KeptLosses | None:
    """Return where finished plans are kept, with those of a killed run where asked to."""
    if not options.json:
        return None
    identity = model.identity
    about = {
        "model": f"{identity.model_id} {identity.revision} {identity.tokenizer_sha256}",
        "neuron set": hashlib.sha256(options.neuron_set.read_bytes()).hexdigest(),
        "text": hash_rows(rows, uncounted_tokens(options, model)),
        "seed": str(options.seed),
        "`--quantize` or `--dtype`": f"{options.quantize} {options.dtype}",
    }
    kept = KeptLosses(
        options.json.with_name(f"{options.json.name}.part.json"), about, columns=len(rows)
    )
    if options.resume:
        kept.load()
    return kept


def _measure(
    options: argparse.Namespace,
    neurons: NeuronSet,
    model: LoadedModel,
    rows: Mapping[Language, Tensor],
    *,
    kept: KeptLosses | None,
) -> PerplexityChange:
    with tqdm(total=2 * len(neurons.languages) + 1, unit="plans", dynamic_ncols=True) as bar:
        return perplexity_change(
            model,
            neurons,
            rows,
            seed=options.seed,
            progress=lambda: _advance(bar),
            kept=kept,
            uncounted=uncounted_tokens(options, model),
        )


def _report(
    options: argparse.Namespace,
    change: PerplexityChange,
    rows: Mapping[Language, Tensor],
    *,
    model: LoadedModel,
    neurons: NeuronSet,
) -> None:
    """Print the matrix and what it says, and write what was asked for."""
    text = name_text(options)
    print(f"Nats per token and ratio of perplexities on {text}:\n\n{change.to_markdown()}\n")
    for sentence in change.verdict.by_language().values():
        print(f"- {sentence}")
    print(f"\n{change.verdict.overall()}")
    if options.json:
        numbers = {
            "model": options.model,
            **describe_run(options, neurons, model=model.identity),
            "neuron_set": options.neuron_set.name,
            **describe_text(options, rows, model),
            "seed": options.seed,
            **change.to_json(),
        }
        write_json(options.json, numbers)
    if options.plot:
        plot_perplexity(change, options.plot)


def _advance(bar: "tqdm[NoReturn]") -> None:
    bar.update(1)
