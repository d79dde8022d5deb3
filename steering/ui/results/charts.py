"""Draws bars with whiskers: rows of HTML, in each a piece of SVG, of any width.

Names and numbers stand beside every bar as text, so that colour alone says nothing, and the page's
own fonts and widths apply. Knows numbers and words, not what they mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_BAR_PX, _WHISKER_PX = 14, 6


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Args:
        kind: Class of its colour: `before`, `words` or `after`.
        name: What stands before it.
        text: What stands behind it.
        share: Its length, 0..1.
        interval: Where its whisker begins and ends, 0..1; None for a bar without.
    """

    kind: str
    name: str
    text: str
    share: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars under one heading."""

    name: str
    bars: Sequence[Bar]


def draw_bars(groups: Sequence[BarGroup], *, summary: str) -> str:
    """Return a chart as HTML.

    Args:
        groups: From above to below.
        summary: Read out in the chart's place; a table beside it has the numbers.
    """
    drawn = "".join(_draw_group(group) for group in groups)
    return (
        f'<figure class="bars" role="img" aria-label="{escape(summary)}">'
        f'<div aria-hidden="true">{drawn}</div></figure>'
    )


def _draw_group(group: BarGroup) -> str:
    rows = "".join(
        f'<div class="bar-row"><span class="bar-name">{escape(bar.name)}</span>'
        f'{_draw_bar(bar)}<span class="bar-text">{escape(bar.text)}</span></div>'
        for bar in group.bars
    )
    return f'<div class="bar-group"><b><bdi>{escape(group.name)}</bdi></b>{rows}</div>'


def _draw_bar(bar: Bar) -> str:
    """Return one bar; lengths are in percent of whatever width there is."""
    middle = _BAR_PX / 2
    shapes = [
        f'<rect class="bar-room" width="100%" height="{_BAR_PX}"/>',
        f'<rect class="bar-{escape(bar.kind)}" width="{_percent(bar.share)}" height="{_BAR_PX}"/>',
    ]
    if bar.interval is not None:
        low, high = map(_percent, bar.interval)
        top, bottom = middle - _WHISKER_PX / 2, middle + _WHISKER_PX / 2
        whisker = f'<line x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>' + "".join(
            f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>' for x in (low, high)
        )
        # Twice: the wider one below keeps it apart from the bar.
        shapes += [f'<g class="halo">{whisker}</g>', f'<g class="whisker">{whisker}</g>']
    return f'<svg class="bar" height="{_BAR_PX}">{"".join(shapes)}</svg>'


def _percent(share: float) -> str:
    return f"{min(1.0, max(0.0, share)):.2%}"
