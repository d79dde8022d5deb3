"""Translates between the conversation and what gradio's Chatbot shows and sends back.

A shown message is a list of text blocks: the words, then for an answer one line of HTML about it.
Gradio sends blocks back from the page, and plain strings through its API. Knows no model.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

from steering.conversation import Message
from steering.ui.badges import BEING_WRITTEN, being_written_html

# One message as gradio takes and gives it; its keys are gradio's.
ShownMessage: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stray:
    """A sentence that is not in the chosen language.

    Args:
        text: As it stands in the answer.
        why: What it is in, for the person.
    """

    text: str
    why: str


# A sign that is not seen, behind what could begin a tag or a picture: neither is one any more,
# wherever Markdown sees code; an entity would show as it is written there.
_NOTHING = "\u200b"
_BROKEN = (("<", f"<{_NOTHING}"), ("![", f"!{_NOTHING}["))
_AMPERSAND = (("&", "&amp;"),)
# What `_mark` and `_dim` add; the model's own tags are escaped, so that these are ours.
_UNSETTLED = '<span class="unsettled">'
_MARKS = re.compile(
    rf'<mark class="stray">|</mark><span class="why">[^<]*</span>|{_UNSETTLED}|</span>'
)
# What a line of Markdown may begin with; it stays outside of a mark.
_LINE_BEGINS = re.compile(r"(?:[ \t]*(?:[-*+>#]+|\d{1,9}[.)])[ \t]+)*")
_LINE_UNDER = re.compile(r'\n*<span class="(?:badge|note)')  # the line that `badge_html` makes
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


def show_answer(text: str, line: str, strays: Sequence[Stray] = ()) -> ShownMessage:
    """Return an answer and the line of HTML under it, as the Chatbot takes them.

    Args:
        text: The answer.
        line: HTML.
        strays: Its sentences in another language, in order; each is marked, in words too.
    """
    code = [match.span() for match in _CODE.finditer(text)]
    shown, end = "", 0
    for stray in strays:
        start = text.find(stray.text, end)
        stop = start + len(stray.text)
        if start < 0 or any(first < stop and start < last for first, last in code):
            continue
        shown += escape_tags(text[end:start]) + _mark(stray)
        end = stop
    return {"role": "assistant", "content": [_block(shown + escape_tags(text[end:])), _block(line)]}


def show_written(text: str, waits: str, locale: str, *, settled: int | None = None) -> ShownMessage:
    """Return an answer that is being written, and what it waits for in words.

    Args:
        text: The answer so far.
        waits: In words.
        locale: What they are said in.
        settled: How many characters stay whatever comes, all when omitted; the rest is dimmed.
    """
    cut = len(text) if settled is None else settled
    line = _block(being_written_html(waits, locale))
    return {"role": "assistant", "content": [_block(_dim(text, cut)), line]}


def is_being_written(shown: ShownMessage) -> bool:
    """Say whether `show_written` made a shown message; it may come back from the browser."""
    line = shown["content"][-1] if isinstance(shown["content"], list) and shown["content"] else {}
    said = line.get("text") if isinstance(line, Mapping) else None
    return is_answer(shown) and isinstance(said, str) and said.startswith(BEING_WRITTEN)


def show_rewrites(title: str, passages: Sequence[Stray]) -> ShownMessage:
    """Return what was written again as something to unfold; it is no part of what was said."""
    lines = [f"✗ {escape_tags(one.why)}: {escape_tags(one.text)}" for one in passages]
    return {
        "role": "assistant",
        "content": [_block("\n\n".join(lines))],
        "metadata": {"title": title, "status": "done"},
    }


def said_in(copied: str) -> str:
    """Return what was said of a message's blocks in a row, as its copy button joins them."""
    line = _LINE_UNDER.search(copied)
    return unescape_tags(copied[: line.start()] if line else copied)


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
    """Make HTML and pictures show as they are written, in code and elsewhere.

    A picture would make the browser ask a stranger's server for it.
    """
    return _replace_all(_outside_code(text, lambda part: _replace_all(part, _AMPERSAND)), _BROKEN)


def unescape_tags(text: str) -> str:
    """Undo `escape_tags`."""
    whole = _replace_all(_MARKS.sub("", text), _undo(_BROKEN))
    return _outside_code(whole, lambda part: _replace_all(part, _undo(_AMPERSAND)))


def _undo(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(escaped, plain) for plain, escaped in pairs]


def _mark(stray: Stray) -> str:
    begins = _LINE_BEGINS.match(stray.text)
    start = begins.end() if begins else 0
    why = f'<span class="why"> ✗ {escape(stray.why)}</span>'
    marked = f'<mark class="stray">{escape_tags(stray.text[start:])}</mark>{why}'
    return stray.text[:start] + marked


def _dim(text: str, start: int) -> str:
    """Dim what is behind a place, line by line, as Markdown ends a tag with its paragraph.

    Code that reaches behind it stays as it is.
    """
    for match in _CODE.finditer(text):
        if match.end() > start:
            start = max(start, match.end())
    lines = [_dim_line(line) for line in text[start:].split("\n")]
    return escape_tags(text[:start]) + "\n".join(lines)


def _dim_line(line: str) -> str:
    begins = _LINE_BEGINS.match(line)
    start = begins.end() if begins else 0
    if not line[start:].strip():
        return escape_tags(line)
    return f"{line[:start]}{_UNSETTLED}{escape_tags(line[start:])}</span>"


def _replace_all(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = _CODE.split(text)  # every second part is code
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


def is_answer(shown: ShownMessage) -> bool:
    """Say whether a shown message is an answer, and not something beside one."""
    return shown["role"] == "assistant" and not (shown.get("metadata") or {}).get("title")


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
