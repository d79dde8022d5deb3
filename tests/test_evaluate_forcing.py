"""`evaluate forcing` resumes where it was killed, and `report-forcing` needs its file alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steering.cli import evaluate_forcing
from steering.cli.main import main
from steering.loading import load_model
from steering.neuron_set_file import save_neuron_set
from tests.toy import make_toy_set


@pytest.fixture
def common(tiny_model_dir: Callable[..., Path], tmp_path: Path) -> list[str]:
    folder = tiny_model_dir("llama")
    neurons = make_toy_set(load_model(str(folder), quantize="none").identity)
    metadata = neurons.metadata.model_copy(update={"steering_method": "lape@2+diffmean@1"})
    path = tmp_path / "toy.safetensors"
    save_neuron_set(replace(neurons, metadata=metadata), path)
    rows = [
        {"prompt": "Hello? " * n, "language": "en", "target": target}
        for n in (1, 2, 3)
        for target in ("fr", "ja")
    ]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [
        "evaluate", "forcing", "--model", str(folder), "--quantize", "none", "--neuron-set",
        str(path), "--prompts", str(prompts), "--max-new-tokens", "4", "--batch-size", "2",
        "--conditions", "none,instruction,default,default-without-lape,default-with-random",
    ]  # fmt: skip


def numbers_of(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return {key: content[key] for key in ("methods", "prompts", "prompts_sha256")}


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.mark.parametrize("has_replies", [True, False])
@pytest.mark.parametrize("killed_in", ["write_replies", "iter_reply_nll"])
def test_a_killed_run_goes_on_and_measures_the_same(
    common: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    has_replies: bool,
    killed_in: str,
) -> None:
    whole, out = tmp_path / "whole.json", tmp_path / "out.json"
    replies = ["--replies", str(tmp_path / "r.jsonl")] if has_replies else []
    assert main([*common, "--json", str(whole)]) == 0
    real, left = getattr(evaluate_forcing, killed_in), [3]

    def until_killed(*arguments: object, **named: object) -> object:
        for batch in real(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_forcing, killed_in, until_killed)
        with pytest.raises(Killed):
            main([*common, "--json", str(out), *replies])
    capsys.readouterr()
    assert main([*common, "--json", str(out), *replies]) == 0

    assert "Resuming: " in capsys.readouterr().err
    assert numbers_of(out) == numbers_of(whole)
    assert (tmp_path / "r.jsonl").exists() == has_replies
    assert not list(tmp_path.glob("*.part.*"))


def test_replies_of_another_command_are_refused_in_words(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--replies", str(tmp_path / "r.jsonl")]
    assert main([*common, *kept, "--conditions", "none"]) == 0
    capsys.readouterr()

    assert main([*common, *kept, "--conditions", "none", "--max-new-tokens", "5"]) == 1
    assert "was begun with another `--max-new-tokens`" in capsys.readouterr().err
    assert main([*common, *kept, "--conditions", "none", "--count", "2"]) == 1
    assert "another choice of prompts" in capsys.readouterr().err


def test_more_conditions_are_added_to_the_same_replies(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ["--replies", str(tmp_path / "r.jsonl")]
    assert main([*common, *kept, "--conditions", "none"]) == 0

    assert main([*common, *kept, "--conditions", "none,default"]) == 0

    assert "has 6 replies" in capsys.readouterr().err
    rows = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    assert [json.loads(row)["condition"] for row in rows] == ["none"] * 6 + ["default"] * 6


def test_every_number_has_its_interval_and_the_page_is_made_of_the_file_alone(
    common: list[str], tmp_path: Path
) -> None:
    out, page = tmp_path / "out.json", tmp_path / "page.md"
    assert main([*common, "--json", str(out)]) == 0
    content = json.loads(out.read_text(encoding="utf-8"))
    for method in content["methods"].values():
        assert {"lfs", "lpr", "looping", "nll_nats", "median_tokens"} <= method["measures"].keys()
        assert set(method["measures_by_language"]) == {"fr", "ja"}
        for measure in method["measures"].values():
            low, high = measure["interval"]
            assert low <= measure["value"] <= high
    assert content["methods"]["instruction"]["minus_control"] == {}
    assert content["methods"]["default"]["minus_control"]["lfs"]["n"] == 6
    assert len(content["weights_sha256"]) == 64

    assert main(["report-forcing", str(out), "--out", str(page), "--title", "A tiny model"]) == 0

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# A tiny model\n")
    for expected in (
        "| default-with-random | 6 |", "minus instruction", "| LFS | fr | ja |", content["command"],
        content["neuron_set_sha256"], content["weights_sha256"],
    ):  # fmt: skip
        assert expected in text, expected


def test_report_forcing_refuses_what_it_cannot_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.md"
    bad = tmp_path / "bad.json"
    bad.write_text('{"methods": {"none": {"lfs": 1, "n": 3}}}', encoding="utf-8")

    assert main(["report-forcing", str(bad), "--out", str(out)]) == 1

    assert "measure again" in capsys.readouterr().err
    assert not out.exists()


def test_a_default_without_lape_has_no_such_controls(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*common, "--conditions", "default-without-lape"]) == 0
    neurons = make_toy_set(load_model(common[3], quantize="none").identity)
    metadata = neurons.metadata.model_copy(update={"steering_method": "diffmean"})
    save_neuron_set(replace(neurons, metadata=metadata), tmp_path / "toy.safetensors")
    capsys.readouterr()

    for condition in ("default-without-lape", "default-with-random"):
        assert main([*common, "--conditions", condition]) == 1
        assert "no LAPE step" in capsys.readouterr().err
