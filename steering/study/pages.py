"""Renders a study as markdown, as one HTML file that needs no other, and as JSON.

All three say the same; the HTML file holds its figures. Every text is escaped by the template
engine, and the page forbids itself to load or run anything. Measures nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.report_card.page import fill_template, svg_uri
from steering.study.parts import REPORT_KIND, Block, MeasuredPart

_TEMPLATE = Path(__file__).with_name("page.html")
_FIGURES = "figures"
_ESCAPED = re.compile(r"([\\`*_{}\[\]<>|])")
_NUMBER = re.compile(r"[+-]?\d[\d,.]*(?!\w)|-$")  # a hash is none
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Report:
    """All of a study.

    Args:
        title: What it is of.
        parts: In order.
        left_out: Heading of a part -> why it was not measured.
        made: Name -> value of everything that made it: command, versions, seeds, hashes, times.
    """

    title: str
    parts: Sequence[MeasuredPart]
    left_out: Mapping[str, str]
    made: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text, whether it stands out, and whether it is a number."""

    text: str
    is_bold: bool
    is_number: bool


def to_json(report: Report) -> dict[str, object]:
    """Return everything as JSON holds it."""
    return {
        "kind": REPORT_KIND,
        "is_complete": True,
        "title": report.title,
        "made": dict(report.made),
        "left_out": dict(report.left_out),
        "parts": {
            part.name: {
                "heading": part.heading,
                "settings": dict(part.settings),
                "wall_s": part.wall_s,
                "processor_s": part.processor_s,
                "summary": part.finding.summary,
                "numbers": part.finding.numbers,
            }
            for part in report.parts
        },
    }


def to_markdown(report: Report) -> str:
    """Return the report as markdown, which shows the figures beside it."""
    lines = [f"# {_escape(report.title)}", ""]
    lines += [f"- **{part.heading}.** {part.finding.summary}" for part in report.parts]
    lines += [f"- **{heading}**: left out. {why}" for heading, why in report.left_out.items()]
    for part in report.parts:
        lines += ["", f"## {part.heading}"]
        for block in part.finding.blocks:
            lines += ["", _block_markdown(block)]
    lines += ["", "## How it was made", "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {_escape(value)} |" for name, value in report.made.items()]
    return "\n".join(lines) + "\n"


def to_html(report: Report, figures: Path) -> str:
    """Return the report as one page, with the figures of a folder in it."""
    sections = [
        (part, [(block, _parse(block, figures)) for block in part.finding.blocks])
        for part in report.parts
    ]
    return fill_template(_TEMPLATE, report=report, sections=sections)


def read_table(markdown: str) -> list[list[Cell]]:
    """Return the rows of one of our markdown tables, the header first, its rule left out."""
    rows = [_cells(line) for line in markdown.splitlines()]
    return [rows[0], *rows[2:]]


def _block_markdown(block: Block) -> str:
    if block.kind == "figure":
        return f"![{_escape(block.text)}]({_FIGURES}/{block.figure})"
    return block.text


def _parse(block: Block, figures: Path) -> object:
    """Return what the template shows of a block beside its text."""
    if block.kind == "table":
        return read_table(block.text)
    if block.kind == "figure":
        return svg_uri((figures / block.figure).read_text("utf-8"))
    return None


def _cells(line: str) -> list[Cell]:
    cells = []
    for part in _UNESCAPED_BAR.split(line.strip().strip("|")):
        text = part.strip()
        is_bold = text.startswith("**") and text.endswith("**")
        plain = text.strip("*").replace("\\|", "|")
        cells.append(Cell(plain, is_bold, bool(_NUMBER.match(plain))))
    return cells


def _escape(text: str) -> str:
    return _ESCAPED.sub(r"\\\1", text)
