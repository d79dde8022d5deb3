"""`evaluate forcing`, `evaluate switch` and `evaluate perplexity`: the arguments of all three."""

import argparse
from typing import TYPE_CHECKING

from steering.cli import evaluate_forcing, evaluate_perplexity, evaluate_switch

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_WHAT = (evaluate_forcing, evaluate_switch, evaluate_perplexity)


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the group and its commands."""
    group = commands.add_parser("evaluate", help="measure whether steering works").add_subparsers(
        metavar="WHAT", required=True
    )
    for what in _WHAT:
        what.add_parser(group)
