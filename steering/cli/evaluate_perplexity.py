"""`evaluate perplexity`: what switching a language's neurons off costs every language."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from steering.bundled import BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.conversation import context_tokens
from steering.corpus import iter_text, open_corpus
from steering.evaluation.perplexity import pack_rows, perplexity_change
from steering.neuron_set_file import load_neuron_set
from steering.steerer import check_set_fits_model

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("perplexity", help="what switching neurons off costs")
    add_model_arguments(parser)
    parser.add_argument("--neuron-set", type=Path, default=BUNDLED_PAPER_SET)
    parser.add_argument("--text", type=Path, required=True, help="folder of held-out text")
    parser.add_argument("--rows", type=int, default=40, help="rows of text per language")
    parser.add_argument("--row-tokens", type=int, default=192)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure the perplexity change of every language's neurons."""
    check_at_least(1, rows=options.rows)
    check_at_least(2, row_tokens=options.row_tokens)
    if options.json:
        check_writable(options.json)
    neurons = load_neuron_set(options.neuron_set)
    corpus = open_corpus(options.text, neurons.languages, kind="text")
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
        change = perplexity_change(model, neurons, rows, progress=lambda: _advance(bar))
    print(change.to_markdown())
    if options.json:
        write_json(options.json, {"model": options.model, **change.to_json()})
    return 0


def _advance(bar: "tqdm[NoReturn]") -> None:
    bar.update(1)
