"""The page in other languages than English, in Chromium: what it says, and in which direction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from steering.bundled import REAL_MODEL
from steering.errors import GenerationError, SettingsError
from steering.ui.asking import Chat
from steering.ui.launching import build_page, close_page, open_page
from steering.ui.making.maker import Making
from steering.ui.strings import LOCALES, say
from steering.ui.wording import saying, trouble
from tests.browser.visit import WAIT_MS
from tests.started import free_port
from tests.toy import EN, FR, JA
from tests.ui.scripted import ScriptedEngine

pytestmark = pytest.mark.browser

LIBRARY = "A text of the library, in '<English>'."


class StillMaker:
    """Stands where a test puts it."""

    languages = (EN, FR, JA)
    questions = 90
    neurons = None
    path = None
    is_looking = False
    standing = Making("offered", seconds_left=240.0)

    def state(self) -> Making:
        return self.standing


class RefusingEngine(ScriptedEngine):
    """Refuses what is asked, in the library's words."""

    def stream(self, *_: object, **__: object) -> Iterator[object]:  # type: ignore[override]
        raise GenerationError(LIBRARY)


@contextmanager
def page_in(browser: Browser, locale: str, url: str) -> Iterator[Page]:
    # A Chinese browser names its region as well.
    context = browser.new_context(locale={"zh": "zh-CN"}.get(locale, locale))
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.get_by_role("button", name=say("send", locale), exact=True).wait_for()
    yield page
    context.close()


def directions(page: Page, selector: str) -> set[str]:
    each = "(all) => all.map((one) => getComputedStyle(one).direction)"
    return set(page.locator(selector).evaluate_all(each))


@pytest.mark.parametrize("locale", ["fr", "ar"])
def test_the_panel_that_makes_a_set_is_in_the_readers_language(
    browser: Browser, locale: str
) -> None:
    maker = StillMaker()
    chat = Chat(ScriptedEngine(), None, 40, maker)  # type: ignore[arg-type]  # all that it needs
    shown, port = build_page(chat, model="org/model"), free_port()
    open_page(shown, name="127.0.0.1", port=port)
    with page_in(browser, locale, f"http://127.0.0.1:{port}/") as page:
        panel = page.locator("#making")
        expect(panel).to_contain_text(say("making_title", locale))
        expect(panel).to_contain_text(say("making_meanwhile", locale))
        expect(panel.get_by_role("button")).to_have_text(say("making_make", locale))
        assert directions(page, "#making p, #making h2") == {"rtl" if locale == "ar" else "ltr"}

        words = saying("making_asking", language=FR, count=32)
        maker.standing = Making("making", words, fraction=0.5, seconds_left=60.0)
        expect(panel.get_by_role("progressbar", name=say("making_running", locale))).to_be_visible()
        expect(panel).to_contain_text(say("making_asking", locale, language="français", count=32))
        expect(panel.get_by_role("button")).to_have_text(say("making_stop", locale))

        maker.standing = Making("offered", trouble("failed_making", SettingsError(LIBRARY)))
        expect(panel).to_contain_text(say("failed_making", locale))
        expect(panel.locator('[lang="en"][dir="ltr"]')).to_have_text(LIBRARY)
    close_page(shown)


@pytest.mark.parametrize("locale", LOCALES[1:])
def test_what_the_page_refuses_it_refuses_in_the_readers_language(
    browser: Browser, url: str, locale: str
) -> None:
    with page_in(browser, locale, url + "?lang=xx") as page:
        toast = page.get_by_test_id("toast-body")
        wrong = say("link_language", locale, language="xx", languages="en, fr, ja, sw, th")
        expect(toast).to_contain_text(wrong)
        page.get_by_role("button", name=say("send", locale), exact=True).click()
        expect(page.get_by_text(say("message_empty", locale))).to_be_visible()
        box = page.get_by_role("textbox", name=say("message", locale), exact=True)
        box.fill("a" * 20_001)
        box.press("Enter")
        long = say("message_long", locale, count="20,001", most="20,000")
        expect(page.get_by_text(long)).to_be_visible()
        expected = "rtl" if locale == "ar" else "ltr"
        assert directions(page, f'[data-testid="toast-body"] [lang="{locale}"]') == {expected}


