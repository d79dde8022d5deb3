"""`evaluate perplexity` as a command: killed and resumed, drawn, on the bundled dialogues."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.cli import held_out_text
from steering.cli.main import main
from steering.evaluation import perplexity
from steering.loading import load_model
from steering.neuron_set_file import save_neuron_set
from tests.toy import TOY_LANGUAGES, make_toy_set

PLANS = 2 * len(TOY_LANGUAGES) + 1
Run = Callable[..., int]


@pytest.fixture
def measure(tiny_model_dir: Callable[..., Path], tmp_path: Path) -> Run:
    """Run the command on a tiny model, with its set and text; more arguments may follow."""
    model = tiny_model_dir("llama")
    neurons, text = tmp_path / "toy.safetensors", tmp_path / "text"
    save_neuron_set(make_toy_set(load_model(str(model), quantize="none").identity), neurons)
    text.mkdir()
    for language in TOY_LANGUAGES:
        line = f"The cat sleeps on the sofa of {language}.\n"
        (text / f"{language}.txt").write_text(line * 20, encoding="utf-8")
    options = ["--model", model, "--quantize", "none", "--neuron-set", neurons, "--text", text]
    options += ["--rows", "2", "--row-tokens", "16"]
    return lambda *more: main(["evaluate", "perplexity", *map(str, [*options, *more])])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect every measured loss."""
    losses: list[float] = []
    real = perplexity.mean_nll_nats

    def collect(*arguments: object, **options: object) -> float:
        losses.append(real(*arguments, **options))  # type: ignore[arg-type]  # as they come
        return losses[-1]

    monkeypatch.setattr(perplexity, "mean_nll_nats", collect)
    return losses


def kill_after(monkeypatch: pytest.MonkeyPatch, measurements: int) -> None:
    """Let the command die as on Ctrl-C after so many measurements."""
    real, done = perplexity.mean_nll_nats, []

    def measure(*arguments: object, **options: object) -> float:
        if len(done) == measurements:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]  # as they come

    monkeypatch.setattr(perplexity, "mean_nll_nats", measure)


@pytest.mark.parametrize("finished", [0, 1, 4, PLANS - 1])
def test_killed_anywhere_it_ends_with_the_same_numbers_and_measures_no_plan_twice(
    measure: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[float],
    finished: int,
) -> None:  # fmt: skip
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    assert measure("--json", whole) == 0
    with monkeypatch.context() as patch:
        kill_after(patch, finished * len(TOY_LANGUAGES) + 2)
        assert measure("--json", out) == 130
    assert not out.exists()
    assert (tmp_path / "out.json.part.json").exists() == (finished > 0)
    measured.clear()

    assert measure("--json", out, "--resume") == 0

    numbers, expected = json.loads(out.read_text()), json.loads(whole.read_text())
    for name in ("made_at", "command"):
        assert numbers.pop(name)
        del expected[name]
    assert numbers == expected
    assert len(measured) == (PLANS - finished) * len(TOY_LANGUAGES)
    assert not list(tmp_path.glob("*.part.json"))


def test_without_resume_everything_is_measured_anew(
    measure: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[float]
) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, 12)
        measure("--json", tmp_path / "out.json")
    measured.clear()

    assert measure("--json", tmp_path / "out.json") == 0

    assert len(measured) == PLANS * len(TOY_LANGUAGES)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--seed", "1"], "another seed"),
        (["--rows", "1"], "another text"),
        (["--dtype", "bfloat16"], "another `--quantize` or `--dtype`"),
    ],
)
def test_results_of_another_command_are_refused_by_name(
    measure: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], change: list[str], named: str,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        kill_after(patch, 12)
        measure("--json", tmp_path / "out.json")

    assert measure("--json", tmp_path / "out.json", "--resume", *change) == 1

    assert named in capsys.readouterr().err
    assert (tmp_path / "out.json.part.json").exists()


def test_json_holds_ratios_and_verdict_that_are_also_printed(
    measure: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.svg"

    assert measure("--json", out, "--plot", plot) == 0

    numbers, shown = json.loads(out.read_text()), capsys.readouterr().out
    for which in ("lape", "random"):
        for changes, ratios in zip(
            numbers[which]["change_nats"], numbers[which]["ratio"], strict=True
        ):
            assert ratios == [math.exp(change) for change in changes]
    assert numbers["verdict"]["overall"] in shown
    assert all(said in shown for said in numbers["verdict"]["by_language"].values())
    assert f"(x{numbers['lape']['ratio'][0][0]:.2f})**" in shown
    assert plot.read_text().startswith("<?xml")
    assert numbers["tokens"] == {str(language): 32 for language in TOY_LANGUAGES}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--resume"], "without `--json`"),
        (["--plot", "{tmp}/a.pdf"], "no format of plots"),
        (["--rows", "0"], "at least 1"),
        (["--seed", "-1"], "at least 0"),
    ],
)
def test_bad_arguments_are_one_plain_line(
    measure: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str],
    expected: str,
) -> None:  # fmt: skip
    assert measure(*[part.replace("{tmp}", str(tmp_path)) for part in more]) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error


def test_another_model_needs_text_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "perplexity", "--model", "some/model"]) == 1

    assert "`--text` is missing, and the model is 'some/model'" in capsys.readouterr().err


def test_text_that_takes_long_to_read_shows_a_bar(
    measure: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out_text, "SHOWN_AFTER_S", 0)

    assert measure() == 0

    shown = capsys.readouterr().err
    assert all(f"lines of {language}" in shown for language in TOY_LANGUAGES)


def test_rows_of_nothing_but_marks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "bundled", "--rows", "1", "--row-tokens", "2"]

    assert main(["evaluate", "perplexity", *options]) == 1

    assert "Rows of '2' tokens hold nothing that is predicted" in capsys.readouterr().err


def test_bundled_model_has_held_out_dialogues_of_its_own(tmp_path: Path) -> None:
    """One row of 24 tokens each: that it runs from a clean clone, not what comes out."""
    out = tmp_path / "out.json"
    options = ["--model", "bundled", "--rows", "1", "--row-tokens", "24", "--json", str(out)]

    assert main(["evaluate", "perplexity", *options]) == 0

    numbers = json.loads(out.read_text())
    assert numbers["languages"] == ["en", "zh", "fr", "es", "vi", "id", "ja"]
    assert all(0 < nats < 8 for nats in numbers["base_nll_nats"])  # log(3072) is 8.03: guessing
