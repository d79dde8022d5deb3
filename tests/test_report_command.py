"""`report` as a command, on a tiny model: whole, resumed, with parts left out, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steering.cli import provenance, report_parts
from steering.cli import report as report_command
from steering.cli.main import main
from steering.evaluation import perplexity
from steering.loading import load_model
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from tests.toy import TOY_IDENTITY, TOY_LANGUAGES, make_toy_set

Run = Callable[..., int]
QUESTION = {
    "prompt": {"en": "Where is the cat?", "fr": "Où est le chat ?"},
    "answer": {"en": "sofa", "fr": "canapé"},
}
PROMPTS = [{"prompt": "Hello there", "language": "en", "target": code} for code in ("fr", "ja")]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Text, questions and prompts for every part."""
    text = tmp_path / "text"
    text.mkdir()
    for language in TOY_LANGUAGES:
        line = f"The cat sleeps on the sofa of {language}.\n"
        (text / f"{language}.txt").write_text(line * 20, encoding="utf-8")
    questions, prompts = tmp_path / "questions.jsonl", tmp_path / "prompts.jsonl"
    questions.write_text(json.dumps(QUESTION), encoding="utf-8")
    prompts.write_text("\n".join(map(json.dumps, PROMPTS)), encoding="utf-8")
    return {"--text": text, "--questions": questions, "--prompts": prompts}


@pytest.fixture
def write(tiny_model_dir: Callable[..., Path], tmp_path: Path, files: dict[str, Path]) -> Run:
    """Run the command on a tiny model with its set; more arguments may follow."""
    model = tiny_model_dir("llama")
    identity = load_model(str(model), quantize="none").identity
    for name, seed in (("toy", 0), ("other", 1)):
        save_neuron_set(make_toy_set(identity, seed=seed), tmp_path / f"{name}.safetensors")
    options = ["--model", model, "--quantize", "none", "--neuron-set", tmp_path / "toy.safetensors"]
    options += ["--rows", "2", "--row-tokens", "16", "--prompts", files["--prompts"]]
    options += ["--out", tmp_path / "out"]
    return lambda *more: main(["report", *map(str, [*options, *more])])


@pytest.fixture
def all_of_it(files: dict[str, Path], tmp_path: Path) -> list[object]:
    more = ["--text", files["--text"], "--questions", files["--questions"]]
    return [*more, "--compare", tmp_path / "other.safetensors"]


def count_measurements(monkeypatch: pytest.MonkeyPatch, *, kill_after: int = 10**9) -> list[int]:
    """Count the measured losses, and die as on Ctrl-C after so many."""
    real, done = perplexity.mean_nll_nats, list[int]()

    def measure(*arguments: object, **options: object) -> float:
        if len(done) == kill_after:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]  # as they come

    monkeypatch.setattr(perplexity, "mean_nll_nats", measure)
    return done


