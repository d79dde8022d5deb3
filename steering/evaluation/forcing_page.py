"""Tables of the numbers that `evaluate forcing --json` wrote, and a page of several such files.

Reads nothing but the JSON: a page is made anew without the model. Rates are 0..1 in the files and
percent in the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Interval: TypeAlias = tuple[float, float]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class MeasureRow(_Read):
    """A number with its 95% interval."""

    value: float
    interval: Interval
    n: Annotated[int, Field(ge=0)]


class MethodRows(_Read):
    """The numbers of one condition: all replies together, by target, and minus the control's."""

    measures: dict[str, MeasureRow]
    measures_by_language: dict[str, dict[str, MeasureRow]] = Field(default_factory=dict)
    minus_control: dict[str, MeasureRow] = Field(default_factory=dict)


class ForcingNumbers(_Read):
    """What `evaluate forcing --json` wrote; older files have no measures and are refused."""

    methods: dict[str, MethodRows] = Field(min_length=1)
    model: str
    command: str
    commit: str | None = None
    version: str | None = None
    made_at: str | None = None
    model_revision: str | None = None
    weights_sha256: str | None = None
    neuron_set_sha256: str | None = None
    prompts: int = Field(ge=1)
    prompts_sha256: str | None = None
    prompt_file: str | None = None
    prompt_format: str | None = None
    control: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    show: Callable[[float], str]
    meaning: str


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _nats(value: float) -> str:
    return f"{value:.2f}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


_COLUMNS: Mapping[str, _Column] = {
    "lfs": _Column("LFS", _percent, "replies in the chosen language, by the project's detector"),
    "lpr_lid176": _Column(
        "LPR lid.176",
        _percent,
        "Language Confusion Benchmark's line-level pass rate, averaged over sources, then over "
        "languages",
    ),
    "wpr": _Column("WPR", _percent, "its word-level pass rate, of ar, hi, ja, ko, ru and zh"),
    "lpr": _Column("LPR ours", _percent, "replies without a line in another language"),
    "own_words": _Column(
        "own words", _percent, "of the replies in the chosen language, those without a foreign word"
    ),
    "looping": _Column("looping", _percent, "replies with fewer than 60% distinct 4-grams"),
    "nll_nats": _Column(
        "nats", _nats, "negative log-likelihood per token under the unsteered, instructed model"
    ),
    "median_tokens": _Column("tokens", _whole, "median length"),
    "recall": _Column("recall", _percent, "of the right answer's words in the target language"),
    "f1": _Column("F1", _percent, "of the same words"),
    "right": _Column("right", _percent, "replies that are right, in whatever language"),
    "right_forced": _Column("right and forced", _percent, "right and in the chosen language"),
}
_BY_LANGUAGE = ("lfs", "lpr_lid176", "recall", "right_forced")


def measures_markdown(methods: Mapping[str, MethodRows]) -> str:
    """Return the table of conditions; a cell is a number and its 95% interval, `-` if unknown."""
    names = [name for name in _COLUMNS if any(name in rows.measures for rows in methods.values())]
    most = {method: rows.measures["lfs"].n for method, rows in methods.items()}
    header = ["method", "n", *(_COLUMNS[name].heading for name in names)]
    body = [
        [method, str(most[method]), *(_cell(name, rows.measures.get(name)) for name in names)]
        for method, rows in methods.items()
    ]
    return _table(header, body)


def languages_markdown(methods: Mapping[str, MethodRows], name: str) -> str:
    """Return one measure per target language and condition, without intervals."""
    codes = sorted({code for rows in methods.values() for code in rows.measures_by_language})
    body = [
        [
            method,
            *(_value(name, rows.measures_by_language.get(code, {}).get(name)) for code in codes),
        ]
        for method, rows in methods.items()
    ]
    return _table([_COLUMNS[name].heading, *codes], body)


def differences_markdown(methods: Mapping[str, MethodRows], control: str) -> str:
    """Return each condition minus the control on the same prompts; empty where nothing is."""
    compared = {method: rows.minus_control for method, rows in methods.items()}
    names = [name for name in _COLUMNS if any(name in rows for rows in compared.values())]
    if not names:
        return ""
    body = [
        [method, *(_cell(name, rows.get(name), signed=True) for name in names)]
        for method, rows in compared.items()
        if rows
    ]
    return _table([f"minus {control}", *(_COLUMNS[name].heading for name in names)], body)


def legend(methods: Mapping[str, MethodRows]) -> str:
    """Return what the columns of a table are, a line each."""
    present = {name for rows in methods.values() for name in rows.measures}
    return "\n".join(
        f"- {column.heading}: {column.meaning}."
        for name, column in _COLUMNS.items()
        if name in present
    )


def forcing_section(numbers: ForcingNumbers, *, title: str) -> str:
    """Return the section of a page about one file of numbers."""
    parts = [f"## {title}", measures_markdown(numbers.methods)]
    if numbers.control is not None and (
        differences := differences_markdown(numbers.methods, numbers.control)
    ):
        parts += [
            f"On the same prompts, minus `{numbers.control}` (paired bootstrap):",
            differences,
        ]
    present = {name for rows in numbers.methods.values() for name in rows.measures}
    for name in _BY_LANGUAGE:
        if name in present:
            parts += [
                f"{_COLUMNS[name].heading} by chosen language:",
                languages_markdown(numbers.methods, name),
            ]
    parts += [*numbers.notes, _made_with(numbers)]
    return "\n\n".join(parts) + "\n"


def forcing_page(files: Mapping[str, ForcingNumbers], *, title: str) -> str:
    """Return a page with a section per file.

    Args:
        files: By the heading of their section; at least one.
        title: Of the page.
    """
    known = {
        f"{method} {heading}": rows
        for heading, one in files.items()
        for method, rows in one.methods.items()
    }
    sections = [forcing_section(one, title=heading) for heading, one in files.items()]
    note = "Rates in percent; in brackets the 95% interval."
    return "\n".join([f"# {title}\n", note + "\n", legend(known) + "\n", *sections])


def _made_with(numbers: ForcingNumbers) -> str:
    facts = {
        "Model": f"`{numbers.model}`" + _in_brackets(numbers.model_revision),
        "Weights": numbers.weights_sha256 and f"`{numbers.weights_sha256}`",
        "Neuron set": numbers.neuron_set_sha256 and f"`{numbers.neuron_set_sha256}`",
        "Prompts": f"{numbers.prompts}"
        + (f" of `{numbers.prompt_file}`" if numbers.prompt_file else "")
        + _in_brackets(numbers.prompts_sha256),
        "Commit": numbers.commit and f"`{numbers.commit}`, version {numbers.version}",
        "Made at": numbers.made_at,
        "Command": f"`{numbers.command}`",
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _in_brackets(value: str | None) -> str:
    return f" (`{value}`)" if value else ""


def _cell(name: str, row: MeasureRow | None, *, signed: bool = False) -> str:
    if row is None:
        return "-"
    show = _COLUMNS[name].show
    low, high = row.interval
    value = ("+" if signed and row.value > 0 else "") + show(row.value)
    return f"{value} ({show(low)} to {show(high)})"


def _value(name: str, row: MeasureRow | None) -> str:
    return "-" if row is None else _COLUMNS[name].show(row.value)


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
