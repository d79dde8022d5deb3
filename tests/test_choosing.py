"""Tests of `build-set --choose` and `compare-sets`: each once, and one plain line for bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from steering.cli import build_set, choosing
from steering.cli.main import main
from steering.loading import BUNDLED_FOLDER, load_model
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from tests.test_cli import assert_one_plain_line
from tests.toy import make_toy_set

LINES = {
    "en": "The cat sleeps on the sofa.\nWhere is the station?\nIt rains again.\n" * 8,
    "fr": "Le chat dort sur le canapé.\nOù est la gare ?\nIl pleut encore.\n" * 8,
    "ja": "猫はソファで寝ています。\n駅はどこですか。\nまた雨です。\n" * 8,
}


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for code, content in LINES.items():
        (folder / f"{code}.txt").write_text(content, encoding="utf-8")
    return folder


def build(model: Path, text: Path, out: Path, *more: object) -> int:
    options = ["--model", model, "--quantize", "none", "--languages", "en,fr,ja", "--text", text]
    fractions = ["--select-fraction", "0.2", "--prob-quantile", "0.5", "--out", out]
    return main(["build-set", *map(str, [*options, *fractions, *more])])


def test_every_way_writes_a_set_of_lape_s_size(
    model_dir: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = ["lape", "lap", "lave", "random", "ap", "ap-top"]

    assert build(
        model_dir, text, tmp_path / "x.safetensors", "--choose", ",".join(ways), "--lines", 5
    ) == 0  # fmt: skip

    sets = {way: load_neuron_set(tmp_path / f"x-{way}.safetensors") for way in ways}
    sizes = sets["lape"].is_member.sum(dim=1)
    shown = capsys.readouterr().out
    for way, neurons in sets.items():
        assert neurons.metadata.method == way
        assert f"x-{way}.safetensors" in shown
        if way != "lave":  # may have fewer candidates
            assert torch.equal(neurons.is_member.sum(dim=1), sizes)
        assert (neurons.choice_score is None) == (way == "lape")
    assert sets["random"].metadata.choice_note == "seed 0"
    assert sets["ap"].metadata.choice_note == "5 lines per language"
    assert not list(tmp_path.glob("*.partial"))


def test_lape_s_set_is_the_same_whatever_is_chosen_beside_it(
    model_dir: Path, text: Path, tmp_path: Path
) -> None:
    alone, beside = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    build(model_dir, text, alone)

    build(model_dir, text, beside, "--choose", "lape,random")

    assert alone.read_bytes() == (tmp_path / "b-lape.safetensors").read_bytes()


def test_one_other_way_is_written_where_it_was_asked(
    model_dir: Path, text: Path, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn", reason="the probe needs scikit-learn")
    out = tmp_path / "probe.safetensors"

    assert build(model_dir, text, out, "--choose", "probe", "--lines", 10) == 0

    metadata = load_neuron_set(out).metadata
    assert metadata.method == "probe"
    assert metadata.choice_note.startswith("10 lines per language, ")
    assert metadata.choice_note.endswith(" of 6 held out right")


def test_pv_finds_the_neurons_that_tuning_changed(
    model_dir: Path, text: Path, tmp_path: Path, save_tiny_model: Callable[..., Path]
) -> None:
    out, lape_out = tmp_path / "pv.safetensors", tmp_path / "lape.safetensors"
    build(model_dir, text, lape_out)
    sizes = load_neuron_set(lape_out).is_member.sum(dim=1).tolist()
    tuned = {}
    for code, size in zip(("en", "fr", "ja"), sizes, strict=True):
        tuned[code] = save_tiny_model(tmp_path / f"tuned-{code}", "llama")
        file = tuned[code] / "model.safetensors"
        weights = load_file(file)
        weights["model.layers.1.mlp.gate_proj.weight"][:size] += len(tuned)
        save_file(weights, file, metadata={"format": "pt"})
    named = ",".join(f"{code}={folder}" for code, folder in tuned.items())

    assert build(model_dir, text, out, "--choose", "pv", "--tuned", named) == 0

    neurons = load_neuron_set(out)
    assert max(sizes) > 0
    for language, size in zip(neurons.languages, sizes, strict=True):
        own = neurons.neurons_of(language)
        assert neurons.layer[own].tolist() == [1] * size
        assert neurons.index[own].tolist() == list(range(size))


@pytest.fixture
def tuned_bundled(tmp_path: Path) -> str:
    """`--tuned` for en and fr: the bundled model, neuron 5 or 7 of its first layer doubled."""
    named = []
    for code, neuron in (("en", 5), ("fr", 7)):
        folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / f"tuned-{code}")
        weights = load_file(folder / "model.safetensors")
        weights["model.layers.0.mlp.gate_proj.weight"][neuron] *= 2
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        named.append(f"{code}={folder}")
    return ",".join(named)


def build_bundled(text: Path, out: Path, *more: object) -> int:
    """Build a set of the bundled model with nothing said of quantisation."""
    options = ["--languages", "en,fr", "--text", text, "--out", out, "--choose", "lape,pv,ap-top"]
    return main(["build-set", *map(str, [*options, "--lines", 2, *more])])


def test_pv_needs_no_word_of_quantisation_for_the_bundled_model(
    text: Path, tmp_path: Path, tuned_bundled: str
) -> None:
    assert build_bundled(text, tmp_path / "x.safetensors", "--tuned", tuned_bundled) == 0

    neurons = load_neuron_set(tmp_path / "x-pv.safetensors")
    assert neurons.choice_score is not None
    places = list(zip(neurons.layer.tolist(), neurons.index.tolist(), strict=True))
    for row, neuron in enumerate((5, 7)):
        scores = neurons.choice_score[row]
        assert scores[places.index((0, neuron))] == scores.max() > 0
        assert int((scores > 0).sum()) == 1


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("no folder", "fr"),
        ("no weights", "lacks weights"),
        ("another shape", "is not a tuned 'bundled'"),
        ("quantised base", "is quantised"),
    ],
)
def test_checkpoints_that_pv_cannot_use_are_refused_before_the_recording(
    damage: str, expected: str, text: Path, tmp_path: Path, tuned_bundled: str, model_dir: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recorded: list[object] = []
    monkeypatch.setattr(build_set, "record_with_bar", lambda *given: recorded.append(given))
    folder = tmp_path / "tuned-fr"
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage != "quantised base":
        shutil.rmtree(folder)
    if damage == "another shape":
        shutil.copytree(model_dir, folder)
    more = ["--quantize", "int8"] if damage == "quantised base" else []

    assert build_bundled(text, tmp_path / "x.safetensors", "--tuned", tuned_bundled, *more) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert_one_plain_line(error)
    assert not recorded


def test_ways_without_lines_are_written_before_lines_are_read(
    text: Path, tmp_path: Path, tuned_bundled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(choosing, "record_line_means", interrupt)

    assert build_bundled(
        text, tmp_path / "x.safetensors", "--tuned", tuned_bundled, "--choose", "ap,lape,pv"
    ) == 130  # fmt: skip

    written = sorted(path.name for path in tmp_path.glob("x-*.safetensors"))
    assert written == ["x-lape.safetensors", "x-pv.safetensors"]


BAD_CHOICES = {
    "unknown": (["--choose", "lape,magic"], "'magic'"),
    "nothing": (["--choose", ","], "one or more of"),
    "pv without checkpoints": (["--choose", "pv"], "`--tuned` with pv"),
    "checkpoints without pv": (["--choose", "lap", "--tuned", "en=x"], "`--tuned` with pv"),
    "a language without checkpoint": (["--choose", "pv", "--tuned", "en=x,fr=y"], "en, fr, ja"),
    "a language twice": (["--choose", "pv", "--tuned", "en=x,fr=y,ja=z,ja=v"], "each of"),
    "no checkpoint": (["--choose", "pv", "--tuned", "en=,fr=y,ja=z"], "CODE=DIR"),
    "checkpoint of another kind": (["--choose", "pv", "--tuned", "en=/no,fr=y,ja=z"], "/no"),
    "lines": (["--choose", "ap", "--lines", "0"], "at least 1"),
    "too many lines": (["--choose", "ap", "--lines", "99000000"], "fewer `--lines`"),
}


@pytest.mark.parametrize("case", BAD_CHOICES)
def test_bad_choices_get_one_plain_message_and_write_no_set(
    case: str, model_dir: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more, expected = BAD_CHOICES[case]

    assert build(model_dir, text, tmp_path / "set.safetensors", *more) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert_one_plain_line(error)
    assert not list(tmp_path.glob("*set*.safetensors"))


def test_completing_a_set_takes_no_other_way(
    tmp_path: Path, text: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(
        model_dir, text, tmp_path / "x.safetensors", "--complete", "some", "--choose", "lap"
    ) == 1  # fmt: skip

    assert "chooses nothing" in capsys.readouterr().err


@pytest.fixture
def two_sets(model_dir: Path, tmp_path: Path) -> list[str]:
    """Paths of two sets of the tiny model, the second of another way and other statistics."""
    identity = load_model(str(model_dir), quantize="none").identity
    first, second = make_toy_set(identity), make_toy_set(identity, seed=3)
    about = second.metadata.model_copy(update={"method": "lap", "choice_note": "made up"})
    other = replace(second, metadata=about, choice_score=second.activation_prob.clone())
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path, neurons in zip(paths, (first, other), strict=True):
        save_neuron_set(neurons, path)
    return list(map(str, paths))


def test_compare_sets_prints_tables_and_writes_json(
    two_sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"

    assert main(["compare-sets", *two_sets, "--json", str(out)]) == 0

    shown = capsys.readouterr().out
    assert "| one, two |" in shown
    assert "| layer | fr |" in shown
    numbers = json.loads(out.read_text())
    assert [pair["sets"] for pair in numbers["pairs"]] == [["one", "two"]]
    assert {name: about["way"] for name, about in numbers["sets"].items()} == {
        "one": "lape", "two": "lap",
    }  # fmt: skip
    first = numbers["sets"]["one"]
    shared = numbers["pairs"][0]["languages"]["fr"]["shared"]
    assert len(first["only_here"]["fr"]) == first["neurons"]["fr"] - shared


def test_a_set_beside_itself_has_jaccard_one(
    two_sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare-sets", two_sets[0], two_sets[0]]) == 0

    shown = capsys.readouterr().out
    names = "{0}, {0} (2)".format(two_sets[0])
    assert f"| {names} | 1.00 | 1.00 | 1.00 | - | - | 1.00 |" in shown


def test_compare_sets_measures_what_each_set_does(
    two_sets: list[str], model_dir: Path, text: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for code in ("th", "sw"):
        (text / f"{code}.txt").write_text(LINES["en"], encoding="utf-8")
    out = tmp_path / "out.json"
    model = ["--model", str(model_dir), "--quantize", "none"]
    measured = ["--perplexity", str(text), "--rows", "2", "--row-tokens", "16", "--forcing", "2"]

    assert main(["compare-sets", *two_sets, *model, *measured, "--json", str(out)]) == 0

    shown = capsys.readouterr().out
    assert "| set | own suffers most |" in shown
    numbers = json.loads(out.read_text())
    assert set(numbers["perplexity"]) == {"one", "two"}
    assert len(numbers["perplexity"]["two"]["lape"]["change_nats"]) == 5
    assert list(numbers["forcing"]) == ["none", "one", "two"]
    assert all(row["n"] > 0 for row in numbers["forcing"].values())


def change_model(path: str) -> None:
    neurons = load_neuron_set(path)
    about = neurons.metadata.model_copy(update={"model_id": "other", "neurons_per_layer": 64})
    save_neuron_set(replace(neurons, metadata=about), path)


def test_sets_of_two_models_are_refused_in_one_line(
    two_sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    change_model(two_sets[1])

    assert main(["compare-sets", *two_sets]) == 1

    error = capsys.readouterr().err
    assert "'other'" in error
    assert_one_plain_line(error)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "at least two"),
        (["{two}", "--forcing", "0"], "at least 1"),
        (["{two}", "--json", "/nowhere/x.json"], "Cannot write"),
        (["{tmp}/none.safetensors"], "No neuron set"),
        (["{two}", "--perplexity", "{tmp}/none"], "No folder"),
        (["{two}", "--forcing", "2"], "was made for"),
    ],
)
def test_bad_input_of_compare_sets_gets_one_plain_message(
    more: list[str], expected: str, two_sets: list[str], tmp_path: Path, model_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    filled = [part.replace("{two}", two_sets[1]).replace("{tmp}", str(tmp_path)) for part in more]
    model = [] if "--forcing" in filled else ["--model", str(model_dir), "--quantize", "none"]

    assert main(["compare-sets", two_sets[0], *filled, *model]) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert_one_plain_line(error)


def test_sets_with_their_models_norms_are_of_version_five(
    two_sets: list[str],
) -> None:
    versions = []
    for path in two_sets:
        content = Path(path).read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        versions.append(json.loads(header["__metadata__"]["langsteer"])["version"])

    assert versions == [5, 5]
