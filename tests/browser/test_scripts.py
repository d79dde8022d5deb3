"""Tests in Chromium of what the browser does by itself: `steering/ui/scripts/`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.test_page import wait_until
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

READ = "navigator.clipboard.readText()"
READ_HTML = (
    "navigator.clipboard.read().then(([one]) => one.getType('text/html')).then(blob => blob.text())"
)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page())
    visit.open(url)
    yield visit
    context.close()
    assert visit.complaints == []


def select(part: Locator) -> None:
    """Select it as with a mouse, from its first letter to its last."""
    part.evaluate("node => document.getSelection().selectAllChildren(node)")


def test_code_that_is_selected_in_an_answer_is_copied_as_it_was_said(visit: Visit) -> None:
    visit.ask("echo `if a<b and <img src=x onerror=alert(1)>: ![c](d)`")
    expect(visit.answers().locator("code")).to_contain_text("a<\u200bb")  # the page keeps the sign
    visit.button("Send").wait_for()
    select(visit.answers().locator("code"))
    visit.page.keyboard.press("Control+C")

    said = "if a<b and <img src=x onerror=alert(1)>: ![c](d)"
    wait_until(lambda: visit.page.evaluate(READ) == said)
    html = visit.page.evaluate(READ_HTML)
    assert "a&lt;b and &lt;img src=x" in html
    assert "<img" not in html
    assert visit.answers().locator("img").count() == 0


def test_the_button_of_a_block_of_code_copies_it_as_it_was_said(visit: Visit) -> None:
    code = "<script>document.title = 'bad'</script>\nif a<b: ![c](d)"
    visit.page.get_by_role("textbox", name="Message").fill(f"echo\n```html\n{code}\n```")
    visit.page.keyboard.press("Enter")
    block = visit.page.locator("#chat .user.message pre")
    expect(block).to_contain_text("<\u200bscript>")
    block.hover()
    visit.page.locator("#chat .user.message .copy_code_button").click()
    wait_until(lambda: visit.page.evaluate(READ).rstrip() == code)
    select(block.locator("code"))
    visit.page.keyboard.press("Control+C")

    wait_until(lambda: visit.page.evaluate(READ).rstrip() == code)
    assert "\u200b" not in visit.page.evaluate(READ_HTML)
    assert visit.page.title() == "Langsteer"
    visit.button("Send").wait_for()


def test_a_sign_that_is_not_the_pages_own_is_copied_with_the_rest(visit: Visit) -> None:
    visit.ask("echo a\u200bb `c<d`")
    expect(visit.answers().locator("code")).to_contain_text("c<\u200bd")
    visit.button("Send").wait_for()
    select(visit.answers().locator("p").first)
    visit.page.keyboard.press("Control+C")

    wait_until(lambda: visit.page.evaluate(READ).strip() == "echo a\u200bb c<d")
