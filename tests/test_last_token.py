"""What is recorded is the last position of every prompt, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from steering.conversation import Message, encode_prompt
from steering.errors import GenerationError
from steering.hooks import count_hooks
from steering.last_token import record_last_token
from steering.loading import LoadedModel
from tests.oracles import trace_llama

LoadTiny = Callable[..., LoadedModel]

TEXTS = ["Where is the cat?", "Où est donc le chat, mon ami ?", "猫"]


def test_gate_and_value_are_those_of_the_last_position_layer_by_layer(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")

    seen = record_last_token(model, TEXTS)

    assert seen.gate.shape == seen.value.shape == (3, 2, 48)
    for number, text in enumerate(TEXTS):
        trace = trace_llama(model.model, encode_prompt(model.tokenizer, [Message("user", text)]))
        for layer in range(2):
            # Another order of sums: padding and attention in one product.
            assert torch.allclose(seen.gate[number, layer], trace.gate[layer][-1], atol=1e-5)
            assert torch.allclose(seen.value[number, layer], trace.value[layer][-1], atol=1e-5)
    assert count_hooks(model.model) == 0


@pytest.mark.parametrize("family", ["llama", "opt", "gpt2", "bloom", "mixtral"])
def test_a_text_alone_shows_the_same_as_beside_longer_ones(
    load_tiny: LoadTiny, family: str
) -> None:
    model = load_tiny(family)
    together = record_last_token(model, TEXTS)

    for number, text in enumerate(TEXTS):
        alone = record_last_token(model, [text])
        assert torch.allclose(together.gate[number], alone.gate[0], atol=1e-5)
        assert torch.allclose(together.value[number], alone.value[0], atol=1e-5)
    assert not torch.allclose(together.gate[0], together.gate[1], atol=1e-2)


def test_an_empty_text_is_refused_and_leaves_no_hook(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")

    with pytest.raises(GenerationError, match="empty"):
        record_last_token(model, ["fine", " "])

    assert count_hooks(model.model) == 0
