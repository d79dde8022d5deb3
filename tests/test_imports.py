"""Tests of importing what other people published: exact, checked, and nothing made up."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steering.cli.main import main
from steering.errors import NeuronSetFormatError, NeuronSetMismatchError, StatsError
from steering.imports import find_known_file, find_peer_file, import_neuron_set
from steering.languages import LANGUAGES
from steering.methods import METHODS, SteeringRequest, make_plan
from steering.model_identity import ModelIdentity
from steering.neuron_plans import deactivate
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from tests.plans import effects

# [language][layer]; the last neuron of each layer is there, and the middle language has none.
PUBLISHED = [[[3, 47], [0]], [[], []], [[47, 5], [47]]]
EN, ZH, FR = (LANGUAGES[code] for code in ("en", "zh", "fr"))
MODEL = ModelIdentity(
    model_id="org/tiny",
    revision="",
    architecture="llama",
    layers=2,
    neurons_per_layer=48,
    hidden_size=0,
    tokenizer_sha256="",
)
NEED_NO_MEANS = ("amplify", "damp")


def publish(path: Path, lists: Sequence[Sequence[Sequence[int]]] = PUBLISHED) -> Path:
    """Write a file as the publishers' code does."""
    tensors = [[torch.tensor(layer).long() for layer in by_layer] for by_layer in lists]
    torch.save(tensors, path)
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return publish(tmp_path / "own.neuron.pth")


@pytest.fixture
def imported(published: Path) -> NeuronSet:
    return import_neuron_set(published, MODEL, languages=[EN, ZH, FR])


def members(neurons: NeuronSet) -> list[list[tuple[int, int]]]:
    return [
        [
            (int(neurons.layer[place]), int(neurons.index[place]))
            for place in neurons.neurons_of(language)
        ]
        for language in neurons.languages
    ]


def test_every_language_keeps_exactly_its_neurons(imported: NeuronSet) -> None:
    assert members(imported) == [[(0, 3), (0, 47), (1, 0)], [], [(0, 5), (0, 47), (1, 47)]]
    assert imported.layer.tolist() == [0, 0, 0, 1, 1]
    assert imported.index.tolist() == [3, 5, 47, 0, 47]


def test_what_is_unknown_is_absent(imported: NeuronSet) -> None:
    about = imported.metadata

    assert imported.lape_score is imported.activation_prob is imported.control is None
    assert imported.gate_means == imported.value_means == imported.residual_means == {}
    assert about.selection_phase is about.select_fraction is about.hidden_size is None
    assert (about.token_counts, about.corpus_name, about.licence) == ({}, "", "")
    assert not about.has_statistics


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_need_means_are_refused_and_say_what_to_do(
    method: str, imported: NeuronSet
) -> None:
    request = SteeringRequest(FR, method, 1.0, EN)

    if method in NEED_NO_MEANS:
        factor = {"amplify": 2.0, "damp": 0.0}[method]
        own = set(members(imported)[2])
        chosen = own if method == "amplify" else set(members(imported)[0]) - own
        found = effects(make_plan(imported, request))
        assert {key[2:] for key in found} == chosen
        assert set(found.values()) == {(factor, 0.0)}
    elif method == "penalty":
        assert make_plan(imported, request).repetition_penalty > 1
    elif method == "tokens":  # scripts tell without anything recorded
        plan = make_plan(imported, request)
        assert plan.token_bias is not None
        assert plan.token_bias.log_odds is None
    else:
        with pytest.raises((StatsError, ValueError), match="build-set --complete"):
            make_plan(imported, request)


def test_deactivating_needs_no_means(imported: NeuronSet) -> None:
    assert {key[2:] for key in effects(deactivate(imported, EN))} == set(members(imported)[0])


@pytest.mark.parametrize(
    ("name", "languages", "model_id"),
    [
        ("LLaMA-2-7B.neuron.pth", "en zh fr es vi id ja", "meta-llama/Llama-2-7b-hf"),
        ("LLaMA-2-70B.neuron.pth", "en zh fr es vi id", "meta-llama/Llama-2-70b-hf"),
        ("Mistral-7B.neuron.pth", "en zh fr es vi id", "mistralai/Mistral-7B-v0.1"),
        ("llama-5", "en ar bo da de es fr hi it ja ko mt nl no pl pt ru sv tr zh sk el kk sw ka uk "
         "fa th id vi cs ro", "meta-llama/Llama-3.1-8B-Instruct"),
    ],
)  # fmt: skip
def test_published_names_are_known(
    name: str, languages: str, model_id: str, tmp_path: Path
) -> None:
    known = find_known_file(publish(tmp_path / name))

    assert known is not None
    assert " ".join(map(str, known.languages)) == languages
    assert known.model_id == model_id
    assert known.licence


