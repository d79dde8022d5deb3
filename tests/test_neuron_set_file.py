"""Tests of neuron set files: exact round trips, and a refusal in words for whatever is not one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.errors import NeuronSetFormatError
from steering.neuron_set import ImportedFrom, NeuronSet, join_means, split_means
from steering.neuron_set_file import (
    FORMAT_VERSION,
    hash_neuron_set,
    load_neuron_set,
    read_made_for,
    save_neuron_set,
)
from tests.toy import as_before_version_5, make_toy_set, without_neurons

Change = Callable[[dict[str, Tensor], dict[str, object]], None]

FIXED = ("layer", "index", "lape_score", "is_member", "activation_prob", "choice_score",
         "norm_weights", "column_norm")  # fmt: skip
MEANS = ("gate_means", "value_means", "residual_means")


def with_columns(neurons: NeuronSet) -> NeuronSet:
    """Give a set and its control neurons norms of columns."""
    assert neurons.control is not None
    control = replace(neurons.control, column_norm=torch.rand(len(neurons.control.layer)) + 0.5)
    return replace(neurons, control=control, column_norm=torch.rand(len(neurons.layer)) + 0.5)


def are_equal(one: NeuronSet, other: NeuronSet) -> bool:
    """Compare all fields: types, values to the last bit, and the order of phases."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in FIXED]
    for name in MEANS:
        first, second = getattr(one, name), getattr(other, name)
        if list(first) != list(second):
            return False
        pairs += [(first[phase], second[phase]) for phase in first]
    for field in (
        "control",
        "token_log_odds",
        "lape_score",
        "activation_prob",
        "choice_score",
        "norm_weights",
        "column_norm",
    ):
        if (getattr(one, field) is None) != (getattr(other, field) is None):
            return False
    pairs = [(first, second) for first, second in pairs if first is not None]
    if one.control is not None and other.control is not None:
        pairs += [(getattr(one.control, n), getattr(other.control, n)) for n in ("layer", "index")]
        norms = (one.control.column_norm, other.control.column_norm)
        if (norms[0] is None) != (norms[1] is None):
            return False
        pairs += [(norms[0], norms[1])] if norms[0] is not None else []
        for name in ("gate_means", "value_means"):
            first, second = getattr(one.control, name), getattr(other.control, name)
            pairs += [(first[phase], second[phase]) for phase in first]
    if one.token_log_odds is not None and other.token_log_odds is not None:
        pairs.append((one.token_log_odds, other.token_log_odds))
    same = all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    return same and one.metadata == other.metadata


@pytest.fixture
def saved(toy_set: NeuronSet, tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_neuron_set(toy_set, path)
    return path


@pytest.fixture
def old_set(toy_set: NeuronSet) -> NeuronSet:
    """A set as programs before version 5 of the format made it."""
    return as_before_version_5(toy_set)


def test_the_hash_of_a_set_is_that_of_its_file(toy_set: NeuronSet, saved: Path) -> None:
    assert hash_neuron_set(toy_set) == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert hash_neuron_set(load_neuron_set(saved)) == hash_neuron_set(toy_set)


def change_file(path: Path, change: Change) -> None:
    """Write a file again with other tensors or another header, without the checks of ours."""
    tensors, header = load_file(path), read_header(path)
    change(tensors, header)
    save_file(tensors, path, metadata={"langsteer": json.dumps(header)})


def read_header(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])["__metadata__"]["langsteer"]
    return json.loads(text)  # type: ignore[no-any-return]  # a JSON object


