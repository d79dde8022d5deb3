"""Tests of a vocabulary that stays in 16 bits while the model computes in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from steering.architectures import activation_dtype
from steering.hooks import count_hooks
from steering.loading import load_model
from steering.narrow_vocabulary import NarrowEmbedding, NarrowHead, return_free_memory

MakeModel = Callable[..., PreTrainedModel]

IDS = torch.arange(10, 20).view(2, 5)
WIDE = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture
def save_narrow(
    make_tiny_model: MakeModel, byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Callable[..., str]:
    """Save a tiny model in 16 bits: `save_narrow(family, dtype, **changes of config)`."""

    def save(family: str, dtype: torch.dtype, **changes: int) -> str:
        model = make_tiny_model(family, **changes)
        narrow = type(model)(model.config)
        narrow.load_state_dict(model.state_dict())
        folder = tmp_path / f"{family}-{dtype}"
        narrow.to(dtype).save_pretrained(folder)
        byte_tokenizer.save_pretrained(folder)
        return str(folder)

    return save


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


def widened(model: PreTrainedModel) -> PreTrainedModel:
    """Put plain float32 modules in the place of the narrow ones."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    plain = nn.Embedding.from_pretrained(embedding.weight.float())
    model.set_input_embeddings(plain)
    wide = nn.Linear(head.in_features, head.out_features, bias=False)
    wide.weight.data = head.weight.float()
    model.set_output_embeddings(wide)
    return model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_narrow_vocabulary_changes_no_result(
    quantize: str, dtype: torch.dtype, save_narrow: Callable[..., str]
) -> None:
    """The order of sums may differ between products of other sizes, by some 1e-6 of a logit."""
    model = load_model(save_narrow("llama", dtype, **WIDE), quantize=quantize, device="cpu").model  # type: ignore[arg-type]  # one of the two
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[no-untyped-call]

    assert isinstance(embedding, NarrowEmbedding)
    assert isinstance(head, NarrowHead)
    assert embedding.weight.dtype == head.weight.dtype == dtype
    narrow = logits(model)
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow, logits(widened(model)), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_all_but_the_vocabulary_computes_in_float32(
    family: str, save_narrow: Callable[..., str]
) -> None:
    changes = WIDE if family == "llama" else {**WIDE, "head_dim": 16}
    folder = save_narrow(family, torch.bfloat16, **changes)
    model = load_model(folder, quantize="nf4", device="cpu").model

    narrow = {name for name, weight in model.named_parameters() if weight.dtype == torch.bfloat16}
    expected = {"model.embed_tokens.weight", "lm_head.weight"} if family == "llama" else set()
    assert narrow == expected  # Gemma's embedding scales what it looks up, so it is left alone
    assert activation_dtype(model) == torch.float32
    assert logits(model).dtype == torch.float32
    assert count_hooks(model) == 0


def test_tied_vocabulary_stays_tied(save_narrow: Callable[..., str]) -> None:
    folder = save_narrow("llama", torch.bfloat16, **WIDE, tie_word_embeddings=True)

    model = load_model(folder, quantize="nf4", device="cpu").model

    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # type: ignore[no-untyped-call]


def test_float32_checkpoint_keeps_its_vocabulary(tiny_model_dir: Callable[..., Path]) -> None:
    model = load_model(str(tiny_model_dir("llama", **WIDE)), quantize="nf4", device="cpu").model

    assert type(model.get_input_embeddings()) is nn.Embedding
    assert model.get_input_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize("rows", [1, 511, 512, 513, 1300])
@pytest.mark.parametrize("bias", [False, True])
def test_head_of_any_size_is_a_linear_layer(rows: int, bias: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(rows)
        head = NarrowHead(16, rows, bias=bias)
        states = torch.randn(2, 3, 16)
    head.weight.data = head.weight.data.bfloat16()
    expected = nn.functional.linear(states, head.weight.float(), head.bias)

    with torch.no_grad():
        assert torch.allclose(head(states), expected, atol=1e-5)


def test_files_of_a_loaded_model_may_be_removed(save_narrow: Callable[..., str]) -> None:
    """Nothing of a narrow model is read from its file later on."""
    folder = Path(save_narrow("llama", torch.bfloat16, **WIDE))
    model = load_model(str(folder), quantize="nf4", device="cpu").model
    before = logits(model)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)

    assert torch.equal(logits(model), before)


def test_free_memory_is_returned_without_a_fault() -> None:
    return_free_memory()


def test_library_reads_it_as_plain_as_before(save_narrow: Callable[..., str]) -> None:
    folder = save_narrow("llama", torch.bfloat16, **WIDE)
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)

    model = load_model(folder, quantize="nf4", device="cpu").model

    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert torch.equal(head.weight, stored.get_output_embeddings().weight)
