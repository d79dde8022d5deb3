"""Layers on a GPU and elsewhere at the same time: recorded and steered as on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model

from steering.corpus import open_corpus
from steering.hooks import input_device
from steering.loading import LoadedModel, load_model
from steering.recording import record
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, PHASES
from tests.toy import EN, FR, make_random_plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]

IDS = torch.arange(20).view(2, 10)
SECOND_PLACES = [
    pytest.param("cpu", id="memory"),
    pytest.param(
        1,
        id="second-gpu",
        marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs"),
    ),
]


def load_split(folder: Path, second: int | str) -> LoadedModel:
    """Put all but the second of two layers on the first GPU."""
    loaded = load_model(str(folder), quantize="none", device="cpu")
    places = {
        "model.embed_tokens": 0,
        "model.layers.0": 0,
        "model.layers.1": second,
        "model.norm": 0,
        "model.rotary_emb": 0,
        "lm_head": 0,
    }
    return replace(loaded, model=dispatch_model(loaded.model, places))


def run(model: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model.model(input_ids=IDS.to(input_device(model.model))).logits
    return logits.cpu()


@pytest.mark.parametrize("second", SECOND_PLACES)
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_split_model_is_steered_row_by_row(
    family: str, second: int | str, tiny_model_dir: Callable[..., Path]
) -> None:
    folder = tiny_model_dir(family)
    split, whole = load_split(folder, second), load_model(str(folder), quantize="none")
    plans = [make_random_plan(0, *PHASES), NO_STEERING]

    plain = run(split)
    with steered(split.model, plans):
        mixed = run(split)
    with steered(whole.model, plans):
        expected = run(whole)

    assert torch.allclose(mixed, expected, atol=1e-3)  # float32 products in other kernels
    assert not torch.allclose(mixed[0], plain[0], atol=1e-3)


@pytest.mark.parametrize("second", SECOND_PLACES)
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_split_model_is_recorded_as_on_one_device(
    family: str, second: int | str, tiny_model_dir: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_model_dir(family)
    for code, text in (("fr", "Le chat dort.\nOui"), ("en", "the cat sleeps")):
        (tmp_path / f"{code}.txt").write_text(text, encoding="utf-8")
    corpus = open_corpus(tmp_path, [FR, EN], kind="text")
    models = (load_split(folder, second), load_model(str(folder), quantize="none"))

    split, whole = (record(one, [FR, EN], [corpus]).stats.phases["text"][FR] for one in models)

    assert torch.equal(split.token_id_count, whole.token_id_count)
    assert torch.allclose(split.value_sum, whole.value_sum, atol=1e-2)
    assert torch.allclose(split.residual_sum, whole.residual_sum, atol=1e-2)


def test_auto_loads_and_answers(tiny_model_dir: Callable[..., Path]) -> None:
    folder = tiny_model_dir("llama")

    model = load_model(str(folder), quantize="none", device="auto")

    whole = load_model(str(folder), quantize="none", device="cuda")
    assert torch.allclose(run(model), run(whole), atol=1e-3)
