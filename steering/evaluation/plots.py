"""Draws the tables of `report.py` as PNG or SVG files.

Same input, same bytes: no date, no random ids, and nobody's own matplotlib settings.
Labels are language codes and names of methods, so that any font will do; colours are told apart by
colour-blind readers and in grey. Knows no models and no text; needs no display.
"""

from __future__ import annotations

import contextlib
import math
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from steering.errors import SettingsError
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import CurvePoint, success_matrix
from steering.whole_files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from steering.evaluation.forcing import ForcingResult

PLOT_SUFFIXES = (".png", ".svg")

Draw: TypeAlias = "Callable[[Figure], None]"

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#595959"  # Okabe and Ito 2008, and a grey
COLOUR_MAP = "cividis"  # Nunez et al. 2018, PLOS ONE 13(7): lightness rises evenly
DARK_BELOW = 0.5  # of that map, where black letters cannot be read
_DOTS_PER_INCH = 150
_TITLE_WIDTH = 60  # signs, of a plot of a curve
_NAME_WIDTH, _NAME_HEIGHT = 0.17, 0.045  # of a level, as shares of the axes
# Neither date nor version goes into a file.
METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}


def check_plot_path(path: Path) -> None:
    """Refuse a target before hours of work, not after.

    Raises:
        SettingsError: If the name ends in neither .png nor .svg, or the folder is missing or cannot
            be written to.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        expected = " or ".join(PLOT_SUFFIXES)
        raise SettingsError(
            f"Cannot plot to '{path}': '{path.suffix}' is no format of plots. Expected a file "
            f"name that ends in {expected}; choose another one."
        )
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise _not_writable(path, "no such folder, or no permission")


@dataclass(frozen=True, slots=True)
class ForcingBar:
    """What the two bars of one condition show.

    Args:
        lfs: Replies in the chosen language.
        content: Replies in it that are right; None where nobody can tell.
    """

    lfs: Proportion
    content: Proportion | None


def plot_forcing(results: Mapping[str, ForcingResult], path: Path) -> None:
    """Draw LFS and content of every method as bars with 95% Wilson intervals.

    Args:
        results: Per name of a condition, drawn from top to bottom.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If there are no results, or the file cannot be written.
    """
    bars = {name: ForcingBar(result.lfs, result.content) for name, result in results.items()}
    plot_forcing_bars(bars, path)


def plot_forcing_bars(bars: Mapping[str, ForcingBar], path: Path) -> None:
    """Draw what `plot_forcing` draws, from the numbers alone.

    Args:
        bars: Per name of a condition, drawn from top to bottom.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If there are no bars, or the file cannot be written.
    """
    check_not_empty(bars, path)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        lfs = {row: bar.lfs for row, bar in enumerate(bars.values())}
        content = {row: share for row, bar in enumerate(bars.values()) if (share := bar.content)}
        _bars(axes, lfs, offset=-0.19, colour=BLUE, label="in the chosen language (LFS)")
        if content:
            _bars(axes, content, offset=0.19, colour=ORANGE, label="and right (content)")
        names = [f"{name} (n={bar.lfs.trials})" for name, bar in bars.items()]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of replies, 95% Wilson interval")
        figure.legend(loc="outside upper center", ncols=2, frameon=False)

    write_figure(path, draw, size=(7.0, 1.2 + 0.55 * len(bars)))


def plot_matrix(result: ForcingResult, path: Path) -> None:
    """Draw language forcing success per language of the prompt and target as a heat map.

    Args:
        result: Under one condition; a pair that was not asked stays white.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If there are no outcomes, or the file cannot be written.
    """
    check_not_empty(result.outcomes, path)
    matrix = success_matrix(result)
    targets = sorted({target for row in matrix.values() for target in row})
    rates = [[row[t].rate if t in row else math.nan for t in targets] for row in matrix.values()]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = draw_rates(
            axes, rates, rows=list(map(str, matrix)), columns=list(map(str, targets))
        )
        axes.set_xlabel("chosen language")
        axes.set_ylabel("language of the prompt")
        axes.set_title(result.condition)
        figure.colorbar(image, ax=axes, label="language forcing success")

    write_figure(path, draw, size=(2.6 + 0.5 * len(targets), 1.6 + 0.4 * len(matrix)))


def plot_curve(
    points: Sequence[CurvePoint],
    path: Path,
    *,
    levels: Mapping[str, float] | None = None,
    title: str = "",
) -> None:
    """Draw success and quality over strength, for a calibration.

    Args:
        points: In any order; drawn by rising strength.
        path: Ends in .png or .svg; an existing file is replaced.
        levels: Names of the chosen levels -> strength, each marked with a line.
        title: Such as the method, or the code of a language.

    Raises:
        SettingsError: If there are no points, or the file cannot be written.
    """
    check_not_empty(points, path)
    write_figure(
        path,
        lambda figure: draw_curve(figure, points, levels=levels, title=title),
        size=(7.0, 4.2),
    )


def draw_rates(
    axes: Axes,
    rates: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    has_percents: bool = True,
) -> AxesImage:
    """Draw rates, 0..1, as a heat map, with the percent in every cell; nan leaves a cell empty."""
    image = axes.imshow(rates, cmap=COLOUR_MAP, vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(rates):
        for x, rate in enumerate(row):
            if has_percents and not math.isnan(rate):
                colour = "white" if rate < DARK_BELOW else "black"
                axes.text(x, y, f"{rate:.0%}", ha="center", va="center", color=colour, size=8)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    return image


def draw_curve(
    figure: Figure,
    points: Sequence[CurvePoint],
    *,
    levels: Mapping[str, float] | None = None,
    title: str = "",
) -> None:
    """Draw what `plot_curve` writes into a figure."""
    ordered = sorted(points, key=lambda point: point.strength)
    strengths = [point.strength for point in ordered]
    axes = figure.add_subplot()
    shares = [point.success for point in ordered]
    rates = [share.rate for share in shares]
    axes.errorbar(strengths, rates, yerr=_whiskers(shares), color=BLUE, marker="o", capsize=3)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("strength")
    axes.set_ylabel("success (LFS), 95% Wilson interval", color=BLUE)
    axes.set_title(_fill(title), pad=32)
    quality = axes.twinx()
    nats = [point.quality_nats for point in ordered]
    quality.plot(strengths, nats, color=ORANGE, marker="s", linestyle="--")
    quality.set_ylabel("nats per token (dashed); lower is better", color=GREY)
    _mark_levels(axes, levels or {})


def _mark_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Draw a line per level, and its name above; a name that would lie on another stands higher."""
    left, right = axes.get_xlim()
    place = axes.get_xaxis_transform()  # x as data, y as a share of the axes
    ends: list[float] = []  # per row of names, where the last one ends
    for name, strength in sorted(levels.items(), key=lambda level: level[1]):
        axes.axvline(strength, color=GREY, linestyle=":")
        start = (strength - left) / (right - left)
        row = next((row for row, end in enumerate(ends) if end <= start), len(ends))
        ends[row : row + 1] = [start + _NAME_WIDTH]
        height = 1.01 + row * _NAME_HEIGHT
        axes.text(strength, height, name, transform=place, ha="center", va="bottom", size=8)


