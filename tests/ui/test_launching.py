"""Tests of what a person is told when the page cannot be opened."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import NoReturn

import gradio as gr
import pytest

import steering.ui.launching
from steering.errors import ModelLoadError, SettingsError
from steering.settings import Settings
from steering.ui.launching import serve
from tests.started import ROOT, free_port


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose model cannot be loaded, so that nothing but the page takes time."""

    def refuse(*_: object) -> NoReturn:
        raise ModelLoadError("No model.")

    monkeypatch.setattr(steering.ui.launching, "_load", refuse)
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
    def fail(_page: gr.Blocks, **_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(steering.ui.launching, "open_page", fail)

    with pytest.raises(SettingsError, match=re.escape(said)):
        serve(settings)


def test_ctrl_c_before_the_page_is_open_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: Settings) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(steering.ui.launching, "serve", interrupt)

    assert runpy.run_path(str(ROOT / "app.py"))["main"]() == 130

    assert capsys.readouterr().err == "stopped\n"
