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
    sharing,
)
from steering.errors import SteeringError, StoppedError

_COMMANDS = (
    make_dialogues,
    build_set,
    import_set,
    calibrate,
    inspect_set,
    compare_sets,
    check,
    evaluate,
    sharing,
    figures,
    report,
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
    options = make_parser().parse_args(arguments)
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
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