@given(seed=st.integers(0, 10_000), is_empty=st.booleans(), phases=st.integers(1, 3))
def test_round_trip_is_exact(
    seed: int, is_empty: bool, phases: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    neurons = without_neurons(make_toy_set(seed=seed)) if is_empty else make_toy_set(seed=seed)
    names = list(neurons.gate_means)[:phases]
    counts = {name: neurons.metadata.token_counts[name] for name in names}
    control = neurons.control
    assert control is not None
    neurons = replace(
        neurons,
        control=replace(
            control,
            gate_means={name: control.gate_means[name] for name in names},
            value_means={name: control.value_means[name] for name in names},
        ),
        metadata=neurons.metadata.model_copy(update={"token_counts": counts}),
        gate_means={name: neurons.gate_means[name] for name in names},
        value_means={name: neurons.value_means[name] for name in names},
        residual_means={name: neurons.residual_means[name] for name in names},
    )
    path = tmp_path_factory.mktemp("set") / "toy.safetensors"

    save_neuron_set(neurons, path)

    assert are_equal(load_neuron_set(path), neurons)


def test_every_optional_field_comes_back(toy_set: NeuronSet, tmp_path: Path) -> None:
    metadata = toy_set.metadata.model_copy(
        update={
            "steering_method": "lape-own",
            "strengths": {"normal": 1 / 3},
            "evaluation": "français: 9 из 10 → 日本語",
            "created": "2025-01-31",
            "licence": "CC0",
        }
    )
    path = tmp_path / "toy.safetensors"

    save_neuron_set(replace(toy_set, metadata=metadata), str(path))

    assert load_neuron_set(str(path)).metadata == metadata


def test_residual_means_control_and_log_odds_are_optional(
    toy_set: NeuronSet, tmp_path: Path
) -> None:
    path = tmp_path / "toy.safetensors"
    bare = replace(toy_set, residual_means={}, control=None, token_log_odds=None)

    save_neuron_set(bare, path)

    assert are_equal(load_neuron_set(path), bare)


@pytest.fixture
def imported(toy_set: NeuronSet) -> NeuronSet:
    """A set of which nothing is known but its neurons and whose they are."""
    unknown = ("hidden_size", "selection_phase", "prob_quantile", "select_fraction",
               "membership_quantile")  # fmt: skip
    origin = ImportedFrom(file="own.neuron.pth", sha256="2" * 64)
    metadata = toy_set.metadata.model_copy(
        update={**dict.fromkeys(unknown), "imported_from": origin, "token_counts": {}}
    )
    return replace(
        toy_set,
        metadata=metadata,
        lape_score=None,
        activation_prob=None,
        gate_means={},
        value_means={},
        residual_means={},
        control=None,
        token_log_odds=None,
    )


def test_what_an_imported_set_lacks_is_not_in_its_file(imported: NeuronSet, tmp_path: Path) -> None:
    path = tmp_path / "imported.safetensors"

    save_neuron_set(imported, path)

    assert set(load_file(path)) == {"layer", "index", "is_member"}
    assert are_equal(load_neuron_set(path), imported)


@pytest.mark.parametrize("name", ["lape_score", "activation_prob"])
def test_only_an_imported_set_may_lack_what_was_recorded(
    name: str, imported: NeuronSet, toy_set: NeuronSet, saved: Path, tmp_path: Path
) -> None:
    change_file(saved, lambda tensors, _header: tensors.pop(name))
    half = tmp_path / "half.safetensors"
    save_neuron_set(replace(imported, **{name: getattr(toy_set, name)}), half)  # type: ignore[arg-type]  # a name of the table

    with pytest.raises(NeuronSetFormatError, match=f"missing '{name}'"):
        load_neuron_set(saved)
    with pytest.raises(NeuronSetFormatError, match=f"unexpected '{name}'"):
        load_neuron_set(half)


@pytest.fixture
def chosen(toy_set: NeuronSet) -> NeuronSet:
    """A set that another way than LAPE chose."""
    about = toy_set.metadata.model_copy(update={"method": "lap", "choice_note": "seed 0"})
    return replace(toy_set, metadata=about, choice_score=-toy_set.activation_prob)


def test_a_set_of_another_way_comes_back_and_is_of_the_newest_version(
    chosen: NeuronSet, tmp_path: Path
) -> None:
    path = tmp_path / "lap.safetensors"

    save_neuron_set(chosen, path)

    def look(_tensors: dict[str, Tensor], header: dict[str, object]) -> None:
        assert header["version"] == FORMAT_VERSION

    change_file(path, look)
    assert are_equal(load_neuron_set(path), chosen)


def test_scores_of_a_way_are_there_in_a_set_of_another_way_alone(
    chosen: NeuronSet, toy_set: NeuronSet, tmp_path: Path
) -> None:
    without, beside = tmp_path / "without.safetensors", tmp_path / "beside.safetensors"
    save_neuron_set(replace(chosen, choice_score=None), without)
    save_neuron_set(replace(toy_set, choice_score=chosen.choice_score), beside)

    with pytest.raises(NeuronSetFormatError, match="missing 'choice_score'"):
        load_neuron_set(without)
    with pytest.raises(NeuronSetFormatError, match="unexpected 'choice_score'"):
        load_neuron_set(beside)


def test_a_set_of_lape_has_no_field_that_version_three_lacks(
    old_set: NeuronSet, saved: Path
) -> None:
    save_neuron_set(old_set, saved)

    def look(_tensors: dict[str, Tensor], header: dict[str, object]) -> None:
        assert header["version"] == 3
        assert "choice_note" not in header["set"]  # type: ignore[operator]  # an object

    change_file(saved, look)


def test_a_file_of_version_two_is_read(old_set: NeuronSet, saved: Path) -> None:
    save_neuron_set(old_set, saved)

    def turn_back(_tensors: dict[str, Tensor], header: dict[str, object]) -> None:
        assert header["version"] == 3
        header["version"] = 2
        for name in ("imported_from", "activation_prob_phase"):
            assert header["set"].pop(name) is None  # type: ignore[attr-defined]  # an object

    change_file(saved, turn_back)

    assert are_equal(load_neuron_set(saved), old_set)


def test_each_set_is_written_in_the_lowest_version_that_can_hold_it(
    old_set: NeuronSet, toy_set: NeuronSet, tmp_path: Path
) -> None:
    about = old_set.metadata.model_copy(update={"method": "lap"})
    sets = {
        "lape": old_set,
        "lap": replace(old_set, metadata=about, choice_score=-old_set.activation_prob),
        "halves": toy_set,
        "norms": replace(old_set, norm_weights=torch.randn(2, 32)),
        "columns": with_columns(old_set),
    }

    for name, neurons in sets.items():
        save_neuron_set(neurons, tmp_path / name)

    versions = {name: read_header(tmp_path / name)["version"] for name in sets}
    assert versions == {"lape": 3, "lap": 4, "halves": 5, "norms": 5, "columns": 5}
    for name, neurons in sets.items():
        assert are_equal(load_neuron_set(tmp_path / name), neurons)


@pytest.mark.parametrize("path", [BUNDLED_NEURON_SET, BUNDLED_PAPER_SET], ids=lambda one: one.stem)
def test_the_bundled_sets_are_written_as_they_lie_there(path: Path, tmp_path: Path) -> None:
    save_neuron_set(load_neuron_set(path), tmp_path / "again")

    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_set_that_is_read_and_written_again_is_the_same_file(
    toy_set: NeuronSet, saved: Path, tmp_path: Path
) -> None:
    save_neuron_set(load_neuron_set(saved), tmp_path / "again")

    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("size", [1.0, 1e4, 1e7])
def test_residual_means_lose_less_than_a_thousandth_of_what_tells_languages_apart(
    size: float, toy_set: NeuronSet, saved: Path
) -> None:
    """However large a dimension is, as some are in real models, in every language alike."""
    exact = toy_set.residual_means["text"] + size
    first, rest = split_means(exact)

    joined = join_means(first, rest)
    changed = replace(toy_set, residual_means={**toy_set.residual_means, "text": joined})
    save_neuron_set(changed, saved)

    assert "residual_rest.text" in load_file(saved)
    assert torch.equal(load_neuron_set(saved).residual_means["text"], joined)
    differences = (exact[1:] - exact[0]).abs()
    lost = ((joined - joined[0]) - (exact - exact[0]))[1:].abs()
    assert (lost <= 1e-3 * differences + 2 * torch.finfo(torch.float32).eps * size).all()


def test_residual_means_that_float16_cannot_hold_stay_as_they_are(
    toy_set: NeuronSet, saved: Path
) -> None:
    wide = toy_set.residual_means["text"].clone()
    wide[1, 0, 0] = 1e6
    save_neuron_set(replace(toy_set, residual_means={"text": wide}), saved)

    assert torch.equal(load_neuron_set(saved).residual_means["text"], wide)
    assert "residual_mean.text" in load_file(saved)


def test_of_which_model_a_set_is_can_be_read_without_the_rest(
    toy_set: NeuronSet, saved: Path
) -> None:
    norms = torch.randn(2, 32)
    save_neuron_set(replace(toy_set, norm_weights=norms), saved)

    made_for = read_made_for(saved)

    assert made_for.metadata == toy_set.metadata
    assert made_for.norm_weights is not None
    assert torch.equal(made_for.norm_weights, norms)
    assert made_for.vocabulary == 300


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"norm_weights": torch.ones(3, 32)}, "'norm_weights' is torch.float32"),
        ({"norm_weights": torch.full((2, 32), torch.inf)}, "'norm_weights' has values that are"),
        ({"column_norm": torch.ones(3)}, "'column_norm' is torch.float32"),
        ({"control_column_norm": torch.ones(3)}, "'control_column_norm' is torch.float32"),
        ({"residual_first.text": None}, "missing 'residual_first.text'"),
        ({"residual_rest.text": None}, "missing 'residual_rest.text'"),
        ({"residual_mean.text": torch.ones(5, 2, 32)}, "unexpected 'residual_mean.text'"),
        (
            {"residual_rest.text": torch.ones(4, 2, 32)},
            r"'residual_rest.text' is torch.float32 .*, not torch.float16 \(4, 2, 32\)",
        ),
    ],
)
def test_damaged_norms_and_split_means_are_refused(
    damage: dict[str, Tensor | None], said: str, toy_set: NeuronSet, saved: Path
) -> None:
    def change(tensors: dict[str, Tensor], _header: dict[str, object]) -> None:
        for name, tensor in damage.items():
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor

    change_file(saved, change)

    with pytest.raises(NeuronSetFormatError, match=said):
        load_neuron_set(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("control_index"), "missing 'control_index'"),
        (lambda tensors: tensors.pop("control_gate_mean.body"), "missing 'control_gate_mean.body'"),
        (lambda tensors: tensors["control_layer"].fill_(7), "'control_layer' has values outside"),
        (lambda tensors: tensors["control_index"].zero_(), "control neurons are not ordered"),
        (
            lambda tensors: tensors.update(token_log_odds=torch.zeros(5, 300)),
            "'token_log_odds' is torch.float32",
        ),
        (lambda tensors: tensors["token_log_odds"].fill_(torch.nan), "not finite"),
    ],
)
def test_damaged_control_and_log_odds_are_refused(
    change: Callable[[dict[str, Tensor]], object], said: str, saved: Path
) -> None:
    def damage(tensors: dict[str, Tensor], _header: dict[str, object]) -> None:
        change(tensors)

    change_file(saved, damage)

    with pytest.raises(NeuronSetFormatError, match=said):
        load_neuron_set(saved)


