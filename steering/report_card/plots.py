"""Draws the plots of a report card as SVG, once for a light and once for a dark page.

Labels are language codes and numbers, so that any font will do; letters are drawn as outlines.
Same card, same bytes. Knows no page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from steering.evaluation.plots import (
    BLUE,
    GREY,
    METADATA,
    ORANGE,
    Draw,
    clean_figure,
    draw_curve,
    draw_rates,
)
from steering.languages import LANGUAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from steering.report_card.card import LanguageCard, ReportCard, ScoreBin, SharedPair

Theme: TypeAlias = Literal["light", "dark"]

_WIDTH = 4.2  # inches; shown at 310 to 510 CSS pixels, so that 10 points stay readable
_INK = "#010203"  # stands for the colour of text; no other part of a plot has it
# What a drawn colour becomes: at least 3:1 to the page for marks, 4.5:1 for letters.
_PALETTES: dict[Theme, dict[str, str]] = {
    "light": {_INK: "#1f2937", BLUE: "#0072b2", ORANGE: "#b35900", GREY: "#595959"},
    "dark": {_INK: "#e5e7eb", BLUE: "#56b4e9", ORANGE: "#e69f00", GREY: "#b6bcc6"},
}
_NUMBERED_LANGUAGES = 10  # beyond, percents do not fit into the cells
_FEW_LANGUAGES = 12  # up to here there is room
_LAYER_TICKS = 12
_TICK_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot that is not drawn yet.

    Args:
        alt: What it shows, for those who do not see it.
        draw: Draws it into an empty figure.
        size: Width and height in inches.
    """

    alt: str
    draw: Draw
    size: tuple[float, float]


def to_svg(plot: Plot) -> dict[Theme, str]:
    """Draw a plot once and return it in the colours of both themes."""
    stream = io.BytesIO()
    with clean_figure(plot.size, ink=_INK) as figure:
        plot.draw(figure)
        figure.savefig(stream, format="svg", transparent=True, metadata=METADATA[".svg"])
    drawn = stream.getvalue().decode()
    return {theme: _recolour(drawn, palette) for theme, palette in _PALETTES.items()}


def plot_layers(card: ReportCard) -> Plot:
    """Return bars per language: what share of its neurons each layer holds."""
    rows = [row for row in card.languages if row.neurons]
    tallest = max(count / row.neurons for row in rows for count in row.layer_counts)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)
        for axes, row in zip(grid[:, 0], rows, strict=True):
            shares = [count / row.neurons for count in row.layer_counts]
            edges = [layer - 0.5 for layer in range(len(shares) + 1)]
            axes.stairs(shares, edges, fill=True, color=BLUE)  # one shape, however many layers
            axes.set_ylabel(str(row.language), rotation=0, ha="right", va="center", size=11)
            axes.text(1.02, 0.5, f"{row.neurons:,}", transform=axes.transAxes, va="center", size=10)
            axes.set_yticks([])
            axes.spines[["left", "right", "top"]].set_visible(False)
            axes.tick_params(bottom=False)
        layers = len(card.layer_counts)
        step = next(step for step in _TICK_STEPS if layers <= step * _LAYER_TICKS)
        grid[-1, 0].set_xticks(range(0, layers, step))
        grid[-1, 0].set_xlabel("layer")
        grid[0, 0].set_title(f"share of neurons, tallest bar {tallest:.0%}; right: all", size=10)

    peaks = ", ".join(f"{row.language} in layer {_peak(row)}" for row in rows)
    alt = f"Bars of each language's neurons over the layers. Most neurons: {peaks}."
    height = 0.4 if len(rows) <= _FEW_LANGUAGES else 0.28
    return Plot(alt, draw, (_WIDTH, 0.9 + height * len(rows)))


