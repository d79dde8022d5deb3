"""Arguments that several commands share, and how their texts are read."""

import argparse
import json
import os
import re
import sys
from pathlib import Path

from steering.bundled import BUNDLED_NEURON_SET
from steering.conversion_bar import conversion_bar
from steering.errors import SettingsError
from steering.languages import Language, parse_language
from steering.loading import (
    ANY_DEVICE,
    ANY_DTYPE,
    BUNDLED_MODEL,
    DTYPES,
    LoadedModel,
    load_model,
)
from steering.neuron_set import NeuronSet
from steering.settings import read_data_folder
from steering.shipped_sets import find_shipped_set
from steering.steerer import check_set_fits_model
from steering.whole_files import replacing

_MOST_SEED = 2**63 - 1  # torch takes some more, JSON readers with 64 bits do not


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and how it is loaded: `--quantize`, `--dtype`, `--device`."""
    parser.add_argument(
        "--model",
        default=BUNDLED_MODEL,
        help="hub id, folder, GGUF file (`org/repo:file.gguf` on the hub), or `bundled` (default)",
    )
    parser.add_argument(
        "--quantize",
        choices=["nf4", "int8", "none"],
        help="bits of the weights (default: nf4; none for the bundled model)",
    )
    parser.add_argument(
        "--dtype",
        choices=[ANY_DTYPE, *DTYPES],
        default=ANY_DTYPE,
        help="of activations and unquantised weights (default: auto, what the checkpoint has; with "
        "quantised weights bfloat16 or float16 on a GPU and float32 elsewhere)",
    )
    parser.add_argument(
        "--device",
        help=f"such as cpu or cuda:0; {ANY_DEVICE} spreads a model that is larger than one GPU "
        "over all GPUs and memory (default: the GPU if there is one)",
    )


def load_chosen_model(options: argparse.Namespace, *, device: str | None = None) -> LoadedModel:
    """Load the model that the arguments name; once, where `choose_neuron_set` has loaded it.

    Args:
        options: With what `add_model_arguments` added.
        device: This process's own among several; None alone.

    Raises:
        SettingsError: If there are several processes and `--device` says where one is to be.
    """
    loaded: LoadedModel | None = getattr(options, "loaded_model", None)
    if loaded is not None:
        return loaded
    if device is not None and options.device is not None:
        raise SettingsError(
            f"`--device` is '{options.device}', but several processes were started, each with a "
            "device of its own. Expected no `--device`; leave it out, or start one process."
        )
    with conversion_bar() as progress:
        return load_model(
            options.model,
            quantize=options.quantize,
            dtype=options.dtype,
            device=device or options.device,
            data=read_data_folder(),
            progress=progress,
        )


def add_set_argument(
    parser: argparse.ArgumentParser, *, bundled: Path = BUNDLED_NEURON_SET
) -> None:
    """Add `--neuron-set`, which `choose_neuron_set` fills in.

    Args:
        parser: The command's.
        bundled: The set of the bundled model.
    """
    parser.add_argument(
        "--neuron-set",
        type=Path,
        help="a .safetensors file (default: the one in neuron_sets/ that fits the model; of the "
        f"bundled model {bundled.name})",
    )


def choose_neuron_set(options: argparse.Namespace, *, bundled: Path = BUNDLED_NEURON_SET) -> Path:
    """Return the set that `--neuron-set` names, else the one that ships for the model.

    Only the weights say which model a folder or a file holds, so that it is loaded for that; it is
    kept in *options*, as is the set.

    Args:
        options: With what `add_model_arguments` and `add_set_argument` added.
        bundled: The set of the bundled model.

    Raises:
        SettingsError: If no set ships for the model.
    """
    if options.neuron_set is None and options.model == BUNDLED_MODEL:
        options.neuron_set = bundled
    if options.neuron_set is None:
        options.loaded_model = load_chosen_model(options)
        found = find_shipped_set(options.loaded_model.identity)
        if found is None:
            raise SettingsError(
                f"No neuron set ships for '{options.model}'. Expected `--neuron-set`; name a set, "
                f"or make one with `python -m steering build-set --model {options.model} "
                "--from-model --out FILE`."
            )
        print(f"note: using the neuron set '{found.path}'", file=sys.stderr)
        options.neuron_set = found.path
    chosen: Path = options.neuron_set
    return chosen


def check_set(neurons: NeuronSet, model: LoadedModel) -> None:
    """Refuse a set of another model, and say on stderr if it was made on other weights.

    Raises:
        NeuronSetMismatchError: Naming both models.
    """
    if (warning := check_set_fits_model(neurons, model)) is not None:
        print(f"note: {warning}", file=sys.stderr)


def parse_languages(text: str) -> list[Language]:
    """Read a list such as `en,fr,ja`."""
    return [parse_language(code) for code in text.split(",") if code.strip()]


_TOKEN_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_TOKENS = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([kmb]?)", re.IGNORECASE)


def parse_tokens(text: str) -> int:
    """Read a number of tokens such as `6000`, `60k`, `1.5M` or `2B`.

    Raises:
        argparse.ArgumentTypeError: If it is none, or not at least one token.
    """
    match = _TOKENS.fullmatch(text.strip())
    tokens = int(float(match[1]) * _TOKEN_UNITS[match[2].lower()]) if match else 0
    if tokens < 1:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no number of tokens. Expected one from 1 up, such as 6000, 60k or 100M."
        )
    return tokens


def check_writable(out: Path) -> None:
    """Refuse a target before hours of work, not after.

    Raises:
        SettingsError: If the folder is missing or cannot be written to.
    """
    folder = out.resolve().parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"Cannot write '{out}'. Expected a file name in a folder that exists and can be "
            "written to; choose another one."
        )


def check_at_least(least: int, **values: int) -> None:
    """Refuse numbers below the least that makes sense.

    Raises:
        SettingsError: Naming the flag.
    """
    for name, value in values.items():
        if value < least:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(f"`{flag}` is '{value}'. Expected at least {least}; correct it.")


def check_seed(**values: int) -> None:
    """Refuse seeds that a generator of random numbers does not take.

    Raises:
        SettingsError: Naming the flag.
    """
    check_at_least(0, **values)
    for name, value in values.items():
        if value > _MOST_SEED:
            flag = "--" + name.replace("_", "-")
            raise SettingsError(
                f"`{flag}` is '{value}'. Expected at most {_MOST_SEED}; choose a smaller one."
            )


def write_json(path: Path, content: object) -> None:
    """Write JSON to a temporary name, then rename it.

    Raises:
        SettingsError: If the file cannot be written.
    """
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a temporary name, then rename it.

    Raises:
        SettingsError: If the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")
    except OSError as err:
        raise SettingsError(
            f"Cannot write '{path}': {err.strerror}. Expected a folder that exists and can be "
            "written to; choose another file."
        ) from err
