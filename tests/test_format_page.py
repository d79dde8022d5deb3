"""The page on the file format is enough to write a reader from: here is one, and it reads all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steering.activation_stats import STATS_PHASES
from steering.bundled import BUNDLED_NEURON_SET
from steering.neuron_set import CalibrationPoint, ImportedFrom, NeuronSet, NeuronSetMetadata
from steering.neuron_set_file import FORMAT_VERSION, load_neuron_set, save_neuron_set
from tests.toy import as_before_version_5

PAGE = (Path(__file__).parent.parent / "docs" / "neuron-set-format.md").read_text(encoding="utf-8")
NORMS = torch.arange(64.0).view(2, 32)
DTYPES = {"I64": "<i8", "F32": "<f4", "F16": "<f2", "BOOL": "?"}


def read_by_the_page(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a set as the page says, with nothing of ours."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    data = content[8 + length :]
    inner = json.loads(header.pop("__metadata__")["langsteer"])
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        values = np.frombuffer(data[first:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return inner, tensors


def rows_of(heading: str) -> dict[str, list[str]]:
    """Return the table under a heading: names of the first column -> the other columns."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {name: row[1:] for row in rows for name in re.findall(r"`([^`]+)`", row[0])}


def named_tensors(neurons: NeuronSet) -> dict[str, object]:
    """Return the tensors of a set as our reader gives them, under the names of the page."""
    control = neurons.control
    assert control is not None
    found: dict[str, object] = {
        name: getattr(neurons, name)
        for name in ("layer", "index", "is_member", "lape_score", "activation_prob")
    }
    found |= {"control_layer": control.layer, "control_index": control.index}
    found |= {"token_log_odds": neurons.token_log_odds}
    if neurons.norm_weights is not None:
        found["norm_weights"] = neurons.norm_weights
    for name, by_phase in (
        ("gate_mean", neurons.gate_means),
        ("value_mean", neurons.value_means),
        ("residual_mean", neurons.residual_means),
        ("control_gate_mean", control.gate_means),
        ("control_value_mean", control.value_means),
    ):
        found |= {f"{name}.{phase}": means for phase, means in by_phase.items()}
    return found


@pytest.mark.parametrize("is_bundled", [False, True])
def test_a_reader_written_from_the_page_reads_what_ours_reads(
    is_bundled: bool, toy_set: NeuronSet, tmp_path: Path
) -> None:
    path = BUNDLED_NEURON_SET if is_bundled else tmp_path / "toy.safetensors"
    if not is_bundled:
        save_neuron_set(replace(toy_set, norm_weights=NORMS), path)
    neurons = load_neuron_set(path)

    inner, tensors = read_by_the_page(path)

    assert inner.keys() == {"format", "version", "set"}
    assert inner["format"] == "langsteer-neuron-set"
    assert NeuronSetMetadata.model_validate(inner["set"]) == neurons.metadata
    expected = named_tensors(neurons)
    for phase in STATS_PHASES:  # "a reader MUST add the two in 32 bits"
        if f"residual_first.{phase}" in tensors:
            first = tensors.pop(f"residual_first.{phase}")
            rest = tensors.pop(f"residual_rest.{phase}").astype("<f4")
            tensors[f"residual_mean.{phase}"] = np.concatenate([first[None], first + rest])
    assert tensors.keys() == expected.keys()
    for name, values in tensors.items():
        assert np.array_equal(values, expected[name].numpy()), name  # type: ignore[attr-defined]  # tensors


def test_every_tensor_is_on_the_page_with_its_dtype_and_shape(
    toy_set: NeuronSet, tmp_path: Path
) -> None:
    path = tmp_path / "toy.safetensors"
    about = toy_set.metadata.model_copy(update={"method": "lap"})  # has one tensor more than LAPE's
    whole = as_before_version_5(toy_set).residual_means["text"]
    control = toy_set.control
    assert control is not None
    chosen = replace(
        toy_set,
        metadata=about,
        choice_score=-toy_set.activation_prob,
        norm_weights=NORMS,
        column_norm=torch.ones(len(toy_set.layer)),
        control=replace(control, column_norm=torch.ones(len(control.layer))),
        residual_means={**toy_set.residual_means, "text": whole},
    )
    save_neuron_set(chosen, path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = toy_set.metadata
    sizes = {
        "K": len(about.languages),
        "U": len(toy_set.layer),
        "C": len(control.layer),
        "L": about.layers,
        "H": about.hidden_size,
        "V": 300,
        "2": 2,
        "K - 1": len(about.languages) - 1,
    }

    rows = rows_of("Tensors")

    del header["__metadata__"]
    names = {re.sub(rf"\.({'|'.join(STATS_PHASES)})$", ".PHASE", name) for name in header}
    assert names == set(rows)
    for name, entry in header.items():
        dtype, shape, *_ = rows[re.sub(rf"\.({'|'.join(STATS_PHASES)})$", ".PHASE", name)]
        assert dtype == f"`{entry['dtype']}`", name
        assert [sizes[axis] for axis in shape.strip("()").split(", ")] == entry["shape"], name


def test_every_field_of_the_metadata_is_on_the_page_with_its_default() -> None:
    rows = rows_of("Metadata")

    assert set(rows) == set(NeuronSetMetadata.model_fields)
    for name, field in NeuronSetMetadata.model_fields.items():
        default = rows[name][1]
        if field.is_required():
            assert not default, name
        else:
            shown = {"none": None, "empty": field.default if not field.default else ...}
            assert shown.get(default, default.strip("`")) == field.default, name
    for part, field_name in ((ImportedFrom, "imported_from"), (CalibrationPoint, "calibration")):
        assert all(f"`{name}`" in rows[field_name][2] for name in part.model_fields)


def test_the_page_is_of_the_version_that_is_written() -> None:
    assert PAGE.startswith(f"# The neuron-set file, version {FORMAT_VERSION}\n")
