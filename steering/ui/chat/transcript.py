"""What a chat was made with, answer by answer, and the chat as JSON and Markdown to keep.

Knows messages and records, not components or the model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, TypeAlias

from steering.generation import ReplyUpdate
from steering.methods import resolve_strength
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set
from steering.ui.asking import Chat, Wish
from steering.ui.chat.messages import ShownMessage, is_answer, to_plain

# One answer's settings, as JSON has them.
Record: TypeAlias = dict[str, Any]

_FORMAT = "langsteer-chat/1"


def make_record(chat: Chat, model: str, wish: Wish, update: ReplyUpdate) -> Record:
    """Return everything that an answer was made with, and how it ended."""
    neurons = _steers_with(chat, wish)
    return {
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": model,
        "neuron_set_sha256": hash_neuron_set(neurons) if neurons else None,
        **_settings(chat, wish),
        "tokens": update.new_tokens,
        "ended": update.finish_reasons[0],
        "rewritten": [
            {"text": one.text, "language": one.language.code if one.language else None}
            for one in (update.rewrites[0] if update.rewrites else ())
            if not one.is_kept
        ],
        "guard_gave_up": any(one.is_kept for row in update.rewrites for one in row),
    }


def next_draw(chat: Chat, wish: Wish, record: Record) -> Wish:
    """Return the wish for another answer to the question that *record*'s answer was given to.

    Asked in the same way, the first draw would only give the same answer again.

    Args:
        chat: What the wish is asked of.
        wish: The choices as they are by this time.
        record: May come back from the browser, so it is compared and nothing else.
    """
    attempt = record.get("attempt", 0)  # older records, still in a browser, have none
    if not isinstance(attempt, int) or attempt < 0:
        return wish
    last = replace(wish, attempt=attempt)
    recorded = {"attempt": 0, **record}
    is_same = all(recorded.get(name) == value for name, value in _settings(chat, last).items())
    return last.next_attempt() if is_same else wish


def to_json(history: Sequence[ShownMessage], records: Sequence[Record]) -> str:
    """Return the chat as JSON: each message, each answer with what it was made with."""
    messages = []
    for shown, record in _with_records(history, records):
        settings = {"made_with": record} if record else {}
        messages += [
            {"role": message.role, "content": message.content, **settings}
            for message in to_plain([shown])
        ]
    return json.dumps({"format": _FORMAT, "messages": messages}, ensure_ascii=False, indent=2)


def to_markdown(history: Sequence[ShownMessage], records: Sequence[Record]) -> str:
    """Return the chat as Markdown; settings stand under each answer."""
    parts = ["# Langsteer"]
    for shown, record in _with_records(history, records):
        for message in to_plain([shown]):
            who = "Question" if message.role == "user" else "Answer"
            parts.append(f"## {who}\n\n{message.content}")
        if record:
            facts = ", ".join(
                f"{name}: {value}" for name, value in record.items() if value not in (None, [])
            )
            parts.append(f"*{facts}*")
    return "\n\n".join(parts) + "\n"


def keep(history: Sequence[ShownMessage], records: Sequence[Record]) -> dict[str, Any]:
    """Return what the browser keeps, of an empty chat too: Gradio leaves None unsaved."""
    return {"format": _FORMAT, "history": list(history), "records": list(records)}


def restore(kept: object) -> tuple[list[ShownMessage], list[Record]]:
    """Return what was kept; nothing where it is of another version or broken."""
    if not isinstance(kept, Mapping) or kept.get("format") != _FORMAT:
        return [], []
    history, records = kept.get("history"), kept.get("records")
    if not isinstance(history, list) or not isinstance(records, list):
        return [], []
    try:
        to_json(history, records)
    except (KeyError, TypeError, AttributeError, ValueError):
        return [], []
    return history, records


def records_of(history: Sequence[ShownMessage], records: Sequence[Record]) -> list[Record]:
    """Return the records of the answers that a history has; a shorter one has lost its last."""
    return list(records[: sum(map(is_answer, history))])


def _with_records(
    history: Sequence[ShownMessage], records: Sequence[Record]
) -> list[tuple[ShownMessage, Record | None]]:
    left = iter(records)
    return [(shown, next(left, None) if is_answer(shown) else None) for shown in history]


def _settings(chat: Chat, wish: Wish) -> Record:
    """Return what of a record says how an answer was asked for."""
    neurons = _steers_with(chat, wish)
    return {
        "language": wish.language.code if wish.language else None,
        "strength": _strength(neurons, wish),
        **chat.describe(wish, neurons),
        "attempt": wish.attempt,
    }


def _steers_with(chat: Chat, wish: Wish) -> NeuronSet | None:
    return chat.set_in_use if wish.language is not None and wish.level != "off" else None


def _strength(neurons: NeuronSet | None, wish: Wish) -> float | None:
    if neurons is None or wish.language is None or wish.level == "off":
        return None
    return resolve_strength(neurons, wish.language, wish.level)
