"""`evaluate perplexity`: what switching a language's neurons off costs every language."""

import argparse
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

from torch import Tensor
from tqdm import tqdm

from steering.bundled import BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_seed,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.cli.bundled_prompts import SHOWN_AFTER_S, held_out_dialogues
from steering.conversation import context_tokens
from steering.corpus import iter_text, open_corpus
from steering.errors import SettingsError
from steering.evaluation.figures import plot_perplexity
from steering.evaluation.kept_losses import KeptLosses
from steering.evaluation.perplexity import (
    PerplexityChange,
    pack_dialogues,
    pack_rows,
    perplexity_change,
    template_marks,
)
from steering.evaluation.plots import check_plot_path
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.steerer import check_set_fits_model

if TYPE_CHECKING:
    from argparse import _SubParsersAction

# A model, a language and the tokens of a row -> token ids `(rows, tokens)`.
PackText: TypeAlias = Callable[[LoadedModel, Language, int], Tensor]

_Item = TypeVar("_Item")

_TOKENS_PER_DIALOGUE = 16  # fewer than those of the grammar have on average in any language


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("perplexity", help="what switching neurons off costs")
    add_model_arguments(parser)
    parser.add_argument("--neuron-set", type=Path, default=BUNDLED_PAPER_SET)
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
    neurons = load_neuron_set(options.neuron_set)
    pack = choose_text(options, neurons)
    model = load_chosen_model(options)
    check_set_fits_model(neurons, model)
    row_tokens = min(options.row_tokens, context_tokens(model))
    rows = {language: pack(model, language, row_tokens) for language in neurons.languages}
    kept = _kept_losses(options, neurons, model, rows)
    change = _measure(options, neurons, model, rows, kept=kept)
    _report(options, change, rows)
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


def check_has_text(options: argparse.Namespace, *, flag: str) -> None:
    """Refuse to measure without text where the model has none of its own.

    Args:
        options: With `text`, `rows`, `row_tokens`, `seed` and `model`, as `choose_text` reads them.
        flag: What names the folder.

    Raises:
        SettingsError: Naming the flag.
    """
    if options.text is None and options.model != BUNDLED_MODEL:
        raise SettingsError(
            f"`{flag}` is missing, and the model is '{options.model}'. Expected a folder with "
            "held-out text, such as en.txt and fr.txt; only the bundled model has some of its own."
        )


def choose_text(options: argparse.Namespace, neurons: NeuronSet) -> PackText:
    """Find the text of a folder, or of the bundled model's grammar, before a model is loaded."""
    if options.text is not None:
        corpus = open_corpus(options.text, neurons.languages, kind="text")
        return lambda model, language, tokens: pack_rows(
            model,
            _with_bar(iter_text(corpus, language), f"lines of {language}"),
            row_tokens=tokens,
            rows=options.rows,
        )
    count = options.rows * options.row_tokens // _TOKENS_PER_DIALOGUE + 10
    held_out = held_out_dialogues(count, seed=options.seed, languages=neurons.languages)
    return lambda model, language, tokens: pack_dialogues(
        model,
        _with_bar(held_out[language], f"dialogues of {language}"),
        row_tokens=tokens,
        rows=options.rows,
    )


def pack_all(
    model: LoadedModel,
    packs: Mapping[str, PackText],
    sets: Mapping[str, NeuronSet],
    *,
    row_tokens: int,
) -> dict[Language, Tensor]:
    """Return rows of text in every language of some sets, each language once.

    Args:
        model: Whose tokens, and whose context rows are not longer than.
        packs: What `choose_text` returned, per name of a set.
        sets: Per name.
        row_tokens: Length of a row.
    """
    tokens = min(row_tokens, context_tokens(model))
    rows: dict[Language, Tensor] = {}
    for name, pack in packs.items():
        for language in sets[name].languages:
            if language not in rows:
                rows[language] = pack(model, language, tokens)
    return rows


def _with_bar(items: Iterable[_Item], what: str) -> Iterable[_Item]:
    """Go through items that are turned into tokens, with a bar when that takes long."""
    return tqdm(items, desc=what, delay=SHOWN_AFTER_S, leave=False, dynamic_ncols=True)


def _kept_losses(
    options: argparse.Namespace,
    neurons: NeuronSet,
    model: LoadedModel,
    rows: Mapping[Language, Tensor],
) -> KeptLosses | None:
    """Return where finished plans are kept, with those of a killed run where asked to."""
    if not options.json:
        return None
    identity = model.identity
    text = hashlib.sha256()
    for language in neurons.languages:
        text.update(f"{language} {tuple(rows[language].shape)}".encode())
        text.update(rows[language].numpy().tobytes())
    text.update(str(uncounted_tokens(options, model)).encode())
    about = {
        "model": f"{identity.model_id} {identity.revision} {identity.tokenizer_sha256}",
        "neuron set": hashlib.sha256(options.neuron_set.read_bytes()).hexdigest(),
        "text": text.hexdigest(),
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


def uncounted_tokens(options: argparse.Namespace, model: LoadedModel) -> list[int]:
    """Return the token ids that are not predicted: of chats the template's marks."""
    return template_marks(model) if options.text is None else []


def _report(
    options: argparse.Namespace, change: PerplexityChange, rows: Mapping[Language, Tensor]
) -> None:
    """Print the matrix and what it says, and write what was asked for."""
    text = "held-out dialogues of the grammar"
    text = text if options.text is None else options.text.resolve().name
    print(f"Nats per token and ratio of perplexities on {text}:\n\n{change.to_markdown()}\n")
    for sentence in change.verdict.by_language().values():
        print(f"- {sentence}")
    print(f"\n{change.verdict.overall()}")
    if options.json:
        numbers = {
            "model": options.model,
            "neuron_set": options.neuron_set.name,
            "text": text,
            "tokens": {str(language): held.numel() for language, held in rows.items()},
            "seed": options.seed,
            **change.to_json(),
        }
        write_json(options.json, numbers)
    if options.plot:
        plot_perplexity(change, options.plot)


def _advance(bar: "tqdm[NoReturn]") -> None:
    bar.update(1)
