"""Writes and reads neuron sets as `.safetensors` files: tensors and one JSON text, never a pickle.

The format is described in docs/neuron-set-format.md. The same set gives the same bytes, and a set
that is read and written again keeps every value. A file is written whole or not at all.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steering.activation_stats import STATS_PHASES, StatsPhase
from steering.errors import NeuronSetFormatError
from steering.neuron_set import (
    MadeFor,
    NeuronSet,
    NeuronSetMetadata,
    RandomNeurons,
    join_means,
    split_means,
)
from steering.whole_files import replacing

FORMAT_NAME = "langsteer-neuron-set"
FORMAT_VERSION = 5
# Version 3 added what an imported set lacks, version 4 other ways of choosing than LAPE, version 5
# the model's norms and residual means in half precision.
READABLE_VERSIONS = (2, 3, 4, 5)

_FIXED = ("layer", "index", "lape_score", "is_member", "activation_prob")
_MEANS = ("gate_mean", "value_mean", "residual_mean")
_CONTROL = ("control_layer", "control_index")
_CONTROL_MEANS = ("control_gate_mean", "control_value_mean")
_LOG_ODDS = "token_log_odds"
_CHOICE_SCORE = "choice_score"
_NORMS = "norm_weights"
_NORM_COUNT = 2
_COLUMN_NORM = "column_norm"
_CONTROL_COLUMN_NORM = "control_column_norm"
_SPLIT = ("residual_first", "residual_rest")  # in place of "residual_mean"


def save_neuron_set(neurons: NeuronSet, path: str | Path) -> None:
    """Write a set; the file appears whole or not at all.

    Raises:
        NeuronSetFormatError: If the file cannot be written, or could not be read again.
    """
    path = Path(path)
    tensors = _tensors_of(neurons)
    if problems := _value_problems(tensors, neurons.metadata):
        raise NeuronSetFormatError(
            f"Neuron set '{path}' was not written: {'; '.join(problems)}. Expected whole numbers "
            "and finite means; look for what overflowed, or make the set anew."
        )
    content = _to_bytes(neurons)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as err:
        raise NeuronSetFormatError(
            f"Cannot write neuron set '{path}': {err.strerror}. Expected a folder that can be "
            "written to with enough space; choose another `--out`."
        ) from err


@functools.lru_cache(maxsize=4)  # asked for with every answer of the page
def hash_neuron_set(neurons: NeuronSet) -> str:
    """Return the SHA-256 of the file that a set makes, in hexadecimal digits."""
    return hashlib.sha256(_to_bytes(neurons)).hexdigest()


def load_neuron_set(path: str | Path) -> NeuronSet:
    """Read a set and check that it is whole.

    Raises:
        NeuronSetFormatError: If the file is missing, damaged, foreign or of another version.
    """
    path = Path(path)
    with _opened(path) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    _check_tensors(tensors, metadata, path)
    tensors = _joined(tensors)
    gate, value, residual = (_by_phase(tensors, name) for name in _MEANS)
    return NeuronSet(
        metadata=metadata,
        layer=tensors["layer"],
        index=tensors["index"],
        lape_score=tensors.get("lape_score"),
        is_member=tensors["is_member"],
        activation_prob=tensors.get("activation_prob"),
        gate_means=gate,
        value_means=value,
        residual_means=residual,
        control=_read_control(tensors),
        token_log_odds=tensors.get(_LOG_ODDS),
        choice_score=tensors.get(_CHOICE_SCORE),
        norm_weights=tensors.get(_NORMS),
        column_norm=tensors.get(_COLUMN_NORM),
    )


def read_made_for(path: str | Path) -> MadeFor:
    """Read only what identifies the model that a set was made for.

    Raises:
        NeuronSetFormatError: If the file is missing, damaged, foreign or of another version.
    """
    path = Path(path)
    with _opened(path) as (file, metadata):
        names = set(file.keys())
        norms = file.get_tensor(_NORMS) if _NORMS in names else None
        shape = file.get_slice(_LOG_ODDS).get_shape() if _LOG_ODDS in names else []
    return MadeFor(metadata, norms, shape[-1] if shape else None)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, NeuronSetMetadata]]:  # safetensors has no types
    """Open a file and read its header; what safetensors raises becomes an error of ours."""
    if not path.is_file():
        raise NeuronSetFormatError(
            f"No neuron set '{path}'. Expected a `.safetensors` file made by "
            "`python -m steering build-set`; check the path."
        )
    try:
        with safe_open(path, framework="pt") as file:
            yield file, _parse_header(file.metadata(), path)
    except (SafetensorError, OSError) as err:
        raise NeuronSetFormatError(
            f"'{path}' is not a readable neuron set ({err}). Expected an undamaged "
            "`.safetensors` file; copy it again or rebuild it with `build-set`."
        ) from err


def _to_bytes(neurons: NeuronSet) -> bytes:
    # One metadata entry: safetensors writes several in an order that changes from run to run.
    tensors = _split(_tensors_of(neurons))
    version = _lowest_version(neurons, tensors)
    left_out = {"choice_note"} if version == 3 else None
    header = {
        "format": FORMAT_NAME,
        "version": version,
        "set": neurons.metadata.model_dump(mode="json", exclude=left_out),
    }
    return save(tensors, metadata={"langsteer": json.dumps(header, sort_keys=True)})


def _lowest_version(neurons: NeuronSet, tensors: Mapping[str, Tensor]) -> int:
    """Return the lowest version that can hold a set, so that older programs read it too."""
    if _NORMS in tensors or any(name.startswith((*_SPLIT, _COLUMN_NORM)) for name in tensors):
        return 5
    return 3 if neurons.metadata.method == "lape" else 4


def _split(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split the residual means where that keeps every value, as in what `build-set` makes."""
    split = dict(tensors)
    for phase, means in _by_phase(tensors, "residual_mean").items():
        first, rest = split_means(means)
        if torch.equal(join_means(first, rest), means):
            del split[f"residual_mean.{phase}"]
            split |= {
                f"{name}.{phase}": one for name, one in zip(_SPLIT, (first, rest), strict=True)
            }
    return split


