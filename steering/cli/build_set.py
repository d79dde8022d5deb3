"""`build-set`: the one-time detection script, from text and dialogues to a neuron-set file."""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.activation_stats import ActivationStats, StatsPhase
from steering.building import (
    SetOrigin,
    build_neuron_set,
    check_can_complete,
    choose_languages,
    complete_neuron_set,
)
from steering.cli.arguments import (
    add_model_arguments,
    check_writable,
    load_chosen_model,
    parse_languages,
)
from steering.corpus import Corpus, iter_dialogues, iter_text, open_corpus
from steering.errors import SettingsError
from steering.languages import Language
from steering.lape import LapeParameters
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.recording import RecordingOptions, record

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from steering.loading import LoadedModel

_SAMPLE_LINES = 200  # for estimating how many tokens a file holds


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("build-set", help="find a model's language-specific neurons")
    add_model_arguments(parser)
    parser.add_argument("--text", type=Path, help="folder with one UTF-8 <code>.txt per language")
    parser.add_argument(
        "--dialogues", type=Path, help="folder with one <code>.jsonl per answer language"
    )
    parser.add_argument(
        "--languages", help="codes, such as en,zh,fr; with --complete some of the set's"
    )
    parser.add_argument(
        "--complete", type=Path, metavar="SET", help="record all of a set that `import-set` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument(
        "--select-on",
        choices=["text", "onset", "body"],
        help="whose counts LAPE uses (default: text, or onset without --text)",
    )
    defaults = LapeParameters()
    for name, help_text in (
        ("select_fraction", "share of all neurons to select, lowest entropy first"),
        ("prob_quantile", "a neuron below this quantile of all probabilities everywhere is out"),
        ("membership_quantile", "above this quantile a neuron belongs to the language"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=float, default=getattr(defaults, name), help=help_text)
    parser.add_argument("--batch-size", type=int, default=8, help="rows per forward pass")
    parser.add_argument("--tokens", type=int, help="most text tokens per language (default: all)")
    parser.add_argument("--evaluation", default="", help="one sentence for the metadata")
    parser.add_argument("--licence", default="", help="licence note for the metadata")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build the set and write it."""
    phase = _check_options(options)
    imported = _load_imported(options)
    languages = list(imported.languages) if imported else parse_languages(options.languages)
    parameters = LapeParameters(
        options.prob_quantile, options.select_fraction, options.membership_quantile
    )
    text = options.text and open_corpus(options.text, languages, suffix=".txt")
    dialogues = options.dialogues and open_corpus(options.dialogues, languages, suffix=".jsonl")
    check_writable(options.out)
    origin = SetOrigin(
        corpus_name=" + ".join(corpus.name for corpus in (text, dialogues) if corpus),
        corpus_sha256=_joint_hash(text, dialogues),
        evaluation=options.evaluation,
        licence=options.licence,
    )
    model = load_chosen_model(options)
    if imported:
        check_can_complete(imported, model.identity)
    stats = _record_with_bar(model, languages, text, dialogues, options)
    if imported:
        neurons = complete_neuron_set(imported, model.identity, stats, phase=phase, origin=origin)
    else:
        neurons = build_neuron_set(
            model.identity, stats, phase=phase, parameters=parameters, origin=origin
        )
    save_neuron_set(neurons, options.out)
    counts = ", ".join(f"{lang} {len(neurons.neurons_of(lang))}" for lang in languages)
    how = "imported" if imported else f"selected on {phase}"
    print(f"Wrote '{options.out}': {len(neurons.layer)} neurons {how} ({counts}).")
    return 0


def _load_imported(options: argparse.Namespace) -> NeuronSet | None:
    """Return the set to complete, with the chosen languages; None when a set is to be built."""
    if options.complete is None:
        if not options.languages:
            raise SettingsError(
                "No languages were given. Expected `--languages` with codes such as en,zh,fr, or "
                "`--complete SET` with an imported set."
            )
        return None
    defaults = LapeParameters()
    for name in ("select_fraction", "prob_quantile", "membership_quantile"):
        if getattr(options, name) != getattr(defaults, name):
            raise SettingsError(
                f"`--{name.replace('_', '-')}` is '{getattr(options, name)}', but `--complete` "
                "selects nothing: the neurons of the set stay. Leave it out, or build a new set."
            )
    neurons = load_neuron_set(options.complete)
    return choose_languages(
        neurons, parse_languages(options.languages) if options.languages else neurons.languages
    )


def _check_options(options: argparse.Namespace) -> StatsPhase:
    """Refuse what cannot work before anything slow happens; return the phase to select on."""
    if options.text is None and options.dialogues is None:
        raise SettingsError(
            "No corpus was given. Expected `--text DIR`, `--dialogues DIR` or both."
        )
    if options.batch_size < 1 or (options.tokens is not None and options.tokens < 1):
        raise SettingsError(
            f"`--batch-size` is '{options.batch_size}' and `--tokens` is '{options.tokens}'. "
            "Expected whole numbers from 1 up."
        )
    phase: StatsPhase = options.select_on or ("text" if options.text else "onset")
    if (options.text if phase == "text" else options.dialogues) is None:
        raise SettingsError(
            f"`--select-on` is '{phase}', but its corpus is missing. Expected `--text DIR` for "
            "text, `--dialogues DIR` for onset and body; give it, or select on another phase."
        )
    return phase


def _record_with_bar(
    model: "LoadedModel",
    languages: Sequence[Language],
    text: Corpus | None,
    dialogues: Corpus | None,
    options: argparse.Namespace,
) -> ActivationStats:
    total = _estimate_tokens(model, text, dialogues, options.tokens)
    with tqdm(total=total, unit="tokens", unit_scale=True, dynamic_ncols=True) as bar:

        def show(language: Language, phase: StatsPhase, tokens: int) -> None:
            bar.set_description(f"{language} {phase}", refresh=False)
            bar.update(tokens)

        return record(
            model,
            languages,
            text=text,
            dialogues=dialogues,
            options=RecordingOptions(options.batch_size, options.tokens),
            progress=show,
        )


def _joint_hash(*corpora: Corpus | None) -> str:
    hashes = [corpus.sha256 for corpus in corpora if corpus]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _estimate_tokens(
    model: "LoadedModel", text: Corpus | None, dialogues: Corpus | None, limit: int | None
) -> int:
    """Estimate how many positions will be counted, from the beginning of every file."""
    total = 0.0
    for corpus, lines_of in ((text, iter_text), (dialogues, _answers)):
        if corpus is None:
            continue
        for language, path in corpus.files.items():
            lines = list(islice(lines_of(corpus, language), _SAMPLE_LINES))
            encoded = model.tokenizer(lines, add_special_tokens=False, verbose=False)
            tokens = sum(map(len, encoded["input_ids"]))
            sample_bytes = max(1, sum(len(line.encode()) for line in lines))
            share = 1.0 if corpus is text else 0.5  # a dialogue file holds the prompts as well
            estimate = tokens / sample_bytes * path.stat().st_size * share
            total += min(estimate, limit) if limit is not None and corpus is text else estimate
    return int(total)


def _answers(corpus: Corpus, language: Language) -> Iterator[str]:
    return (dialogue.answer for dialogue in iter_dialogues(corpus, language))
