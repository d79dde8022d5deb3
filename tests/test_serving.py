"""Tests of what a person is told when the page cannot be opened, and of how the program ends."""

from __future__ import annotations

import json
import re
import runpy
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

import steering.serving
from steering.bundled import BUNDLED_NEURON_SET
from steering.errors import ModelLoadError, NeuronSetMismatchError, SettingsError
from steering.loading import load_model
from steering.neuron_set import OtherWeights
from steering.neuron_set_file import load_neuron_set
from steering.serving import _load, _shipped_for, _start_engine, serve
from steering.settings import Settings
from steering.zero_gpu import ZeroGpuEngine, lent_s
from tests.asking import ask
from tests.started import ROOT, app_process, free_port, wait_for
from tests.toy import make_toy_set


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose model cannot be loaded, so that nothing but the page takes time."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise ModelLoadError("No model.")

    monkeypatch.setattr(steering.serving, "_load", refuse)
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free_port()))
    return Settings(neuron_set=None, data=tmp_path)


def test_a_page_that_does_not_answer_in_time_is_told_in_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradio.networking.url_ok", lambda _: False)  # what Gradio asks itself

    with pytest.raises(SettingsError, match=r"does not answer.*ValueError.*less busy") as caught:
        serve(settings)

    assert f"port '{settings.server_port}'" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception("Couldn't start\nthe app"), "(Exception: Couldn't start the app)"),
        (OSError("Cannot find empty port"), "If nothing does, the machine was too busy"),
    ],
)
def test_whatever_goes_wrong_in_opening_is_told_in_words(
    error: Exception, said: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_page: object, **_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(steering.serving, "open_page", fail)

    with pytest.raises(SettingsError, match=re.escape(said)):
        serve(settings)


def test_the_model_is_loaded_once_the_page_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = threading.Event()
    monkeypatch.setattr(steering.serving, "load_model", lambda *_, **__: loading.set())
    may_load = threading.Event()

    engine = _start_engine(Settings(), None, may_load, [])

    assert not loading.wait(0.2)
    may_load.set()
    assert loading.wait(5)
    engine.close(timeout_s=5)


def test_ctrl_c_before_the_page_is_open_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: Settings) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(steering.serving, "serve", interrupt)

    assert runpy.run_path(str(ROOT / "app.py"))["main"]() == 130

    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_program_ends_within_ten_seconds_whatever_is_being_written(
    sign: signal.Signals, tmp_path: Path, save_tiny_model: Callable[..., Path]
) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama", num_hidden_layers=24)
    output = tmp_path / "output.txt"
    settings = {"LANGSTEER_MODEL": str(folder), "LANGSTEER_QUANTIZE": "none",
                "LANGSTEER_MAX_NEW_TOKENS": "2000", "LANGSTEER_DATA": str(tmp_path / "data"),
                "LANGSTEER_LANGUAGES": "en,fr"}  # fmt: skip
    body = {"model": "langsteer", "messages": [{"role": "user", "content": "Hi"}], "stream": True}

    with app_process(output, **settings) as (process, url):
        wait_for(lambda: httpx.get(f"{url}healthz").json()["status"] == "ready")
        with httpx.stream("POST", f"{url}v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            httpx.post(f"{url}gradio_api/call/v2/chat", json={"message": "Hi"}).raise_for_status()
            process.send_signal(sign)
            began = time.monotonic()
            events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        process.wait(20)
        took_s = time.monotonic() - began

    assert took_s < 10
    assert process.returncode == 0
    assert json.loads(events[-1])["error"]["code"] == "shutting_down"
    assert "Traceback" not in output.read_text()


def test_a_space_that_lends_gpus_needs_a_neuron_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, save_tiny_model: Callable[..., Path]
) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free_port()))
    settings = Settings(model=str(folder), neuron_set=None)

    with pytest.raises(SettingsError, match="none can be made on ZeroGPU"):
        serve(settings)


def test_a_space_that_lends_gpus_loads_before_the_page_and_plainly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lent: list[object] = []
    spaces = types.ModuleType("spaces")
    spaces.GPU = lambda **how: lent.append(how) or (lambda task: task)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")

    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    engine = _start_engine(Settings(), neurons, threading.Event(), [])

    assert isinstance(engine, ZeroGpuEngine)
    assert engine.model().identity.layers == 6
    assert lent == [{"duration": lent_s}]
    assert engine.reply(ask("Where is the cat?", tokens=4)).new_tokens == 4


def test_a_space_that_lends_gpus_finds_the_set_that_ships_for_its_model_by_name() -> None:
    assert _shipped_for("bundled") == BUNDLED_NEURON_SET


def test_a_base_model_is_refused_with_what_can_be_done_with_it(
    tmp_path: Path, save_tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    (folder / "chat_template.jinja").unlink()
    settings = Settings(model=str(folder), quantize="none", neuron_set=None)

    with pytest.raises(ModelLoadError, match=r"no chat template.*evaluate perplexity"):
        _load(settings, None, [])

    assert "it is a base model" in caplog.text


def test_a_set_of_other_weights_is_used_and_said(
    tmp_path: Path, save_tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    settings = Settings(model=str(folder), quantize="none", neuron_set=None)
    identity = load_model(str(folder), quantize="none").identity
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight"):
        weights[name] = torch.linspace(0.5, 1.5, 32)
    save_file(weights, file, metadata={"format": "pt"})
    made_on = 1.01 * weights["model.norm.weight"] + 0.01 * torch.arange(32) / 32
    norms = torch.stack([made_on, torch.ones(32).cumsum(0)])
    warnings: list[OtherWeights] = []

    _load(settings, make_toy_set(replace(identity, norm_weights=norms)), warnings)

    assert [one.made_for for one in warnings] == [str(folder)]
    assert "made on another copy" in caplog.text


def test_a_set_of_a_sibling_is_refused_on_the_console_and_the_page(
    tmp_path: Path, save_tiny_model: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    settings = Settings(model=str(folder), quantize="none", neuron_set=None)
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight"):
        weights[name] = torch.linspace(0.5, 1.5, 32)
    save_file(weights, file, metadata={"format": "pt"})
    identity = load_model(str(folder), quantize="none").identity
    sibling = replace(identity, model_id="org/sibling", norm_weights=torch.rand(2, 32))

    with pytest.raises(NeuronSetMismatchError, match=r"'org/sibling'.*the final norms differ"):
        _load(settings, make_toy_set(sibling), [])

    assert "the final norms differ" in caplog.text
