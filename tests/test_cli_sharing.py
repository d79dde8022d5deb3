"""`sharing` once with every option, and one plain message for what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.cli.main import main

LINE = {
    "prompt": {"en": "Where is the cat?", "fr": "Où est le chat ?"},
    "answer": {"en": "sofa", "fr": "canapé"},
}


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text((json.dumps(LINE) + "\n") * 3, encoding="utf-8")
    return path


def share(model: Path, *more: object) -> int:
    return main(["sharing", "--model", str(model), "--quantize", "none", *map(str, more)])


def test_every_option_once(
    model_dir: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sharing.json"
    options = ["--prompts", prompts, "--count", 2, "--threshold", 0.01, "--amplify", "2", "--json"]
    how = ["--positions", "onset", "--max-new-tokens", 3, "--batch-size", 2, "--seed", 1]

    assert share(model_dir, *options, out, *how) == 0

    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["prompts"] == 2
    assert found["threshold"] == 0.01
    assert found["positions"] == "onset"
    assert [len(found["shares"][group]) for group in found["shares"]] == [2, 2, 2, 2]
    assert len(found["accuracy"]) == 11
    assert {one["n"] for one in found["accuracy"]} == {4}
    shown = capsys.readouterr().out
    assert "2 prompts in en, fr" in shown
    assert "| all-shared, x 2 |" in shown
    assert "| as many random as all-shared, x 2 |" in shown


def test_the_bundled_questions_are_the_default_of_the_bundled_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["sharing", "--count", "2", "--amplify", "", "--max-new-tokens", "4"]) == 0

    shown = capsys.readouterr().out
    assert "2 prompts in en, zh, fr, es, vi, id, ja" in shown
    assert "x 1." not in shown


def test_groups_alone_need_no_answers(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text(json.dumps({"prompt": LINE["prompt"]}), encoding="utf-8")

    assert share(model_dir, "--prompts", path) == 1
    assert "have no answers" in capsys.readouterr().err
    assert share(model_dir, "--prompts", path, "--groups-only") == 0
    assert "no change" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--amplify", "x"], "`--amplify` is 'x'"),
        (["--amplify", "0.5"], "factors above 1"),
        (["--amplify", "nan"], "factors above 1"),
        (["--threshold", "nan"], "`--threshold` is 'nan'"),
        (["--threshold", "inf"], "`--threshold` is 'inf'"),
        (["--count", "0"], "`--count` is '0'"),
        (["--batch-size", "0"], "`--batch-size` is '0'"),
        (["--max-new-tokens", "0"], "`--max-new-tokens` is '0'"),
        (["--json", "nowhere/at/all.json"], "Cannot write"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_before_the_model_is_loaded(
    prompts: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share(Path("no-such-folder/at/all"), "--prompts", prompts, *options) == 1

    assert problem in capsys.readouterr().err


def test_a_model_of_ones_own_needs_prompts_of_ones_own(
    model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share(model_dir) == 1

    assert "name it with `--prompts`" in capsys.readouterr().err


def test_a_bad_line_is_one_message(
    model_dir: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with prompts.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": {"en": "Only English"}}))

    assert share(model_dir, "--prompts", prompts) == 1

    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert f"{prompts}:4'" in shown


def test_experts_are_refused_in_words(
    tiny_model_dir: Callable[..., Path], prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share(tiny_model_dir("mixtral"), "--prompts", prompts) == 1

    assert "without experts" in capsys.readouterr().err
