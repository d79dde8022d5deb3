"""`build-set`: the one-time detection script, from text and dialogues to a neuron-set file."""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.activation_stats import StatsPhase
from steering.building import (
    SetOrigin,
    build_neuron_set,
    check_can_complete,
    choose_languages,
    complete_neuron_set,
)
from steering.chunks import ChunkOptions
from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_writable,
    load_chosen_model,
    parse_languages,
    parse_tokens,
)
from steering.corpus import Corpus, iter_dialogues, iter_text, open_corpus
from steering.errors import SettingsError
from steering.languages import Language
from steering.lape import LapeParameters
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.partial_results import PartialResults
from steering.processes import Processes, join_processes
from steering.recording import Recording, RecordingOptions, record

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from steering.loading import LoadedModel

_SAMPLE_ROWS = 200  # for estimating how many tokens a file holds


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("build-set", help="find a model's language-specific neurons")
    add_model_arguments(parser)
    parser.add_argument(
        "--text", help="folder with a <code>.txt, .jsonl or .parquet per language, or a hub dataset"
    )
    parser.add_argument(
        "--text-config",
        default="",
        help="configuration of a hub dataset, such as 20231101.{code} of wikimedia/wikipedia",
    )
    parser.add_argument("--text-column", default="text", help="of a record that holds its text")
    parser.add_argument(
        "--chat-template",
        action="store_true",
        help="the rows of --text are question-answer pairs: the same as giving it as --dialogues",
    )
    parser.add_argument(
        "--dialogues",
        help="folder with a <code>.jsonl or .parquet per answer language: prompt (or question), "
        "answer; put into the model's chat template, of which nothing is counted",
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
    parser.add_argument(
        "--tokens", type=parse_tokens, help="most tokens per language, as 100M (default: all)"
    )
    parser.add_argument(
        "--checkpoint-minutes", type=float, default=10.0, help="between two savings on the way"
    )
    parser.add_argument(
        "--checkpoint-tokens", type=parse_tokens, help="also save whenever so many were counted"
    )
    parser.add_argument("--evaluation", default="", help="one sentence for the metadata")
    parser.add_argument("--licence", default="", help="licence note for the metadata")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build the set and write it; with several processes the first one does."""
    phase = _check_options(options)
    imported = _load_imported(options)
    languages = list(imported.languages) if imported else parse_languages(options.languages)
    parameters = LapeParameters(
        options.prob_quantile, options.select_fraction, options.membership_quantile
    )
    corpora = _open_corpora(options, languages)
    check_writable(options.out)
    processes = join_processes()
    model = load_chosen_model(options, device=processes.device)
    partial = PartialResults(options.out.with_name(f"{options.out.name}.partial"))
    if imported:
        check_can_complete(imported, model.identity)
    recording = _record_with_bar(model, languages, corpora, options, partial, processes)
    if processes.is_first:
        origin = _origin(corpora, recording, options)
        if imported:
            neurons = complete_neuron_set(
                imported, model.identity, recording.stats, phase=phase, origin=origin
            )
        else:
            neurons = build_neuron_set(
                model.identity, recording.stats, phase=phase, parameters=parameters, origin=origin
            )
        save_neuron_set(neurons, options.out)
        _print_summary(neurons, options.out, "imported" if imported else f"selected on {phase}")
    processes.wait()
    if processes.is_first:
        partial.remove()
    return 0


def _print_summary(neurons: NeuronSet, out: Path, how: str) -> None:
    counts = ", ".join(f"{lang} {len(neurons.neurons_of(lang))}" for lang in neurons.languages)
    print(f"Wrote '{out}': {len(neurons.layer)} neurons {how} ({counts}).")


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
    if options.chat_template:
        if options.text is None or options.dialogues is not None:
            raise SettingsError(
                "`--chat-template` says that `--text` holds question-answer pairs. Expected "
                "`--text` and no `--dialogues` beside it; give plain text and dialogues without it."
            )
        options.dialogues, options.text = options.text, None
    if options.text is None and options.dialogues is None:
        raise SettingsError(
            "No corpus was given. Expected `--text DIR`, `--dialogues DIR` or both."
        )
    check_at_least(1, batch_size=options.batch_size)
    if not options.checkpoint_minutes > 0:
        raise SettingsError(
            f"`--checkpoint-minutes` is '{options.checkpoint_minutes}'. Expected more than 0."
        )
    phase: StatsPhase = options.select_on or ("text" if options.text else "onset")
    if (options.text if phase == "text" else options.dialogues) is None:
        raise SettingsError(
            f"`--select-on` is '{phase}', but its corpus is missing. Expected `--text DIR` for "
            "text, `--dialogues DIR` for onset and body; give it, or select on another phase."
        )
    return phase


def _open_corpora(options: argparse.Namespace, languages: Sequence[Language]) -> list[Corpus]:
    corpora = []
    if options.text is not None:
        corpora.append(
            open_corpus(
                options.text,
                languages,
                kind="text",
                configuration=options.text_config,
                column=options.text_column,
            )
        )
    if options.dialogues is not None:
        configuration = options.text_config if options.chat_template else ""
        corpora.append(
            open_corpus(options.dialogues, languages, kind="dialogues", configuration=configuration)
        )
    return corpora


def _identity(model: "LoadedModel", options: argparse.Namespace) -> str:
    """Return everything about the model that the sums on the way depend on."""
    return f"{model.identity} {model.model.dtype} {options.quantize}"


def _origin(
    corpora: Sequence[Corpus], recording: Recording, options: argparse.Namespace
) -> SetOrigin:
    """Return where the set comes from: names, and one hash over what was read of every language."""
    read = [
        [corpus.kind, str(language), digest]
        for corpus, digests in zip(corpora, recording.digests, strict=True)
        for language, digest in digests.items()
    ]
    return SetOrigin(
        corpus_name=" + ".join(corpus.name for corpus in corpora),
        corpus_sha256=hashlib.sha256(json.dumps(read).encode()).hexdigest(),
        evaluation=options.evaluation,
        licence=options.licence,
    )


def _record_with_bar(
    model: "LoadedModel",
    languages: Sequence[Language],
    corpora: Sequence[Corpus],
    options: argparse.Namespace,
    partial: PartialResults,
    processes: Processes,
) -> Recording:
    total = _estimate_tokens(model, corpora, options.tokens)
    with tqdm(
        total=total and total // processes.count,
        unit="tokens",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not processes.is_first,
    ) as bar:

        def show(language: Language, phase: StatsPhase, tokens: int) -> None:
            bar.set_description(f"{language} {phase}", refresh=False)
            bar.update(tokens)

        def warn(message: str) -> None:
            if processes.is_first:
                bar.write(f"warning: {message}", file=sys.stderr)

        return record(
            model,
            languages,
            corpora,
            options=RecordingOptions(
                ChunkOptions(options.batch_size, options.tokens),
                partial,
                _identity(model, options),
                save_every_s=60 * options.checkpoint_minutes,
                save_every_tokens=options.checkpoint_tokens,
                processes=processes,
            ),
            progress=show,
            warn=warn,
        )


def _estimate_tokens(
    model: "LoadedModel", corpora: Sequence[Corpus], limit: int | None
) -> int | None:
    """Estimate how many positions will be counted, from the beginning of every local file."""
    total = 0.0
    for corpus in corpora:
        for language, source in corpus.sources.items():
            if not source.bytes:
                if limit is None:
                    return None
                total += limit
                continue
            texts = list(islice(_answers_or_text(corpus, language), _SAMPLE_ROWS))
            if not texts:
                continue
            encoded = model.tokenizer(texts, add_special_tokens=False, verbose=False)
            tokens = sum(map(len, encoded["input_ids"]))
            sample_bytes = max(1, sum(len(text.encode()) for text in texts))
            share = 1.0 if corpus.kind == "text" else 0.5  # dialogue files hold prompts as well
            estimate = tokens / sample_bytes * source.bytes * share
            total += min(estimate, limit or math.inf)
    return int(total)


def _answers_or_text(corpus: Corpus, language: Language) -> Iterator[str]:
    if corpus.kind == "text":
        return iter_text(corpus, language)
    return (dialogue.answer for dialogue in iter_dialogues(corpus, language))
