"""Tests of the tab "About & API", of links to settings and of the page's languages, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set
from steering.ui.strings import read_strings
from tests.browser.served import served_page
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

CLIPBOARD = ["clipboard-read", "clipboard-write"]
WITHOUT_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: undefined})"


@pytest.fixture(scope="module")
def url(toy_set: NeuronSet) -> Iterator[str]:
    with served_page(toy_set) as url:
        yield url


@pytest.fixture
def open_visit(browser: Browser, url: str) -> Iterator[Callable[..., Visit]]:
    """Open a visit in a window of its own; nothing may be complained of in the end."""
    visits = []

    def start(query: str = "?lang=fr", *, script: str = "", **options: Any) -> Visit:
        window = {"viewport": {"width": 1200, "height": 900}, **options}
        visit = Visit(browser.new_context(**window).new_page())
        visits.append(visit)
        visit.page.add_init_script(script)
        visit.open(url, query)
        return visit

    yield start
    complaints = [visit.complaints for visit in visits]
    for visit in visits:
        visit.page.context.close()
    assert complaints == [[]] * len(visits)


def open_about(page: Page) -> None:
    page.get_by_role("tab", name="About & API").click()
    expect(page.get_by_role("heading", name="From a program")).to_be_visible()


def codes(page: Page) -> Locator:
    return page.locator(".snippet .cm-content")


def language(page: Page) -> Locator:
    return page.get_by_label("Answer language")


def choose_language(page: Page, name: str) -> None:
    language(page).click()
    page.get_by_role("option", name=name).click()


def test_the_tab_says_what_this_is_and_where_it_comes_from(
    open_visit: Callable[..., Visit], toy_set: NeuronSet
) -> None:
    page = open_visit().page
    open_about(page)

    for title in ("What this is", "What it cannot do", "What happens to what you write"):
        expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_text("No native speaker has read the translations")).to_be_visible()
    expect(page.locator(".about-facts")).to_contain_text(hash_neuron_set(toy_set))
    expect(page.get_by_role("rowheader", name="licence")).to_be_visible()


def test_programs_hold_the_choices_as_they_are(open_visit: Callable[..., Visit], url: str) -> None:
    page = open_visit("?lang=fr&steering=strong").page
    open_about(page)

    expect(codes(page)).to_have_count(4)
    for place, said in enumerate(('"language": "fr"', '"strength": "strong"', 'steering="strong"')):
        expect(codes(page).nth(place)).to_contain_text(said)
    expect(codes(page).first).to_contain_text(f"{url}v1/chat/completions")

    choose_language(page, "日本語 (Japanese)")
    page.get_by_label("Gentle").check()
    expect(codes(page).nth(0)).to_contain_text('"language": "ja"')
    expect(codes(page).nth(2)).to_contain_text('steering="gentle"')
    expect(codes(page).nth(3)).to_contain_text('parse_language("ja")')


def test_choices_that_make_no_sense_are_told_and_the_programs_stay(
    open_visit: Callable[..., Visit],
) -> None:
    page = open_visit().page
    open_about(page)
    expect(codes(page).first).to_contain_text('"language": "fr"')
    page.get_by_role("button", name="Advanced").click()
    method = page.get_by_label("Method")
    method.fill("<b>magic'\"")
    method.press("Enter")

    trouble = page.locator(".trouble")
    expect(trouble).to_contain_text("Unknown steering method '<b>magic'\"'")
    assert trouble.locator("b").count() == 0
    expect(codes(page).first).to_contain_text('"language": "fr"')
    method.fill("lape@2")
    method.press("Enter")
    expect(codes(page).first).to_contain_text('"method": "lape@2"')
    expect(trouble).to_be_empty()


def test_a_program_is_copied_by_its_button(open_visit: Callable[..., Visit]) -> None:
    page = open_visit(permissions=CLIPBOARD).page
    open_about(page)
    expect(codes(page).nth(1)).to_contain_text("OpenAI")
    page.locator(".snippet").nth(1).get_by_role("button").first.click()

    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("from openai import OpenAI\n\nclient = OpenAI(")
    assert '"language": "fr"' in copied
    compile(copied, "copied.py", "exec")


def test_a_copied_link_opens_the_same_settings(open_visit: Callable[..., Visit], url: str) -> None:
    page = open_visit("?lang=ja&length=7", permissions=CLIPBOARD).page
    page.get_by_label("Strong").check()
    page.get_by_role("button", name="Advanced").click()
    method = page.get_by_label("Method")
    method.fill("lape@5+diffmean/L1@1")
    method.press("Enter")
    page.get_by_label("Damp the other languages").check()
    page.get_by_role("button", name="Copy link to these settings").click()
    expect(page.get_by_role("status").get_by_text("The link has been copied.")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")

    assert link.startswith(f"{url}?")
    assert parse_qs(urlsplit(link).query) == {
        "lang": ["ja"], "steering": ["strong"], "method": ["lape@5+diffmean/L1@1"], "damp": ["1"],
        "guard": ["1"], "length": ["7"], "creativity": ["0"], "seed": ["0"],
    }  # fmt: skip

    other = open_visit(f"?{urlsplit(link).query}").page
    expect(language(other)).to_have_value("日本語 (Japanese)")
    expect(other.get_by_label("Strong")).to_be_checked()
    other.get_by_role("button", name="Advanced").click()
    expect(other.get_by_label("Method")).to_have_value("lape@5+diffmean/L1@1")
    expect(other.get_by_label("Damp the other languages")).to_be_checked()


def test_where_the_browser_refuses_to_copy_the_link_is_there_to_be_copied(
    open_visit: Callable[..., Visit], url: str
) -> None:
    page = open_visit(script=WITHOUT_CLIPBOARD).page
    page.get_by_role("button", name="Advanced").click()
    field = page.get_by_role("textbox", name="Link to these settings")
    expect(field).to_be_hidden()
    page.get_by_role("button", name="Copy link to these settings").press("Enter")

    expect(field).to_be_focused()
    assert field.input_value().startswith(f"{url}?lang=fr&")
    assert "&method=&" in field.input_value()  # the model's own, whatever the other has kept
    assert field.get_attribute("readonly") is not None
    assert page.evaluate("getSelection().toString()") == field.input_value()
    expect(page.get_by_text("The browser does not allow copying.")).to_be_visible()


def test_a_link_sets_the_choices(open_visit: Callable[..., Visit]) -> None:
    page = open_visit("?lang=ja&steering=off&guard=0&seed=5&creativity=0.5&length=9").page

    expect(language(page)).to_have_value("日本語 (Japanese)")
    expect(page.get_by_label("Off")).to_be_checked()
    page.get_by_role("button", name="Advanced").click()
    expect(page.get_by_label("Write a passage again")).not_to_be_checked()
    expect(page.get_by_label("Seed")).to_have_value("5")
    expect(page.get_by_role("slider", name=re.compile("Creativity"))).to_have_value("0.5")
    expect(page.get_by_role("slider", name=re.compile("Length"))).to_have_value("9")


def test_a_wrong_link_is_told_plainly_and_the_page_goes_on(
    open_visit: Callable[..., Visit],
) -> None:
    visit = open_visit("?lang=xx&length=-3&steering=<img src=x onerror=alert(1)>&seed=4")
    page = visit.page
    page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))

    for said in ("?lang=xx: ", "?length=-3: ", "?steering=<img src=x onerror=alert(1)>: "):
        expect(page.locator(".toast-body").get_by_text(said)).to_be_visible()
    assert page.locator(".toast-body img").count() == 0
    expect(language(page)).to_have_value("English")
    expect(page.get_by_label("Normal")).to_be_checked()
    visit.ask("Where is the cat?")
    visit.expect("✗ French, English was chosen")  # all that the script has


LOCALES = [("fr-FR", "fr", "français (French)"), ("es-MX", "es", "français (French)"),
           ("zh-CN", "zh", "français (French)"), ("zh-TW", "zh", "français (French)"),
           ("ja", "ja", "日本語 (Japanese)"), ("ar", "ar", "français (French)"),
           ("sw", "en", "Kiswahili (Swahili)")]  # fmt: skip


@pytest.mark.parametrize(("locale", "ours", "answer"), LOCALES)
def test_the_page_is_in_the_readers_language(
    locale: str, ours: str, answer: str, browser: Browser, url: str
) -> None:
    with opened(browser, url, locale=locale) as visit:
        page = visit.page
        for key in ("tab_chat", "tab_about"):
            expect(page.get_by_role("tab", name=text(key, ours), exact=True)).to_be_visible()
        expect(visit.button(text("send", ours))).to_be_enabled()
        expect(page.get_by_label(text("level_strong", ours), exact=True)).to_be_visible()
        expect(page.get_by_label(text("answer_language", ours))).to_have_value(answer)

        page.get_by_role("tab", name=text("tab_about", ours)).click()
        about = page.locator(".about").first
        expect(about).to_contain_text(text("about_what_pick", ours))
        assert about.get_attribute("dir") == ("rtl" if ours == "ar" else "ltr")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_needs_no_sideways_scrolling_on_a_phone(
    scheme: str, open_visit: Callable[..., Visit]
) -> None:
    page = open_visit(viewport={"width": 360, "height": 740}, color_scheme=scheme).page
    open_about(page)
    expect(codes(page).first).to_contain_text('"language": "fr"')

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for box in (*codes(page).all(), page.locator(".about-facts")):
        assert box.evaluate("node => node.getBoundingClientRect().right") <= 360


def test_the_tab_is_reached_by_keyboard(open_visit: Callable[..., Visit]) -> None:
    page = open_visit().page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "About & API":
            break
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="From a program")).to_be_visible()


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """Open the page where its buttons have other names."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
    visit = Visit(context.new_page())
    visit.page.goto(url)
    yield visit
    context.close()
    assert visit.complaints == []


def text(key: str, locale: str) -> str:
    return read_strings()[key][locale]
