"""Keeps the losses of every finished plan in a JSON file, so that a killed run goes on from there.

The file is there whole or not at all, and says what it was measured with; what was measured with
something else is refused. Knows neither models nor plans.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from steering.errors import SettingsError
from steering.whole_files import replacing

_FILE_FORMAT = 1


class KeptLosses:
    """Losses per name of a plan, as they stand in a file.

    Args:
        path: The file; a folder that can be written to.
        about: What the losses depend on -> its hash or value, such as `text`; named in messages.
        columns: How many losses a plan has.
    """

    def __init__(self, path: Path, about: Mapping[str, str], *, columns: int) -> None:
        self._path, self._about, self._columns = path, dict(about), columns
        self._losses: dict[str, list[float]] = {}

    @property
    def losses(self) -> Mapping[str, Sequence[float]]:
        """Return what is known so far."""
        return self._losses

    def load(self) -> None:
        """Read what an earlier run left; nothing where there is no file.

        Raises:
            SettingsError: If it is damaged, or was measured with something else.
        """
        if not self._path.exists():
            return
        try:
            content = json.loads(self._path.read_text("utf-8"))
            about, is_ours = dict(content["about"]), content["format"] == _FILE_FORMAT
            losses = {
                str(name): [float(loss) for loss in row] for name, row in content["losses"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            about, is_ours, losses = {}, False, {}
        rows = losses.values()
        is_whole = all(len(row) == self._columns and all(map(math.isfinite, row)) for row in rows)
        other = [name for name, value in self._about.items() if about.get(name) != value]
        if not is_ours or not about or (not other and not is_whole):
            raise self._refuse("is damaged, or no such results")
        if other:
            raise self._refuse(f"was begun with another {' and another '.join(other)}")
        self._losses = losses

    def keep(self, name: str, losses: Sequence[float]) -> None:
        """Add a plan's losses and write the file.

        Raises:
            SettingsError: If it cannot be written; what was there before is still there.
        """
        self._losses[name] = list(losses)
        content = {"format": _FILE_FORMAT, "about": self._about, "losses": self._losses}
        try:
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        except OSError as err:
            raise SettingsError(
                f"Cannot write '{self._path}': {err.strerror}. Expected space and a folder that "
                "can be written to; make room and run the same command again with `--resume`."
            ) from err

    def remove(self) -> None:
        """Delete the file, when the whole result is written elsewhere."""
        self._path.unlink(missing_ok=True)

    def _refuse(self, problem: str) -> SettingsError:
        return SettingsError(
            f"Cannot resume: '{self._path}' {problem}. Expected the partial results of this very "
            "command; run that command again, or leave out `--resume` to begin anew."
        )
