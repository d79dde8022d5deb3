"""`build-set`: the one-time detection script, from text and dialogues to a neuron-set file."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steering.activation_stats import StatsPhase
from steering.building import (
    build_neuron_set,
    check_can_complete,
    choose_languages,
    complete_neuron_set,
)
from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_writable,
    load_chosen_model,
    parse_languages,
    parse_tokens,
)
from steering.cli.calibrate import calibrate_with_bar, describe_calibration, usual_prompts
from steering.cli.choosing import (
    add_choosing_arguments,
    check_tuned,
    choose_neurons,
    find_outs,
    read_ways,
    vary_parameters,
)
from steering.cli.outlook import Outlook
from steering.cli.recording import (
    ask_model,
    describe_origin,
    open_corpora,
    record_with_bar,
)
from steering.errors import SettingsError
from steering.evaluation.calibrating import (
    DEFAULT_METHODS,
    CalibrationSettings,
    with_calibration,
)
from steering.evaluation.calibration import expected_answers
from steering.everyday_prompts import everyday_languages
from steering.ffn_columns import with_column_norms
from steering.from_model import Questions
from steering.lape import LapeParameters
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.partial_results import PartialResults
from steering.processes import join_processes

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from steering.corpus import Corpus
    from steering.languages import Language
    from steering.loading import LoadedModel
    from steering.neuron_choice import ChoosingWay
    from steering.recording import Recording


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("build-set", help="find a model's language-specific neurons")
    add_model_arguments(parser)
    _add_corpus_arguments(parser)
    parser.add_argument(
        "--languages",
        help="codes, such as en,zh,fr; with --complete some of the set's, with --from-model all "
        "that there are prompts in unless given",
    )
    parser.add_argument(
        "--complete", type=Path, metavar="SET", help="record all of a set that `import-set` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    _add_selection_arguments(parser)
    add_choosing_arguments(parser)
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


def _add_corpus_arguments(parser: argparse.ArgumentParser) -> None:
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
        help="folder with a <code>.jsonl or .parquet per answer language: prompt (or question) "
        "and answer (or response), or messages (or conversations); put into the model's chat "
        "template, whose own tokens are not counted",
    )
    parser.add_argument(
        "--any-language",
        action="store_true",
        help="don't check that the files are in the languages that they are named after",
    )
    parser.add_argument(
        "--from-model",
        action="store_true",
        help="no data: the model answers shipped everyday prompts in every language, and answers "
        "in it are what is recorded on; a language it does not command is left out",
    )
    usual = Questions(everyday_languages())
    parser.add_argument(
        "--prompts",
        type=int,
        help=f"per language, of --from-model (default: {usual.per_language})",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        help=f"length of an answer, of --from-model (default: {usual.max_new_tokens})",
    )
    parser.add_argument(
        "--no-calibrate",
        action="store_true",
        help="of --from-model: skip the calibration at the end",
    )


def _add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--select-on",
        choices=["text", "onset", "body"],
        help="whose counts LAPE uses (default: text, or onset with --dialogues alone)",
    )
    defaults = LapeParameters()
    for name, help_text in (
        ("select_fraction", "share of all neurons to select, lowest entropy first"),
        ("prob_quantile", "a neuron below this quantile of all probabilities everywhere is out"),
        ("membership_quantile", "above this quantile a neuron belongs to the language"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=float, default=getattr(defaults, name), help=help_text)


def run(options: argparse.Namespace) -> int:
    """Build the set and write it; with several processes the first one does."""
    phase = _check_options(options)
    _lape_parameters(options)  # refuses what makes no sense before anything is recorded
    outs = find_outs(options.out, read_ways(options))
    imported = _load_imported(options)
    languages = _choose_languages(options, imported)
    check_tuned(options, languages)
    questions = _read_questions(options, languages)
    outlook = _plan(options, questions) if questions else None
    corpora = [] if questions else open_corpora(options, languages)
    for out in outs.values():
        check_writable(out)
    processes = join_processes()
    model = load_chosen_model(options, device=processes.device)
    variation = vary_parameters(options, model, languages) if processes.is_first else {}
    partial = PartialResults(options.out.with_name(f"{options.out.name}.partial"))
    if imported:
        check_can_complete(imported, model.identity)
    made = None
    if questions and outlook:
        made = ask_model(model, questions, partial.folder / "answers", processes, outlook)
        corpora, languages = list(made.corpora), list(made.languages)
        imported = imported and choose_languages(imported, languages)
    recording = record_with_bar(model, languages, corpora, options, partial, processes, outlook)
    if processes.is_first:
        for way, neurons, how in _make_sets(
            options, model, recording, corpora, phase=phase, variation=variation, imported=imported
        ):
            _save(neurons, outs[way], how)
        if made and outlook and not options.no_calibrate:
            _calibrate(options, model, outs, partial.folder / "calibration.json", outlook)
            print(made.left_out, end="\n" if made.left_out else "")
    processes.wait()
    if processes.is_first:
        partial.remove()
    return 0


def _make_sets(
    options: argparse.Namespace,
    model: "LoadedModel",
    recording: "Recording",
    corpora: "Sequence[Corpus]",
    *,
    phase: StatsPhase,
    variation: "Mapping[Language, Tensor]",
    imported: NeuronSet | None,
) -> "Iterator[tuple[ChoosingWay, NeuronSet, str]]":
    """Yield the sets of a recording, each with the way it was chosen in, and that in words."""
    origin = describe_origin(corpora, recording, options)
    parameters = _lape_parameters(options)
    if imported:
        (way,) = read_ways(options)
        neurons = complete_neuron_set(
            imported, model.identity, recording.stats, phase=phase, origin=origin
        )
        yield way, with_column_norms(neurons, model), "imported"
        return
    for way, choice in choose_neurons(
        options, model, recording.stats, corpora,
        phase=phase, parameters=parameters, variation=variation,
    ):  # fmt: skip
        neurons = build_neuron_set(
            model.identity, recording.stats, phase=phase, parameters=parameters,
            origin=origin, choice=choice,
        )  # fmt: skip
        how = f"selected on {phase}"
        neurons = with_column_norms(neurons, model)
        yield way, neurons, how if choice is None else f"{how} by {way}"


def _lape_parameters(options: argparse.Namespace) -> LapeParameters:
    return LapeParameters(
        options.prob_quantile, options.select_fraction, options.membership_quantile
    )


def _plan(options: argparse.Namespace, questions: Questions) -> Outlook:
    """Return the outlook on everything that a set of the model's own answers takes."""
    prompts = usual_prompts(options.model, questions.languages)
    answers = 0 if options.no_calibrate else expected_answers(len(DEFAULT_METHODS), len(prompts))
    return Outlook(questions, CalibrationSettings(), calibration_answers=answers)


