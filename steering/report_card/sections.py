"""The sections of a report card: headings, words, tables and plots, the same for every rendering.

Turns numbers into text here alone, so that the terminal and the page say the same.
What a set does not hold has no section, or no column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steering.report_card.card import (
    SHARPEST,
    TYPICAL_NATS,
    LanguageCard,
    ReportCard,
    SharpNeuron,
)
from steering.report_card.plots import (
    Plot,
    plot_calibration,
    plot_layers,
    plot_pairs,
    plot_scores,
)

_PAIRS_IN_TERMINAL = 30
_NARROW = 3  # columns


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts.

    Args:
        caption: What it is a table of.
        header: Names of the columns.
        rows: Cells; the first cell names the row.
        rows_in_terminal: How many rows are enough where there is little room; None for all.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rows_in_terminal: int | None = None

    @property
    def is_number(self) -> tuple[bool, ...]:
        """Say of every column whether it holds numbers, to be aligned to the right."""
        return tuple(
            all(cell[:1].isdigit() or cell[:1] == "-" for cell in column)
            for column in zip(*self.rows, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a card.

    Args:
        heading: Its name.
        words: What is to be seen, in a sentence or two.
        tables: All its numbers.
        plots: The same numbers for the eye.
    """

    heading: str
    words: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...] = ()

    @property
    def is_half(self) -> bool:
        """Say whether there is so little to show that two sections go side by side."""
        return len(self.plots) == 1 or len(self.tables[0].header) <= _NARROW


def summarise(card: ReportCard) -> str:
    """Return the card in one sentence."""
    share = card.selected / card.all_neurons
    return (
        f"{card.selected:,} of {card.all_neurons:,} neurons ({share:.1%}) are selected for "
        f"{len(card.languages)} languages; {card.selected_of_one:,} of them in one language only."
    )


def make_sections(card: ReportCard) -> tuple[Section, ...]:
    """Return the sections in the order in which a person asks."""
    makers = (_languages, _layers, _pairs, _scores, _tokens, _sharpest, _calibration)
    return tuple(section for make in makers if (section := make(card)) is not None)


def _languages(card: ReportCard) -> Section:
    has_scores = any(row.median_score_nats is not None for row in card.languages)
    header = ["language", "name", "neurons", "in no other"]
    header += ["median LAPE score"] if has_scores else []
    header += [f"{phase} tokens" for phase in card.phases]
    rows = []
    for row in card.languages:
        cells = [str(row.language), row.language.english_name, f"{row.neurons:,}", f"{row.own:,}"]
        cells += [_nats(row.median_score_nats)] if has_scores else []
        cells += [f"{row.token_counts[phase]:,}" for phase in card.phases]
        rows.append(tuple(cells))
    words = "Neurons that belong to each language, and how many positions of it were counted."
    return Section("Languages", words, (Table("Languages", tuple(header), tuple(rows)),))


def _layers(card: ReportCard) -> Section:
    columns: dict[str, Sequence[int]] = {"all": card.layer_counts}
    columns |= {str(row.language): row.layer_counts for row in card.languages}
    columns |= {} if card.control_counts is None else {"control": card.control_counts}
    rows = [
        (str(layer), *(f"{counts[layer]:,}" for counts in columns.values()))
        for layer in range(len(card.layer_counts))
    ]
    words = "How many selected neurons each layer holds; a shared neuron counts in each language."
    if card.control_counts is not None:
        words += " Control neurons are random ones to compare with."
    table = Table("Neurons per layer", ("layer", *columns), tuple(rows))
    plots = (plot_layers(card),) if _has_members(card) else ()
    return Section("Layers", words, (table,), plots)


def _pairs(card: ReportCard) -> Section:
    rows = tuple(
        (f"{p.first} and {p.second}", f"{p.shared:,}", f"{p.smaller:,}", f"{p.share:.0%}")
        for p in card.pairs
    )
    header = ("languages", "shared", "of the smaller's", "share")
    table = Table("Shared neurons", header, rows, rows_in_terminal=_PAIRS_IN_TERMINAL)
    words = (
        "Neurons that belong to both languages of a pair, "
        "as a share of those of the language that has fewer."
    )
    plots = (plot_pairs(card),) if _has_members(card) else ()
    return Section("Shared neurons", words, (table,), plots)


