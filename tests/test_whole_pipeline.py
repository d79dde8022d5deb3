"""From a model alone to a calibrated, measured set, with the commands a person types, on every row.

The models are random, so the numbers mean nothing; that nothing breaks is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from steering.answer import AnswerView
from steering.cli.main import main
from steering.generation import answer_conversations
from steering.loading import read_identity
from steering.neuron_set_file import load_neuron_set

LANGUAGES = "en,fr,ja"


def common(model: Path) -> list[str]:
    return ["--model", str(model), "--quantize", "none"]


def build(model: Path, folder: Path) -> Path:
    """Let the model write dialogues and build a set on them."""
    dialogues, out = folder / "dialogues", folder / "set.safetensors"
    short = ["--prompts", "4", "--max-new-tokens", "6"]
    made = ["make-dialogues", *common(model), "--languages", LANGUAGES, "--out", str(dialogues)]
    if main([*made, *short]) != 0:  # random Gemmas say nothing but special tokens: refused
        for code in LANGUAGES.split(","):
            rows = [{"prompt": f"Hello {n}? {code}", "answer": f"{code} {n}"} for n in range(4)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (dialogues / f"{code}.jsonl").write_text(text, encoding="utf-8")
    built = ["build-set", *common(model), "--languages", LANGUAGES, "--dialogues", str(dialogues)]
    chosen = [
        "--select-fraction",
        "0.3",
        "--prob-quantile",
        "0.05",
        "--membership-quantile",
        "0.05",
    ]
    assert main([*built, *chosen, "--out", str(out)]) == 0
    return out


def test_every_family_goes_from_a_model_to_a_measured_set(
    family: str, tiny_model_dir: Callable[..., Path], tmp_path: Path
) -> None:
    model = tiny_model_dir(family)
    out = build(model, tmp_path)

    few = ["--count", "2", "--max-new-tokens", "4"]
    methods = ["--methods", "lape,diffmean", "--strengths", "1,2"]
    assert main(["calibrate", str(out), *common(model), *few, *methods]) == 0
    numbers = tmp_path / "numbers.json"
    measured = [*common(model), "--neuron-set", str(out), *few, "--json", str(numbers)]
    every = "none,instruction,random,lape-paper,lape,lape-own,diffmean,dimensions,kojima,replace"
    more = (
        f"{every},lape@2+diffmean/L0@1,lape/gate/every@1,damp,amplify/body,lape+tokens@10,default"
    )
    options = ["--conditions", more, "--temperature", "0.7"]
    assert main(["evaluate", "forcing", *measured, *options]) == 0

    methods_measured = json.loads(numbers.read_text())["methods"]
    assert len(methods_measured) == 16
    assert all(row["n"] == 2 for row in methods_measured.values())
    metadata = load_neuron_set(out).metadata
    assert metadata.steering_method in ("lape", "diffmean")
    assert metadata.experts == read_identity(str(model)).experts
    assert metadata.calibration.keys() == {"en", "fr", "ja"}
    assert all(point.trials == 2 for point in metadata.calibration["fr"])
    assert not metadata.language_strengths  # two prompts tell no language from another
    assert metadata.strengths.keys() == {"gentle", "normal", "strong"}


@pytest.fixture
def llama(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


def test_switching_is_measured_turn_by_turn(llama: Path, tmp_path: Path) -> None:
    out, numbers = build(llama, tmp_path), tmp_path / "switch.json"
    few = ["--count", "3", "--turns", "3", "--max-new-tokens", "4"]

    command = ["evaluate", "switch", *common(llama), "--neuron-set", str(out), *few]
    assert main([*command, "--json", str(numbers)]) == 0

    methods = json.loads(numbers.read_text())["methods"]
    assert set(methods) == {"none", "default"}
    assert all(len(row["lfs_by_turn"]) == 3 and row["n"] == 3 for row in methods.values())


def test_dialogues_that_exist_are_kept(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(llama, tmp_path)
    kept = tmp_path / "dialogues" / "fr.jsonl"
    kept.write_text('{"prompt": "mine", "answer": "mine"}\n', encoding="utf-8")
    (tmp_path / "dialogues" / "ja.jsonl").unlink()

    build(llama, tmp_path)

    assert "1 new, 2 kept" in capsys.readouterr().out
    assert "mine" in kept.read_text(encoding="utf-8")


def test_dialogues_of_another_model_are_not_continued(
    tiny_model_dir: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["make-dialogues", "--languages", "en,fr", "--out", str(tmp_path / "dialogues")]
    few = ["--prompts", "2", "--max-new-tokens", "3"]
    assert main([*command, *few, *common(tiny_model_dir("llama"))]) == 0

    assert main([*command, *few, *common(tiny_model_dir("qwen2"))]) != 0

    assert "holds answers by" in capsys.readouterr().err


def test_calibration_that_was_stopped_goes_on_from_the_last_batch_and_ends_the_same(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = build(llama, tmp_path)
    untouched = out.read_bytes()
    options = [*common(llama), "--count", "4", "--max-new-tokens", "3", "--batch-size", "5"]
    command = ["calibrate", str(out), *options, "--methods", "lape,diffmean@1"]
    assert main(command) == 0
    whole, measured = out.read_bytes(), out.with_suffix(".calibration.json")
    scores = json.loads(measured.read_text())["scores"]

    out.write_bytes(untouched)
    measured.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("steering.evaluation.calibrating.answer_conversations", stop_after(4))
        with pytest.raises(StoppedError):
            main(command)
    kept = json.loads(measured.read_text())["scores"]
    assert {name: len(rows) for name, rows in kept.items()} == {
        "instruction 1.0": 12,
        "lape 1.0": 5,
    }
    assert out.read_bytes() == untouched
    assert main(command) == 0

    assert out.read_bytes() == whole
    assert json.loads(measured.read_text())["scores"] == scores


def test_ctrl_c_in_a_calibration_says_what_is_kept(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(llama, tmp_path)
    command = ["calibrate", str(out), *common(llama), "--count", "1", "--max-new-tokens", "3"]
    interrupt = stop_after(1, KeyboardInterrupt)
    monkeypatch.setattr("steering.evaluation.calibrating.answer_conversations", interrupt)

    assert main(command) != 0

    said = capsys.readouterr().err
    assert "Stopped after 3 answers of the calibration" in said
    assert "Run the same command again" in said


def test_calibration_says_what_to_expect_and_what_it_gave_up(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(llama, tmp_path)
    capsys.readouterr()

    assert main(["calibrate", str(out), *common(llama), "--count", "2"]) == 0

    said = capsys.readouterr().out
    assert "| fr | " in said
    assert "Given up: " in said
    assert "Short of 99% at normal: " in said
    assert load_neuron_set(out).metadata.steering_method in said


class StoppedError(Exception):
    """Stands for a process that is killed."""


def stop_after(
    calls: int, error: type[BaseException] = StoppedError
) -> Callable[..., list[AnswerView]]:
    left = iter(range(calls))

    def run(*arguments: object, **named: object) -> list[AnswerView]:
        if next(left, None) is None:
            raise error
        return answer_conversations(*arguments, **named)  # type: ignore[arg-type]  # passed on

    return run


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--methods", "guess"], "Unknown steering method 'guess'"),
        (["--methods", ","], "`--methods` is ','"),
        (["--methods", "lape/L9"], "Cannot edit layer 9"),
        (["--strengths", "nan"], "`--strengths` is 'nan'"),
        (["--strengths", "0,1"], "`--strengths` is '0,1'"),
        (["--success", "2"], "`--success` is '2.0'"),
        (["--plot", "curve.gif"], "curve.gif"),
        (["--count", "0"], "`--count` is '0'"),
        (["--max-new-tokens", "0"], "`--max-new-tokens` is '0'"),
    ],
)
def test_calibration_refuses_bad_options_before_it_measures(
    option: list[str], said: str, llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(llama, tmp_path)
    before = out.read_bytes()

    assert main(["calibrate", str(out), *common(llama), *option]) == 1

    assert said in capsys.readouterr().err
    assert out.read_bytes() == before


def test_measurements_of_another_set_are_refused(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = build(llama, tmp_path)
    out.with_suffix(".calibration.json").write_text('{"format": "other"}', encoding="utf-8")

    assert main(["calibrate", str(out), *common(llama), "--count", "1"]) == 1

    assert "holds measurements of another set" in capsys.readouterr().err
