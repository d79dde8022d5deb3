"""`inspect`: shows the report card of a neuron-set file; refuses a damaged one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from steering.cli.arguments import check_writable, write_text
from steering.errors import SettingsError
from steering.neuron_set_file import load_neuron_set
from steering.report_card.card import make_report_card
from steering.report_card.page import to_html
from steering.report_card.text import to_text

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_PAGE_SUFFIXES = (".html", ".htm")


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("inspect", help="show what a neuron set holds")
    parser.add_argument("set", type=Path, help="a .safetensors file made by build-set")
    parser.add_argument("--html", type=Path, help="page to write the report card to, with plots")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report card, and write it as a page where asked to."""
    if options.html is not None:
        _check_page_path(options.html)
    card = make_report_card(load_neuron_set(options.set))
    print(to_text(card))
    if options.html is not None:
        write_text(options.html, to_html(card))
        print(f"\nWrote '{options.html}'.")
    return 0


def _check_page_path(path: Path) -> None:
    """Refuse a target that is no page; a set that was named twice by mistake would be lost."""
    if path.suffix.lower() not in _PAGE_SUFFIXES:
        raise SettingsError(
            f"`--html` is '{path}'. Expected a file name that ends in .html; choose another one."
        )
    check_writable(path)
