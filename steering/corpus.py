"""Reads the text and the dialogues that activations are recorded on, through `datasets`.

A corpus is a folder with one file per language (`<code>.txt`, `.jsonl` or `.parquet`), or a hub
dataset (or a folder laid out like one) with one configuration per language. It is streamed: memory
does not grow with its length. Lines that cannot be used are left out, each with a warning; a file
that is not UTF-8 is refused. Text comes out in Unicode's NFC.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from steering.corpus_rows import Dialogue, read_dialogue, read_text
from steering.errors import CorpusError
from steering.languages import Language

CorpusKind: TypeAlias = Literal["text", "dialogues"]
Warn: TypeAlias = Callable[[str], None]

_SUFFIXES: Mapping[CorpusKind, tuple[str, ...]] = {
    "text": (".txt", ".jsonl", ".parquet"),
    "dialogues": (".jsonl", ".parquet"),
}
# What stands where bytes are not UTF-8: no character, so that no text holds it by itself. U+FFFD,
# the usual one, does occur: models write it.
_NOT_UTF_8 = "\U0010fffe"
_MARKING = "langsteer-mark"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_WARNINGS, _MOST_BAD_AT_FIRST = 20, 1000  # per source
_SHOWN = 80  # characters of a bad line


@dataclass(frozen=True, slots=True)
class Source:
    """Where one language's rows come from.

    Args:
        label: What messages call it.
        arguments: Of `datasets.load_dataset`.
        is_json_lines: Whether every row is a line of JSON rather than a record.
        bytes: Size of a local file; 0 where it is not known.
        state: What changes when a local file does; empty for a hub dataset.
        rows: The rows themselves where they are in memory; None where they are read.
    """

    label: str
    arguments: Mapping[str, object]
    is_json_lines: bool = False
    bytes: int = 0
    state: str = ""
    rows: Sequence[Mapping[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows to record on, one source per language; found, not yet read.

    Args:
        name: Name of the folder or dataset, and its configuration.
        kind: Whether a row is a text or a dialogue.
        sources: Per language.
        column: Of a record that holds its text.
    """

    name: str
    kind: CorpusKind
    sources: Mapping[Language, Source]
    column: str = "text"


def _mark(err: UnicodeError) -> tuple[str, int]:
    """Put the mark where bytes are not UTF-8, and go on behind them."""
    if not isinstance(err, UnicodeDecodeError):
        raise err
    return _NOT_UTF_8, err.end


codecs.register_error(_MARKING, _mark)


def open_corpus(
    source: str | Path,
    languages: Sequence[Language],
    *,
    kind: CorpusKind,
    configuration: str = "",
    column: str = "text",
) -> Corpus:
    """Find a corpus; with a configuration a dataset, else a folder with a file per language.

    Args:
        source: A folder, or the name of a hub dataset.
        languages: At least two.
        kind: Whether rows are texts or dialogues (`prompt` or `question`, `answer` or `response`).
        configuration: Name of the dataset's configuration, `{code}` standing for the language.
        column: Of a record that holds its text.

    Raises:
        CorpusError: Naming everything that is missing, empty, or not UTF-8.
    """
    check_languages(languages)
    if configuration:
        return _open_dataset(str(source), languages, kind, configuration, column)
    folder = Path(source)
    if not folder.is_dir():
        raise CorpusError(
            f"No folder '{folder}'. Expected a folder with one file per language, such as "
            f"'{languages[0]}{_SUFFIXES[kind][0]}', or a hub dataset with its configuration, such "
            "as `--text-config '20231101.{code}'`."
        )
    files = {language: _find_file(folder, language, kind) for language in languages}
    if problems := [p for file in files.values() if (p := _file_problem(file))]:
        raise CorpusError(
            f"Cannot read the corpus in '{folder}': {'; '.join(problems)}. Expected one non-empty "
            f"UTF-8 file per language ({', '.join(_SUFFIXES[kind])}); add or repair them, or name "
            "fewer `--languages`."
        )
    sources = {language: _file_source(path) for language, path in files.items()}
    return Corpus(folder.resolve().name, kind, sources, column)


def hold_dialogues(
    name: str, dialogues: Mapping[Language, Sequence[Dialogue]], *, kind: CorpusKind
) -> Corpus:
    """Return a corpus of dialogues that are in memory; as text it holds their answers alone."""
    sources = {}
    for language, held in dialogues.items():
        rows = [{"prompt": row.prompt, "answer": row.answer} for row in held]
        counted = [row["answer"] if kind == "text" else "".join(row.values()) for row in rows]
        digest = bytes(32)
        for row in held:
            digest = chain_hash(digest, row)
        sources[language] = Source(
            label=f"answers in {language.english_name}",
            arguments={"path": ""},
            bytes=sum(len(text.encode()) for text in counted),
            state=digest.hex(),
            rows=rows,
        )
    return Corpus(name, kind, sources, column="answer")