def test_what_the_library_says_is_english_behind_arabic_and_runs_from_the_left(
    browser: Browser, serve: Callable[..., str]
) -> None:
    with page_in(browser, "ar", serve(RefusingEngine()) + "?lang=fr") as page:
        box = page.get_by_role("textbox", name=say("message", "ar"), exact=True)
        box.fill("Where is the cat?")
        box.press("Enter")

        badge = page.locator("#chat .badge-bad")
        expect(badge).to_contain_text(say("failed_answer", "ar"))
        expect(badge.locator('[lang="en"]')).to_have_text(LIBRARY)
        assert directions(page, "#chat .badge-bad") == {"rtl"}
        assert directions(page, '#chat .badge-bad [lang="en"]') == {"ltr"}


def test_under_an_arabic_browser_what_the_page_makes_runs_from_the_right(
    browser: Browser, url: str
) -> None:
    with page_in(browser, "ar", url + "?lang=fr") as page:
        expect(page.locator("#head")).to_contain_text(say("toy_topics", "ar"))
        told = page.locator("#head").inner_text().replace(f"LANGSTEER_MODEL={REAL_MODEL}", "")
        assert re.findall("[A-Za-z]{4,}", told) == ["bundled"]
        assert directions(page, "#head p, #head h1") == {"rtl"}

        page.get_by_role("tab", name=say("tab_inside", "ar")).click()
        expect(page.locator(".inside-halves")).to_be_visible()
        expect(page.locator(".inside p", has_text="عدد العصبونات")).to_be_visible()
        assert directions(page, ".inside p, .inside h3, .inside table") == {"rtl"}
        # The name that the summary begins with stands at the right, though it is Latin.
        begins = """(one) => {
          const range = document.createRange();
          const text = one.firstChild; const at = text.data.indexOf("français");
          range.setStart(text, at); range.setEnd(text, at + 8);
          return one.getBoundingClientRect().right - range.getBoundingClientRect().right; }"""
        assert page.locator(".inside p", has_text="عدد العصبونات").evaluate(begins) < 5

        page.get_by_role("tab", name=say("tab_results", "ar")).click()
        expect(page.get_by_text(say("live_title", "ar"))).to_be_visible()
        assert directions(page, ".results h2, .results .note") == {"rtl"}

        page.get_by_role("tab", name=say("tab_about", "ar")).click()
        expect(page.get_by_text(say("about_origin", "ar"))).to_be_visible()
        assert directions(page, ".about-facts th") == {"rtl"}


@pytest.mark.parametrize(("locale", "from_the_right"), [("ar", True), ("fr", False)])
def test_under_an_arabic_browser_the_page_is_laid_out_from_the_right(
    locale: str, from_the_right: bool, browser: Browser, url: str
) -> None:
    def left_of(part: Locator) -> float:
        box = part.bounding_box()
        assert box
        return box["x"]

    with page_in(browser, locale, url + "?lang=fr") as page:
        levels = page.locator("#level label")
        pairs = [
            (page.get_by_role("tab").first, page.get_by_role("tab").last),
            (levels.first, levels.last),
            (levels.first.locator("input"), levels.first.locator("span")),
            (page.locator("#box"), page.get_by_role("button", name=say("send", locale))),
        ]
        for first, second in pairs:
            assert (left_of(first) > left_of(second)) == from_the_right
        page.get_by_role("tab", name=say("tab_about", locale)).click()
        expect(page.locator(".cm-editor").first).to_be_visible()

        assert directions(page, ".cm-content") == {"ltr"}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
