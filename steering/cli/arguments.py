"""Arguments that several commands share, and how their texts are read."""

import argparse
import contextlib
import json
import os
from pathlib import Path

from steering.errors import SettingsError
from steering.languages import Language, parse_language
from steering.loading import BUNDLED_MODEL, LoadedModel, load_model


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--quantize`."""
    parser.add_argument(
        "--model", default=BUNDLED_MODEL, help="hub id, folder, or `bundled` (default)"
    )
    parser.add_argument(
        "--quantize",
        choices=["nf4", "int8", "none"],
        help="bits of the weights (default: nf4; none for the bundled model)",
    )


def load_chosen_model(options: argparse.Namespace) -> LoadedModel:
    """Load the model that the arguments name."""
    return load_model(options.model, quantize=options.quantize)


def parse_languages(text: str) -> list[Language]:
    """Read a list such as `en,fr,ja`."""
    return [parse_language(code) for code in text.split(",") if code.strip()]


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    except OSError as err:
        raise SettingsError(
            f"Cannot write '{path}': {err.strerror}. Expected a folder that exists and can be "
            "written to; choose another file."
        ) from err
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
