"""The report card in Chromium: on a phone and a desk, light and dark, without a request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from steering.bundled import BUNDLED_PAPER_SET
from steering.neuron_set_file import load_neuron_set
from steering.report_card.card import make_report_card
from steering.report_card.page import to_html

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "card.html"
    path.write_text(to_html(make_report_card(load_neuron_set(BUNDLED_PAPER_SET))), "utf-8")
    return path


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Literal["light", "dark"]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[360, 1280])
def page(
    request: pytest.FixtureRequest, browser: Browser, path: Path, scheme: Literal["light", "dark"]
) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": request.param, "height": 800}, color_scheme=scheme
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda asked: complaints.append(asked.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    asked = [text for text in complaints if not text.startswith("data:")]
    assert asked == [path.as_uri()]


def test_nothing_is_wider_than_the_page(page: Page) -> None:
    page.locator("summary").evaluate_all("all => all.forEach(one => one.click())")

    width, room = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert width <= room
    assert page.locator("details[open]").count() == 3


def test_every_plot_is_drawn_in_the_colours_of_the_page(page: Page, scheme: str) -> None:
    shown = page.locator("img").evaluate_all(
        "all => all.map(one => [one.complete, one.naturalWidth, one.currentSrc])"
    )
    twins = page.locator("source").evaluate_all("all => all.map(one => one.srcset)")

    assert len(shown) == 3
    assert all(is_complete and width > 0 for is_complete, width, _ in shown)
    assert ([source for _, _, source in shown] == twins) == (scheme == "dark")


def test_letters_keep_their_contrast(page: Page) -> None:
    for text in ("h1", ".lead", "section > p", ".warnings li", "td", "summary", "dt", "footer"):
        assert page.locator(text).first.evaluate(CONTRAST) >= 4.5, text


# Of a text to the nearest background behind it, as WCAG 2.2 counts it.
CONTRAST = """node => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = numbers(colour).map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = node;
  while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const pair = [getComputedStyle(node).color, getComputedStyle(behind).backgroundColor].map(light);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""