def test_a_renamed_file_is_known_by_the_name_that_it_was_saved_under(tmp_path: Path) -> None:
    renamed = publish(tmp_path / "llama-3").rename(tmp_path / "mine.pth")

    known = find_known_file(renamed)

    assert known is not None
    assert known.select_fraction == 0.03


@pytest.mark.parametrize("name", ["own.neuron.pth", "llama-6", "LLaMA-2-7B.neuron.pth.old"])
def test_other_names_are_not_known(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04")

    assert find_known_file(path) is None


def test_a_folder_stands_for_the_only_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "activation_mask").mkdir()
    (tmp_path / "README.md").write_text("masks")
    first = publish(tmp_path / "activation_mask" / "aya-1")

    assert find_peer_file(tmp_path) == first
    publish(tmp_path / "activation_mask" / "llama-1")
    with pytest.raises(NeuronSetFormatError, match=r"'2' files .*aya-1, .*llama-1.*name the file"):
        find_peer_file(tmp_path)


class _Evil:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._trace,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_pickle_is_not_run(is_zip: bool, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.neuron.pth"
    torch.save([[_Evil(trace)]], path, _use_new_zipfile_serialization=is_zip)

    with pytest.raises(NeuronSetFormatError) as caught:
        import_neuron_set(path, MODEL, languages=[EN, FR])

    assert not trace.exists()
    assert "weights_only" not in str(caught.value)
    assert ("may run code" in str(caught.value)) == is_zip


def test_a_file_cut_off_anywhere_is_refused(published: Path) -> None:
    content = published.read_bytes()

    for cut in (0, 1, 100, len(content) // 2, len(content) - 1):
        published.write_bytes(content[:cut])
        with pytest.raises(NeuronSetFormatError, match="undamaged"):
            import_neuron_set(published, MODEL, languages=[EN, ZH, FR])


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "llama-5"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "none")

    with pytest.raises(NeuronSetFormatError, match="not a readable file of neurons"):
        import_neuron_set(path, MODEL, languages=[EN, FR])


ROW = torch.tensor([3])


@pytest.mark.parametrize(
    "content",
    [
        {"en": 1},
        [],
        torch.zeros(2, 48),
        [[], []],
        [ROW, ROW],
        [[[3], [5]], [[4], [6]]],
        [[ROW.float()] * 2] * 2,
        [[ROW.bool()] * 2] * 2,
        [[ROW[None]] * 2] * 2,
        [[torch.zeros(1, dtype=torch.int64).expand(10**12)] * 2] * 2,
        [[ROW.to_sparse()] * 2] * 2,
    ],
    ids=range(11),
)
def test_other_content_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "own.neuron.pth"
    torch.save(content, path)

    with pytest.raises(NeuronSetFormatError, match="each a tensor of whole numbers"):
        import_neuron_set(path, MODEL, languages=[EN, FR])


def test_empty_layers_may_be_of_any_type(tmp_path: Path) -> None:
    path = tmp_path / "own.neuron.pth"
    lists: list[list[Tensor]] = [[ROW, torch.tensor([])], [torch.tensor([]), ROW.int()]]
    torch.save(lists, path)

    assert members(import_neuron_set(path, MODEL, languages=[EN, FR])) == [[(0, 3)], [(1, 3)]]


@pytest.mark.parametrize(
    ("lists", "kind", "said"),
    [
        (PUBLISHED[:2], NeuronSetFormatError, "lists for '2' languages, but 3 are named"),
        ([[[1]]] * 3, NeuronSetMismatchError, "'1' layers in language 'en', but 'org/tiny' has 2"),
        ([*PUBLISHED[:2], [[1]]], NeuronSetMismatchError, "'1' layers in language 'fr'"),
        ([[[], [48]], *PUBLISHED[1:]], NeuronSetMismatchError, "neuron '48' in layer 1 .*0 to 47"),
        ([[[-1], []], *PUBLISHED[1:]], NeuronSetMismatchError, "neuron '-1' in layer 0"),
        ([*PUBLISHED[:2], [[7, 7], []]], NeuronSetFormatError, "twice in layer '0' of .*'fr'"),
        ([[[], []]] * 3, NeuronSetFormatError, "names '0' neurons"),
    ],
)
def test_neurons_that_cannot_be_are_refused(
    lists: list[list[list[int]]], kind: type[Exception], said: str, tmp_path: Path
) -> None:
    path = publish(tmp_path / "own.neuron.pth", lists)

    with pytest.raises(kind, match=said):
        import_neuron_set(path, MODEL, languages=[EN, ZH, FR])


@pytest.fixture
def model_dir(tiny_model_dir: Callable[..., Path]) -> Path:
    """A folder with a configuration and no weights: nothing else is read."""
    folder = tiny_model_dir("llama")
    (folder / "model.safetensors").unlink()
    return folder


def test_command_writes_a_set_that_can_be_read_and_shown(
    published: Path, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.safetensors"
    options = ["--model", str(model_dir), "--languages", "en,zh,fr", "--licence", "ask me"]

    assert main(["import-set", str(published), *options, "--out", str(out)]) == 0

    assert "build-set --complete" in capsys.readouterr().out
    neurons = load_neuron_set(out)
    assert members(neurons) == members(import_neuron_set(published, MODEL, languages=[EN, ZH, FR]))
    assert neurons.metadata.architecture == "llama"
    assert neurons.metadata.hidden_size == 32
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "own.neuron.pth" in shown
    assert "ask me" in shown
    assert "no mean activations" in shown


def test_command_needs_no_model_where_layers_and_neurons_are_told(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.safetensors"
    options = ["--shape", "2x48", "--model-id", "org/tiny", "--languages", "en,zh,fr"]

    assert main(["import-set", str(published), *options, "--out", str(out)]) == 0

    assert load_neuron_set(out).metadata.model_id == "org/tiny"
    assert "licence: not known" in capsys.readouterr().out


def test_command_needs_nothing_for_a_published_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = [[[16383], *[[]] * 29], *[[[0], *[[]] * 29]] * 5]
    path, out = publish(tmp_path / "BLOOM-7B.neuron.pth", lists), tmp_path / "set.safetensors"

    assert main(["import-set", str(path), "--out", str(out)]) == 0

    about = load_neuron_set(out).metadata
    assert (about.model_id, about.layers, about.neurons_per_layer) == (
        "bigscience/bloom-7b1", 30, 16384,
    )  # fmt: skip
    assert about.select_fraction == 0.01
    assert "has no licence file" in about.licence
    assert "has no licence file" in capsys.readouterr().out


BAD_INPUT = {
    "nothing there": (["{tmp}/nothing"], "No file or folder"),
    "folder without masks": (["{tmp}"], "holds '0' files of neurons"),
    "unknown order": (["{file}", "--shape", "2x48", "--model-id", "x"], "Nothing is known of"),
    "unknown model": (["{file}", "--languages", "en,zh,fr"], "The model of 'own.pth' is not known"),
    "shape without name": (["{file}", "--languages", "en,zh,fr", "--shape", "2x48"], "--model-id"),
    "no shape": (["{file}", "--languages", "en,zh,fr", "--shape", "2,48"], "is '2,48'"),
    "language": (["{file}", "--languages", "en,zh,jp", "--model", "{model}"], "mean 'ja'"),
    "twice": (["{file}", "--languages", "en,zh,en", "--model", "{model}"], "'en' twice"),
    "one": (["{file}", "--languages", "en", "--model", "{model}"], "at least two codes"),
    "too few": (["{file}", "--languages", "en,zh", "--model", "{model}"], "'3' languages, but 2"),
    "too many": (["{file}", "--languages", "en,zh,fr,es", "--model", "{model}"], "but 4 are named"),
    "no config": (["{file}", "--languages", "en,zh,fr", "--model", "{tmp}"], "no 'config.json'"),
    "known, but of another model": (["{known}", "--model", "{model}"], "(bloom, 30 layers x 16384"),
    "out": (["{file}", "--languages", "en,zh,fr", "--out", "{tmp}/no/x"], "Cannot write"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_plain_line_and_writes_nothing(
    case: str, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, expected = BAD_INPUT[case]
    places = {
        "tmp": tmp_path,
        "file": publish(tmp_path / "own.pth"),
        "model": model_dir,
        "known": tmp_path / "known" / "BLOOM-7B.neuron.pth",
    }
    if "{known}" in options:
        places["known"].parent.mkdir()
        publish(places["known"], PUBLISHED * 2)
    filled = [part.format(**places) for part in options]

    assert main(["import-set", "--out", str(tmp_path / "set.safetensors"), *filled]) == 1

    error = capsys.readouterr().err
    assert expected in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*set*"))


def test_another_file_of_a_known_name_is_read_as_the_person_says(
    model_dir: Path, tmp_path: Path
) -> None:
    path, out = publish(tmp_path / "BLOOM-7B.neuron.pth"), tmp_path / "set.safetensors"
    options = ["--model", str(model_dir), "--languages", "en,zh,fr"]

    assert main(["import-set", str(path), *options, "--out", str(out)]) == 0

    about = load_neuron_set(out).metadata
    assert (about.licence, about.select_fraction) == ("", None)
    assert about.imported_from is not None
    assert about.imported_from.publisher == ""
