"""Keeps what a long recording has so far in a folder, so that a kill costs minutes, not days.

One file per name, there whole or not at all. Every file says what it is a part of; what belongs to
something else is refused.
Knows tensors and plain values, not what they mean.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from steering.errors import SettingsError
from steering.whole_files import replacing

State = Mapping[str, object]


class PartialResults:
    """A folder of partial results."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is written yet."""
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Return the folder."""
        return self._folder

    def check_same_processes(self, count: int) -> None:
        """Refuse to begin anew, and to delete at the end, what other processes have saved.

        Names end with the number of processes: `-0-of-2`.

        Raises:
            SettingsError: If something was saved by more or fewer.
        """
        names = sorted(path.stem for path in self._folder.glob("*.safetensors"))
        others = [name for name in names if not name.endswith(f"-of-{count}")]
        if others:
            begun = others[0].rsplit("-", 1)[1]
            raise SettingsError(
                f"'{self._folder}' was begun by {begun} processes, and these are {count}. "
                f"Expected as many as before; start {begun}, or delete it to begin anew."
            )

    def load(self, name: str, identity: str) -> tuple[State, dict[str, Tensor]] | None:
        """Return what was saved under a name; None when nothing was.

        Raises:
            SettingsError: If it is damaged or was saved with another identity.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {})["langsteer"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            is_ours, state = header["identity"] == identity, header["state"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            is_ours, state, tensors = False, {}, {}
        if not is_ours:
            raise SettingsError(
                f"'{path}' holds partial results of another command, of other text, or is "
                f"damaged. Expected those of this one; delete '{self._folder}' to begin anew, or "
                "choose another `--out`."
            )
        return state, tensors

    def save(self, name: str, identity: str, state: State, tensors: Mapping[str, Tensor]) -> None:
        """Replace what is saved under a name.

        Raises:
            SettingsError: If it cannot be written; what was saved before is still there.
        """
        path = self._path(name)
        header = json.dumps({"identity": identity, "state": state}, sort_keys=True)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                save_file(dict(tensors), temporary, metadata={"langsteer": header})
        except (OSError, SafetensorError) as err:
            raise SettingsError(
                f"Cannot save partial results to '{self._folder}' ({err}). Expected space and a "
                "folder that can be written to; make room and run the same command again, it goes "
                "on from what was saved before."
            ) from err

    def remove(self) -> None:
        """Delete the folder, when the whole result is written elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"
