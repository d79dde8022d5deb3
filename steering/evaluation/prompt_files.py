"""Reads the prompts of an evaluation: our own JSONL and the files of two public benchmarks.

- `jsonl`: one object a line, with `prompt`, `language`, `target` and, if wanted, `instructed`.
- `clas-bench` (CLaS-Bench, arXiv 2601.08331): `<code>.txt`, one question a line, or the folder of
  them; the same questions in every language, to be answered in every target.
- `lcb` (Language Confusion Benchmark, arXiv 2406.20052): CSV with `prompt`, `source` and
  `language`, one file per source and language, or any folder above them. Cross-lingual files also
  have `location` and `phrasing`: an English prompt that asks for an answer in `language`.

Which it is shows in the content. Knows no models, and of an answer only its language.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steering.errors import CorpusError, UnknownLanguageError
from steering.evaluation.forcing import ForcingPrompt
from steering.languages import Language, parse_language

PromptFormat = Literal["jsonl", "clas-bench", "lcb"]

_CLAS_QUESTIONS = 70  # per language; its own code reads no more (utils/utils.py, `k`)
_LCB_COLUMNS = {"prompt", "source", "language"}
_ENCODING = "utf-8-sig"  # UTF-8; some editors put a byte order mark first, which is not text
_EXPECTED = (
    "Expected JSONL with `prompt`, `language` and `target`; `<code>.txt` with one question a line "
    "(CLaS-Bench) or a folder of them; or CSV with `prompt`, `source` and `language` (Language "
    "Confusion Benchmark) or a folder of them"
)


@dataclass(frozen=True, slots=True)
class PromptFile:
    """What a file or folder of prompts holds.

    Args:
        prompts: In the order of the file, those of one question in the order of the targets.
        notes: Sentences for a person: what was left out and how often, and what else to know.
        format: Which of the three it was.
    """

    prompts: tuple[ForcingPrompt, ...]
    notes: tuple[str, ...]
    format: PromptFormat


@dataclass(frozen=True, slots=True)
class _Row:
    """A prompt as a file holds it: languages are codes, perhaps unknown ones."""

    text: str
    language: str
    target: str | None  # None: every target
    instructed: str | None = None  # None: "Answer in X." behind the text
    left_out: str | None = None  # why it is not asked


def read_prompts(path: Path, *, targets: Sequence[Language]) -> PromptFile:
    """Read prompts from a file or folder of any of the three formats.

    Args:
        path: A file, or a folder for the benchmarks that have one file per language.
        targets: The languages that can be chosen. CLaS-Bench's questions are asked once for each,
            also for their own; prompts that want another language are left out.

    Returns:
        The prompts, and notes that count those left out as of unknown languages or other targets.

    Raises:
        CorpusError: If it is of no such format, a line is no prompt (named), or none is left.

    Differs from the benchmarks: space around a prompt is dropped; the instruction is "Answer in X."
    """
    form, files = _recognise(path)
    left_out: dict[str, Counter[str]] = {}
    prompts: list[ForcingPrompt] = []
    for row in (row for file in files for row in _READERS[form](file)):
        prompts += _prompts_of(row, list(dict.fromkeys(targets)), left_out)
    notes = [_left_out_note(why, counts) for why, counts in left_out.items()]
    if not prompts:
        chosen = ", ".join(str(target) for target in targets) or "none"
        raise CorpusError(
            f"'{path}' has no prompt that can be asked. {' '.join(notes)} Expected prompts in "
            f"known languages for the targets that can be chosen ({chosen}); add some."
        )
    if asking := sum(prompt.text == prompt.instructed_text for prompt in prompts):
        notes.append(
            f"Asking for the language themselves, without an instruction of ours: {asking}."
        )
    return PromptFile(tuple(prompts), tuple(notes), form)


def _recognise(path: Path) -> tuple[PromptFormat, list[Path]]:
    """Say which format it is, and in which files."""
    if path.is_dir():
        texts, tables = _visible(path.glob("*.txt")), _visible(path.rglob("*.csv"))
        if bool(texts) == bool(tables):
            raise CorpusError(
                f"'{path}' is no folder of prompts: it has {len(texts)} .txt and {len(tables)} "
                f".csv files. {_EXPECTED}; name another one."
            )
        return ("clas-bench", texts) if texts else ("lcb", tables)
    first = next((line for line in _read(path).splitlines() if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "jsonl", [path]
    if set(first.replace('"', "").split(",")) >= _LCB_COLUMNS:
        return "lcb", [path]
    if path.suffix == ".txt" and first and _language(path.stem):
        return "clas-bench", [path]
    shown = f"its first line is '{first[:60]}'"
    raise CorpusError(f"'{path}' is no file of prompts: {shown}. {_EXPECTED}; name another one.")


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if not path.name.startswith("."))


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(io.StringIO(_read(path), newline=None), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text, language, target = row["prompt"], row["language"], row["target"]
            instructed = row.get("instructed")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
            raise _not_a_prompt(path, number, repr(err)) from err
        fields = [text, language, target, *([] if instructed is None else [instructed])]
        if not all(map(_is_text, fields)):
            raise _not_a_prompt(path, number, "an empty or non-text field")
        yield _Row(text, language, target, instructed)


def _clas_rows(path: Path) -> Iterator[_Row]:
    lines = [line.strip() for line in io.StringIO(_read(path), newline=None) if line.strip()]
    for number, line in enumerate(lines):
        beyond = f"beyond the first {_CLAS_QUESTIONS} of a language"
        yield _Row(line, path.stem, None, left_out=beyond if number >= _CLAS_QUESTIONS else None)


def _lcb_rows(path: Path) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(_read(path), newline=""), strict=True)
    header, number = list[str](), 1
    try:
        for cells in reader:
            if not header and cells:
                header = _lcb_header(cells, path)
            elif cells:
                yield _lcb_row(header, cells, path, number)
            number = reader.line_num + 1
    except csv.Error as err:
        raise _not_a_prompt(path, number, str(err)) from err


def _lcb_header(cells: list[str], path: Path) -> list[str]:
    if missing := _LCB_COLUMNS - set(cells):
        named = ", ".join(f"`{name}`" for name in sorted(missing))
        raise CorpusError(f"'{path}' has no column {named}. {_EXPECTED}; remove or repair it.")
    return cells


def _lcb_row(header: list[str], cells: list[str], path: Path, number: int) -> _Row:
    if len(cells) != len(header):
        raise _not_a_prompt(path, number, f"{len(cells)} cells for {len(header)} columns")
    row = dict(zip(header, cells, strict=True))
    text, language = row["prompt"].strip(), row["language"].strip()
    if not (text and language):
        raise _not_a_prompt(path, number, "an empty `prompt` or `language`")
    if "phrasing" in header:  # cross-lingual
        return _Row(text, "en", language, instructed=text)
    return _Row(text, language, language)


_READERS: dict[PromptFormat, Callable[[Path], Iterator[_Row]]] = {
    "jsonl": _jsonl_rows,
    "clas-bench": _clas_rows,
    "lcb": _lcb_rows,
}


def _prompts_of(
    row: _Row, targets: Sequence[Language], left_out: dict[str, Counter[str]]
) -> list[ForcingPrompt]:
    """Make the prompts of a row, or count it in *left_out*: why -> code -> how many."""
    source = _language(row.language)
    target = _language(row.target or row.language)
    wanted = [chosen for chosen in targets if row.target is None or chosen == target]
    why, code = row.left_out, row.language
    if source is None:
        why = "in an unknown language"
    elif not wanted and row.target is not None:
        why = "for an unknown language" if target is None else "for one that cannot be chosen"
        code = row.target
    if why or source is None:
        left_out.setdefault(str(why), Counter())[code] += 1
        return []
    return [
        ForcingPrompt(
            text=row.text,
            instructed_text=row.instructed or f"{row.text} Answer in {chosen.english_name}.",
            language=source,
            target=chosen,
        )
        for chosen in wanted
    ]


def _left_out_note(why: str, counts: Counter[str]) -> str:
    shown = [f"'{code}' ({count})" for code, count in sorted(counts.items())]
    listed = ", ".join([*shown[:8], "..."] if len(shown) > 8 else shown)
    return f"Left out, {why}: {listed}; {sum(counts.values())} in all."


def _language(code: str) -> Language | None:
    try:
        return parse_language(code)
    except UnknownLanguageError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(_ENCODING)
    except UnicodeDecodeError as err:
        number = err.object[: err.start].count(b"\n") + 1
        raise CorpusError(
            f"'{path}:{number}' is not UTF-8 ({err.reason}). Expected a UTF-8 file of prompts; "
            "save it as UTF-8."
        ) from err
    except OSError as err:
        shown = f"Cannot read '{path}' ({err.strerror})"
        raise CorpusError(f"{shown}. {_EXPECTED}; check the path.") from err


def _is_text(value: object) -> bool:
    """Say whether a value is text that is not blank and that UTF-8 can hold."""
    is_filled = isinstance(value, str) and bool(value.strip())
    return is_filled and not any("\ud800" <= letter <= "\udfff" for letter in str(value))


def _not_a_prompt(path: Path, number: int, problem: str) -> CorpusError:
    return CorpusError(
        f"'{path}:{number}' is not a prompt ({problem}). {_EXPECTED}; repair or remove the line."
    )
