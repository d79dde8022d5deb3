"""Writes docs/cli.md from the command line's own parser: `python scripts/write_cli_docs.py`.

A test fails when the page is stale. The text is made here, not by argparse, whose layout changes
with the version of Python.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"


def render(parser: argparse.ArgumentParser) -> str:
    """Return the page: one heading and one table of options per command."""
    lines = [
        "# Commands",
        "",
        "Made by `python scripts/write_cli_docs.py`; do not edit.",
        "",
        f"{parser.description}",
        "An error is one line on standard error and exit code 1; wrong usage exits with 2.",
        "`python -m steering --debug COMMAND` shows tracebacks.",
    ]
    for name, help_text, command in iter_commands(parser):
        lines += ["", f"## {name}", "", f"{help_text[0].upper()}{help_text[1:]}."]
        lines += [command.description] if command.description else []
        lines += ["", "| argument | what |", "|---|---|"]
        lines += [_row(action) for action in _arguments(command)]
    return "\n".join(lines) + "\n"


def iter_commands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield every command with its full name and help, `evaluate forcing` among them."""
    for group in _groups(parser):
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            full_name = f"{path} {name}".strip()
            if _groups(command):
                yield from iter_commands(command, full_name)
            else:
                yield full_name, helps[name], command


def _groups(
    parser: argparse.ArgumentParser,
) -> "list[argparse._SubParsersAction[argparse.ArgumentParser]]":
    return [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]


def _arguments(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [a for a in command._actions if not isinstance(a, argparse._HelpAction)]


def _row(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or action.dest
    values = "|".join(map(str, action.choices)) if action.choices else ""
    shown = f"`{name} {values}`" if values else f"`{name}`"
    text = action.help or ""
    default = action.default
    if isinstance(default, Path):
        default = default.relative_to(ROOT) if default.is_relative_to(ROOT) else default
    if default not in (None, "", False) and "default" not in text:
        text = f"{text} (default: {default})".strip()
    if action.required and action.option_strings:
        text = f"{text} (required)".strip()
    return f"| {shown.replace('|', chr(92) + '|')} | {text} |"


def main() -> None:
    """Write the page."""
    sys.path.insert(0, str(ROOT))
    from steering.cli.main import make_parser

    PAGE.write_text(render(make_parser()), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