@contextlib.contextmanager
def clean_figure(size: tuple[float, float], *, ink: str = "black") -> Iterator[Figure]:
    """Give a figure of *size* inches that nobody's own matplotlib settings touch.

    They stay away until the figure is saved; *ink* is the colour of letters and axes.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["svg.hashsalt"] = "langsteer"  # else ids are random
        matplotlib.rc("text", color=ink)
        matplotlib.rc("axes", edgecolor=ink, labelcolor=ink)
        matplotlib.rc("xtick", color=ink)
        matplotlib.rc("ytick", color=ink)
        figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)  # pyplot would look for a display
        yield figure


def _bars(
    axes: Axes, shares: Mapping[int, Proportion], *, offset: float, colour: str, label: str
) -> None:
    """Draw one horizontal bar per row; *offset* is in rows."""
    axes.barh(
        [row + offset for row in shares],
        [share.rate for share in shares.values()],
        xerr=_whiskers(list(shares.values())),
        height=0.36,
        color=colour,
        ecolor="black",
        capsize=3,
        label=label,
    )


def _whiskers(shares: Sequence[Proportion]) -> tuple[list[float], list[float]]:
    """Return how far the intervals reach below and above the rates; rounding never below 0."""
    bounds = [(share.rate, *share.interval()) for share in shares]
    below = [max(0.0, rate - low) for rate, low, _ in bounds]
    return below, [max(0.0, high - rate) for rate, _, high in bounds]


def check_not_empty(measured: Mapping[str, object] | Sequence[object], path: Path) -> None:
    """Refuse to draw nothing."""
    if not measured:
        raise SettingsError(
            f"Cannot plot to '{path}': there are '0' measurements. Expected at least one; "
            "measure first."
        )


def write_figure(path: Path, draw: Draw, *, size: tuple[float, float]) -> None:
    """Draw a figure of *size* inches, write it to a temporary name and rename that."""
    check_plot_path(path)
    suffix = path.suffix.lower()
    try:
        with replacing(path) as temporary, clean_figure(size) as figure:
            draw(figure)
            figure.savefig(temporary, format=suffix[1:], metadata=METADATA[suffix])
    except OSError as err:
        raise _not_writable(path, err.strerror or str(err)) from err


def _not_writable(path: Path, problem: str) -> SettingsError:
    return SettingsError(
        f"Cannot write '{path}': {problem}. Expected a file name in a folder that exists and can "
        "be written to; choose another one."
    )


def _fill(title: str) -> str:
    """Break a title between the steps of a method, where it is wider than the plot."""
    return textwrap.fill(title.replace("+", "+ "), _TITLE_WIDTH, break_on_hyphens=False).replace(
        "+ ", "+"
    )
