"""Tests of finding the set that ships for a model: by its weights, or by name before they load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steering.bundled import BUNDLED_NEURON_SET
from steering.loading import load_model, read_identity
from steering.model_identity import ModelIdentity
from steering.neuron_set_file import save_neuron_set
from steering.shipped_sets import find_set_by_name, find_shipped_set
from tests.toy import TOY_IDENTITY, make_toy_set

HUB = replace(TOY_IDENTITY, model_id="org/Coder-0.5B", revision="a" * 40)


def norms(seed: int) -> torch.Tensor:
    return 7 + torch.randn(2, 32, generator=torch.Generator().manual_seed(seed))


def ship(folder: Path, name: str, identity: ModelIdentity, *, method: str = "") -> Path:
    neurons = make_toy_set(identity)
    about = neurons.metadata.model_copy(update={"steering_method": method})
    save_neuron_set(replace(neurons, metadata=about), folder / name)
    return folder / name


@pytest.fixture
def sibling_sets(tmp_path: Path) -> dict[str, Path]:
    """Sets of two models of one shape and vocabulary, and of one fine-tuned from the first."""
    tuned = norms(0) + 0.1 * norms(2).sub(7)
    return {
        "coder": ship(tmp_path, "coder.safetensors", replace(HUB, norm_weights=norms(0))),
        "other": ship(
            tmp_path, "other.safetensors",
            replace(HUB, model_id="org/Plain-0.5B", norm_weights=norms(1)),
        ),
        "tuned": ship(
            tmp_path, "a-tuned.safetensors",
            replace(HUB, model_id="org/Tuned-0.5B", norm_weights=tuned),
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "loaded",
    [
        HUB,
        replace(HUB, model_id="/home/me/model", revision="local"),
        replace(HUB, model_id="model.gguf", revision="local", tokenizer_sha256="1" * 64),
    ],
    ids=["hub", "folder", "gguf"],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_set_of_these_weights_is_found_whatever_the_model_is_called(
    loaded: ModelIdentity, dtype: torch.dtype, sibling_sets: dict[str, Path], tmp_path: Path
) -> None:
    same = replace(loaded, norm_weights=norms(0).to(dtype).float())

    found = find_shipped_set(same, tmp_path)

    assert found is not None
    assert found.path == sibling_sets["coder"]
    assert found.warning is None


def test_a_set_of_other_weights_is_found_with_a_warning_where_there_is_no_nearer_one(
    sibling_sets: dict[str, Path], tmp_path: Path
) -> None:
    sibling_sets["tuned"].unlink()
    tuned = norms(0) + 0.1 * norms(2).sub(7)

    found = find_shipped_set(replace(HUB, norm_weights=tuned), tmp_path)

    assert found is not None
    assert found.path == sibling_sets["coder"]
    assert found.warning is not None


def test_a_model_without_a_set_of_its_own_gets_none(
    sibling_sets: dict[str, Path], tmp_path: Path
) -> None:
    assert sibling_sets
    assert find_shipped_set(replace(HUB, norm_weights=norms(3)), tmp_path) is None
    assert find_shipped_set(replace(HUB, layers=3, norm_weights=norms(0)), tmp_path) is None
    assert find_shipped_set(replace(HUB, norm_weights=norms(0)), tmp_path / "none") is None


def test_a_calibrated_set_is_preferred_and_a_damaged_one_is_named_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = replace(HUB, norm_weights=norms(0))
    ship(tmp_path, "a.safetensors", known)
    calibrated = ship(tmp_path, "b.safetensors", known, method="redirect")
    (tmp_path / "0.safetensors").write_bytes(b"damaged")

    found = find_shipped_set(known, tmp_path)

    assert found is not None
    assert found.path == calibrated
    assert "0.safetensors" in caplog.text


def test_the_bundled_set_ships_for_the_bundled_model() -> None:
    found = find_shipped_set(load_model("bundled").identity)

    assert found is not None
    assert found.path == BUNDLED_NEURON_SET
    assert found.warning is None
    assert find_set_by_name(read_identity("bundled")) == BUNDLED_NEURON_SET


def test_before_the_weights_are_there_the_name_and_the_shape_decide(
    sibling_sets: dict[str, Path], tmp_path: Path
) -> None:
    unread = replace(HUB, tokenizer_sha256="", norm_weights=None)

    assert find_set_by_name(unread, tmp_path) == sibling_sets["coder"]
    folder = replace(unread, model_id="models/coder-0.5b/", revision="")
    assert find_set_by_name(folder, tmp_path) == sibling_sets["coder"]
    assert find_set_by_name(replace(unread, layers=3), tmp_path) is None
    assert find_set_by_name(replace(unread, model_id="org/Coder-1.5B"), tmp_path) is None
