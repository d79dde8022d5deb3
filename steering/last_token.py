"""Records activations at one position of a prompt, the last one, neuron by neuron.

That position predicts the answer's first token. Knows texts and activations, not languages or
what is done with them. Never changes the model.
Dimension key: B texts, L layers, N neurons per layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.architectures import Site
from steering.conversation import Message, fit_prompt
from steering.hooks import TensorEdit, attached, find_sites, input_device

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_ANSWER_TOKENS = 1  # a prompt that is longer than the context leaves room for so many


@dataclass(frozen=True, slots=True)
class LastTokenActivations:
    """What the last position of every prompt showed, float32 `(texts, layers, neurons)` each.

    Args:
        gate: Output of the activation function.
        value: What enters the down projection.
    """

    gate: Tensor
    value: Tensor


def record_last_token(model: LoadedModel, texts: Sequence[str]) -> LastTokenActivations:
    """Run the texts as a person's messages, in one batch, and keep the last position of each.

    Args:
        model: From `load_model`; left as it was.
        texts: Put into the model's chat template, if it has one; the last position is then the
            template's own last token, the same in every prompt.

    Raises:
        GenerationError: If a text is empty or the template refuses it.
    """
    network = model.model
    rows = [
        fit_prompt(model, [Message("user", text)], answer_tokens=_ANSWER_TOKENS).token_ids
        for text in texts
    ]
    ids = torch.full((len(rows), max(map(len, rows))), model.tokenizer.pad_token_id or 0)
    attention = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padding to the right changes no earlier position
        ids[number, : len(row)] = torch.tensor(row)
        attention[number, : len(row)] = 1
    last_B = attention.sum(dim=1) - 1
    sites, device = find_sites(network), input_device(network)
    kept: dict[Site, list[Tensor]] = {"gate": [], "value": []}  # layer after layer

    def keep(site: Site) -> TensorEdit:
        def note(_layer: int, activation: Tensor) -> None:
            at = activation[torch.arange(len(rows)), last_B.to(activation.device)]
            kept[site].append(at.float().cpu())

        return note

    with torch.inference_mode(), attached(sites, {site: keep(site) for site in kept}):
        network.base_model(
            input_ids=ids.to(device), attention_mask=attention.to(device), use_cache=False
        )
    return LastTokenActivations(*(torch.stack(kept[site], dim=1) for site in ("gate", "value")))
