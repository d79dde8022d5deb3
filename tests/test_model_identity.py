"""Tests of what a neuron set is compared with: the norms of every family, in every format."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from steering.architectures import ARCHITECTURES, Architecture
from steering.loading import Quantize, load_model
from steering.model_identity import read_norm_weights


def train_norms(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy whose normalisations have weights of their own, as after training."""
    trained = copy.deepcopy(model)
    random = torch.Generator().manual_seed(7)
    for _, parameter in trained.named_parameters():
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=random))
    return trained


def test_norms_of_every_family_are_those_before_its_logits_and_in_its_first_layer(
    family: str, tiny_model: PreTrainedModel
) -> None:
    trained, row = train_norms(tiny_model), ARCHITECTURES[family]

    weights = read_norm_weights(trained, row)

    assert weights is not None
    assert weights.dtype == torch.float32
    final = trained.get_submodule(row.final_norm_path)
    first = trained.get_submodule(row.layers_path)[0].get_submodule(row.layer_norm_name)  # type: ignore[index]  # a list of layers
    assert torch.equal(weights, torch.stack([final.weight, first.weight]).float())


def test_the_final_norm_of_every_family_is_the_last_that_changes_the_stream(
    family: str, tiny_model: PreTrainedModel
) -> None:
    """What leaves it enters the projection to the logits."""
    row, left, entered = ARCHITECTURES[family], [], []
    final = tiny_model.get_submodule(row.final_norm_path)
    head = tiny_model.get_output_embeddings()  # type: ignore[no-untyped-call]  # unannotated
    assert head is not None
    hooks = [
        final.register_forward_hook(lambda _, __, output: left.append(output)),
        head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0])),
    ]
    try:
        tiny_model(input_ids=torch.arange(10, 20).view(2, 5))
    finally:
        for hook in hooks:
            hook.remove()

    assert torch.equal(left[-1], entered[-1])


def test_norms_that_were_never_trained_tell_nothing(
    family: str, tiny_model: PreTrainedModel
) -> None:
    assert read_norm_weights(tiny_model, ARCHITECTURES[family]) is None


def test_a_model_without_such_a_norm_has_none(
    make_tiny_model: Callable[..., PreTrainedModel],
) -> None:
    elsewhere = Architecture(model_type="llama", final_norm_path="model.no_such_norm")

    assert read_norm_weights(make_tiny_model("llama"), elsewhere) is None


@pytest.fixture
def trained_folder(
    tmp_path: Path,
    save_tiny_model: Callable[..., Path],
    make_tiny_model: Callable[..., PreTrainedModel],
) -> Path:
    """A tiny Llama wide enough for 4 bits, stored in bfloat16 as most checkpoints are."""
    sizes = {"hidden_size": 64, "intermediate_size": 128}
    folder = save_tiny_model(tmp_path / "model", "llama", **sizes)
    train_norms(make_tiny_model("llama", **sizes)).bfloat16().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("quantize", "dtype"),
    [
        ("none", torch.bfloat16),
        ("none", torch.float16),
        ("none", torch.float32),
        ("nf4", torch.float32),
        ("nf4", torch.bfloat16),
        ("int8", torch.float32),
    ],
    ids=str,
)
def test_the_norms_are_the_same_in_every_format(
    quantize: Quantize, dtype: torch.dtype, trained_folder: Path
) -> None:
    plain = load_model(str(trained_folder), quantize="none").identity.norm_weights
    loaded = load_model(str(trained_folder), quantize=quantize, dtype=dtype).identity.norm_weights

    assert plain is not None
    assert loaded is not None
    assert torch.equal(loaded, plain)
