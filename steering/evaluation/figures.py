"""Draws the figures of a study as PNG or SVG: layers, overlap, perplexity change, sharing.

Same input, same bytes; labels are language codes, numbers and a few English words. A share of
neurons, a change in nats: each figure says its unit. Bars of language forcing are in `plots.py`.
Knows no models and no files but the one it writes.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steering.errors import SettingsError
from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.plots import (
    BLUE,
    COLOUR_MAP,
    DARK_BELOW,
    GREY,
    ORANGE,
    check_not_empty,
    write_figure,
)
from steering.evaluation.set_shape import count_shared, jaccard, quarter_of, quarter_shares
from steering.evaluation.signed import format_signed
from steering.neuron_set import NeuronSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SHARING_GROUPS = ("all-shared", "partial-shared", "specific", "non-activated")
# Okabe and Ito 2008; the hatches tell them apart in grey.
_GROUP_LOOKS = ((BLUE, ""), ("#56B4E9", ""), (ORANGE, "//"), ("#D9D9D9", ""))
_CELL = 0.55  # inches of a heat map's cell that holds a number
_MOST_TICKS = 12
_ROUNDING = 1e-6  # that shares may be off from 1 together


def layers_caption(neurons: NeuronSet) -> str:
    """Return which share of the neurons lies in the first and last quarter of the layers.

    A neuron of two languages counts twice.
    """
    layers = neurons.metadata.layers
    quarter = quarter_of(layers)
    memberships = [sum(layer) for layer in zip(*_layer_counts(neurons).values(), strict=True)]
    shares = quarter_shares(memberships)
    if shares is None:
        return "No language has neurons in this set."
    return (
        f"Of all languages' neurons {shares[0]:.0%} lie in the first quarter of the layers (the "
        f"first {quarter} of {layers}) and {shares[1]:.0%} in the last; spread evenly each would "
        f"hold {quarter / layers:.0%}."
    )


def plot_layers(neurons: NeuronSet, path: Path) -> None:
    """Draw how many neurons each layer holds, one row per language.

    Right of a row: its neurons, and which shares of them lie in the first and last quarter.

    Args:
        neurons: A language without neurons has an empty row.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If the file cannot be written.
    """
    counts = _layer_counts(neurons)
    layers = neurons.metadata.layers

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(counts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (code, row) in zip(grid, counts.items(), strict=True):
            axes.bar(range(layers), row, width=0.8, color=BLUE)
            axes.set_ylabel(code, rotation=0, ha="right", va="center")
            axes.spines[["right", "top"]].set_visible(False)
            shares = quarter_shares(row)
            note = "" if shares is None else f"\nfirst {shares[0]:.0%}, last {shares[1]:.0%}"
            place = axes.transAxes
            axes.text(1.02, 0.5, f"{sum(row):,}{note}", transform=place, va="center", size=8)
        grid[-1].set_xlabel("layer")
        grid[-1].set_xticks(range(0, layers, -(-layers // _MOST_TICKS)))
        figure.supylabel("neurons", size=10)
        figure.suptitle(textwrap.fill(layers_caption(neurons), 80), size=9)

    write_figure(path, draw, size=(7.0, 1.3 + 0.7 * len(counts)))


def plot_overlap(neurons: NeuronSet, path: Path) -> None:
    """Draw which share of two languages' neurons belong to both, as a heat map.

    The colour is the Jaccard index; a cell holds it and the number of shared neurons, the diagonal
    how many neurons a language has.

    Args:
        neurons: The set.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If the file cannot be written.
    """
    codes = [str(language) for language in neurons.languages]
    shared = count_shared(neurons)
    shares = jaccard(shared).fill_diagonal_(math.nan).tolist()
    highest = max((s for row in shares for s in row if not math.isnan(s)), default=0.0)

    def label(row: int, column: int) -> str:
        count = int(shared[row, column])
        is_empty = row == column or math.isnan(shares[row][column])
        return f"{count}" if is_empty else f"{shares[row][column]:.2f}\n({count})"

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        labels = [[label(i, j) for j in range(len(codes))] for i in range(len(codes))]
        image = _heat(axes, shares, labels, codes, span=(0.0, highest or 1.0))
        axes.set_title("neurons of both over neurons of either", size=10)
        figure.colorbar(image, ax=axes, label="Jaccard index")

    write_figure(path, draw, size=(2.0 + _CELL * len(codes), 1.2 + _CELL * len(codes)))


def plot_perplexity(change: PerplexityChange, path: Path) -> None:
    """Draw the perplexity changes of the set's neurons and of random ones, side by side.

    Args:
        change: Both matrices have one scale of colours, nats per token.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If the file cannot be written.
    """
    codes = [str(language) for language in change.languages]
    matrices = {
        "the language's neurons off": change.change_nats,
        "as many random neurons off": change.random_change_nats,
    }
    cells = [cell for matrix in matrices.values() for row in matrix for cell in row]
    span = (min(0.0, *cells), max(*cells, 1e-9))

    def draw(figure: Figure) -> None:
        both = figure.subplots(1, 2, sharey=True)
        for axes, (title, matrix) in zip(both, matrices.items(), strict=True):
            labels = [[format_signed(cell, digits=2) for cell in row] for row in matrix]
            image = _heat(axes, matrix, labels, codes, span=span)
            axes.set_title(title, size=10)
            axes.set_xlabel("measured on")
        both[0].set_ylabel("switched off")
        figure.colorbar(image, ax=both, label="perplexity change, nats per token")

    write_figure(path, draw, size=(2.4 + 2 * _CELL * len(codes), 1.4 + _CELL * len(codes)))


def plot_sharing(shares: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the four groups of neurons by layer, as stacked bars that reach 1.

    Args:
        shares: Per group of `SHARING_GROUPS`, its share of every layer's neurons, 0..1.
        path: Ends in .png or .svg; an existing file is replaced.

    Raises:
        SettingsError: If the groups are others, a layer's shares are not 1 together, or the file
            cannot be written.
    """
    check_not_empty(shares, path)
    check_sharing(shares)
    layers = len(shares[SHARING_GROUPS[0]])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        height = [0.0] * layers
        for group, (colour, hatch) in zip(SHARING_GROUPS, _GROUP_LOOKS, strict=True):
            row = list(shares[group])
            axes.bar(
                range(layers), row, bottom=height, width=0.9, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.3, label=group,
            )  # fmt: skip
            height = [low + share for low, share in zip(height, row, strict=True)]
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.5, layers - 0.5)
        axes.set_xticks(range(0, layers, -(-layers // _MOST_TICKS)))
        axes.set_xlabel("layer")
        axes.set_ylabel("share of the layer's neurons")
        figure.legend(loc="outside upper center", ncols=4, frameon=False)

    write_figure(path, draw, size=(7.0, 3.8))


def _layer_counts(neurons: NeuronSet) -> dict[str, list[int]]:
    return {str(language): neurons.layer_counts(language) for language in neurons.languages}


def _heat(
    axes: Axes,
    values: Sequence[Sequence[float]],
    labels: Sequence[Sequence[str]],
    codes: Sequence[str],
    *,
    span: tuple[float, float],
) -> AxesImage:
    """Draw a square of values in a span of colours, with a label in every cell; nan stays white."""
    low, high = span
    image = axes.imshow(values, cmap=COLOUR_MAP, vmin=low, vmax=high, aspect="equal")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            is_dark = not math.isnan(value) and value < low + DARK_BELOW * (high - low)
            ink = GREY if math.isnan(value) else "white" if is_dark else "black"
            axes.text(x, y, labels[y][x], ha="center", va="center", color=ink, size=8)
    axes.set_xticks(range(len(codes)), codes)
    axes.set_yticks(range(len(codes)), codes)
    return image


def check_sharing(shares: Mapping[str, Sequence[float]]) -> None:
    """Refuse what `plot_sharing` cannot draw.

    Raises:
        SettingsError: Saying which groups, layers or sums are wrong.
    """
    if set(shares) != set(SHARING_GROUPS):
        raise SettingsError(
            f"Cannot plot the groups '{', '.join(shares)}'. Expected these four: "
            f"{', '.join(SHARING_GROUPS)}; name them so."
        )
    lengths = sorted({len(row) for row in shares.values()})
    if len(lengths) > 1 or not lengths[0]:
        raise SettingsError(
            f"Cannot plot sharing: the groups have '{', '.join(map(str, lengths))}' layers. "
            "Expected the same number, at least 1; give every group a share of every layer."
        )
    sums = [math.fsum(layer) for layer in zip(*shares.values(), strict=True)]
    if wrong := [n for n, total in enumerate(sums) if not abs(total - 1) <= _ROUNDING]:
        raise SettingsError(
            f"Cannot plot sharing: the shares of layer {wrong[0]} are '{sums[wrong[0]]:g}' "
            "together. Expected 1; give shares of all neurons of a layer."
        )