def test_same_set_gives_the_same_bytes(toy_set: NeuronSet, saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    turned = dict(reversed(list(toy_set.gate_means.items())))
    counts = dict(reversed(toy_set.metadata.token_counts.items()))
    metadata = toy_set.metadata.model_copy(update={"token_counts": counts})

    save_neuron_set(replace(toy_set, metadata=metadata, gate_means=turned), again)

    assert again.read_bytes() == saved.read_bytes()


def test_tensors_that_are_not_contiguous_are_stored_as_they_read(
    toy_set: NeuronSet, saved: Path, tmp_path: Path
) -> None:
    strided = toy_set.activation_prob.T.contiguous().T
    path = tmp_path / "strided.safetensors"

    save_neuron_set(replace(toy_set, activation_prob=strided), path)

    assert not strided.is_contiguous()
    assert path.read_bytes() == saved.read_bytes()


def test_saving_replaces_a_file_and_leaves_nothing_beside_it(
    toy_set: NeuronSet, saved: Path
) -> None:
    saved.write_text("old", encoding="utf-8")

    save_neuron_set(toy_set, saved)

    assert are_equal(load_neuron_set(saved), toy_set)
    assert os.listdir(saved.parent) == [saved.name]


def test_folders_on_the_way_are_made(toy_set: NeuronSet, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "toy.safetensors"

    save_neuron_set(toy_set, path)

    assert path.is_file()


def test_target_below_a_file_is_refused(toy_set: NeuronSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(
        NeuronSetFormatError, match=r"Cannot write neuron set '.*toy.*choose another"
    ):
        save_neuron_set(toy_set, tmp_path / "file" / "toy.safetensors")

    assert os.listdir(tmp_path) == ["file"]


def test_target_that_is_a_folder_is_refused(toy_set: NeuronSet, tmp_path: Path) -> None:
    (tmp_path / "toy.safetensors" / "inside").mkdir(parents=True)

    with pytest.raises(NeuronSetFormatError, match="Cannot write neuron set"):
        save_neuron_set(toy_set, tmp_path / "toy.safetensors")

    assert os.listdir(tmp_path) == ["toy.safetensors"]


def test_full_disk_leaves_the_old_file_and_no_half_one(
    toy_set: NeuronSet, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(NeuronSetFormatError, match="No space left on device"):
        save_neuron_set(without_neurons(toy_set), saved)

    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("name", ["nowhere.safetensors", "."])
def test_file_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NeuronSetFormatError, match=r"No neuron set '.*check the path"):
        load_neuron_set(tmp_path / name)


def test_file_cut_off_anywhere_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    cuts = [*range(12), *range(12, len(content), 97), len(content) - 1]

    for cut in cuts:
        saved.write_bytes(content[:cut])
        with pytest.raises(NeuronSetFormatError, match="not a readable neuron set"):
            load_neuron_set(saved)


@given(data=st.data())
def test_file_with_a_changed_byte_is_read_or_refused_but_never_breaks(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("set") / "toy.safetensors"
    save_neuron_set(make_toy_set(), path)
    content = bytearray(path.read_bytes())
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(0, header_bytes - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    try:
        neurons = load_neuron_set(path)
    except NeuronSetFormatError:
        return

    assert len(neurons.languages) == 5
    assert neurons.layer.max() < neurons.metadata.layers


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00" * 100, b"\xff" * 100, b"PK\x03\x04pickle"]
)
def test_foreign_bytes_are_refused(content: bytes, saved: Path) -> None:
    saved.write_bytes(content)

    with pytest.raises(NeuronSetFormatError, match="not a readable neuron set"):
        load_neuron_set(saved)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"langsteer": ""},
        {"langsteer": "{"},
        {"langsteer": "[]"},
        {"langsteer": "3"},
        {"langsteer": "null"},
        {"langsteer": '{"format": "langsteer-neuron-set"}'},
        {"langsteer": "[" * 100_000},
        {"langsteer": '{"format": "x", "version": ' + "9" * 5000 + ', "set": {}}'},
    ],
    ids=range(10),
)
def test_foreign_safetensors_are_refused(metadata: dict[str, str] | None, saved: Path) -> None:
    save_file({"weight": torch.zeros(2)}, saved, metadata=metadata)

    with pytest.raises(NeuronSetFormatError, match="a safetensors file, but not a neuron set"):
        load_neuron_set(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", 1), ("version", 6), ("version", "3"), ("version", [3]), ("format", "another")],
)
def test_other_formats_and_versions_are_refused(key: str, value: object, saved: Path) -> None:
    change_file(saved, lambda _tensors, header: header.update({key: value}))

    with pytest.raises(NeuronSetFormatError, match="Expected 'langsteer-neuron-set'") as caught:
        load_neuron_set(saved)

    assert f"'{value}'" in str(caught.value)


def set_metadata(**values: object) -> Change:
    return lambda _tensors, header: header["set"].update(values)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_metadata(layers=-1), "layers: Input should be greater than 0"),
        (set_metadata(layers="two"), "layers: Input should be a valid integer"),
        (set_metadata(layers=10**30), "layers: Input should be less than"),
        (set_metadata(languages=["fr"]), "languages: Tuple should have at least 2"),
        (set_metadata(languages=["fr", "qq"]), "'qq' is not in the table of languages"),
        (set_metadata(languages=["fr", "fr"]), "a language stands twice"),
        (set_metadata(more="rm"), "more: Extra inputs"),
        (lambda _tensors, header: header.update(set=[1]), "metadata of .* are not valid"),
        (lambda _tensors, header: header["set"].pop("corpus_sha256"), "corpus_sha256: Field"),
        (set_metadata(hidden_size=None), "'hidden_size' is missing, and the set was not imported"),
        (set_metadata(selection_phase=None), "'selection_phase' is missing"),
        (set_metadata(imported_from={"file": "x"}), "imported_from.sha256: Field required"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(change: Change, problem: str, saved: Path) -> None:
    change_file(saved, change)

    with pytest.raises(NeuronSetFormatError, match=problem):
        load_neuron_set(saved)


def drop(*names: str) -> Change:
    def change(tensors: dict[str, Tensor], _header: dict[str, object]) -> None:
        for name in names:
            tensors.pop(name)

    return change


def put(name: str, make: Callable[[Tensor], Tensor], like: str = "") -> Change:
    def change(tensors: dict[str, Tensor], _header: dict[str, object]) -> None:
        tensors[name] = make(tensors[like or name].clone()).contiguous()

    return change


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop("layer"), "missing 'layer'"),
        (drop("gate_mean.onset"), "missing 'gate_mean.onset'"),
        (drop("index", "is_member"), "missing 'index'; missing 'is_member'"),
        (put("more", torch.clone, like="layer"), "unexpected 'more'"),
        (put("gate_mean.later", torch.clone, like="gate_mean.text"), "unexpected .*later'"),
        (put("layer", lambda t: t[0]), r"'layer' is torch.int64 \(\), not"),
        (put("layer", lambda t: t[:-1]), r"'index' is .* \(12,\), not .* \(11,\)"),
        (put("layer", Tensor.int), "'layer' is torch.int32"),
        (put("is_member", Tensor.float), r"'is_member' is torch.float32 \(5, 12\), not torch.bool"),
        (put("is_member", lambda t: t.T), r"'is_member' is torch.bool \(12, 5\)"),
        (put("value_mean.body", Tensor.half), "'value_mean.body' is torch.float16"),
        (put("residual_first.text", lambda t: t[:1]), r"'residual_first.text' is .* \(1, 32\)"),
        (put("layer", with_value(2)), r"'layer' has values outside 0\.\.1"),
        (put("layer", lambda t: -t), r"'layer' has values outside 0\.\.1"),
        (put("index", with_value(48)), r"'index' has values outside 0\.\.47"),
        (put("index", with_value(-1)), r"'index' has values outside 0\.\.47"),
        (put("index", with_value(2**62)), r"'index' has values outside 0\.\.47"),
        (put("index", lambda t: t * 0), "not ordered by layer and index, each once"),
        (put("layer", lambda t: t.flip(0)), "not ordered by layer and index"),
        (put("lape_score", with_value(float("nan"))), "'lape_score' has values that are not"),
        (put("gate_mean.text", with_value(float("inf"))), "'gate_mean.text' has values that"),
        (put("residual_first.body", with_value(float("nan"))), "'residual_first.body' has values"),
        (put("activation_prob", with_value(1.5)), r"'activation_prob' has values outside 0\.\.1"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_those_of_the_format_are_refused(
    change: Change, problem: str, saved: Path
) -> None:
    change_file(saved, change)

    with pytest.raises(NeuronSetFormatError, match=f"is not whole: .*{problem}"):
        load_neuron_set(saved)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E8M0", "U16", "C64"])
def test_tensors_of_unusual_types_are_refused(dtype: str, saved: Path) -> None:
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    size = {"F8_E4M3": 1, "F8_E8M0": 1, "U16": 2, "C64": 8}[dtype]
    entry = header["layer"]
    first, end = entry["data_offsets"]
    header["layer"] = {**entry, "dtype": dtype, "shape": [(end - first) // size]}
    text = json.dumps(header).encode()
    saved.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    with pytest.raises(NeuronSetFormatError, match=r"not whole|not a readable"):
        load_neuron_set(saved)
