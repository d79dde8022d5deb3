"""Losses of finished plans: read back exactly, and refused in words where they are others'."""

import json
import math
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.evaluation.kept_losses import KeptLosses

ABOUT = {"model": "a", "neuron set": "b", "text": "c"}


def kept(path: Path, **changes: str) -> KeptLosses:
    return KeptLosses(path, {**ABOUT, **changes}, columns=2)


def test_what_was_kept_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    first = kept(path)
    first.keep("none", [1 / 3, 2.0])
    first.keep("own fr", [0.1 + 0.2, 1e-300])

    again = kept(path)
    again.load()

    assert again.losses == {"none": [1 / 3, 2.0], "own fr": [0.1 + 0.2, 1e-300]}
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_nothing_is_known_and_nothing_is_left_behind(tmp_path: Path) -> None:
    losses = kept(tmp_path / "part.json")

    losses.load()
    losses.remove()

    assert not losses.losses
    assert not list(tmp_path.iterdir())


def test_results_of_something_else_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    kept(path).keep("none", [1.0, 2.0])
    before = path.read_bytes()

    with pytest.raises(SettingsError, match=r"begun with another model and another text\. Expec"):
        kept(path, model="z", text="z").load()

    assert path.read_bytes() == before


DAMAGED = {
    "empty": "",
    "cut": '{"format": 1, "about"',
    "list": "[]",
    "no losses": json.dumps({"format": 1, "about": ABOUT}),
    "other format": json.dumps({"format": 2, "about": ABOUT, "losses": {}}),
    "too few columns": json.dumps({"format": 1, "about": ABOUT, "losses": {"none": [1.0]}}),
    "no number": json.dumps({"format": 1, "about": ABOUT, "losses": {"none": [1.0, "x"]}}),
    "not finite": json.dumps({"format": 1, "about": ABOUT, "losses": {"none": [1.0, math.nan]}}),
    "about is a text": json.dumps({"format": 1, "about": "abc", "losses": {}}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "part.json"
    path.write_text(content)

    with pytest.raises(SettingsError, match=r"Cannot resume: '.*part\.json' is damaged"):
        kept(path).load()

    assert path.read_text() == content


def test_a_folder_that_is_gone_is_one_plain_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Cannot write"):
        kept(tmp_path / "gone" / "part.json").keep("none", [1.0, 2.0])
