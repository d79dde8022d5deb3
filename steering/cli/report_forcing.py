"""`report-forcing`: one page of what `evaluate forcing --json` measured, without the model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from steering.cli.arguments import check_writable, write_text
from steering.errors import SettingsError
from steering.evaluation.forcing_page import ForcingNumbers, forcing_page
from steering.evaluation.measured_files import read_forcing_numbers

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_NAMES = {
    "multiq": "MultiQ",
    "lcb": "Language Confusion Benchmark",
    "xquad": "XQuAD",
    "mgsm": "MGSM",
    "clas-bench": "CLaS-Bench",
    "jsonl": "Prompts of a file",
    "csv": "Prompts of a file",
    None: "The project's own prompts",
}


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "report-forcing", help="write a page of what `evaluate forcing` measured"
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="JSON", help="that `evaluate forcing --json` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="markdown file to write")
    parser.add_argument("--title", help="of the page (default: the model's name)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read the files and write the page."""
    check_writable(options.out)
    files = [(path, read_forcing_numbers(path)) for path in options.files]
    first = files[0][1]
    for path, one in files:
        if (one.model, one.weights_sha256) != (first.model, first.weights_sha256):
            raise SettingsError(
                f"'{path}' was measured on '{one.model}', but '{options.files[0]}' on "
                f"'{first.model}'. Expected files of one model; write a page for each."
            )
    sections = {_heading(path, one): one for path, one in files}
    if len(sections) < len(files):
        raise SettingsError(
            "Two of the files have the same name and the same kind of prompts, so their sections "
            "would have one heading. Rename one of them."
        )
    title = options.title or Path(first.model).name
    write_text(options.out, forcing_page(sections, title=title))
    print(f"Wrote '{options.out}'.")
    return 0


def _heading(path: Path, numbers: ForcingNumbers) -> str:
    return f"{_NAMES.get(numbers.prompt_format, 'Prompts of a file')} ({path.stem})"