def test_every_part_is_in_all_three_files_with_what_made_them(
    write: Run, all_of_it: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(*all_of_it) == 0

    out = tmp_path / "out"
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert list(content["parts"]) == ["sets", "forcing", "perplexity", "sharing", "comparison"]
    assert not content["left_out"]
    forcing = content["parts"]["forcing"]["numbers"]
    assert list(forcing["methods"]) == [
        "none", "instruction", "random", "lape", "default",
    ]  # fmt: skip
    assert content["parts"]["sharing"]["numbers"]["prompts"] == 1
    assert set(content["parts"]["comparison"]["numbers"]["forcing"]["methods"]) == {
        "none", "toy", "other",
    }  # fmt: skip
    made = content["made"]
    for name in ("command", "commit", "version", "python", "torch", "transformers", "matplotlib",
                 "seed", "prompts sha256", "questions sha256", "set toy sha256",
                 "set other sha256", "tokenizer sha256", "time of all parts"):  # fmt: skip
        assert made[name], name
    markdown, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    for part in content["parts"].values():
        assert f"## {part['heading']}" in markdown
        assert f">{part['heading']}</h2>" in page
        assert part["summary"] in markdown
    figures = sorted(path.stem for path in (out / "figures").iterdir())
    assert figures == [
        "forcing", "forcing-matrix", "layers-1", "layers-2", "overlap-1", "overlap-2",
        "perplexity", "sharing",
    ]  # fmt: skip
    assert page.count("data:image/svg+xml") == len(figures)
    for name in figures:
        assert f"](figures/{name}.svg)" in markdown
    shown = capsys.readouterr()
    assert "Perplexity change" in shown.err
    assert "report.html" in shown.out


def test_a_killed_report_goes_on_after_its_last_finished_part(
    write: Run, all_of_it: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        count_measurements(patch, kill_after=3)
        assert write(*all_of_it) == 130
    report = tmp_path / "out" / "report.json"
    assert json.loads(report.read_text())["is_complete"] is False
    capsys.readouterr()

    assert write(*all_of_it) == 0
    assert capsys.readouterr().err.count("as measured before") == 2  # sets and forcing

    first = json.loads(report.read_text())
    done = count_measurements(monkeypatch)
    assert write(*all_of_it) == 0
    again = json.loads(report.read_text())
    assert not done
    assert again["parts"] == first["parts"]

    assert write(*all_of_it, "--seed", "1") == 0
    assert done


def test_parts_of_other_versions_or_another_machine_are_measured_again(
    write: Run, all_of_it: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert write(*all_of_it) == 0
    report = tmp_path / "out" / "report.json"
    of_parts = [part["settings"] for part in json.loads(report.read_text())["parts"].values()]
    real, machine = provenance.version, provenance.describe_machine
    changes: list[tuple[str, object, str]] = [
        ("version", lambda name: "9.9" if name == "torch" else real(name), "torch"),
        ("describe_machine", lambda model: machine(model) | {"device": "9.9"}, "device"),
    ]

    for attribute, changed, name in changes:
        with monkeypatch.context() as patch:
            patch.setattr(provenance, attribute, changed)
            for module in (report_command, report_parts):
                if attribute in vars(module):
                    patch.setattr(module, attribute, changed)
            capsys.readouterr()
            assert write() == 0
        assert "as measured before" not in capsys.readouterr().err, name
        assert json.loads(report.read_text())["made"][name] == "9.9"
        assert len(of_parts) == 5
        assert all({name, "transformers", "threads"} <= set(settings) for settings in of_parts)


def test_parts_that_need_what_was_not_given_are_left_out_and_named(
    write: Run, tmp_path: Path
) -> None:
    assert write() == 0

    content = json.loads((tmp_path / "out/report.json").read_text())
    assert list(content["parts"]) == ["sets", "forcing"]
    assert "`--text`" in content["left_out"]["Perplexity change"]
    assert "`--questions`" in content["left_out"]["Neurons that languages share"]
    assert "left out" in (tmp_path / "out/report.html").read_text()


def test_a_used_folder_holds_nothing_of_an_earlier_report(
    write: Run, all_of_it: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert write(*all_of_it) == 0
    assert (out / "figures/layers-2.svg").exists()

    assert write() == 0

    text = (out / "report.md").read_text()
    figures = sorted(path.name for path in (out / "figures").iterdir())
    assert figures == ["forcing-matrix.svg", "forcing.svg", "layers-1.svg", "overlap-1.svg"]
    assert all(f"](figures/{name})" in text for name in figures)
    assert sorted(path.name for path in (out / "parts").iterdir()) == ["forcing.json", "sets.json"]


def test_a_condition_that_a_set_has_nothing_for_is_left_out_and_named(
    write: Run, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.safetensors"
    neurons = load_neuron_set(tmp_path / "toy.safetensors")
    save_neuron_set(replace(neurons, control=None), bare)

    assert write("--neuron-set", bare) == 0

    forcing = json.loads((tmp_path / "out/report.json").read_text())["parts"]["forcing"]["numbers"]
    assert list(forcing["methods"]) == ["none", "instruction", "lape", "default"]
    assert "`random` was left out" in forcing["notes"][0]
    assert forcing["notes"][0] in (tmp_path / "out/report.md").read_text()


def test_a_set_that_cannot_steer_is_named_where_sets_are_compared(
    write: Run, tmp_path: Path
) -> None:
    other = load_neuron_set(tmp_path / "other.safetensors")
    counts = {"text": other.metadata.token_counts["text"]}
    other = replace(
        other,
        metadata=other.metadata.model_copy(update={"token_counts": counts}),
        control=None,
        gate_means={"text": other.gate_means["text"]},
        value_means={"text": other.value_means["text"]},
        residual_means={"text": other.residual_means["text"]},
    )
    save_neuron_set(other, tmp_path / "text-only.safetensors")

    assert write("--compare", tmp_path / "text-only.safetensors") == 0

    content = json.loads((tmp_path / "out/report.json").read_text())
    forcing = content["parts"]["comparison"]["numbers"]["forcing"]
    assert list(forcing["methods"]) == ["none", "toy"]
    note = "`text-only` was left out: This neuron set has no means for phase 'onset'"
    assert note in content["parts"]["comparison"]["summary"]
    assert (tmp_path / "out/report.md").read_text().count(note) == 2  # at the top, and in place


def test_questions_without_answers_give_groups_alone(
    write: Run, files: dict[str, Path], tmp_path: Path
) -> None:
    files["--questions"].write_text(json.dumps({"prompt": QUESTION["prompt"]}), encoding="utf-8")

    assert write("--questions", files["--questions"]) == 0

    content = json.loads((tmp_path / "out/report.json").read_text())
    assert content["parts"]["sharing"]["numbers"]["accuracy"] == []
    assert "no answers" in (tmp_path / "out/report.md").read_text()


def test_a_folder_of_something_else_is_refused_and_left_alone(
    write: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/letter.txt").write_text("Dear")

    assert write() == 1

    assert "holds no report" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("flag", ["--neuron-set", "--paper-set", "--compare"])
def test_a_set_of_another_model_is_refused_before_anything_is_written(
    write: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_neuron_set(make_toy_set(replace(TOY_IDENTITY, model_id="foreign")), foreign)

    assert write(flag, foreign) == 1

    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ")
    assert "'foreign'" in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--count", "0"], "`--count` is '0'"),
        (["--sharing-count", "0"], "`--sharing-count` is '0'"),
        (["--row-tokens", "1"], "`--row-tokens` is '1'"),
        (["--seed", "-1"], "`--seed` is '-1'"),
        (["--conditions", "nothing"], "Unknown condition 'nothing'"),
        (["--compare", "{set}"], "which is the set of the report"),
        (["--text", "nowhere"], "nowhere"),
        (["--questions", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    write: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], problem: str
) -> None:
    given = [part.format(set=tmp_path / "toy.safetensors") for part in more]

    assert write(*given) == 1

    error = capsys.readouterr().err
    assert problem in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
