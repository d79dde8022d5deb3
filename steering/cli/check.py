"""`check`: says of a text, line by line, whether it is in the expected language."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from steering.cli.arguments import parse_languages
from steering.detection import ReplyVerdict, detect
from steering.errors import CorpusError
from steering.languages import LANGUAGES, parse_language

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_SIGNS = {"on_target": "+", "off_target": "!", "too_short": "?", "no_language": " "}


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "check",
        help="say whether a text is in a language",
        description="Exit code: 0 on target, 1 not on target, 2 trouble.",
    )
    parser.add_argument("--expect", required=True, help="the expected language, such as fr")
    parser.add_argument("--languages", help="the languages to choose from (default: all known)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("file", type=Path, help="a UTF-8 text file, or - for standard input")
    parser.set_defaults(run=run, error_code=2)


def run(options: argparse.Namespace) -> int:
    """Print the verdicts and return whether the text is on target."""
    expected = parse_language(options.expect)
    chosen = parse_languages(options.languages) if options.languages else LANGUAGES.values()
    verdict = detect(_read(options.file), expected=expected, languages=list(chosen))
    print(_to_json(verdict) if options.json else describe(verdict))
    return 0 if verdict.verdict == "on_target" else 1


def describe(verdict: ReplyVerdict) -> str:
    """Return the verdicts of all lines and of the whole text, strays and intrusions between."""
    lines = {line.text.strip() for line in verdict.lines}
    rows = [
        f"{_SIGNS[line.verdict]} {line.verdict:<11} {line.language or '-'!s:<3} "
        f"{line.confidence:>4.0%}  {line.text}"
        for line in verdict.lines
    ]
    rows += [
        f"! within      {one.language or '-'!s:<3} {one.confidence:>4.0%}  {one.text}"
        for one in verdict.sentences
        if one.verdict == "off_target" and one.text not in lines
    ]
    rows += [
        f"{'!' if one.is_decisive else '·'} {one.script:<11} line {one.line + 1:<3} {one.text}"
        for one in verdict.intrusions
    ]
    whole = f"= {verdict.verdict:<11} {verdict.language or '-'!s:<3} {verdict.confidence:>4.0%}"
    return "\n".join([*rows, f"{whole}  (whole text)"])


def _to_json(verdict: ReplyVerdict) -> str:
    """Return verdict, lines, sentences and intrusions as JSON; languages by their codes."""
    return json.dumps(asdict(verdict, dict_factory=_by_code), ensure_ascii=False, indent=2)


def _by_code(fields: list[tuple[str, object]]) -> object:
    """Return a dataclass's fields as a dictionary, a language as its code."""
    named = dict(fields)
    return named["code"] if "native_name" in named else named


def _read(path: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise CorpusError(
            f"'{path}' is not UTF-8 ({err.reason} at byte {err.start}). Expected UTF-8 text; "
            "convert it first."
        ) from err
    except OSError as err:
        raise CorpusError(
            f"Cannot read '{path}': {err.strerror}. Expected a text file, or - for standard input."
        ) from err
