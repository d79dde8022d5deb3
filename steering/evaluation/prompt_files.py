"""Reads the prompts of an evaluation: our own JSONL and CSV, and the files of five benchmarks.

- `jsonl`: one object a line, with `prompt`, `target` and, if wanted, `language`, `instructed`.
- `csv`: a table with the columns `text`, `target` and, if wanted, `language`; others are ignored.
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
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any, Literal

from steering.detection import identify_reply
from steering.errors import CorpusError, UnknownLanguageError
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.last_number import is_last_number
from steering.languages import LANGUAGES, Language, parse_language

PromptFormat = Literal["jsonl", "csv", "clas-bench", "lcb", "multiq", "xquad", "mgsm"]

_CLAS_QUESTIONS = 70  # per language; its own code reads no more (utils/utils.py, `k`)
_LCB_COLUMNS = {"prompt", "source", "language"}
_CSV_COLUMNS = {"text", "target"}
_MULTIQ_COLUMNS = {"id", "language", "prompt"}
_XQUAD_KEYS = ("context", "question", "answer")
_MGSM_STEM = "mgsm_"
_MGSM_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_DELIMITERS = ",;\t"  # of our CSV: programs write what the person's country has
_ENCODING = "utf-8-sig"  # UTF-8; some editors put a byte order mark first, which is not text
_EXPECTED = (
    "Expected JSONL with `prompt` and `target`; CSV with `text` and `target`; `<code>.txt` with "
    "one question a line (CLaS-Bench) or a folder of them; CSV with `prompt`, `source` and "
    "`language` (Language Confusion Benchmark) or a folder of them; CSV with `id`, `language` and "
    "`prompt` (MultiQ); JSONL with `context`, `question` and `answer` per language (XQuAD); or "
    "`mgsm_<code>.tsv` (MGSM) or a folder of them"
)


@dataclass(frozen=True, slots=True)
class PromptFile:
    """What a file or folder of prompts holds.

    Args:
        prompts: In the order of the file, those of one question in the order of the targets.
        notes: Sentences for a person: what was left out and how often, and what else to know.
        format: Which it was; None for prompts that are from no file.
    """

    prompts: tuple[ForcingPrompt, ...]
    notes: tuple[str, ...]
    format: PromptFormat | None


@dataclass(frozen=True, slots=True)
class _File:
    """A file that was read; *path* is what errors call it."""

    path: PurePath
    content: bytes

    @property
    def text(self) -> str:
        try:
            return self.content.decode(_ENCODING)
        except UnicodeDecodeError as err:
            number = err.object[: err.start].count(b"\n") + 1
            raise CorpusError(
                f"'{self.path}:{number}' is not UTF-8 ({err.reason}). Expected a UTF-8 file of "
                "prompts; save it as UTF-8."
            ) from err


@dataclass(frozen=True, slots=True)
class _Row:
    """A prompt as a file holds it: languages are codes, perhaps unknown ones."""

    text: str
    language: str | None  # None: the file does not say, so it is guessed
    target: str | None  # None: every target
    instructed: str | None = None  # None: "Answer in X." behind the text
    left_out: str | None = None  # why it is not asked
    source: str = ""
    is_asked_for_itself: bool = True  # where every target is asked for: its own language too
    gold: Mapping[str, str] = field(default_factory=dict)  # a code -> the right answer in it
    number: str = ""  # the right answer, where it is one


def read_prompts(path: Path, *, targets: Sequence[Language]) -> PromptFile:
    """Read prompts from a file or folder of any of the formats.

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
    if path.is_dir():
        form, paths = _recognise_folder(path)
        return _read_files(form, [_open(one) for one in paths], shown=path, targets=targets)
    file = _open(path)
    return _read_files(_recognise(file), [file], shown=path, targets=targets)


def parse_prompts(content: bytes, *, name: str, targets: Sequence[Language]) -> PromptFile:
    """Do as `read_prompts` with a file that is not on the disk; errors call it by its name."""
    file = _File(PurePath(name), content)
    return _read_files(_recognise(file), [file], shown=file.path, targets=targets)


