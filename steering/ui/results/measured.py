"""Reads what `evaluate forcing --json` measured and left beside a neuron set.

Counts are made again from rates, so that an interval can be given for every language. Knows files
and numbers, not the page or the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from steering.errors import SettingsError
from steering.evaluation.proportions import Proportion

# The conditions that the page tells apart; the others are in the table alone.
UNSTEERED, INSTRUCTED, STEERED = "none", "instruction", "default"

_LIMIT_BYTES = 4_000_000  # a hundred conditions in thirty languages are less
_Rate = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


class _Share(BaseModel):
    """Language forcing success, and the share that is right as well."""

    lfs: _Rate
    content: _Rate | None = None
    n: _Count

    def off_target(self) -> Proportion:
        return Proportion(self.n - round(self.lfs * self.n), self.n)


class _Method(_Share):
    by_language: dict[str, _Share]
    own_language: _Share | None = None


class _File(BaseModel):
    """What the file holds, of what is shown; the newer fields may be missing."""

    model: str
    prompts: _Count
    temperature: float = 0.0
    made_at: datetime | None = None
    version: str | None = None
    commit: str | None = None
    neuron_set_sha256: str | None = None
    command: str | None = None
    added_later: dict[str, str] = {}
    methods: dict[str, _Method]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one condition gave.

    Args:
        name: As `evaluate forcing --conditions` has it.
        off_target: Answers that are not in the chosen language.
        by_language: The same by code of the chosen language.
        right_rate: Share that is in it and right, 0..1; None where nobody can tell.
    """

    name: str
    off_target: Proportion
    by_language: Mapping[str, Proportion]
    right_rate: float | None


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured with a neuron set, and how.

    Args:
        model: Name of the model.
        made_at: When; None where the file does not say, as for the next four.
        version: Of the program.
        commit: Of the program.
        neuron_set_sha256: Which set.
        command: That measured it.
        added_later: Which of these were not recorded then, and where they are from.
        temperature: 0 is greedy.
        own_language: Prompts that were in the chosen language already; None where unknown.
        conditions: By name, in the order of the file.
    """

    model: str
    made_at: datetime | None
    version: str | None
    commit: str | None
    neuron_set_sha256: str | None
    command: str | None
    added_later: Mapping[str, str]
    temperature: float
    own_language: int | None
    conditions: Mapping[str, Measured]

    @property
    def shown(self) -> list[Measured]:
        """Return the conditions that are told apart: unsteered, instructed if there, steered."""
        names = (UNSTEERED, INSTRUCTED, STEERED)
        return [self.conditions[name] for name in names if name in self.conditions]

    @property
    def languages(self) -> list[str]:
        """Return the codes of the chosen languages."""
        return sorted(self.conditions[UNSTEERED].by_language)


def results_path(neuron_set: Path) -> Path:
    """Return where the results of a set lie: `model.safetensors`, `model.forcing.json`."""
    return neuron_set.with_name(f"{neuron_set.stem}.forcing.json")


def read_results(path: Path) -> Results | None:
    """Read results; None if there are none.

    Raises:
        SettingsError: If the file cannot be read or is not one of `evaluate forcing`; it names the
            file without its folder, as whoever reads that need not know the server.
    """
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            raise _not_results(path, "it is too large")
        file = _File.model_validate_json(path.read_bytes())
    except OSError as err:
        raise _not_results(path, err.strerror or type(err).__name__) from err
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _not_results(path, f"{place}: {first['msg']}" if place else first["msg"]) from err
    if missing := {UNSTEERED, STEERED} - set(file.methods):
        raise _not_results(path, f"it lacks the conditions {', '.join(sorted(missing))}")
    return _as_results(file)


def _as_results(file: _File) -> Results:
    own = file.methods[UNSTEERED].own_language
    return Results(
        model=file.model,
        made_at=file.made_at,
        version=file.version,
        commit=file.commit,
        neuron_set_sha256=file.neuron_set_sha256,
        command=file.command,
        added_later=file.added_later,
        temperature=file.temperature,
        own_language=None if own is None else own.n,
        conditions={
            name: Measured(
                name,
                method.off_target(),
                {code: share.off_target() for code, share in method.by_language.items()},
                method.content,
            )
            for name, method in file.methods.items()
        },
    )


def _not_results(path: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"'{path.name}' cannot be shown: {reason}. Expected what `python -m steering evaluate "
        "forcing --json` writes; run it again."
    )
