"""Reads one row of a corpus: the text, or the prompt and its answer.

A row that cannot be used is a ValueError whose words go on from the name of the row ("it has no").
Knows neither files nor languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PROMPTS, _ANSWERS = ("prompt", "question"), ("answer", "response")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A prompt and its answer."""

    prompt: str
    answer: str


def read_text(row: object, column: str) -> str:
    """Return the text of a row; "" for a blank one."""
    if isinstance(row, Mapping):
        if column not in row:
            raise ValueError(f"it has no `{column}`, only: {', '.join(map(str, row))}"[:300])
        row = row[column]
    if row is None:  # a table's empty cell
        return ""
    if not isinstance(row, str):
        raise ValueError(f"its `{column}` is no text but {type(row).__name__}")
    _check_encodable(row)
    return row.strip()


def read_dialogue(row: object) -> Dialogue | None:
    """Return the dialogue of a row; None for a blank line."""
    if row == "":
        return None
    if not isinstance(row, Mapping):
        raise ValueError("it is no object with `prompt` and `answer`")
    prompt, answer = (_first_text(row, names) for names in (_PROMPTS, _ANSWERS))
    return Dialogue(prompt, answer)


def _first_text(row: Mapping[str, object], names: Sequence[str]) -> str:
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its `{names[0]}` is empty or no text")
    _check_encodable(value)
    return value


def _check_encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON's "\ud83d" gives it
        raise ValueError("it holds half of a surrogate pair") from None