def _scores(card: ReportCard) -> Section | None:
    if not card.score_bins:
        return None
    rows = tuple((f"{b.low:.3f}", f"{b.high:.3f}", f"{b.neurons:,}") for b in card.score_bins)
    words = (
        "The LAPE score is the entropy of a neuron's activation probabilities over the languages: "
        "0 nats where one language alone activates it, "
        f"{math.log(len(card.languages)):.2f} where all of them do alike."
    )
    table = Table("Histogram of LAPE scores, nats", ("from", "to", "neurons"), rows)
    return Section("LAPE scores", words, (table,), (plot_scores(card.score_bins),))


def _sharpest(card: ReportCard) -> Section | None:
    if not card.sharpest:
        return None
    own = tuple(
        (str(row.language), *_fill([_place_and_score(neuron) for neuron in row.sharpest], SHARPEST))
        for row in card.languages
    )
    ranks = tuple(str(rank + 1) for rank in range(SHARPEST))
    tables = (
        _neuron_table(card.sharpest),
        Table("The sharpest of each language: layer/index, score", ("language", *ranks), own),
    )
    words = (
        "The neurons with the lowest LAPE scores, of the set and of each language, "
        "and the two languages that activate them most, as a share of tokens."
    )
    return Section("Sharpest neurons", words, tables)


def _neuron_table(neurons: Sequence[SharpNeuron]) -> Table:
    has_probs = any(neuron.most_active for neuron in neurons)
    header = ["layer/index", "LAPE score", "belongs to"]
    header += ["most active in", "then in"] if has_probs else []
    rows = []
    for neuron in neurons:
        members = " ".join(map(str, neuron.members)) or "-"
        cells = [f"{neuron.layer}/{neuron.index}", _nats(neuron.score_nats), members]
        if has_probs:
            cells += _fill([f"{language} {rate:.1%}" for language, rate in neuron.most_active], 2)
        rows.append(tuple(cells))
    return Table("The sharpest of the set", tuple(header), tuple(rows))


def _calibration(card: ReportCard) -> Section | None:
    measured = [row for row in card.languages if row.curve]
    with_levels = [row for row in card.languages if row.levels]
    if not measured and not with_levels:
        return None
    tables = []
    if with_levels:
        names = tuple(dict.fromkeys(name for row in with_levels for name in row.levels))
        rows = tuple(
            (str(row.language), *(_number(row.levels.get(name)) for name in names))
            for row in with_levels
        )
        tables.append(Table("Strengths of the levels", ("language", *names), rows))
    if measured:
        header = ("language", "strength", "level", "in the language", "95% interval", "nats/token")
        points = tuple(cells for row in measured for cells in _curve_rows(row))
        tables.append(Table("Measured strengths", header, points))
    words = "What the levels stand for, times the usual strength of the method."
    if measured:
        words += (
            " Success is the share of replies in the language; quality is their negative "
            "log-likelihood per token under the unsteered model, lower is better."
        )
    return Section(
        "Calibration", words, tuple(tables), tuple(plot_calibration(row) for row in measured)
    )


def _curve_rows(row: LanguageCard) -> Iterator[tuple[str, ...]]:
    for point in row.curve:
        names = [name for name, strength in row.levels.items() if strength == point.strength]
        success = point.success
        low, high = success.interval()
        yield (
            str(row.language),
            f"{point.strength:g}",
            " ".join(names) or "-",
            f"{success.rate:.1%} ({success.successes}/{success.trials})",
            f"{low:.1%} to {high:.1%}",
            "-" if math.isnan(point.quality_nats) else f"{point.quality_nats:.2f}",
        )


def _tokens(card: ReportCard) -> Section | None:
    rows = tuple(
        (str(row.language), f"{row.typical_tokens:,}", _nats(row.highest_log_odds_nats))
        for row in card.languages
        if row.typical_tokens is not None
    )
    if not rows:
        return None
    words = (
        "Tokens that are used at least "
        f"{math.exp(TYPICAL_NATS):.1f} times as much in the language as in the others."
    )
    header = ("language", "typical tokens", "highest log-odds, nats")
    return Section("Tokens", words, (Table("Typical tokens", header, rows),))


def _has_members(card: ReportCard) -> bool:
    return any(row.neurons for row in card.languages)


def _fill(cells: Sequence[str], count: int) -> list[str]:
    return [*cells, *["-"] * (count - len(cells))]


def _place_and_score(neuron: SharpNeuron) -> str:
    return f"{neuron.layer}/{neuron.index}, {_nats(neuron.score_nats)}"


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
