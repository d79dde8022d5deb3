"""What numbers were made with: when, by which version and commit, with which set and command.

Knows git and the arguments, not what was measured.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import steering
from steering.loading import BUNDLED_FOLDER, BUNDLED_MODEL
from steering.model_identity import ModelIdentity
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_ROOT = Path(__file__).resolve().parents[2]
_GIT_S = 10.0  # longer than git ever takes


def describe_run(
    options: argparse.Namespace,
    neurons: NeuronSet | None = None,
    *,
    model: ModelIdentity | None = None,
) -> dict[str, str | None]:
    """Return what a file of numbers says of how it was made.

    Args:
        options: With `arguments`, the command line as it was typed.
        neurons: The set that was measured; None where there is none, or several.
        model: The model that was measured; None where none was loaded.
    """
    made: dict[str, str | None] = {
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": steering.__version__,
        "commit": read_commit(_ROOT),
        "command": f"python -m steering {shlex.join(options.arguments)}",
    }
    if neurons is not None:
        made["neuron_set_sha256"] = hash_neuron_set(neurons)
    if model is not None:
        made["model_revision"] = model.revision
        made["tokenizer_sha256"] = model.tokenizer_sha256
    return made


def describe_versions() -> dict[str, str]:
    """Return the versions of what computes and draws."""
    names = ("torch", "transformers", "matplotlib")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def describe_machine(model: "LoadedModel") -> dict[str, str]:
    """Return what a model runs on, of what changes the last digits of its numbers."""
    import torch

    device = model.model.device
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "device": f"{device}{name}",
        "threads": str(torch.get_num_threads()),
        "processors": str(os.cpu_count()),
    }


def hash_json(content: object) -> str:
    """Return the SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def hash_weights(model: str) -> str | None:
    """Return the SHA-256 of a folder's weights, or of a file's; None for a name on the hub."""
    place = BUNDLED_FOLDER if model == BUNDLED_MODEL else Path(model).expanduser()
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()


def hash_program() -> str:
    """Return the SHA-256 of the program's code and of the grammar's words.

    A commit does not tell files that were changed after it.
    """
    digest = hashlib.sha256()
    for folder, pattern in (("steering", "*.py"), ("demo_model", "*.py"), ("demo_model", "*.yaml")):
        for path in sorted((_ROOT / folder).rglob(pattern)):
            digest.update(path.relative_to(_ROOT).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_commit(root: Path) -> str | None:
    """Return the commit of a checkout, with `-dirty` behind it where files differ from it.

    None if *root* is no checkout, such as an unpacked archive, or there is no git.
    """
    if not (root / ".git").exists():  # git would look further up, where others keep theirs
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 - git is wherever the person has it
            cwd=root, capture_output=True, text=True, check=False, timeout=_GIT_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
