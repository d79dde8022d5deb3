"""What many commands read alike: seeds and negative numbers; and bars for what may take long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steering.cli import bundled_prompts
from steering.cli.bundled_prompts import held_out_dialogues
from steering.cli.main import main
from tests.toy import EN, FR

HUGE = str(2**63)
SEEDED = {
    "evaluate perplexity": ["evaluate", "perplexity", "--seed"],
    "evaluate forcing": ["evaluate", "forcing", "--seed"],
    "evaluate switch": ["evaluate", "switch", "--seed"],
    "sharing": ["sharing", "--seed"],
    "compare-sets": ["compare-sets", "a.safetensors", "b.safetensors", "--seed"],
    "report": ["report", "--out", "nowhere", "--seed"],
    "build-set": [
        "build-set", "--languages", "en,fr", "--text", "nowhere", "--out", "x.safetensors",
        "--choose", "random", "--choice-seed",
    ],
}  # fmt: skip


@pytest.mark.parametrize("seed", [HUGE, "99999999999999999999999", "-1"])
@pytest.mark.parametrize("command", SEEDED)
def test_a_seed_that_no_generator_takes_is_refused_before_anything_is_read(
    command: str, seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SEEDED[command], seed]) == 1

    error = capsys.readouterr().err
    flag = SEEDED[command][-1]
    bound = "at least 0" if seed == "-1" else f"at most {2**63 - 1}"
    assert error.startswith(f"error: `{flag}` is '{seed}'. Expected {bound};")
    assert error.count("\n") == 1


def test_the_largest_seed_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--rows", "1", "--row-tokens", "24", "--seed", str(2**63 - 1), "--json", str(out)]

    assert main(["evaluate", "perplexity", *options]) == 0

    assert json.loads(out.read_text())["seed"] == 2**63 - 1


@pytest.mark.parametrize("number", ["-1e9", "-1E9", "-.5e-3", "-2"])
def test_a_negative_number_in_any_notation_is_a_value(
    tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sharing", "--threshold", number, "--prompts", str(tmp_path / "none")]) == 1

    assert "Cannot read" in capsys.readouterr().err


def test_an_infinite_threshold_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sharing", "--threshold", "-inf"]) == 1

    assert "`--threshold` is '-inf'. Expected a number" in capsys.readouterr().err


def test_a_flag_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sharing", "--threshold", "--groups-only"])

    assert "expected one argument" in capsys.readouterr().err


def test_making_many_dialogues_shows_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out_dialogues(3, seed=0, languages=[EN, FR])
    assert not capsys.readouterr().err  # nobody waits for six

    monkeypatch.setattr(bundled_prompts, "SHOWN_AFTER_S", 0)
    held_out_dialogues(3, seed=0, languages=[EN, FR])

    assert "6/6" in capsys.readouterr().err