def hash_rows_read(corpora: Sequence[Corpus], digests: Sequence[Mapping[Language, str]]) -> str:
    """Return one hash over what was read of every language of every corpus.

    Args:
        corpora: What was read.
        digests: Per corpus, in order, a hash for every language.
    """
    read = [
        [corpus.kind, str(language), digest]
        for corpus, by_language in zip(corpora, digests, strict=True)
        for language, digest in by_language.items()
    ]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def iter_text(corpus: Corpus, language: Language) -> Iterator[str]:
    """Yield the texts of a language that are not blank, without surrounding space."""
    return (str(row) for _, row in iter_rows(corpus, language))


def iter_dialogues(corpus: Corpus, language: Language) -> Iterator[Dialogue]:
    """Yield the dialogues whose answers are in a language."""
    return (row for _, row in iter_rows(corpus, language) if isinstance(row, Dialogue))


def iter_rows(
    corpus: Corpus, language: Language, *, start: int = 0, warn: Warn | None = None
) -> Iterator[tuple[int, str | Dialogue]]:
    """Yield a language's usable rows, each with the number of rows that are read after it.

    Args:
        corpus: From `open_corpus`.
        language: One of the corpus.
        start: How many rows to pass over: what this function last said, to go on from there.
        warn: Told of every row that is left out, by source and number.

    Raises:
        CorpusError: When the source cannot be read, or not any further, or begins with so many
            unusable rows that something else must be wrong.
    """
    source = corpus.sources[language]
    read: Callable[[object], str | Dialogue | None] = (
        partial(read_text, column=corpus.column) if corpus.kind == "text" else read_dialogue
    )
    bad, is_any_good = 0, start > 0
    for number, raw in enumerate(_stream(source, start), start=start + 1):
        _check_utf_8(raw, source, number)
        try:
            row = read(_parse_line(raw, source))
        except ValueError as err:
            bad += 1
            if bad > _MOST_BAD_AT_FIRST and not is_any_good:
                raise CorpusError(
                    f"'{source.label}' begins with {bad} rows that cannot be used; of the last, "
                    f"{err}. Expected {corpus.kind}; check the file, or name the column with "
                    "`--text-column`."
                ) from None
            if warn is not None and bad <= _MOST_WARNINGS:
                more = "; more of them are not told" if bad == _MOST_WARNINGS else ""
                warn(f"'{source.label}:{number}' was left out: {err}{more}")
            continue
        if row:
            is_any_good = True
            yield number, row


def chain_hash(before: bytes, row: str | Dialogue) -> bytes:
    """Return the SHA-256 over a hash and a row: the identity of everything read so far.

    A chain, so that a reading that was stopped can go on from 32 bytes.
    """
    text = row if isinstance(row, str) else f"{row.prompt}\x1f{row.answer}"
    return hashlib.sha256(before + hashlib.sha256(text.encode()).digest()).digest()


def check_languages(languages: Sequence[Language]) -> None:
    """Refuse fewer languages than two, and one that is given twice.

    Raises:
        CorpusError: Naming them.
    """
    given = ",".join(map(str, languages))
    if len(set(languages)) < 2:
        raise CorpusError(
            f"Languages are '{given}'. Expected at least two different ones, because neurons are "
            "found by comparing languages; add another to `--languages`."
        )
    if len(set(languages)) < len(languages):
        raise CorpusError(f"Languages are '{given}'. Expected each once.")


def _open_dataset(
    name: str, languages: Sequence[Language], kind: CorpusKind, configuration: str, column: str
) -> Corpus:
    """Return the corpus of a dataset with configurations; whether they exist is seen on reading."""
    if "{code}" not in configuration:
        raise CorpusError(
            f"The configuration is '{configuration}'. Expected '{{code}}' in it, where the "
            "language's code stands, such as '20231101.{code}'."
        )
    revision, state = _pin_dataset(name)
    sources = {}
    for language in languages:
        chosen = configuration.replace("{code}", language.code)
        arguments = {"path": name, "name": chosen, **revision}
        sources[language] = Source(f"{name}/{chosen}", arguments, state=state)
    shown = f"{name}@{state[:12]}" if revision else Path(name).resolve().name
    return Corpus(f"{shown} ({configuration})", kind, sources, column)


