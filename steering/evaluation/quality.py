"""What a reply is worth to the model itself: its likelihood when the prompt asks for the language.

A push that breaks an answer makes it unlikely under the unsteered model that was told in words to
answer in the language. That needs no judge and no right answer. Knows no steering.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from steering.conversation import Message, context_tokens, encode_prompt
from steering.evaluation.forcing import ForcingOutcome, ForcingResult
from steering.hooks import input_device

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_BATCH_ROWS = 16
_LOGIT_BYTES = 256 * 2**20  # of a batch, as float32; a single long row may need more
_FLOAT_BYTES = 4

_Row: TypeAlias = tuple[list[int], list[int]]  # ids of prompt and reply


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
    losses: list[float | None] = [None] * len(outcomes)
    for batch in iter_reply_nll(model, outcomes):
        for place, loss in batch.items():
            losses[place] = loss
    return losses


def iter_reply_nll(
    model: LoadedModel, outcomes: Sequence[ForcingOutcome], *, skip: Collection[int] = ()
) -> Iterator[dict[int, float]]:
    """Yield the numbers of `reply_nll_nats` batch by batch, by place in *outcomes*.

    Logits are computed from the shortest prompt of a batch on, where the family can, and a batch
    holds as many rows as keep them under 256 MiB; it has at least one.

    Args:
        model: From `load_model`; it must not be steered meanwhile.
        outcomes: Prompts and replies; empty replies are left out.
        skip: Places whose number is known.
    """
    encoded = {
        place: row
        for place, outcome in enumerate(outcomes)
        if place not in skip and (row := _encode(model, outcome))[1]
    }
    order = sorted(encoded, key=lambda place: (len(encoded[place][0]), len(encoded[place][1])))
    keeps_last = "logits_to_keep" in inspect.signature(model.model.forward).parameters
    vocabulary = int(model.model.config.get_text_config().vocab_size)
    most = _LOGIT_BYTES // (_FLOAT_BYTES * vocabulary)  # positions of a batch
    while order:
        rows = 1
        while rows < min(len(order), _BATCH_ROWS):
            if (
                _logit_positions([encoded[p] for p in order[: rows + 1]], keeps_last=keeps_last)
                > most
            ):
                break
            rows += 1
        batch, order = order[:rows], order[rows:]
        means = _mean_losses(model, [encoded[place] for place in batch], keeps_last=keeps_last)
        yield dict(zip(batch, means, strict=True))


def _logit_positions(rows: Sequence[_Row], *, keeps_last: bool) -> int:
    """Return for how many positions a batch computes logits, all rows together."""
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    first = min(len(prompt) for prompt, _ in rows) - 1 if keeps_last else 0
    return len(rows) * (width - max(0, first))


def _encode(model: LoadedModel, outcome: ForcingOutcome) -> _Row:
    """Return the ids of prompt and reply, cut to the model's context."""
    message = Message("user", outcome.prompt.instructed_text)
    prompt = encode_prompt(model.tokenizer, [message])
    reply = list(model.tokenizer(outcome.reply, add_special_tokens=False)["input_ids"])
    room = context_tokens(model) - len(prompt)
    return prompt, reply[: max(0, room)]


def _mean_losses(model: LoadedModel, rows: Sequence[_Row], *, keeps_last: bool) -> list[float]:
    """Run one right-padded batch; padding to the right changes no earlier position."""
    device = input_device(model.model)
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    ids = torch.full((len(rows), width), model.tokenizer.pad_token_id or 0)
    attention = torch.zeros_like(ids)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        attention[row, :end] = 1
    first = max(0, min(len(prompt) for prompt, _ in rows) - 1) if keeps_last else 0
    # On a CPU not a number: the slice that transformers takes then isn't contiguous, and torch 2.13
    # copies the whole head for it, which takes seconds per batch in bfloat16.
    kept = torch.arange(first, width) if device.type == "cpu" else width - first
    with torch.inference_mode():
        logits: Tensor = model.model(
            input_ids=ids.to(device),
            attention_mask=attention.to(device),
            use_cache=False,
            **({"logits_to_keep": kept} if keeps_last else {}),
        ).logits  # (B, T - first, vocabulary)
    means = []
    for row, (prompt, reply) in enumerate(rows):
        start = len(prompt) - 1 - first  # predicts the reply's first token
        predicted = logits[row, start : start + len(reply)].float()
        wanted = torch.tensor(reply, device=logits.device)
        means.append(float(torch.nn.functional.cross_entropy(predicted, wanted)))
    return means
