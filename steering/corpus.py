"""Reads the text and the dialogues that activations are recorded on, and says what was read.

A text folder holds `<code>.txt` (UTF-8, one text a line); a dialogue folder holds `<code>.jsonl`,
one object a line: `prompt` (instruction included) and `answer`, the answer in language <code>.
Knows nothing of tokens or models. Streams: memory does not grow with the length of a file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.errors import CorpusError
from steering.languages import Language

_READ_BYTES = 1 << 20
_ENCODING = "utf-8-sig"  # UTF-8; some editors put a byte order mark first, which is not text


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A prompt and its answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files to record on, one per language; checked, not yet read.

    Args:
        name: Name of the folder.
        sha256: Over the languages and the bytes of all files, in order.
        files: Per language, its file.
    """

    name: str
    sha256: str
    files: Mapping[Language, Path]


def open_corpus(folder: Path, languages: Sequence[Language], *, suffix: str) -> Corpus:
    """Find and check the files `<folder>/<code><suffix>`.

    Args:
        folder: Where the files lie.
        languages: At least two.
        suffix: `.txt` for text, `.jsonl` for dialogues.

    Raises:
        CorpusError: Naming everything that is missing, empty, or not UTF-8.
    """
    if len(set(languages)) < 2:
        given = ",".join(map(str, languages))
        raise CorpusError(
            f"Languages are '{given}'. Expected at least two different ones, because neurons are "
            "found by comparing languages; add another to `--languages`."
        )
    if len(set(languages)) < len(languages):
        raise CorpusError(f"Languages are '{','.join(map(str, languages))}'. Expected each once.")
    if not folder.is_dir():
        raise CorpusError(
            f"No folder '{folder}'. Expected a folder with one file per language, such as "
            f"'{languages[0]}{suffix}'."
        )
    files = {language: folder / f"{language}{suffix}" for language in languages}
    if problems := [p for file in files.values() if (p := _file_problem(file))]:
        raise CorpusError(
            f"Cannot read the corpus in '{folder}': {'; '.join(problems)}. Expected one non-empty "
            f"UTF-8 file per language; add or repair them, or name fewer `--languages`."
        )
    return Corpus(folder.resolve().name, _hash_files(files), files)


def iter_text(corpus: Corpus, language: Language) -> Iterator[str]:
    """Yield the non-empty lines of a language's text file, without surrounding space."""
    with corpus.files[language].open(encoding=_ENCODING) as lines:
        for line in lines:
            if text := line.strip():
                yield text


def iter_dialogues(corpus: Corpus, language: Language) -> Iterator[Dialogue]:
    """Yield the dialogues whose answers are in a language.

    Raises:
        CorpusError: Naming the file and line that is not a dialogue.
    """
    path = corpus.files[language]
    with path.open(encoding=_ENCODING) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse_dialogue(line, f"{path}:{number}")


def _parse_dialogue(line: str, where: str) -> Dialogue:
    try:
        row = json.loads(line)
        prompt, answer = row["prompt"], row["answer"]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise CorpusError(
            f"'{where}' is not a dialogue ({err!r}). Expected a JSON object with `prompt` and "
            "`answer`; repair or remove the line."
        ) from err
    if not (_is_text(prompt) and _is_text(answer)):
        raise CorpusError(
            f"'{where}' has an empty or non-text `prompt` or `answer`. Expected two texts; "
            "repair or remove the line."
        )
    return Dialogue(prompt, answer)


def _is_text(value: object) -> bool:
    """Say whether a value is text that is not blank and that UTF-8 can hold."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as in "\ud83d"
        return False
    return True


def _file_problem(path: Path) -> str | None:
    if not path.is_file():
        return f"'{path.name}' is missing"
    number, has_text = 0, False
    try:
        with path.open("rb") as file:
            for line in file:
                number += 1
                has_text = bool(line.decode(_ENCODING).strip()) or has_text
    except UnicodeDecodeError as err:
        return f"'{path.name}' is not UTF-8 in line {number} ({err.reason})"
    except OSError as err:
        return f"'{path.name}' cannot be opened ({err.strerror})"
    return None if has_text else f"'{path.name}' is empty"


def _hash_files(files: Mapping[Language, Path]) -> str:
    digest = hashlib.sha256()
    for language, path in files.items():
        digest.update(f"{language}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()
