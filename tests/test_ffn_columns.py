"""Columns are those of the weights, whatever the family stores, quantised ones included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from steering.architectures import ARCHITECTURES
from steering.errors import UnsupportedArchitectureError
from steering.ffn_columns import read_columns
from steering.hooks import find_sites
from steering.loading import LoadedModel, Quantize, load_model

LoadTiny = Callable[..., LoadedModel]

TOKENS = [5, 9, 5, 200]
WITHOUT_EXPERTS = [name for name, row in ARCHITECTURES.items() if not row.experts_name]
# Families that read their columns in another order of axes than `nn.Linear`.
TRANSPOSED = {"gpt2"}
# bitsandbytes takes 4-bit weights on the CPU in blocks of 64 x 32 where it has AVX-512 BF16.
WIDE = {"hidden_size": 64, "intermediate_size": 128}


@pytest.mark.parametrize("family", WITHOUT_EXPERTS)
def test_norms_and_products_are_those_of_the_weights_one_by_one(
    load_tiny: LoadTiny, family: str
) -> None:
    model = load_tiny(family)
    downs = find_sites(model.model).down_projections
    head = model.model.get_output_embeddings().weight

    table = read_columns(model, TOKENS)

    assert table.token_ids == (5, 9, 200)
    assert table.projections.shape == (3, *table.norms.shape)
    for layer, down in enumerate(downs):
        weight = down.weight if family in TRANSPOSED else down.weight.T  # (N, H)
        for index in (0, 1, len(weight) - 1):
            column = weight[index].double()
            # In float32, after a bias was added and taken off again.
            assert float(table.norms[layer, index]) == pytest.approx(
                float((column * column).sum().sqrt()), abs=1e-4
            )
            for place, token in enumerate(table.token_ids):
                product = float((column * head[token].double()).sum())
                assert float(table.projections[place, layer, index]) == pytest.approx(
                    product, abs=1e-4
                )


def test_projections_come_in_the_order_that_is_asked_for(load_tiny: LoadTiny) -> None:
    table = read_columns(load_tiny("llama"), TOKENS)

    assert torch.equal(table.projections_of([200, 5, 5]), table.projections[[2, 0, 0]])


def test_without_tokens_there_are_norms_alone(load_tiny: LoadTiny) -> None:
    table = read_columns(load_tiny("llama"))

    assert table.norms.shape == (2, 48)
    assert table.projections.shape == (0, 2, 48)


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_quantised_columns_are_what_the_model_computes_with(
    quantize: Quantize, tiny_model_dir: Callable[..., Path]
) -> None:
    folder = tiny_model_dir("llama", **WIDE)
    plain = read_columns(load_model(str(folder), quantize="none", device="cpu"), TOKENS)
    model = load_model(str(folder), quantize=quantize, device="cpu")

    table = read_columns(model, TOKENS)

    assert table.norms.shape == plain.norms.shape
    assert not torch.allclose(table.norms, plain.norms, atol=1e-4)
    # Rounding to 4 bits moves a column by a tenth of its length at most.
    assert torch.allclose(table.norms, plain.norms, rtol=0.15)
    down = find_sites(model.model).down_projections[1]
    units = torch.zeros(1, 128, dtype=model.model.dtype)
    units[0, 7] = 2
    with torch.inference_mode():
        assert float(down(units).float().norm()) == pytest.approx(
            2 * float(table.norms[1, 7]), rel=0.02
        )


def test_experts_are_refused_in_words(load_tiny: LoadTiny) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"'4' experts.*without experts"):
        read_columns(load_tiny("mixtral"))
