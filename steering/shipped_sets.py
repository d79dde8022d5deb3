"""Finds the neuron set that ships with the program for a model, whatever the model is called."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from steering.bundled import NEURON_SETS
from steering.errors import NeuronSetFormatError, NeuronSetMismatchError
from steering.model_identity import ModelIdentity
from steering.neuron_set import MadeFor, OtherWeights, check_set_fits
from steering.neuron_set_file import read_made_for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShippedSet:
    """A set that fits a model.

    Args:
        path: Its file.
        warning: That it was made on other weights of the model; None if it was not.
    """

    path: Path
    warning: OtherWeights | None


def find_shipped_set(identity: ModelIdentity, folder: Path = NEURON_SETS) -> ShippedSet | None:
    """Return the set that fits a loaded model best; None if none does.

    Reads headers and norms only. A set of these very weights comes before one of other weights of
    the model, a calibrated set before one that is not.

    Args:
        identity: From `load_model`.
        folder: Where the sets lie.
    """
    found: list[tuple[bool, bool, ShippedSet]] = []
    for path, made_for in _read_all(folder):
        try:
            warning = check_set_fits(made_for, identity)
        except NeuronSetMismatchError:
            continue
        is_calibrated = bool(made_for.metadata.steering_method)
        found.append((warning is not None, not is_calibrated, ShippedSet(path, warning)))
    return min(found, key=lambda one: (*one[:2], one[2].path.name))[2] if found else None


def find_set_by_name(identity: ModelIdentity, folder: Path = NEURON_SETS) -> Path | None:
    """Return the set of a model whose weights are not there yet, by name and shape.

    A folder is taken for the hub's model of the same name, such as `Qwen2.5-Coder-0.5B-Instruct`.
    Check the set against the weights once they are loaded.

    Args:
        identity: From `read_identity`.
        folder: Where the sets lie.
    """
    wanted = _short_name(identity.model_id)
    unknown = replace(identity, revision="", norm_weights=None)
    candidates = []
    for path, made_for in _read_all(folder):
        about = made_for.metadata
        if _short_name(about.model_id) != wanted:
            continue
        try:
            made = replace(made_for, metadata=about.model_copy(update={"tokenizer_sha256": ""}))
            check_set_fits(made, unknown)
        except NeuronSetMismatchError:
            continue
        candidates.append((not about.steering_method, path))
    return min(candidates)[1] if candidates else None


def _read_all(folder: Path) -> Iterator[tuple[Path, MadeFor]]:
    """Yield every readable set; a damaged one is named in the log and is nobody's."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            yield path, read_made_for(path)
        except NeuronSetFormatError as err:
            log.warning("%s", err)


def _short_name(model_id: str) -> str:
    """Return the last part of a hub id or a path, in lower case."""
    return model_id.rstrip("/").rpartition("/")[2].lower()
