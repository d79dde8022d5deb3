"""What a reply is worth to the model itself: its likelihood when the prompt asks for the language.

A push that breaks an answer makes it unlikely under the unsteered model that was told in words to
answer in the language. That needs no judge and no right answer. Knows no steering.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.conversation import Message, context_tokens, encode_prompt
from steering.evaluation.forcing import ForcingOutcome, ForcingResult
from steering.hooks import input_device

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_BATCH_ROWS = 16


def instructed_nll_nats(model: LoadedModel, result: ForcingResult) -> float | None:
    """Return the mean over the replies of `reply_nll_nats`; None where every reply is empty."""
    losses = [loss for loss in reply_nll_nats(model, result.outcomes) if loss is not None]
    return sum(losses) / len(losses) if losses else None


def reply_nll_nats(model: LoadedModel, outcomes: Sequence[ForcingOutcome]) -> list[float | None]:
    """Return each reply's mean negative log-likelihood after its instructed prompt.

    In words: minus the mean over the reply's tokens of the natural log of their probability under
    the unsteered model, which reads the prompt with the plain instruction.

    Args:
        model: From `load_model`; it must not be steered meanwhile.
        outcomes: Prompts and replies.

    Returns:
        Nats per token, None for an empty reply.
    """
    encoded = [_encode(model, outcome) for outcome in outcomes]
    losses: list[float | None] = [None] * len(outcomes)
    order = sorted(
        (number for number, (_, reply) in enumerate(encoded) if reply),
        key=lambda number: len(encoded[number][0]) + len(encoded[number][1]),
    )
    for start in range(0, len(order), _BATCH_ROWS):
        batch = order[start : start + _BATCH_ROWS]
        means = _mean_losses(model, [encoded[number] for number in batch])
        for number, mean in zip(batch, means, strict=True):
            losses[number] = mean
    return losses


def _encode(model: LoadedModel, outcome: ForcingOutcome) -> tuple[list[int], list[int]]:
    """Return the ids of prompt and reply, cut to the model's context."""
    message = Message("user", outcome.prompt.instructed_text)
    prompt = encode_prompt(model.tokenizer, [message])
    reply = list(model.tokenizer(outcome.reply, add_special_tokens=False)["input_ids"])
    room = context_tokens(model) - len(prompt)
    return prompt, reply[: max(0, room)]


def _mean_losses(model: LoadedModel, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """Run one right-padded batch; padding to the right changes no earlier position."""
    device = input_device(model.model)
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), width), model.tokenizer.pad_token_id or 0)
    attention = torch.zeros_like(ids)
    is_reply = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        attention[row, :end] = 1
        is_reply[row, len(prompt) : end] = True
    with torch.inference_mode():
        logits: Tensor = model.model(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            use_cache=False,
        ).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2).float(), ids[:, 1:].to(logits.device), reduction="none"
    )  # (B, T - 1)
    counted = is_reply[:, 1:].to(losses.device)
    means: list[float] = ((losses * counted).sum(dim=1) / counted.sum(dim=1)).tolist()
    return means