def _joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the residual means whole."""
    joined = {name: tensor for name, tensor in tensors.items() if not name.startswith(_SPLIT)}
    first, rest = (_by_phase(tensors, name) for name in _SPLIT)
    return joined | {
        f"residual_mean.{phase}": join_means(first[phase], rest[phase]) for phase in first
    }


def _tensors_of(neurons: NeuronSet) -> dict[str, Tensor]:
    """Return all tensors of a set under the names that they have in the file."""
    fixed = {name: getattr(neurons, name) for name in _FIXED}
    tensors = {name: tensor for name, tensor in fixed.items() if tensor is not None}
    means = dict(
        zip(_MEANS, (neurons.gate_means, neurons.value_means, neurons.residual_means), strict=True)
    )
    if (control := neurons.control) is not None:
        tensors |= dict(zip(_CONTROL, (control.layer, control.index), strict=True))
        means |= zip(_CONTROL_MEANS, (control.gate_means, control.value_means), strict=True)
        if control.column_norm is not None:
            tensors[_CONTROL_COLUMN_NORM] = control.column_norm
    if neurons.token_log_odds is not None:
        tensors[_LOG_ODDS] = neurons.token_log_odds
    if neurons.choice_score is not None:
        tensors[_CHOICE_SCORE] = neurons.choice_score
    if neurons.norm_weights is not None:
        tensors[_NORMS] = neurons.norm_weights
    if neurons.column_norm is not None:
        tensors[_COLUMN_NORM] = neurons.column_norm
    for name, by_phase in means.items():
        tensors |= {f"{name}.{phase}": tensor for phase, tensor in by_phase.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _read_control(tensors: Mapping[str, Tensor]) -> RandomNeurons | None:
    if _CONTROL[0] not in tensors:
        return None
    layer, index = (tensors[name] for name in _CONTROL)
    gate, value = (_by_phase(tensors, name) for name in _CONTROL_MEANS)
    return RandomNeurons(layer, index, gate, value, tensors.get(_CONTROL_COLUMN_NORM))


def _by_phase(tensors: Mapping[str, Tensor], name: str) -> dict[StatsPhase, Tensor]:
    names = {phase: f"{name}.{phase}" for phase in STATS_PHASES}
    return {phase: tensors[key] for phase, key in names.items() if key in tensors}


def _parse_header(metadata: Mapping[str, str] | None, path: Path) -> NeuronSetMetadata:
    try:
        header = json.loads((metadata or {})["langsteer"])
        name, version, body = header["format"], header["version"], header["set"]
    except (KeyError, TypeError, ValueError, RecursionError) as err:
        raise NeuronSetFormatError(
            f"'{path}' is a safetensors file, but not a neuron set. Expected one made by "
            "`python -m steering build-set`; check the path."
        ) from err
    if name != FORMAT_NAME or version not in READABLE_VERSIONS:
        raise NeuronSetFormatError(
            f"'{path}' has format '{name}' version '{version}'. Expected '{FORMAT_NAME}' version "
            f"{' or '.join(map(str, READABLE_VERSIONS))}; rebuild it with "
            "`python -m steering build-set`."
        )
    try:
        return NeuronSetMetadata.model_validate(body)
    except ValidationError as err:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in err.errors()
        )
        raise NeuronSetFormatError(
            f"The metadata of '{path}' are not valid ({problems}). Expected those of format "
            f"version {version}; rebuild it with `python -m steering build-set`."
        ) from err


def _check_tensors(tensors: Mapping[str, Tensor], metadata: NeuronSetMetadata, path: Path) -> None:
    """Refuse missing, unexpected and misshapen tensors, all named at once."""
    expected = _expected_shapes(tensors, metadata)
    problems = [f"missing '{name}'" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"unexpected '{name}'" for name in sorted(tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & tensors.keys()):
        shape, dtype = expected[name]
        if tuple(tensors[name].shape) != shape or tensors[name].dtype != dtype:
            problems.append(
                f"'{name}' is {tensors[name].dtype} {tuple(tensors[name].shape)}, "
                f"not {dtype} {shape}"
            )
    if not problems:
        problems = _value_problems(tensors, metadata)
    if problems:
        raise NeuronSetFormatError(
            f"Neuron set '{path}' is not whole: {'; '.join(problems)}. Expected the tensors of "
            "docs/neuron-set-format.md; rebuild it with `python -m steering build-set`."
        )


def _expected_shapes(
    tensors: Mapping[str, Tensor], metadata: NeuronSetMetadata
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    languages = len(metadata.languages)
    selected = len(tensors["layer"]) if "layer" in tensors and tensors["layer"].dim() else 0
    per_neuron = (languages, selected)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "layer": ((selected,), torch.int64),
        "index": ((selected,), torch.int64),
        "is_member": (per_neuron, torch.bool),
    }
    if _NORMS in tensors:
        shapes[_NORMS] = ((_NORM_COUNT, metadata.hidden_size or 0), torch.float32)
    if _COLUMN_NORM in tensors:
        shapes[_COLUMN_NORM] = ((selected,), torch.float32)
    if not metadata.has_statistics:
        return shapes
    shapes |= {
        "lape_score": ((selected,), torch.float32),
        "activation_prob": (per_neuron, torch.float32),
    }
    if metadata.method != "lape":
        shapes[_CHOICE_SCORE] = (per_neuron, torch.float32)
    for phase in metadata.token_counts:
        shapes[f"gate_mean.{phase}"] = (per_neuron, torch.float32)
        shapes[f"value_mean.{phase}"] = (per_neuron, torch.float32)
        shapes |= _residual_shapes(tensors, metadata, phase)
    return shapes | _optional_shapes(tensors, metadata)


def _residual_shapes(
    tensors: Mapping[str, Tensor], metadata: NeuronSetMetadata, phase: StatsPhase
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes of a phase's residual means, whole or split, where there are any."""
    languages, stream = len(metadata.languages), (metadata.layers, metadata.hidden_size or 0)
    first, rest = (f"{name}.{phase}" for name in _SPLIT)
    if first in tensors or rest in tensors:
        return {
            first: (stream, torch.float32),
            rest: ((languages - 1, *stream), torch.float16),
        }
    if f"residual_mean.{phase}" in tensors:
        return {f"residual_mean.{phase}": ((languages, *stream), torch.float32)}
    return {}


