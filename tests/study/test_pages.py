"""The three renderings say the same, escape what they are given, and need nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from steering.study.pages import Report, read_table, to_html, to_json, to_markdown
from steering.study.parts import Block, Finding, MeasuredPart

EVIL = "<script>alert('1')</script>"
TABLE = f"| method | LFS |\n|---|---|\n| none | 12.5% |\n| {EVIL} | **+0.5 (x1.65)** |"


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    (tmp_path / "bars.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return tmp_path


def make_report() -> Report:
    blocks = (
        Block("words", f"By `lape`, not {EVIL}:"),
        Block("table", TABLE),
        Block("figure", "Bars of `lape`.", "bars.svg"),
    )
    finding = Finding("none 12.5%.", {"methods": {"none": {"lfs": 0.125}}}, blocks)
    part = MeasuredPart("forcing", "Language forcing", {"seed": "0"}, finding, 2.0, 1.5)
    made = {"command": f"python -m steering report --out '{EVIL}'", "seed": "0"}
    return Report(f"Report: {EVIL}", [part], {"Perplexity change": "No `--text`."}, made)


class Reader(HTMLParser):
    """Collects tags, texts, and what would be fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "srcset"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_holds_everything_and_asks_for_nothing(figures: Path) -> None:
    page = to_html(make_report(), figures)

    read = Reader(page)
    assert "script" not in read.tags
    assert all(source.startswith("data:") for source in read.sources)
    assert len([source for source in read.sources if source.startswith("data:image/svg")]) == 1
    assert "default-src 'none'" in page
    shown = " ".join(read.texts)
    for text in ("Language forcing", "none 12.5%.", "12.5%", "+0.5 (x1.65)", "left out", "command"):
        assert text in shown
    assert "**" not in shown
    assert "`" not in shown
    assert re.search(r'<td class="number"><strong>\+0\.5', page)


def test_markdown_says_the_same_beside_its_figures() -> None:
    text = to_markdown(make_report())

    assert text.startswith("# Report: \\<script\\>")
    assert "- **Language forcing.** none 12.5%." in text
    assert "- **Perplexity change**: left out." in text
    assert TABLE in text
    assert "![Bars of \\`lape\\`.](figures/bars.svg)" in text
    assert "| seed | 0 |" in text


def test_json_holds_the_numbers_and_what_they_depend_on() -> None:
    content = json.loads(json.dumps(to_json(make_report())))

    assert content["kind"] == "langsteer report"
    assert content["is_complete"] is True
    part = content["parts"]["forcing"]
    assert part["numbers"] == {"methods": {"none": {"lfs": 0.125}}}
    assert part["settings"] == {"seed": "0"}
    assert (part["wall_s"], part["processor_s"]) == (2.0, 1.5)


@pytest.mark.parametrize(
    ("cell", "text", "is_bold", "is_number"),
    [
        ("12.5% (1/8)", "12.5% (1/8)", False, True),
        ("**-0.1 (x0.90)**", "-0.1 (x0.90)", True, True),
        ("535f320a", "535f320a", False, False),
        ("a\\|b", "a|b", False, False),
        ("-", "-", False, True),
        ("", "", False, False),
    ],
)
def test_cells_are_read_as_they_were_meant(
    cell: str, text: str, is_bold: bool, is_number: bool
) -> None:
    header, row = read_table(f"|  | b |\n|---|---|\n| name | {cell} |")

    assert [one.text for one in header] == ["", "b"]
    assert (row[1].text, row[1].is_bold, row[1].is_number) == (text, is_bold, is_number)