def _calibrate(
    options: argparse.Namespace,
    model: "LoadedModel",
    outs: "Mapping[ChoosingWay, Path]",
    kept: Path,
    outlook: Outlook,
) -> None:
    """Calibrate LAPE's set, or the first, write it again and say what to expect of it."""
    main = outs.get("lape", next(iter(outs.values())))
    neurons, settings = load_neuron_set(main), CalibrationSettings()
    prompts = usual_prompts(options.model, neurons.languages)
    found = calibrate_with_bar(
        model, neurons, prompts, settings=settings, kept=kept, outlook=outlook
    )
    save_neuron_set(with_calibration(neurons, found), main)
    print(f"\n{describe_calibration(found, settings.goal.wanted_success)}\n")
    print(f"Wrote method '{found.method}' and its strengths into '{main}'.")
    if rest := [f"'{out}'" for out in outs.values() if out != main]:
        print(f"Not calibrated: {', '.join(rest)}; run `calibrate` on them.")


def _save(neurons: NeuronSet, out: Path, how: str) -> None:
    """Write a set and say what is in it."""
    save_neuron_set(neurons, out)
    counts = ", ".join(f"{lang} {len(neurons.neurons_of(lang))}" for lang in neurons.languages)
    print(f"Wrote '{out}': {len(neurons.layer)} neurons {how} ({counts}).")


def _load_imported(options: argparse.Namespace) -> NeuronSet | None:
    """Return the set to complete, with the chosen languages; None when a set is to be built."""
    if options.complete is None:
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


def _choose_languages(options: argparse.Namespace, imported: NeuronSet | None) -> list["Language"]:
    if imported:
        return list(imported.languages)
    if options.languages:
        return parse_languages(options.languages)
    if options.from_model:
        return list(everyday_languages())
    raise SettingsError(
        "No languages were given. Expected `--languages` with codes such as en,zh,fr, or "
        "`--complete SET` with an imported set."
    )


def _read_questions(options: argparse.Namespace, languages: list["Language"]) -> Questions | None:
    """Return what to ask the model; None where there is a corpus."""
    if not options.from_model:
        return None
    usual = Questions(tuple(languages))
    return replace(
        usual,
        per_language=options.prompts or usual.per_language,
        max_new_tokens=options.max_new_tokens or usual.max_new_tokens,
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
    _check_from_model(options)
    if options.text is None and options.dialogues is None and not options.from_model:
        raise SettingsError(
            "No corpus was given. Expected `--text DIR`, `--dialogues DIR` or both, or "
            "`--from-model` to let the model write one."
        )
    check_at_least(1, batch_size=options.batch_size)
    if not options.checkpoint_minutes > 0:
        raise SettingsError(
            f"`--checkpoint-minutes` is '{options.checkpoint_minutes}'. Expected more than 0."
        )
    has_text = options.text or options.from_model
    phase: StatsPhase = options.select_on or ("text" if has_text else "onset")
    if options.from_model:
        return phase
    if (options.text if phase == "text" else options.dialogues) is None:
        raise SettingsError(
            f"`--select-on` is '{phase}', but its corpus is missing. Expected `--text DIR` for "
            "text, `--dialogues DIR` for onset and body; give it, or select on another phase."
        )
    return phase


def _check_from_model(options: argparse.Namespace) -> None:
    """Refuse a corpus beside answers of the model, and numbers for answers that nobody asks for."""
    if options.from_model and (options.text or options.dialogues):
        raise SettingsError(
            "`--from-model` lets the model write the corpus, but `--text` or `--dialogues` names "
            "one. Expected either; leave one of them out."
        )
    if options.no_calibrate and not options.from_model:
        raise SettingsError(
            "`--no-calibrate` was given, but only sets of `--from-model` are calibrated. Leave it "
            "out; calibrate with `python -m steering calibrate`."
        )
    for name in ("prompts", "max_new_tokens"):
        if (value := getattr(options, name)) is None:
            continue
        if not options.from_model:
            raise SettingsError(
                f"`--{name.replace('_', '-')}` is '{value}', but it is for `--from-model` alone. "
                "Leave it out, or add `--from-model`."
            )
        check_at_least(1, **{name: value})
