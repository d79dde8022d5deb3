"""Translates between the conversation and what gradio's Chatbot shows and sends back.

A shown message is a list of text blocks: the words, then for an answer one line of HTML about it.
Gradio sends blocks back from the page, and plain strings through its API. Knows no model.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from steering.conversation import Message

# One message as gradio takes and gives it; its keys are gradio's.
ShownMessage: TypeAlias = dict[str, Any]

# The ampersand first, so that every step can be undone.
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), ("![", "&#33;["))
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)


def to_plain(history: Sequence[Mapping[str, Any]] | None) -> list[Message]:
    """Return what was said, without badges, files and gradio's collapsible thoughts."""
    messages = []
    for shown in history or ():
        if (shown.get("metadata") or {}).get("title"):
            continue
        if text := _words(shown["content"]):
            messages.append(Message(shown["role"], text))
    return messages


def show_question(text: str) -> ShownMessage:
    """Return a person's message as the Chatbot takes it."""
    return {"role": "user", "content": [_block(escape_tags(text))]}


def show_answer(text: str, line: str) -> ShownMessage:
    """Return an answer and the line of HTML under it, as the Chatbot takes them."""
    return {"role": "assistant", "content": [_block(escape_tags(text)), _block(line)]}


def up_to_question(history: Sequence[ShownMessage]) -> list[ShownMessage]:
    """Return the history with its last question as the end; empty when there is none."""
    return list(history[: _last_question(history) + 1])


def before_question(history: Sequence[ShownMessage]) -> list[ShownMessage]:
    """Return the history without the last question and what follows it."""
    return list(history[: max(_last_question(history), 0)])


def answerable(messages: Sequence[Message]) -> list[Message]:
    """Leave out questions that got no answer, but the last: roles have to alternate."""
    next_roles = [*(message.role for message in messages[1:]), "assistant"]
    return [
        message
        for message, next_role in zip(messages, next_roles, strict=False)
        if message.role != "user" or next_role != "user"
    ]


def escape_tags(text: str) -> str:
    """Make HTML and pictures show as they are written; in code, Markdown sees to that already.

    A picture would make the browser ask a stranger's server for it.
    """
    return _outside_code(text, lambda part: _replace_all(part, _ESCAPES))


def unescape_tags(text: str) -> str:
    """Undo `escape_tags`."""
    undo = [(escaped, plain) for plain, escaped in reversed(_ESCAPES)]
    return _outside_code(text, lambda part: _replace_all(part, undo))


def _replace_all(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = _CODE.split(text)  # every second part is code
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


def _last_question(history: Sequence[ShownMessage]) -> int:
    """Return the place of the last message of the person; -1 when there is none."""
    places = [place for place, shown in enumerate(history) if shown["role"] == "user"]
    return places[-1] if places else -1


def _words(content: object) -> str:
    """Return the first text block of a message's content, which is a string or a list."""
    if isinstance(content, str):
        return unescape_tags(content)
    for block in content if isinstance(content, Sequence) else ():
        if isinstance(block, str):
            return unescape_tags(block)
        if isinstance(block, Mapping) and block.get("type", "text") == "text":
            return unescape_tags(str(block.get("text", "")))
    return ""


def _block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
