"""Tests of the settings that the page is started with."""

import os
from pathlib import Path

import pytest

from demo_model.grammar.parsing import parse
from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_QUESTIONS
from steering.errors import SettingsError
from steering.settings import read_settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("LANGSTEER_", "GRADIO_", "SPACE")):
            monkeypatch.delenv(name)


def test_without_settings_the_bundled_model_is_served_to_this_machine() -> None:
    settings = read_settings()

    assert settings.model == "bundled"
    assert settings.neuron_set == BUNDLED_NEURON_SET
    assert settings.quantize is None
    assert settings.device is None
    assert (settings.time_limit, settings.max_rows, settings.max_waiting) == (120, 16, 32)
    assert settings.api_key.get_secret_value() == ""
    assert (settings.server_name, settings.server_port) == ("127.0.0.1", 7860)


def test_every_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "LANGSTEER_MODEL": "org/model",
        "LANGSTEER_NEURON_SET": "sets/model.safetensors",
        "LANGSTEER_QUANTIZE": "int8",
        "LANGSTEER_MAX_NEW_TOKENS": "64",
        "LANGSTEER_TIME_LIMIT": "2.5",
        "LANGSTEER_MAX_ROWS": "4",
        "LANGSTEER_MAX_WAITING": "7",
        "LANGSTEER_API_KEY": "s3cret",
        "LANGSTEER_DEVICE": "cpu",
        "LANGSTEER_DATA": "kept",
        "LANGSTEER_LANGUAGES": "en, fr,ja,fr",
        "GRADIO_SERVER_NAME": "0.0.0.0",  # noqa: S104 - nothing listens here
        "GRADIO_SERVER_PORT": "8123",
    }.items():
        monkeypatch.setenv(name, value)

    settings = read_settings()

    assert settings.model == "org/model"
    assert settings.neuron_set == Path("sets/model.safetensors")
    assert settings.quantize == "int8"
    assert settings.max_new_tokens == 64
    assert (settings.time_limit, settings.max_rows, settings.max_waiting) == (2.5, 4, 7)
    assert settings.api_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)
    assert settings.device == "cpu"
    assert settings.data == Path("kept")
    assert [str(one) for one in settings.chosen_languages()] == ["en", "fr", "ja"]
    assert (settings.server_name, settings.server_port) == ("0.0.0.0", 8123)  # noqa: S104 - as above


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LANGSTEER_MODLE", "x", "Did you mean LANGSTEER_MODEL?"),
        ("LANGSTEER_FOO_BAR_BAZ", "x", "Remove it."),
        ("LANGSTEER_QUANTIZE", "nf5", "'LANGSTEER_QUANTIZE' is 'nf5'. Expected 'nf4', 'int8'"),
        ("LANGSTEER_MAX_NEW_TOKENS", "many", "'LANGSTEER_MAX_NEW_TOKENS' is 'many'"),
        ("LANGSTEER_MAX_NEW_TOKENS", "0", "greater than or equal to 1"),
        ("LANGSTEER_TIME_LIMIT", "0", "greater than 0"),
        ("LANGSTEER_TIME_LIMIT", "inf", "a finite number"),
        ("LANGSTEER_MAX_ROWS", "0", "greater than or equal to 1"),
        ("LANGSTEER_MAX_WAITING", "-1", "greater than or equal to 1"),
        ("LANGSTEER_LANGUAGES", "en,jp", "'LANGSTEER_LANGUAGES' is 'en,jp': Unknown language"),
        ("LANGSTEER_LANGUAGES", "en", "Expected at least two codes"),
        ("LANGSTEER_LANGUAGES", "en,en", "Expected at least two codes"),
        ("LANGSTEER_LANGUAGES", ",", "Expected at least two codes"),
        ("GRADIO_SERVER_PORT", "http", "'GRADIO_SERVER_PORT' is 'http'"),
        ("GRADIO_SERVER_PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_nonsense_is_refused_in_words(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        read_settings()

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_problems_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSTEER_MODLE", "x")
    monkeypatch.setenv("LANGSTEER_QUANTIZE", "nf5")

    with pytest.raises(SettingsError, match=r"LANGSTEER_MODLE.*LANGSTEER_QUANTIZE"):
        read_settings()


def test_a_model_without_a_named_set_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSTEER_MODEL", "org/model")

    assert read_settings().neuron_set is None


def test_what_the_page_keeps_lies_where_the_system_keeps_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = read_settings().data
    monkeypatch.setenv("XDG_DATA_HOME", "/data")

    assert usual == tmp_path / ".local" / "share" / "langsteer"
    assert read_settings().data == Path("/data/langsteer")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSTEER_QUANTIZE", "")

    assert read_settings().quantize is None


@pytest.mark.parametrize("question", BUNDLED_QUESTIONS)
def test_an_example_question_is_one_of_the_grammar(question: str) -> None:
    found = parse(question, side="ask")

    assert found is not None
    assert found.frame != "something_else"


def test_on_a_space_the_default_is_a_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/langsteer")
    monkeypatch.setenv("LANGSTEER_DEVICE", "cpu")

    settings = read_settings()

    assert settings.model == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert settings.neuron_set is None
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert read_settings().model == "Qwen/Qwen2.5-Coder-1.5B-Instruct"


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_space_with_a_gpu_serves_the_larger_model_in_4_bit(
    has_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "me/langsteer")
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)

    settings = read_settings()

    assert settings.model == f"Qwen/Qwen2.5-Coder-{'1.5' if has_gpu else '0.5'}B-Instruct"
    assert settings.quantize is None  # which is nf4, but for the bundled model


@pytest.mark.parametrize(
    ("name", "value", "model"),
    [
        ("LANGSTEER_MODEL", "bundled", "bundled"),
        ("LANGSTEER_MODEL", "org/model", "org/model"),
        ("LANGSTEER_NEURON_SET", "neuron_sets/bundled.safetensors", "bundled"),
    ],
)
def test_what_is_named_wins_on_a_space_too(
    name: str, value: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "me/langsteer")
    monkeypatch.setenv(name, value)

    assert read_settings().model == model
