"""Where the page keeps the neuron sets that it makes: in a data folder, by model and revision.

Knows names and files, not how a set is made.
"""

import re
from pathlib import Path

from steering.model_identity import ModelIdentity
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_NAME_BYTES = 100  # far below what a file system takes; the end of a path tells more


def kept_set_path(data: Path, identity: ModelIdentity) -> Path:
    """Return where the set of a model is kept: `neuron_sets/<model>/<revision>.safetensors`."""
    model, revision = map(_as_name, (identity.model_id, identity.revision))
    return data / "neuron_sets" / model / f"{revision}.safetensors"


def find_kept_set(data: Path, identity: ModelIdentity) -> NeuronSet | None:
    """Return the set that is kept of a model; None if there is none of this very model.

    Raises:
        NeuronSetFormatError: If there is one, but it is damaged or of another version.
    """
    path = kept_set_path(data, identity)
    if not path.is_file():
        return None
    neurons = load_neuron_set(path)
    about = neurons.metadata
    is_same = (about.model_id, about.model_revision) == (identity.model_id, identity.revision)
    return neurons if is_same else None  # two names may become one when they are shortened


def _as_name(text: str) -> str:
    """Return a text as a file name that any system takes."""
    name = _NOT_IN_NAMES.sub("--", text).strip("-.").encode()[-_NAME_BYTES:]
    return name.decode(errors="ignore").lstrip("-.") or "model"