def plot_pairs(card: ReportCard) -> Plot:
    """Return a heat map of the neurons that pairs of languages share."""
    codes = [str(row.language) for row in card.languages]
    rates = _lower_triangle(codes, card.pairs)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        has_percents = len(codes) <= _NUMBERED_LANGUAGES
        image = draw_rates(
            axes, rates, rows=codes[1:], columns=codes[:-1], has_percents=has_percents
        )
        stairs = [n - 0.5 for n in range(len(codes)) for _ in range(2)]
        axes.plot(stairs[1:], stairs[:-1], color=_INK, linewidth=0.8)  # dark cells, dark page
        axes.spines[["right", "top"]].set_visible(False)
        axes.tick_params(length=0, labelsize=10 if len(codes) <= _FEW_LANGUAGES else 6)
        figure.colorbar(image, ax=axes, format=_percent, location="bottom", aspect=30)

    most = card.pairs[0]
    alt = (
        f"Heat map of shared neurons per pair of languages. The pair that shares most: "
        f"{most.first} and {most.second} with {most.share:.0%}."
    )
    cell = 0.36 if len(codes) <= _FEW_LANGUAGES else 0.15
    return Plot(alt, draw, (_WIDTH, max(2.4, 1.0 + cell * len(codes))))


def plot_scores(bins: Sequence[ScoreBin]) -> Plot:
    """Return the histogram of LAPE scores, with what they mean in languages."""
    low, high = bins[0].low, bins[-1].high
    margin = (high - low or 1.0) * 0.03

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        width = (high - low) / len(bins) or 0.1
        axes.bar(
            [(b.low + b.high) / 2 for b in bins], [b.neurons for b in bins],
            width=0.92 * width, color=BLUE,
        )  # fmt: skip
        axes.set_xlim(low - max(margin, width), high + max(margin, width))
        axes.set_xlabel("LAPE score, nats; lower is sharper")
        axes.set_ylabel("neurons")
        axes.spines[["right", "top"]].set_visible(False)
        for count in _even_counts(low - margin, high + margin):
            axes.axvline(math.log(count), color=GREY, linestyle=":", linewidth=1)
            place = axes.get_xaxis_transform()
            axes.text(math.log(count), 1.01, str(count), transform=place, ha="center", va="bottom")
        axes.set_title("dotted: even over so many languages", size=10, pad=18)

    fullest = max(bins, key=lambda b: b.neurons)
    alt = (
        f"Histogram of LAPE scores from {low:.2f} to {high:.2f} nats. Most neurons, "
        f"{fullest.neurons:,}, lie between {fullest.low:.2f} and {fullest.high:.2f}."
    )
    return Plot(alt, draw, (_WIDTH, 3.2))


def plot_calibration(row: LanguageCard) -> Plot:
    """Return a language's success and quality over strength."""
    best = max(row.curve, key=lambda point: point.success.rate)
    levels = ", ".join(f"{name} {strength:g}" for name, strength in row.levels.items())
    alt = (
        f"Success and quality of {row.language.english_name} over strength. Most success: "
        f"{best.success.rate:.0%} at strength {best.strength:g}."
    )
    return Plot(
        f"{alt} Levels: {levels}." if levels else alt,
        lambda figure: draw_curve(
            figure, row.curve, levels=row.levels, title=str(row.language)
        ),
        (_WIDTH, 3.7),
    )  # fmt: skip


def _even_counts(low: float, high: float) -> list[int]:
    """Return the numbers of languages whose even activation scores in here, not too near."""
    counts: list[int] = []
    for count in range(1, len(LANGUAGES) + 1):
        score, last = math.log(count), math.log(counts[-1]) if counts else -math.inf
        if low <= score <= high and score - last >= 0.06 * (high - low):
            counts.append(count)
    return counts


def _recolour(svg: str, palette: dict[str, str]) -> str:
    for drawn, shown in palette.items():
        svg = svg.replace(drawn.lower(), shown)
    return svg


def _peak(row: LanguageCard) -> int:
    return max(range(len(row.layer_counts)), key=lambda layer: row.layer_counts[layer])


def _lower_triangle(codes: Sequence[str], pairs: Sequence[SharedPair]) -> list[list[float]]:
    """Return shares with the later language as row and the earlier one as column, else nan."""
    rates = [[math.nan] * (len(codes) - 1) for _ in codes[1:]]
    for pair in pairs:
        rates[codes.index(str(pair.second)) - 1][codes.index(str(pair.first))] = pair.share
    return rates


def _percent(rate: float, _: object = None) -> str:
    return f"{rate:.0%}"
