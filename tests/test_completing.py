"""Tests of `build-set --complete`: an imported set keeps its neurons and gets the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steering.cli.main import main
from steering.ffn_columns import with_column_norms
from steering.loading import load_model
from steering.methods import METHODS, SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.steerer import check_set_fits_model
from tests.texts import TEXTS
from tests.toy import EN, FR, JA

LANGUAGES = (EN, FR, JA)
TENSORS = ("layer", "index", "is_member", "lape_score", "activation_prob", "token_log_odds")


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    return tiny_model_dir("llama")


@pytest.fixture
def corpora(tmp_path: Path) -> list[str]:
    """Text and dialogues of three languages, as arguments."""
    text, dialogues = tmp_path / "text", tmp_path / "dialogues"
    text.mkdir()
    dialogues.mkdir()
    for language in LANGUAGES:
        sentences = TEXTS[str(language)]
        (text / f"{language}.txt").write_text("\n".join(sentences), encoding="utf-8")
        rows = [{"prompt": "Hello?", "answer": sentence} for sentence in sentences]
        lines = "\n".join(map(json.dumps, rows))
        (dialogues / f"{language}.jsonl").write_text(lines, encoding="utf-8")
    return ["--text", str(text), "--dialogues", str(dialogues)]


@pytest.fixture
def built(model_dir: Path, corpora: list[str], tmp_path: Path) -> NeuronSet:
    """A set that `build-set` made, to compare with."""
    out = tmp_path / "built.safetensors"
    thresholds = ["--select-fraction", "0.2", "--prob-quantile", "0.5"]
    assert build(model_dir, out, "--languages", "en,fr,ja", *thresholds, *corpora) == 0
    return load_neuron_set(out)


@pytest.fixture
def imported(built: NeuronSet, model_dir: Path, tmp_path: Path) -> Path:
    """The neurons of the built set, published as others do, and imported."""
    path, out = tmp_path / "own.pth", tmp_path / "imported.safetensors"
    torch.save([by_layer(built, row) for row in range(3)], path)
    options = ["--model", str(model_dir), "--languages", "en,fr,ja", "--licence", "Ask us."]
    assert main(["import-set", str(path), *options, "--out", str(out)]) == 0
    return out


def by_layer(neurons: NeuronSet, row: int) -> list[Tensor]:
    own = neurons.is_member[row]
    return [neurons.index[own & (neurons.layer == layer)] for layer in range(2)]


def build(model: Path, out: Path, *more: object) -> int:
    common = ["build-set", "--model", model, "--quantize", "none", "--out", out]
    return main(list(map(str, [*common, *more])))


def test_completed_set_is_what_build_set_makes_of_the_same_neurons(
    built: NeuronSet, imported: Path, model_dir: Path, corpora: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "completed.safetensors"

    assert build(model_dir, out, "--complete", imported, *corpora) == 0

    completed = load_neuron_set(out)
    for name in TENSORS:
        assert torch.equal(getattr(completed, name), getattr(built, name)), name
    for site in ("gate_means", "value_means", "residual_means"):
        ours, theirs = getattr(completed, site), getattr(built, site)
        assert list(ours) == list(theirs) == ["text", "onset", "body"]
        assert all(torch.equal(ours[phase], theirs[phase]) for phase in ours)
    assert completed.control is not None
    assert built.control is not None
    assert torch.equal(completed.control.index, built.control.index)
    assert torch.equal(completed.control.value_means["onset"], built.control.value_means["onset"])


def test_an_imported_set_stays_readable_with_the_norms_of_its_columns(
    imported: Path, model_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "updated.safetensors"
    model = load_model(str(model_dir), quantize="none")

    save_neuron_set(with_column_norms(load_neuron_set(imported), model), out)

    updated = load_neuron_set(out)
    assert updated.column_norm is not None
    assert torch.equal(updated.index, load_neuron_set(imported).index)


def test_completed_set_says_where_its_neurons_and_its_means_are_from(
    built: NeuronSet, imported: Path, model_dir: Path, corpora: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "completed.safetensors"

    build(model_dir, out, "--complete", imported, *corpora, "--licence", "Text: CC0.")

    about, before = load_neuron_set(out).metadata, load_neuron_set(imported).metadata
    assert about.imported_from == before.imported_from
    assert about.selection_phase is about.prob_quantile is None
    assert about.activation_prob_phase == "text"
    assert about.licence == "Ask us. Text: CC0."
    for name in ("token_counts", "corpus_sha256", "tokenizer_sha256", "hidden_size", "model_id"):
        assert getattr(about, name) == getattr(built.metadata, name)
    capsys.readouterr()
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "own.pth" in shown
    assert "thresholds not known" in shown
    assert "no mean" not in shown


def test_every_method_works_on_a_completed_set(
    imported: Path, model_dir: Path, corpora: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "completed.safetensors"

    build(model_dir, out, "--complete", imported, *corpora)

    neurons = load_neuron_set(out)
    check_set_fits_model(neurons, load_model(str(model_dir), quantize="none"))
    for method in METHODS:
        plan = make_plan(neurons, SteeringRequest(FR, method, 1.0, JA))
        acts = plan.edits or plan.pulls or plan.token_bias or plan.repetition_penalty > 1
        assert acts, method


def test_without_text_the_probabilities_are_those_of_the_onset(
    imported: Path, model_dir: Path, corpora: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "completed.safetensors"

    assert build(model_dir, out, "--complete", imported, *corpora[2:]) == 0

    neurons = load_neuron_set(out)
    assert neurons.metadata.activation_prob_phase == "onset"
    assert list(neurons.value_means) == ["onset", "body"]


def test_some_of_the_languages_can_be_kept(
    built: NeuronSet, imported: Path, model_dir: Path, corpora: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "completed.safetensors"

    assert build(model_dir, out, "--complete", imported, "--languages", "ja,en", *corpora) == 0

    neurons = load_neuron_set(out)
    assert neurons.languages == (JA, EN)
    for language in (JA, EN):
        before, after = built.neurons_of(language), neurons.neurons_of(language)
        assert torch.equal(neurons.layer[after], built.layer[before])
        assert torch.equal(neurons.index[after], built.index[before])
    assert neurons.is_member.any(dim=0).all()


BAD_INPUT = {
    "no corpus": (["--complete", "{imported}"], "No corpus was given"),
    "no languages": (["{corpora}"], "No languages were given"),
    "built set": (["--complete", "{built}", "{corpora}"], "was not imported"),
    "no set": (["--complete", "{tmp}/nothing", "{corpora}"], "No neuron set"),
    "thresholds": (
        ["--complete", "{imported}", "{corpora}", "--prob-quantile", "0.5"],
        "`--prob-quantile` is '0.5', but `--complete` selects nothing",
    ),
    "one language": (
        ["--complete", "{imported}", "{corpora}", "--languages", "en"], "at least two languages",
    ),
    "foreign language": (
        ["--complete", "{imported}", "{corpora}", "--languages", "en,de"], "Unknown language 'de'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_plain_line_and_writes_nothing(
    case: str, built: NeuronSet, imported: Path, model_dir: Path, corpora: list[str],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options, expected = BAD_INPUT[case]
    out = tmp_path / "out" / "set.safetensors"
    out.parent.mkdir()
    places = {"imported": imported, "built": tmp_path / "built.safetensors", "tmp": tmp_path}
    filled = [
        part
        for option in options
        for part in (corpora if option == "{corpora}" else [option.format(**places)])
    ]
    capsys.readouterr()

    assert build(model_dir, out, *filled) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [("llama", {"intermediate_size": 40}, "2 x 40"), ("mistral", {}, "(mistral, 2 x 48)")],
)
def test_model_of_another_shape_or_family_is_refused_before_it_is_recorded(
    family: str, changes: dict[str, int], said: str, imported: Path, corpora: list[str],
    save_tiny_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other = save_tiny_model(tmp_path / "other", family, **changes)
    capsys.readouterr()

    assert build(other, tmp_path / "out.safetensors", "--complete", imported, *corpora) == 1

    error = capsys.readouterr().err
    assert said in error
    assert "tokens" not in error  # no bar was begun
    assert not (tmp_path / "out.safetensors").exists()


def test_every_family_is_imported_for_and_completed(
    family: str, tiny_model_dir: Callable[..., Path], corpora: list[str], tmp_path: Path
) -> None:
    folder, path = tiny_model_dir(family), tmp_path / "own.pth"
    lists = [[torch.tensor([k, 40 + k]), torch.tensor([k])] for k in range(3)]
    torch.save(lists, path)
    steps = [tmp_path / "imported.safetensors", tmp_path / "completed.safetensors"]
    options = ["--model", str(folder), "--languages", "en,fr,ja", "--out", str(steps[0])]

    assert main(["import-set", str(path), *options]) == 0
    assert build(folder, steps[1], "--complete", steps[0], "--tokens", "50", *corpora[:2]) == 0

    before, after = map(load_neuron_set, steps)
    assert after.metadata.architecture == before.metadata.architecture == family
    assert torch.equal(after.is_member, before.is_member)
    assert after.value_means["text"].abs().sum() > 0