def sample_evenly(
    prompts: Sequence[ForcingPrompt], count: int, *, seed: int
) -> list[ForcingPrompt]:
    """Draw prompts so that sources, prompt languages and targets are as even as can be.

    Every triple of them gives one prompt in turn, drawn at random, until there are enough.

    Args:
        prompts: To draw from; fewer than *count* are all taken.
        count: How many.
        seed: Of the draw.

    Returns:
        Those drawn, in the order that they were given in.
    """
    draws = random.Random(seed)
    groups: dict[tuple[str, Language, Language], list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault((prompt.source, prompt.language, prompt.target), []).append(place)
    shuffled = [draws.sample(group, len(group)) for group in groups.values()]
    chosen: list[int] = []
    while len(chosen) < count and (left := [group for group in shuffled if group]):
        draws.shuffle(left)
        chosen += [group.pop() for group in left[: count - len(chosen)]]
    return [prompts[place] for place in sorted(chosen)]


def _read_files(
    form: PromptFormat, files: Sequence[_File], *, shown: PurePath, targets: Sequence[Language]
) -> PromptFile:
    left_out: dict[str, Counter[str]] = {}
    prompts: list[ForcingPrompt] = []
    guessed = 0
    for row in (row for file in files for row in _READERS[form](file)):
        asked = _prompts_of(row, list(dict.fromkeys(targets)), left_out)
        guessed += len(asked) if row.language is None else 0
        prompts += asked
    notes = [_left_out_note(why, counts) for why, counts in left_out.items()]
    if not prompts:
        chosen = ", ".join(str(target) for target in targets) or "none"
        raise CorpusError(
            f"'{shown}' has no prompt that can be asked. {' '.join(notes)} Expected prompts in "
            f"known languages for the targets that can be chosen ({chosen}); add some."
        )
    if guessed:
        notes.append(f"In a language that was guessed, as the file does not name it: {guessed}.")
    if asking := sum(prompt.text == prompt.instructed_text for prompt in prompts):
        notes.append(
            f"Prompts that already ask for the language, with no instruction added: {asking}."
        )
    return PromptFile(tuple(prompts), tuple(notes), form)


def _recognise_folder(path: Path) -> tuple[PromptFormat, list[Path]]:
    """Say which format a folder is of, and in which files."""
    found: dict[PromptFormat, list[Path]] = {
        "clas-bench": _visible(path.glob("*.txt")),
        "lcb": _visible(path.rglob("*.csv")),
        "mgsm": _visible(path.glob(f"{_MGSM_STEM}*.tsv")),
    }
    kinds = [(form, paths) for form, paths in found.items() if paths]
    if len(kinds) != 1:
        raise CorpusError(
            f"'{path}' is no folder of prompts: it has {len(found['clas-bench'])} .txt, "
            f"{len(found['lcb'])} .csv and {len(found['mgsm'])} mgsm_*.tsv files. {_EXPECTED}; "
            "name another one."
        )
    return kinds[0]


def _recognise(file: _File) -> PromptFormat:
    """Say which format a file is of."""
    first = next((line for line in file.text.splitlines() if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "xquad" if _is_xquad(first) else "jsonl"
    if file.path.suffix == ".tsv" and file.path.stem.startswith(_MGSM_STEM):
        return "mgsm"
    columns = set(first.replace('"', "").split(","))
    if columns >= _LCB_COLUMNS:
        return "lcb"
    if columns >= _MULTIQ_COLUMNS:
        return "multiq"
    if _delimiter_of(first):
        return "csv"
    if file.path.suffix == ".txt" and first and _language(file.path.stem):
        return "clas-bench"
    shown = f"its first line is '{first[:60]}'" if first else "it is empty"
    raise CorpusError(
        f"'{file.path}' is no file of prompts: {shown}. {_EXPECTED}; name another one."
    )


def _is_xquad(first: str) -> bool:
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):  # the reader says where
        return False
    return isinstance(row, dict) and all(isinstance(row.get(key), dict) for key in _XQUAD_KEYS)


def _delimiter_of(first: str) -> str | None:
    """Return what stands between the columns of our CSV; None if its first line is not one's."""
    for delimiter in _DELIMITERS:
        if set(map(_column_name, first.split(delimiter))) >= _CSV_COLUMNS:
            return delimiter
    return None


def _column_name(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _visible(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if not path.name.startswith("."))


def _jsonl_rows(file: _File) -> Iterator[_Row]:
    for number, line in enumerate(io.StringIO(file.text, newline=None), start=1):
        if not line.strip():
            continue
        row = _json_object(line, file, number)
        if missing := [name for name in ("prompt", "target") if name not in row]:
            raise _not_a_prompt(file, number, f"it has no '{missing[0]}'")
        text, target = row["prompt"], row["target"]
        rest = language, instructed = row.get("language"), row.get("instructed")
        if not all(map(_is_text, [text, target, *(one for one in rest if one is not None)])):
            raise _not_a_prompt(file, number, "an empty or non-text field")
        yield _Row(text, language, target, instructed)


def _json_object(line: str, file: _File, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as err:
        problem = f"it is no JSON from character {err.pos + 1} on"
        raise _not_a_prompt(file, number, problem) from err
    except (ValueError, RecursionError) as err:  # a number of thousands of digits, thousands of [
        raise _not_a_prompt(file, number, "it cannot be read as JSON") from err
    if not isinstance(row, dict):
        raise _not_a_prompt(file, number, "it is no object in '{...}'")
    return row


def _clas_rows(file: _File) -> Iterator[_Row]:
    lines = [line.strip() for line in io.StringIO(file.text, newline=None) if line.strip()]
    for number, line in enumerate(lines):
        beyond = f"beyond the first {_CLAS_QUESTIONS} of a language"
        left_out = beyond if number >= _CLAS_QUESTIONS else None
        yield _Row(line, file.path.stem, None, left_out=left_out)


def _table(file: _File, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV that are not blank, each with the line that it begins on."""
    reader = csv.reader(io.StringIO(file.text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as err:
        raise _not_a_prompt(file, number, str(err)) from err


def _csv_rows(file: _File) -> Iterator[_Row]:
    first = next((line for line in file.text.splitlines() if line.strip()), "")
    table = _table(file, _delimiter_of(first) or ",")
    header = [_column_name(cell) for cell in next(table, (1, list[str]()))[1]]
    if not set(header) >= _CSV_COLUMNS:  # a quotation mark that is not closed
        raise _not_a_prompt(file, 1, "the names of the columns go on in the next line")
    for number, cells in table:
        row = _named_cells(header, cells, file, number)
        if not (row["text"] and row["target"]):
            raise _not_a_prompt(file, number, "an empty `text` or `target`")
        yield _Row(row["text"], row.get("language") or None, row["target"])


def _lcb_rows(file: _File) -> Iterator[_Row]:
    table = _table(file, ",")
    header = _lcb_header(next(table, (1, list[str]()))[1], file)
    for number, cells in table:
        yield _lcb_row(_named_cells(header, cells, file, number), file, number)


def _lcb_header(cells: list[str], file: _File) -> list[str]:
    if cells and (missing := _LCB_COLUMNS - set(cells)):
        named = ", ".join(f"`{name}`" for name in sorted(missing))
        raise CorpusError(f"'{file.path}' has no column {named}. {_EXPECTED}; remove or repair it.")
    return cells


def _lcb_row(row: dict[str, str], file: _File, number: int) -> _Row:
    text, language = row["prompt"], row["language"]
    if not (text and language):
        raise _not_a_prompt(file, number, "an empty `prompt` or `language`")
    if "phrasing" in row:  # cross-lingual
        return _Row(text, "en", language, instructed=text, source=row["source"])
    return _Row(text, language, language, source=row["source"])


def _multiq_rows(file: _File) -> Iterator[_Row]:
    table = _table(file, ",")
    header = next(table, (1, list[str]()))[1]
    if not set(header) >= _MULTIQ_COLUMNS:  # a quotation mark that is not closed
        raise _not_a_prompt(file, 1, "the names of the columns go on in the next line")
    for number, cells in table:
        row = _named_cells(header, cells, file, number)
        if not (row["prompt"] and row["language"]):
            raise _not_a_prompt(file, number, "an empty `prompt` or `language`")
        yield _Row(row["prompt"], row["language"], None, source="multiq", is_asked_for_itself=False)


def _xquad_rows(file: _File) -> Iterator[_Row]:
    for number, line in enumerate(io.StringIO(file.text, newline=None), start=1):
        if not line.strip():
            continue
        row = _json_object(line, file, number)
        for key in _XQUAD_KEYS:
            texts = row.get(key)
            if not isinstance(texts, dict) or not all(map(_is_text, texts.values())):
                raise _not_a_prompt(file, number, f"its `{key}` is no object with a text each")
            if key != "answer" and "en" not in texts:
                raise _not_a_prompt(file, number, f"its `{key}` has no 'en'")
        yield _Row(
            f"{row['context']['en'].strip()}\n\n{row['question']['en'].strip()}",
            "en",
            None,
            source="xquad",
            is_asked_for_itself=False,
            gold=row["answer"],
        )


def _mgsm_rows(file: _File) -> Iterator[_Row]:
    code = file.path.stem.removeprefix(_MGSM_STEM)
    for number, line in enumerate(io.StringIO(file.text, newline=None), start=1):
        if not line.strip():
            continue
        text, _, answer = line.rstrip("\n").rpartition("\t")
        if not text.strip() or not _MGSM_NUMBER.fullmatch(answer.strip()):
            raise _not_a_prompt(file, number, "it is no question, a tab and a number")
        yield _Row(text.strip(), code, code, source="mgsm", number=answer.strip())


def _named_cells(header: list[str], cells: list[str], file: _File, number: int) -> dict[str, str]:
    if len(cells) != len(header):
        raise _not_a_prompt(file, number, f"{len(cells)} cells for {len(header)} columns")
    return {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


_READERS: dict[PromptFormat, Callable[[_File], Iterator[_Row]]] = {
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "clas-bench": _clas_rows,
    "lcb": _lcb_rows,
    "multiq": _multiq_rows,
    "xquad": _xquad_rows,
    "mgsm": _mgsm_rows,
}


def _prompts_of(
    row: _Row, targets: Sequence[Language], left_out: dict[str, Counter[str]]
) -> list[ForcingPrompt]:
    """Make the prompts of a row, or count it in *left_out*: why -> code -> how many."""
    source = _source_of(row)
    target = None if row.target is None else _language(row.target)
    wanted = [
        chosen
        for chosen in targets
        if (row.target is None or chosen == target)
        and (row.is_asked_for_itself or chosen != source)
        and (not row.gold or chosen.code in row.gold)
    ]
    why, code = row.left_out, row.language or "?"
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
            is_right=partial(is_last_number, number=row.number) if row.number else None,
            source=row.source,
            gold=(row.gold[chosen.code],) if row.gold else (),
        )
        for chosen in wanted
    ]


def _source_of(row: _Row) -> Language | None:
    """Return the language that a prompt is in, guessed where the file does not say."""
    if row.language is not None:
        return _language(row.language)
    return identify_reply(row.text, languages=list(LANGUAGES.values())).language


def _left_out_note(why: str, counts: Counter[str]) -> str:
    shown = [f"'{code}' ({count})" for code, count in sorted(counts.items())]
    listed = ", ".join([*shown[:8], "..."] if len(shown) > 8 else shown)
    return f"Left out, {why}: {listed}; {sum(counts.values())} in all."


def _language(code: str) -> Language | None:
    try:
        return parse_language(code)
    except UnknownLanguageError:
        return None


def _open(path: Path) -> _File:
    try:
        return _File(path, path.read_bytes())
    except OSError as err:
        shown = f"Cannot read '{path}' ({err.strerror})"
        raise CorpusError(f"{shown}. {_EXPECTED}; check the path.") from err


def _is_text(value: object) -> bool:
    """Say whether a value is text that is not blank and that UTF-8 can hold."""
    is_filled = isinstance(value, str) and bool(value.strip())
    return is_filled and not any("\ud800" <= letter <= "\udfff" for letter in str(value))


def _not_a_prompt(file: _File, number: int, problem: str) -> CorpusError:
    return CorpusError(
        f"'{file.path}:{number}' is not a prompt ({problem}). {_EXPECTED}; "
        "repair or remove the line."
    )
