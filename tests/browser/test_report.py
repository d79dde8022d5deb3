"""The page of a report in Chromium: wide tables fit on a desk, figures can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from steering.evaluation.figures import plot_perplexity
from steering.evaluation.perplexity import PerplexityChange
from steering.languages import LANGUAGES
from steering.study.pages import Report, to_html
from steering.study.parts import Block, Finding, MeasuredPart

pytestmark = pytest.mark.browser

CODES = ["en", "zh", "fr", "es", "vi", "id", "ja"]
ROW = tuple(-0.1 * place for place in range(7))
CHANGE = PerplexityChange(
    languages=tuple(LANGUAGES[code] for code in CODES),
    base_nll_nats=ROW,
    change_nats=(ROW,) * 7,
    random_change_nats=(ROW,) * 7,
    neuron_counts=(504,) * 7,
)
RIGHT = ["change", "neurons", "right", "95% interval", "right in any language", *CODES]
ACCURACY = "\n".join(
    f"| {' | '.join(cells)} |"
    for cells in (
        RIGHT,
        ["---"] * len(RIGHT),
        ["as many random as partial-shared, off", "1234", "57.1%", "50.7% to 60.2%"]
        + ["100.0%"] * 8,
    )
)
LETTERS_PT = 8  # the smallest of a figure


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    plot_perplexity(CHANGE, folder / "matrix.svg")
    blocks = (
        Block("words", "Rows are switched off:"),
        Block("table", CHANGE.to_markdown()),
        Block("figure", "Perplexity change.", "matrix.svg"),
        Block("words", "Answers that are right:"),
        Block("table", ACCURACY),
    )
    part = MeasuredPart("all", "All", {}, Finding("Yes.", {}, blocks), 1.0, 1.0)
    path = folder / "report.html"
    path.write_text(to_html(Report("Report", [part], {}, {}), folder), "utf-8")
    return path


@pytest.fixture
def open_at(browser: Browser, path: Path) -> Callable[[int], Page]:
    def visit(width: int) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri())
        return page

    return visit


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_itself_never_scrolls_sideways(open_at: Callable[[int], Page], width: int) -> None:
    page = open_at(width)

    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_every_column_of_a_wide_table_is_seen_on_a_desk(open_at: Callable[[int], Page]) -> None:
    page = open_at(1200)

    tables = page.locator(".scroll:has(table.wide)").evaluate_all(
        "all => all.map(one => [one.scrollWidth, one.clientWidth])"
    )
    assert len(tables) == 2
    assert all(width <= room for width, room in tables)
    page.close()


@pytest.mark.parametrize("width", [360, 1200])
def test_letters_of_a_figure_keep_their_size(open_at: Callable[[int], Page], width: int) -> None:
    page = open_at(width)

    shown, natural = page.locator("figure img").evaluate("one => [one.width, one.naturalWidth]")
    assert shown / natural * LETTERS_PT >= LETTERS_PT
    frame = page.locator("figure .scroll")
    assert frame.get_attribute("tabindex") == "0"
    assert frame.get_attribute("aria-label") == "Perplexity change."
    page.close()
