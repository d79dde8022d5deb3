"""Writes tables as HTML that scroll inside themselves, so that the page never does sideways.

Cells are plain text and escaped here, but those that say that they are HTML; each runs in its own
direction, and begins where the table's direction has it. Knows no numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Args:
        text: Plain text.
        html: Shown in place of the text; made by us, of parts that are escaped.
        language: Code of the language that the text is in, for those who have it read out.
    """

    text: str
    html: str = ""
    language: str = ""


def table_html(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> str:
    """Return a table; the first cell of a row is its heading.

    Args:
        title: What it is called, above it and for those who have it read out.
        columns: Names.
        rows: Texts, or cells.
    """
    head = "".join(f'<th scope="col"><bdi>{escape(name)}</bdi></th>' for name in columns)
    body = "".join(f"<tr>{_cells_html(row)}</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(title: str, content: str) -> str:
    """Return HTML that is unfolded by a click or the keyboard.

    Args:
        title: Plain text.
        content: HTML.
    """
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _cells_html(row: Sequence[str | Cell]) -> str:
    cells = [Cell(cell) if isinstance(cell, str) else cell for cell in row]
    return "".join(
        f"<{tag}{language}>{cell.html or _isolated(cell.text)}</{tag.split(' ')[0]}>"
        for place, cell in enumerate(cells)
        for tag in ["td" if place else 'th scope="row"']
        for language in [f' lang="{escape(cell.language)}"' if cell.language else ""]
    )


def _isolated(text: str) -> str:
    return f"<bdi>{escape(text)}</bdi>"