def _optional_shapes(
    tensors: Mapping[str, Tensor], metadata: NeuronSetMetadata
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes of the control's tensors and the token log-odds, where there are any."""
    languages = len(metadata.languages)
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    if any(name.startswith("control_") for name in tensors):
        layer = tensors.get(_CONTROL[0])
        count = len(layer) if layer is not None and layer.dim() else 0
        shapes |= {name: ((count,), torch.int64) for name in _CONTROL}
        for phase in metadata.token_counts:
            for name in _CONTROL_MEANS:
                shapes[f"{name}.{phase}"] = ((languages, count), torch.float32)
        if _CONTROL_COLUMN_NORM in tensors:
            shapes[_CONTROL_COLUMN_NORM] = ((count,), torch.float32)
    if (log_odds := tensors.get(_LOG_ODDS)) is not None:
        vocabulary = log_odds.shape[-1] if log_odds.dim() else 0
        shapes[_LOG_ODDS] = ((languages, vocabulary), torch.float16)
    return shapes


def _value_problems(tensors: Mapping[str, Tensor], metadata: NeuronSetMetadata) -> list[str]:
    problems = []
    for prefix in ("", "control_") if _CONTROL[0] in tensors else ("",):
        layer, index = tensors[f"{prefix}layer"], tensors[f"{prefix}index"]
        for name, values, bound in (
            ("layer", layer, metadata.layers),
            ("index", index, metadata.neurons_per_layer),
        ):
            if ((values < 0) | (values >= bound)).any():
                problems.append(f"'{prefix}{name}' has values outside 0..{bound - 1}")
        if ((layer * metadata.neurons_per_layer + index).diff() <= 0).any():
            what = "control neurons" if prefix else "neurons"
            problems.append(f"{what} are not ordered by layer and index, each once")
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point() and not tensor.isfinite().all():
            problems.append(f"'{name}' has values that are not finite")
    probs = tensors.get("activation_prob")
    if probs is not None and ((probs < 0) | (probs > 1)).any():
        problems.append("'activation_prob' has values outside 0..1")
    return problems
