"""`compare-sets` where a set cannot steer, where it dies midway, and on text of the model's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.cli import compare_sets
from steering.cli.main import main
from steering.loading import load_model
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import save_neuron_set
from tests.test_report_command import count_measurements
from tests.toy import TOY_LANGUAGES, make_toy_set

Run = Callable[..., int]
PLANS = 2 * len(TOY_LANGUAGES) + 1
OWN_TEXT = ["--perplexity", "--rows", "1", "--row-tokens", "24"]


def without_onset(neurons: NeuronSet) -> NeuronSet:
    """The set as if it were recorded on plain text alone."""
    counts = {"text": neurons.metadata.token_counts["text"]}
    return replace(
        neurons,
        metadata=neurons.metadata.model_copy(update={"token_counts": counts}),
        control=None,
        gate_means={"text": neurons.gate_means["text"]},
        value_means={"text": neurons.value_means["text"]},
        residual_means={"text": neurons.residual_means["text"]},
    )


@pytest.fixture
def compare(tiny_model_dir: Callable[..., Path], tmp_path: Path) -> Run:
    """Compare sets of a tiny model by name: `one`, `two`, and `text`, which cannot steer."""
    model = tiny_model_dir("llama")
    identity = load_model(str(model), quantize="none").identity
    sets = {"one": make_toy_set(identity), "two": make_toy_set(identity, seed=3)}
    sets["text"] = without_onset(make_toy_set(identity, seed=5))
    for name, neurons in sets.items():
        save_neuron_set(neurons, tmp_path / f"{name}.safetensors")
    text = tmp_path / "text"
    text.mkdir()
    for language in TOY_LANGUAGES:
        line = f"The cat sleeps on the sofa of {language}.\n"
        (text / f"{language}.txt").write_text(line * 20, encoding="utf-8")

    def run(*arguments: object) -> int:
        named = [tmp_path / f"{one}.safetensors" if one in sets else one for one in arguments]
        return main(["compare-sets", *map(str, named), "--model", str(model), "--quantize", "none"])

    return run


@pytest.fixture
def on_text(tmp_path: Path) -> list[object]:
    return ["--perplexity", tmp_path / "text", "--rows", 2, "--row-tokens", 16]


def test_a_set_that_cannot_steer_is_named_before_and_the_others_are_measured(
    compare: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"

    assert compare("one", "text", "two", "--forcing", 2, "--json", out) == 0

    shown = capsys.readouterr().out
    note = "`text` was left out: This neuron set has no means for phase 'onset'"
    assert 0 < shown.index(note) < shown.index("| method |")
    numbers = json.loads(out.read_text())
    assert list(numbers["forcing"]) == ["none", "one", "two"]
    assert [one[: len(note)] for one in numbers["forcing_notes"]] == [note]


def test_sets_none_of_which_can_steer_are_refused_before_anything_is_measured(
    compare: Run, on_text: list[object], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    done = count_measurements(monkeypatch)

    assert compare("text", "text", "--forcing", 2, *on_text) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: `")
    assert "was left out: This neuron set has no means" in error
    assert not done


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_what_was_measured_outlives_what_fails_after_it(
    compare: Run, on_text: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    finished: int,
) -> None:  # fmt: skip
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    assert compare("one", "two", *on_text, "--forcing", 2, "--json", whole) == 0
    with monkeypatch.context() as patch:
        patch.setattr(compare_sets, "run_forcing", interrupt)
        count_measurements(patch, kill_after=finished * PLANS * len(TOY_LANGUAGES) + 1)
        assert compare("one", "two", *on_text, "--forcing", 2, "--json", out) == 130

    expected, numbers = json.loads(whole.read_text()), json.loads(out.read_text())
    assert (expected["is_complete"], numbers["is_complete"]) == (True, False)
    assert numbers["pairs"] == expected["pairs"]
    names = ["one", "two"][:finished]
    assert numbers.get("perplexity", {}) == {name: expected["perplexity"][name] for name in names}
    assert "forcing" not in numbers


def interrupt(*_: object, **__: object) -> Iterator[object]:
    raise KeyboardInterrupt


def test_the_bundled_model_has_text_of_its_own(tmp_path: Path) -> None:
    """One row of 24 tokens: the same losses as `evaluate perplexity` on the same dialogues."""
    both, alone = tmp_path / "both.json", tmp_path / "alone.json"
    sets = [str(BUNDLED_NEURON_SET), str(BUNDLED_PAPER_SET)]

    assert main(["compare-sets", *sets, *OWN_TEXT, "--json", str(both)]) == 0
    assert main(["evaluate", "perplexity", *OWN_TEXT[1:], "--json", str(alone)]) == 0

    found = json.loads(both.read_text())["perplexity"]
    expected = json.loads(alone.read_text())
    assert list(found) == ["bundled", "bundled-paper"]
    assert found["bundled-paper"]["lape"] == expected["lape"]
    assert found["bundled-paper"]["random"] == expected["random"]
    assert found["bundled"]["lape"] != expected["lape"]


def test_another_model_needs_text_of_its_own(
    compare: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare("one", "two", "--perplexity") == 1

    assert "`--perplexity TEXT` is missing, and the model is" in capsys.readouterr().err
