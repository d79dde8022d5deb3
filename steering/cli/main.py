"""The command line's parser and its error handling: `python -m steering COMMAND`.

A SteeringError becomes one line on stderr and exit code 1; wrong usage exits with 2. `check`
follows grep instead: 0 on target, 1 not on target, 2 trouble. What commands do is in their modules.
"""

import argparse
import sys
from collections.abc import Sequence

from steering.cli import (
    build_set,
    calibrate,
    chat,
    check,
    compare_sets,
    evaluate,
    figures,
    import_set,
    inspect_set,
    make_dialogues,
    report,
    report_forcing,
    sharing,
    update_set,
)
from steering.errors import SteeringError, StoppedError

_COMMANDS = (
    make_dialogues,
    build_set,
    import_set,
    calibrate,
    inspect_set,
    update_set,
    compare_sets,
    check,
    evaluate,
    sharing,
    figures,
    report,
    report_forcing,
    chat,
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    parser = argparse.ArgumentParser(
        prog="python -m steering",
        description="Force the language of a model's answers, and measure whether it works.",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    options = make_parser().parse_args(_join_negatives(typed))
    options.arguments = typed
    try:
        return int(options.run(options))
    except StoppedError as err:
        print(err, file=sys.stderr)
        return 130
    except SteeringError as err:
        if options.debug:
            raise
        print(f"error: {err}", file=sys.stderr)
        return int(getattr(options, "error_code", 1))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1


def _join_negatives(arguments: Sequence[str]) -> list[str]:
    """Write `--threshold -1e9` as `--threshold=-1e9`: argparse takes only -1 or -0.5 as numbers."""
    joined: list[str] = []
    for argument in arguments:
        is_after_flag = bool(joined) and joined[-1].startswith("--") and "=" not in joined[-1]
        if is_after_flag and _is_negative_number(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _is_negative_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.startswith("-")
