"""Models whose layers lie in several places: what `--device auto` makes of one that is too large.

Here there is one device, so weights wait outside it (in memory or on disk) until their module runs,
as they do beside a GPU that is too small. `tests/gpu/test_several_devices.py` has real ones.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from transformers import AutoModelForCausalLM

from steering.cli.arguments import add_model_arguments, load_chosen_model
from steering.corpus import open_corpus
from steering.errors import ModelLoadError, SettingsError
from steering.evaluation.perplexity import mean_nll_nats
from steering.generation import generate
from steering.hooks import input_device
from steering.loading import LoadedModel, load_model
from steering.recording import record
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, PHASES
from steering.token_choice import Sampling
from tests.toy import EN, FR, make_random_plan

LoadTiny = Callable[..., LoadedModel]
MakeFolder = Callable[..., Path]

IDS = torch.arange(10, 20).view(2, 5)
FAMILIES = ("llama", "mixtral", "opt", "gpt2")


@pytest.fixture(params=["memory", "disk"])
def offload(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[LoadedModel], LoadedModel]:
    """Put a copy's weights elsewhere; on no device are they then, as long as no module runs."""

    def put(model: LoadedModel) -> LoadedModel:
        network, place = copy.deepcopy(model.model), torch.device("cpu")
        if request.param == "memory":
            cpu_offload(network, execution_device=place, offload_buffers=False)
        else:
            disk_offload(network, str(tmp_path / "offload"), execution_device=place)
        assert network.device.type == "meta"
        return replace(model, model=network)

    return put


@pytest.mark.parametrize("family", FAMILIES)
def test_model_whose_weights_wait_elsewhere_is_recorded_as_ever(
    family: str, load_tiny: LoadTiny, offload: Callable[[LoadedModel], LoadedModel], tmp_path: Path
) -> None:
    model = load_tiny(family)
    for code, text in (("fr", "Le chat dort.\nOui"), ("en", "the cat sleeps")):
        (tmp_path / f"{code}.txt").write_text(text, encoding="utf-8")
    corpus = open_corpus(tmp_path, [FR, EN], kind="text")

    whole, parts = (record(one, [FR, EN], [corpus]).stats for one in (model, offload(model)))

    for language in (FR, EN):
        one, other = whole.phases["text"][language], parts.phases["text"][language]
        assert torch.equal(one.active_count, other.active_count)
        assert torch.equal(one.value_sum, other.value_sum)
        assert torch.equal(one.residual_sum, other.residual_sum)


@pytest.mark.parametrize("family", FAMILIES)
def test_model_whose_weights_wait_elsewhere_is_steered_as_ever(
    family: str, load_tiny: LoadTiny, offload: Callable[[LoadedModel], LoadedModel]
) -> None:
    model = load_tiny(family)
    plans = [make_random_plan(1, *PHASES), NO_STEERING]

    def run(one: LoadedModel) -> torch.Tensor:
        with torch.no_grad(), steered(one.model, plans):
            logits: torch.Tensor = one.model(input_ids=IDS.to(input_device(one.model))).logits
        return logits

    parts = offload(model)
    assert torch.equal(run(parts), run(model))
    assert mean_nll_nats(parts, IDS, plans[0]) == mean_nll_nats(model, IDS, plans[0])


def test_model_whose_weights_wait_elsewhere_answers_as_ever(
    load_tiny: LoadTiny, offload: Callable[[LoadedModel], LoadedModel]
) -> None:
    model = load_tiny("llama")

    def answer(one: LoadedModel) -> list[str]:
        with steered(one.model, [make_random_plan(1, *PHASES)]):
            return generate(one, ["Hello"], sampling=Sampling(max_new_tokens=8, temperature=1.0))

    assert answer(offload(model)) == answer(model) != [""]


def load_with(*arguments: str, device: str | None = None) -> LoadedModel:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return load_chosen_model(parser.parse_args(arguments), device=device)


def test_auto_is_the_one_device_where_there_is_no_gpu(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = str(tiny_model_dir("llama"))

    model = load_with("--model", folder, "--quantize", "none", "--device", "auto").model

    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_auto_lets_the_library_spread_the_layers_where_there_are_gpus(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    read = AutoModelForCausalLM.from_pretrained

    def note(place: object, *, device_map: object, **options: object) -> object:
        seen["device_map"] = device_map
        return read(place, device_map={"": "cpu"}, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", note)

    load_model(str(tiny_model_dir("llama")), quantize="none", device="auto")

    assert seen == {"device_map": "auto"}


@pytest.mark.parametrize("device", ["gpu", "cuda:x", ""])
def test_device_that_does_not_exist_is_refused(device: str, tiny_model_dir: MakeFolder) -> None:
    with pytest.raises(ModelLoadError, match=f"'{device}': there is no such device.*'auto'"):
        load_model(str(tiny_model_dir("llama")), quantize="none", device=device)


def test_device_beside_several_processes_is_refused() -> None:
    with pytest.raises(SettingsError, match="`--device` is 'auto', but several processes"):
        load_with("--device", "auto", device="cuda:1")


def test_quantised_model_that_does_not_fit_on_the_gpus_is_refused_in_words(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise ValueError("Some modules are dispatched on the CPU or the disk. Make sure you have")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)

    with pytest.raises(ModelLoadError, match="does not fit on the GPUs, and quantised weights"):
        load_model(str(tiny_model_dir("llama")), quantize="nf4", device="auto")
