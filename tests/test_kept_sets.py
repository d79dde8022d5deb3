"""Where sets are kept: one place per model and revision, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steering.errors import NeuronSetFormatError
from steering.kept_sets import find_kept_set, kept_set_path
from steering.neuron_set_file import save_neuron_set
from tests.toy import TOY_IDENTITY, make_toy_set

FOLDER = replace(TOY_IDENTITY, model_id="/home/me/models/small", revision="sha256:16cb5cfa02f30b3d")


def test_the_place_is_named_after_model_and_revision(tmp_path: Path) -> None:
    hub = replace(TOY_IDENTITY, model_id="org/model-1.5", revision="a" * 40)

    assert kept_set_path(tmp_path, hub) == (
        tmp_path / "neuron_sets" / "org--model-1.5" / f"{'a' * 40}.safetensors"
    )
    assert kept_set_path(tmp_path, FOLDER) == (
        tmp_path
        / "neuron_sets"
        / "home--me--models--small"
        / "sha256--16cb5cfa02f30b3d.safetensors"
    )


@pytest.mark.parametrize(
    "name", ["..", "../..", "/", "", "a" * 500, "../../etc/passwd", "モデル", "語" * 99]
)
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    path = kept_set_path(tmp_path, replace(TOY_IDENTITY, model_id=name, revision=name))

    assert path.resolve().parent.parent == tmp_path / "neuron_sets"
    assert path.parent.name.strip(".")
    assert max(len(part.encode()) for part in path.parts[-2:]) <= 120


def test_a_set_is_found_by_model_and_revision(tmp_path: Path) -> None:
    save_neuron_set(make_toy_set(FOLDER), kept_set_path(tmp_path, FOLDER))

    found = find_kept_set(tmp_path, FOLDER)

    assert found is not None
    assert found.metadata.model_id == FOLDER.model_id
    assert find_kept_set(tmp_path, replace(FOLDER, revision="sha256:0")) is None
    assert find_kept_set(tmp_path, replace(FOLDER, model_id="/home/me/models/other")) is None


def test_names_that_become_one_do_not_become_one_model(tmp_path: Path) -> None:
    save_neuron_set(make_toy_set(FOLDER), kept_set_path(tmp_path, FOLDER))
    twin = replace(FOLDER, model_id="home/me--models/small")

    assert kept_set_path(tmp_path, twin) == kept_set_path(tmp_path, FOLDER)
    assert find_kept_set(tmp_path, twin) is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = kept_set_path(tmp_path, FOLDER)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")

    with pytest.raises(NeuronSetFormatError, match="not a readable neuron set"):
        find_kept_set(tmp_path, FOLDER)
