"""A conversation, and how it is fitted into a model's context.

Knows the tokenizer's chat template, not the model's layers or steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from jinja2 import TemplateError

from steering.errors import GenerationError, ModelLoadError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from steering.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, plain text."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """The token ids of a prompt, and in words what was left out to make it fit; often nothing."""

    token_ids: list[int]
    note: str


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Return the ids of a conversation up to where the answer begins.

    A tokenizer without a chat template gets the messages' texts, one a line.

    Raises:
        GenerationError: If the model's template refuses the order or the roles of the messages.
    """
    if tokenizer.chat_template is None:
        return list(tokenizer("\n".join(m.content for m in messages) + "\n")["input_ids"])
    rows = [{"role": message.role, "content": message.content} for message in messages]
    try:
        ids = tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    except TemplateError as err:
        roles = ", ".join(message.role for message in messages)
        raise GenerationError(
            f"The model's chat template refuses messages of the roles '{roles}' ({err}). Expected "
            "user and assistant in turn, and a system message first if the model takes one; leave "
            "the others out."
        ) from err
    return list(ids)


def check_can_chat(model: LoadedModel) -> None:
    """Refuse a base model, which continues a text and does not answer.

    Raises:
        ModelLoadError: Naming what can be done with it.
    """
    if model.tokenizer.chat_template is None:
        raise ModelLoadError(
            f"Model '{model.identity.model_id}' has no chat template: it is a base model, which "
            "continues a text and does not answer. Expected a chat model; name one, or study this "
            "one with `python -m steering build-set --text`, `evaluate perplexity` and `sharing`."
        )


def context_tokens(model: LoadedModel) -> int:
    """Return how many tokens prompt and answer may have together."""
    config = model.model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", 2048))


def fit_prompt(
    model: LoadedModel, messages: Sequence[Message], *, answer_tokens: int
) -> FittedPrompt:
    """Encode a conversation; leave out the oldest turns, then the message's beginning, to fit.

    Args:
        model: Whose context and template to use.
        messages: At least one; the last is the person's.
        answer_tokens: Room to leave for the answer.

    Raises:
        GenerationError: If there is no message, it is empty, or the answer leaves no room.
    """
    if not messages or not messages[-1].content.strip():
        raise GenerationError(
            "Cannot answer the message '': it is empty. Expected some text; write a message first."
        )
    room = context_tokens(model) - answer_tokens
    if room < 16:
        raise GenerationError(
            f"An answer of '{answer_tokens}' tokens leaves no room for the question: the model "
            f"reads {context_tokens(model)} tokens in all. Ask for a shorter answer."
        )
    kept = list(messages)
    ids = encode_prompt(model.tokenizer, kept)
    dropped = 0
    while len(ids) > room and (oldest := _oldest_turn(kept)):
        dropped += len(oldest)
        kept = [message for place, message in enumerate(kept) if place not in oldest]
        ids = encode_prompt(model.tokenizer, kept)
    notes = [f"the oldest messages ({dropped}) were left out"] if dropped else []
    if len(ids) > room:
        ids, cut_tokens = _cut_last_message(model.tokenizer, kept, room, len(ids))
        notes.append(f"the first {cut_tokens} tokens of the message were left out")
    text = f"The conversation is longer than the model's context: {', and '.join(notes)}."
    return FittedPrompt(ids, text if notes else "")


def _oldest_turn(messages: Sequence[Message]) -> list[int]:
    """Return where the oldest question and its answer stand, never the last or a system message."""
    turn: list[int] = []
    for place, message in enumerate(messages[:-1]):
        if message.role == "system":
            continue
        if turn and message.role == "user":
            break
        turn.append(place)
    return turn


def _cut_last_message(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], room: int, length: int
) -> tuple[list[int], int]:
    """Keep the end of the last message, where the question usually stands."""
    content = list(tokenizer(messages[-1].content, add_special_tokens=False)["input_ids"])
    excess = length - room
    while excess < len(content):
        tail = str(tokenizer.decode(content[excess:])).lstrip("\ufffd")
        shorter = [*messages[:-1], replace(messages[-1], content=tail)]
        ids = encode_prompt(tokenizer, shorter)
        if len(ids) <= room:
            return ids, excess
        excess += len(ids) - room
    raise GenerationError(
        f"The system message alone fills the model's context ('{length - len(content)}' tokens of "
        f"{room}). Shorten it."
    )
