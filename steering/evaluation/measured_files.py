"""Reads back what `evaluate forcing`, `evaluate perplexity` and `sharing` wrote with `--json`.

Checks everything that it takes from a file; what else stands there does not matter.
Knows no models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from steering.errors import NeuronSetMismatchError, SettingsError
from steering.evaluation.figures import check_sharing
from steering.evaluation.forcing_page import ForcingNumbers
from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.plots import ForcingBar
from steering.evaluation.proportions import Proportion
from steering.languages import LANGUAGES
from steering.model_identity import ModelIdentity
from steering.neuron_set import MadeFor, NeuronSetMetadata, check_set_fits

_MOST_PROBLEMS = 3  # in one message

_Rate: TypeAlias = Annotated[float, Field(ge=0, le=1)]
_Row: TypeAlias = tuple[Annotated[float, Field(gt=-100, lt=100)], ...]  # nats per token


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


_File = TypeVar("_File", bound=BaseModel)


class _ForcingMethod(_Read):
    lfs: _Rate
    content: _Rate | None = None
    n: int = Field(ge=1, lt=2**31)


class _ForcingFile(_Read):
    methods: dict[str, _ForcingMethod] = Field(min_length=1)


class _Changes(_Read):
    change_nats: tuple[_Row, ...]


class _PerplexityFile(_Read):
    languages: tuple[str, ...] = Field(min_length=2)
    base_nll_nats: _Row
    neuron_counts: tuple[NonNegativeInt, ...]
    lape: _Changes
    random: _Changes

    @model_validator(mode="after")
    def _check_shape(self) -> _PerplexityFile:
        """Refuse unknown languages, and matrices that are not languages x languages."""
        if unknown := [code for code in self.languages if code not in LANGUAGES]:
            raise ValueError(f"language '{unknown[0]}' is not in the table of languages")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("a language stands twice")
        matrices = (self.lape.change_nats, self.random.change_nats)
        rows = [self.base_nll_nats, self.neuron_counts, *matrices, *matrices[0], *matrices[1]]
        if any(len(row) != len(self.languages) for row in rows):
            raise ValueError("not every row and column has as many numbers as there are languages")
        return self


class _SharingFile(_Read):
    shares: dict[str, tuple[_Rate, ...]]


class _MadeWith(_Read):
    """Which model a file's numbers are of; older files know less, or nothing."""

    model: str | None = None
    model_revision: str | None = None
    tokenizer_sha256: str | None = None


def check_same_model(path: Path, metadata: NeuronSetMetadata, *, command: str) -> None:
    """Refuse a file of numbers that were measured on another model than a set's.

    A file that names no model is taken; one that names no revision must have the set's name.

    Args:
        path: What the command wrote.
        metadata: Of the set.
        command: That wrote it.

    Raises:
        SettingsError: If it is no such file.
        NeuronSetMismatchError: Naming both models.
    """
    made = _read(path, _MadeWith, command=command)
    if made.model is None:
        return
    try:
        check_set_fits(
            MadeFor(metadata),
            ModelIdentity(
                model_id=made.model,
                revision=made.model_revision or "",
                architecture=metadata.architecture,
                layers=metadata.layers,
                neurons_per_layer=metadata.neurons_per_layer,
                hidden_size=metadata.hidden_size or 0,
                tokenizer_sha256=made.tokenizer_sha256 or metadata.tokenizer_sha256,
            ),
        )
        is_same = made.model_revision is not None or made.model == metadata.model_id
    except NeuronSetMismatchError:
        is_same = False
    if not is_same:
        raise NeuronSetMismatchError(
            f"'{path}' was measured on '{made.model}' ({made.model_revision or 'not known'}), but "
            f"the neuron set is of '{metadata.model_id}' ({metadata.model_revision}). Expected "
            "files of one model; leave it out, or give another `--neuron-set`."
        )


def read_sharing(path: Path) -> dict[str, tuple[float, ...]]:
    """Return per group its share of every layer's neurons, of a `sharing --json` file.

    Raises:
        SettingsError: If it is no such file, or the shares are not those of four groups.
    """
    shares = _read(path, _SharingFile, command="sharing").shares
    check_sharing(shares)
    return shares


def read_forcing(path: Path) -> dict[str, ForcingBar]:
    """Return the shares of every condition of an `evaluate forcing --json` file.

    Raises:
        SettingsError: If it is no such file.
    """
    read = _read(path, _ForcingFile, command="evaluate forcing")
    return {
        name: ForcingBar(
            lfs=Proportion(round(method.lfs * method.n), method.n),
            content=None
            if method.content is None
            else Proportion(round(method.content * method.n), method.n),
        )
        for name, method in read.methods.items()
    }


def read_forcing_numbers(path: Path) -> ForcingNumbers:
    """Return all numbers of an `evaluate forcing --json` file, and what they were made with.

    Raises:
        SettingsError: If it is no such file, or of a version that measured less.
    """
    return _read(path, ForcingNumbers, command="evaluate forcing")


def read_perplexity(path: Path) -> PerplexityChange:
    """Return the matrices of an `evaluate perplexity --json` file.

    Raises:
        SettingsError: If it is no such file.
    """
    read = _read(path, _PerplexityFile, command="evaluate perplexity")
    return PerplexityChange(
        languages=tuple(LANGUAGES[code] for code in read.languages),
        base_nll_nats=read.base_nll_nats,
        change_nats=read.lape.change_nats,
        random_change_nats=read.random.change_nats,
        neuron_counts=read.neuron_counts,
    )


def _read(path: Path, kind: type[_File], *, command: str) -> _File:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as err:
        problem = err.strerror or str(err)
    except ValidationError as err:
        found = [
            f"{'.'.join(map(str, error['loc']))}: {error['msg']}".removeprefix(": ")
            for error in err.errors()[:_MOST_PROBLEMS]
        ]
        problem = "; ".join(found)
    raise SettingsError(
        f"Cannot read '{path}': {problem}. Expected what `python -m steering {command} --json` "
        "writes; measure again, or name another file."
    )
