"""A model without a neuron set, in Chromium: offered, made while somebody chats, used, kept.

The model is the bundled one in a file of another hash, which the set that ships doesn't fit.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from safetensors.torch import load_file, save_file

from steering.loading import BUNDLED_FOLDER
from tests.browser.visit import Visit
from tests.started import started_app

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WAIT_MS = 600_000  # far above the minute that it takes: other work may hold the processor


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "model")
    weights = folder / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"format": "pt", "copy": "of a test"})
    return {
        "LANGSTEER_MODEL": str(folder),
        "LANGSTEER_QUANTIZE": "none",
        "LANGSTEER_DATA": str(tmp_path / "data"),
        "LANGSTEER_LANGUAGES": "en,fr,ja",
        "LANGSTEER_MAX_NEW_TOKENS": "30",
    }


def visit_page(browser: Browser, url: str) -> Visit:
    visit = Visit(browser.new_page(viewport={"width": 1200, "height": 950}))
    visit.page.set_default_timeout(WAIT_MS)
    visit.open(url)
    return visit


def language(page: Page) -> str:
    return page.get_by_label("Answer language").input_value()


def test_a_set_is_made_from_the_page_while_somebody_chats(
    browser: Browser, settings: dict[str, str], tmp_path: Path
) -> None:
    with started_app(tmp_path / "first.txt", **settings) as url:
        visit = visit_page(browser, url)
        page, make = visit.page, visit.button("Make the neuron set")
        expect(page.get_by_text("This model has no neuron set yet")).to_be_visible(timeout=WAIT_MS)
        expect(make).to_be_enabled(timeout=WAIT_MS)
        expect(page.locator("#making")).to_contain_text(
            re.compile(r"about [\d.]+ (seconds|minutes|hours) on this machine")
        )
        expect(page.get_by_label("Answer language")).to_be_disabled()

        make.click()
        expect(page.get_by_role("progressbar", name="Making the neuron set")).to_be_visible()
        visit.ask("Where is the cat?")
        expect(visit.answers().last.locator(".badge")).to_be_visible(timeout=WAIT_MS)
        visit.button("Stop making it").click()
        expect(page.get_by_text("Stopped. What there is was kept")).to_be_visible(timeout=WAIT_MS)
        make.click()

        expect(page.get_by_text("The neuron set is ready.")).to_be_visible(timeout=WAIT_MS)
        assert language(page) == "No forced language"
        page.get_by_label("Answer language").click()
        page.get_by_role("option", name="français (French)").click()
        visit.ask("Where is the cat?")
        expect(visit.answers()).to_have_count(2)
        expect(visit.answers().last).to_contain_text("✓ French, as chosen", timeout=WAIT_MS)
        page.close()
    assert visit.complaints == []
    assert len(list((tmp_path / "data").rglob("*.safetensors"))) == 1

    with started_app(tmp_path / "second.txt", **settings) as url:
        visit = visit_page(browser, url)
        expect(visit.page.get_by_label("Answer language")).to_have_value(
            "français (French)", timeout=WAIT_MS
        )
        assert not visit.page.get_by_text("no neuron set yet").is_visible()
        visit.page.close()
    assert visit.complaints == []
    for name in ("first.txt", "second.txt"):
        assert "Traceback" not in (tmp_path / name).read_text()
