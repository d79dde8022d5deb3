"""Reads one row of a corpus: the text, or the prompt and its answer.

A row that cannot be used is a ValueError whose words go on from the name of the row ("it has no").
Text is returned in NFC.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_PROMPTS, _ANSWERS = ("prompt", "question"), ("answer", "response")
# Chat data: the list of messages, then who speaks and what, in OpenAI's format and ShareGPT's.
_CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
_USERS, _ASSISTANTS = ("user", "human"), ("assistant", "gpt")


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
    return _normalise(row).strip()


def read_dialogue(row: object) -> Dialogue | None:
    """Return the dialogue of a row; None for a blank line.

    Of a whole chat (`messages` or `conversations`) that is the first question with its answer.
    """
    if row == "":
        return None
    if not isinstance(row, Mapping):
        raise ValueError("it is no object with `prompt` and `answer`, or with `messages`")
    is_plain = all(any(row.get(name) for name in names) for names in (_PROMPTS, _ANSWERS))
    chat = next((name for name in _CHATS if row.get(name) is not None), None)
    if chat is not None and not is_plain:
        return _read_chat(row[chat], chat)
    prompt, answer = (_first_text(row, names) for names in (_PROMPTS, _ANSWERS))
    return Dialogue(prompt, answer)


def _read_chat(messages: object, name: str) -> Dialogue:
    speaker, said = _CHATS[name]
    turns = messages if isinstance(messages, Sequence) and not isinstance(messages, str) else []
    for asked, answered in pairwise(turn for turn in turns if isinstance(turn, Mapping)):
        if asked.get(speaker) in _USERS and answered.get(speaker) in _ASSISTANTS:
            return Dialogue(*(_first_text(turn, (said,)) for turn in (asked, answered)))
    raise ValueError(
        f"its `{name}` have no user question followed by an assistant's answer (looked for "
        f"`{speaker}` and `{said}`)"
    )


def _first_text(row: Mapping[str, object], names: Sequence[str]) -> str:
    value = next((row[name] for name in names if name in row), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its `{names[0]}` is empty or no text")
    return _normalise(value)


def _normalise(text: str) -> str:
    """Return a text in NFC: models hardly know letters and accents as separate characters."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON's "\ud83d" gives it
        raise ValueError("it holds half of a surrogate pair") from None
    return unicodedata.normalize("NFC", text)
