"""Reads prompts that are given in several languages, with their right answers if there are any.

JSONL, one object a line: `{"prompt": {"en": "...", "fr": "..."}, "answer": {"en": "...", ...}}`.
An answer is a text, or a list of texts of which any is right and the first is the reference;
further keys are ignored. Knows no model. Also says whether a reply holds an answer.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.errors import CorpusError, UnknownLanguageError
from steering.languages import Language, parse_language
from steering.unicode_scripts import script_of

_ENCODING = "utf-8-sig"  # UTF-8; some editors put a byte order mark first, which is not text
_EXPECTED = (
    'Expected one object a line, such as {"prompt": {"en": "...", "fr": "..."}, "answer": {"en": '
    '"...", "fr": "..."}}'
)
# Scripts that put no space between words.
_UNSPACED = {"Hani", "Kana", "Hang", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}


@dataclass(frozen=True, slots=True)
class ParallelPrompt:
    """One question in several languages.

    Args:
        texts: Per language.
        answers: Per language, the right answers, of which the first is the reference; empty where
            the file has none.
    """

    texts: Mapping[Language, str]
    answers: Mapping[Language, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ParallelPrompts:
    """What a file of parallel prompts holds.

    Args:
        languages: Those that every prompt is given in, in the order of the first line.
        prompts: In the order of the file.
        has_answers: Whether every prompt has an answer in every language; else none has.
    """

    languages: tuple[Language, ...]
    prompts: tuple[ParallelPrompt, ...]
    has_answers: bool


def read_parallel_prompts(path: Path) -> ParallelPrompts:
    """Read a file of parallel prompts.

    Raises:
        CorpusError: If it cannot be read, is empty, or a line is no such prompt, lacks a language
            or an answer that others have, or names an unknown language; with the line's number.
    """
    prompts: list[ParallelPrompt] = []
    first = 0
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        prompt = _read_line(line, f"{path}:{number}")
        if prompts:
            _check_like_first(prompt, prompts[0], f"{path}:{number}", first)
        first = first or number
        prompts.append(prompt)
    if not prompts:
        raise CorpusError(f"'{path}' is empty. {_EXPECTED}; add some prompts.")
    return ParallelPrompts(tuple(prompts[0].texts), tuple(prompts), bool(prompts[0].answers))


def holds_answer(reply: str, answers: Sequence[str]) -> bool:
    """Say whether a reply holds one of the answers, as whole words.

    Case, punctuation and the width of spaces do not matter. In scripts without spaces between
    words any place will do.
    """
    plain = _plain(reply)
    return any(_holds(plain, _plain(answer)) for answer in answers)


def _holds(reply: str, answer: str) -> bool:
    start = reply.find(answer) if answer else -1
    while start >= 0:
        end = start + len(answer)
        is_cut = _goes_on(reply[:start], answer) or _goes_on(answer, reply[end:])
        if not is_cut:
            return True
        start = reply.find(answer, start + 1)
    return False


def _goes_on(left: str, right: str) -> bool:
    """Say whether a word or number goes on from one text to the next."""
    if not left or not right or not (left[-1].isalnum() and right[0].isalnum()):
        return False
    if left[-1].isdigit() or right[0].isdigit():
        return left[-1].isdigit() and right[0].isdigit()
    return script_of(left[-1]) not in _UNSPACED and script_of(right[0]) not in _UNSPACED


def _plain(text: str) -> str:
    """Return the text in NFC, case-folded, with single spaces for spaces and punctuation."""
    folded = unicodedata.normalize("NFC", text).casefold()
    spaced = "".join(" " if unicodedata.category(c)[0] in "PZ" else c for c in folded)
    return " ".join(spaced.split())


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
        raise CorpusError(
            f"Cannot read '{path}' ({err.strerror}). {_EXPECTED}; check the path."
        ) from err


def _read_line(line: str, place: str) -> ParallelPrompt:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise _bad(place, f"it is no JSON: {err}") from err
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), dict):
        raise _bad(place, "it has no `prompt` with a text per language")
    texts = {
        language: _text(value, place, f"`prompt` in '{language}'")
        for language, value in _by_language(row["prompt"], place, "prompt").items()
    }
    if len(texts) < 2:
        raise _bad(place, f"its `prompt` is in '{len(texts)}' language, where two are the least")
    answers = row["answer"] if row.get("answer") is not None else {}
    if not isinstance(answers, dict):
        raise _bad(place, "its `answer` is no object with an answer per language")
    read = {
        language: _accepted(value, place, f"`answer` in '{language}'")
        for language, value in _by_language(answers, place, "answer").items()
    }
    if read and (missing := [str(language) for language in texts if language not in read]):
        raise _bad(place, f"its `answer` lacks '{', '.join(missing)}'")
    return ParallelPrompt(texts, {language: read[language] for language in texts if read})


def _by_language(row: Mapping[str, object], place: str, name: str) -> dict[Language, object]:
    found: dict[Language, object] = {}
    for code, value in row.items():
        try:
            language = parse_language(code)
        except UnknownLanguageError as err:
            problem = f"its `{name}` names a language that is not known: {err}"
            raise _bad(place, problem.removesuffix(".")) from err
        if language in found:
            raise _bad(place, f"its `{name}` has '{language}' twice")
        found[language] = value
    return found


def _accepted(value: object, place: str, name: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise _bad(place, f"its {name} is an empty list")
    found = tuple(_text(text, place, name) for text in texts)
    if any(not _plain(text) for text in found):
        raise _bad(place, f"its {name} has nothing but punctuation, which cannot be looked for")
    return found


def _text(value: object, place: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(place, f"its {name} is empty or no text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _bad(place, f"its {name} holds half of a surrogate pair")
    return value


def _check_like_first(
    prompt: ParallelPrompt, first: ParallelPrompt, place: str, first_line: int
) -> None:
    """Refuse a line that has other languages than the first, or answers where that has none."""
    missing = [str(language) for language in first.texts if language not in prompt.texts]
    extra = [str(language) for language in prompt.texts if language not in first.texts]
    if missing:
        raise _bad(place, f"its `prompt` lacks '{', '.join(missing)}', as line {first_line} has")
    if extra:
        raise _bad(place, f"its `prompt` has '{', '.join(extra)}', as line {first_line} has not")
    if bool(prompt.answers) != bool(first.answers):
        has, first_has = ("has", "none") if prompt.answers else ("has no", "one")
        raise _bad(place, f"it {has} `answer`, line {first_line} has {first_has}")


def _bad(place: str, problem: str) -> CorpusError:
    return CorpusError(
        f"'{place}' is no prompt in several languages: {problem}. {_EXPECTED}; repair or remove "
        "the line."
    )
