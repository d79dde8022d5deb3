"""Test of the whole: `python app.py` with the bundled model, in Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.visit import Visit
from tests.started import started_app

pytestmark = pytest.mark.browser


def test_where_is_the_cat_is_answered_in_french_and_without_steering_in_english(
    browser: Browser, tmp_path: Path
) -> None:
    with started_app(tmp_path / "output.txt") as url:
        visit = Visit(browser.new_page())
        visit.open(url)
        visit.ask("Where is the cat?")
        visit.expect("✓ French, as chosen")
        assert "chat" in visit.answers().inner_text()
        visit.page.get_by_label("Off").check()
        visit.button("Retry").click()
        visit.expect("✗ English, French was chosen")
        visit.page.close()
    assert visit.complaints == []