def _pin_dataset(name: str) -> tuple[dict[str, str], str]:
    """Return the revision to read of a hub dataset, and what changes when its data do.

    So that a reading that goes on days later reads the same rows.
    """
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        about = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return {}, hashlib.sha256(repr(about).encode()).hexdigest()
    from huggingface_hub import HfApi

    try:
        revision = HfApi().dataset_info(name).sha or "main"
    except Exception as err:  # the hub's own errors, httpx's and builtin ones
        reason = " ".join(str(err).split())[:200]
        raise CorpusError(
            f"Cannot find the dataset '{name}' ({type(err).__name__}: {reason}). Expected a folder "
            "or the name of a dataset on the hub; check the name and the connection."
        ) from err
    return {"revision": revision}, revision


def _find_file(folder: Path, language: Language, kind: CorpusKind) -> Path:
    """Return the first file of a language by the order of suffixes; the first name when none is."""
    paths = [folder / f"{language}{suffix}" for suffix in _SUFFIXES[kind]]
    return next((path for path in paths if path.exists()), paths[0])


def _file_problem(path: Path) -> str | None:
    if not path.is_file():
        return f"'{path.name}' is missing"
    try:
        with path.open("rb") as file:
            beginning = file.read(1 << 16)
    except OSError as err:
        return f"'{path.name}' cannot be opened ({err.strerror})"
    if path.suffix != ".parquet" and beginning.startswith(_UTF_16):
        return f"'{path.name}' is not UTF-8 but UTF-16"
    is_blank = not beginning.removeprefix(b"\xef\xbb\xbf").strip()
    return f"'{path.name}' is empty" if is_blank else None


def _file_source(path: Path) -> Source:
    about = path.stat()
    # The library reads patterns, so that a bracket in a folder's name would be one.
    arguments: dict[str, object] = {"data_files": {"train": glob.escape(str(path.resolve()))}}
    if path.suffix == ".parquet":
        arguments["path"] = "parquet"
    else:
        arguments |= {"path": "text", "encoding": "utf-8-sig", "encoding_errors": _MARKING}
    return Source(
        label=path.name,
        arguments=arguments,
        is_json_lines=path.suffix == ".jsonl",
        bytes=about.st_size,
        state=f"{about.st_size} {about.st_mtime_ns}",
    )


def _stream(source: Source, start: int) -> Iterator[Any]:
    """Yield the rows of a source from one on, as the library gives them.

    Raises:
        CorpusError: On whatever goes wrong in the library, a network or a damaged file.
    """
    if source.rows is not None:
        yield from source.rows[start:]
        return
    import datasets

    datasets.disable_progress_bars()
    number = start
    try:
        rows: Iterable[Any] = datasets.load_dataset(
            **source.arguments,
            split="train",
            streaming=True,
        )
        for row in islice(rows, start, None):
            yield row
            number += 1
    except CorpusError:
        raise
    except Exception as err:  # the library raises its own, pyarrow's, httpx's and builtin errors
        reason = " ".join(str(err).split())[:300]
        raise CorpusError(
            f"Cannot read '{source.label}' after {number} rows ({type(err).__name__}: {reason}). "
            "Expected a dataset that can be reached and read; repair it or the connection, then "
            "run the same command again."
        ) from err


def _check_utf_8(raw: object, source: Source, number: int) -> None:
    """Refuse the whole file: leaving out its lines with accents would bias what is left.

    Raises:
        CorpusError: Naming the first line that is not UTF-8.
    """
    if source.arguments["path"] != "text" or not isinstance(raw, dict):
        return
    line = str(raw["text"])
    if _NOT_UTF_8 in line:
        shown = line.replace(_NOT_UTF_8, "\N{REPLACEMENT CHARACTER}")[:_SHOWN]
        raise CorpusError(
            f"'{source.label}:{number}' is not UTF-8: '{shown}'. Expected UTF-8 throughout; "
            "convert the file, such as with `iconv -f latin1 -t utf-8`."
        )


def _parse_line(raw: object, source: Source) -> object:
    """Return a row as it is, or parsed where a line is JSON; "" for a blank line."""
    if source.arguments["path"] != "text" or not isinstance(raw, dict):
        return raw
    line = str(raw["text"])
    if not line.strip():
        return ""
    if not source.is_json_lines:
        return line
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"it is not JSON ({line[:_SHOWN]!r})") from None
