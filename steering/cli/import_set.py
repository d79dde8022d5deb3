"""`import-set`: makes a neuron set of a file of neurons that other people published."""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steering.cli.arguments import check_writable, parse_languages
from steering.errors import SettingsError
from steering.imports import KnownFile, find_known_file, find_peer_file, import_neuron_set
from steering.languages import Language
from steering.loading import read_identity
from steering.model_identity import ModelIdentity
from steering.neuron_set_file import save_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_SHAPE = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,7})")


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "import-set", help="make a neuron set of neurons that other people published"
    )
    parser.add_argument(
        "file",
        type=Path,
        help="a *.neuron.pth of LAPE's authors, a file of CLaS-Bench's activation_mask, or a "
        "folder with one of them",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", help="hub id or folder to check against; only its configuration is read"
    )
    which.add_argument("--shape", help="layers x neurons per layer instead, such as 32x11008")
    parser.add_argument("--model-id", help="name of the model in the set (default: --model)")
    parser.add_argument(
        "--languages", help="codes in the order of the file (default: known for published names)"
    )
    parser.add_argument("--licence", default="", help="licence note for the metadata")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Import the file and write the set."""
    path = find_peer_file(options.file)
    check_writable(options.out)
    languages, known = _choose_languages(path, options.languages)
    model = _choose_model(path, options, known)
    if known and options.languages and not known.fits(model):
        known = None  # another file of that name, as the person knows its languages
    neurons = import_neuron_set(
        path, model, languages=languages, known=known, licence=options.licence
    )
    save_neuron_set(neurons, options.out)
    counts = ", ".join(f"{one} {len(neurons.neurons_of(one))}" for one in languages)
    print(
        f"Wrote '{options.out}': {len(neurons.layer)} neurons of '{path.name}' for "
        f"'{model.model_id}' ({counts})."
    )
    licence = neurons.metadata.licence or "not known; name it with `--licence`."
    print(f"licence: {licence}")
    print(
        "note: there are no mean activations yet, so only `amplify` (the default) and `damp` can "
        f"steer. `python -m steering build-set --complete {options.out} --model {model.model_id}` "
        "with `--from-model`, `--dialogues` or `--text` records them."
    )
    return 0


def _choose_languages(path: Path, text: str | None) -> tuple[list[Language], KnownFile | None]:
    """Return the order of the file's lists; a file whose order is told otherwise is not known."""
    known = find_known_file(path)
    if text is None:
        if known is None:
            raise SettingsError(
                f"Nothing is known of a file named '{path.name}'. Expected `--languages` with the "
                "codes in the order of its lists; its publisher says which that is."
            )
        return list(known.languages), known
    languages = parse_languages(text)
    if twice := next((one for one in languages if languages.count(one) > 1), None):
        raise SettingsError(
            f"`--languages` names '{twice}' twice. Expected each once, in the order of the file."
        )
    if len(languages) < 2:
        raise SettingsError(f"`--languages` is '{text}'. Expected at least two codes.")
    return languages, known if known and languages == list(known.languages) else None


def _choose_model(
    path: Path, options: argparse.Namespace, known: KnownFile | None
) -> ModelIdentity:
    """Return the model that the set is for, as far as configuration or arguments tell."""
    if options.model is not None:
        identity = read_identity(options.model)
        if options.model_id in (None, options.model):
            return identity
        return replace(identity, model_id=options.model_id, revision="")
    shape = _read_shape(options.shape) if options.shape else (known.shape if known else None)
    model_id = options.model_id or (known.model_id if known else None)
    if shape is None or model_id is None:
        raise SettingsError(
            f"The model of '{path.name}' is not known. Expected `--model` with a hub id or folder, "
            "or `--shape` with `--model-id`."
        )
    return ModelIdentity(
        model_id=model_id,
        revision="",
        architecture=known.architecture if known else "",
        layers=shape[0],
        neurons_per_layer=shape[1],
        hidden_size=0,
        tokenizer_sha256="",
    )


def _read_shape(text: str) -> tuple[int, int]:
    match = _SHAPE.fullmatch(text.strip().lower())
    if match is None:
        raise SettingsError(
            f"`--shape` is '{text}'. Expected layers x neurons per layer, such as 32x11008."
        )
    return int(match[1]), int(match[2])
