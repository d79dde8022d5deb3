"""Tests of the tab "Compare" in Chromium, with an engine that follows a script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.contrast import contrast, luminance
from tests.browser.visit import Visit, wait_until
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

pytestmark = pytest.mark.browser

ARABIC = "القطة تنام على الأريكة. هي تحب الشمس ولا تريد أن تتحرك."


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    visit = open_tab(Visit(context.new_page()), url)
    yield visit
    context.close()
    assert visit.complaints == []


def open_tab(visit: Visit, url: str) -> Visit:
    visit.open(url)
    visit.page.get_by_role("tab", name="Compare", exact=True).click()
    question_box(visit.page).wait_for()
    return visit


def question_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Question for all three")


def column(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def run(visit: Visit, message: str) -> None:
    question_box(visit.page).fill(message)
    visit.button("Run").click()


def contrast_to_ground(text: Locator) -> float:
    """The contrast of a text to whatever it stands on, as `contrast` has it."""
    colours = text.evaluate(
        "node => { const own = getComputedStyle(node).color; let ground = 'rgba(0, 0, 0, 0)';"
        " for (; node && /, 0\\)$/.test(ground); node = node.parentElement)"
        " ground = getComputedStyle(node).backgroundColor; return [own, ground] }"
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_three_answers_stand_side_by_side_each_with_its_language_and_speed(visit: Visit) -> None:
    page = visit.page
    run(visit, "Where is the cat?")
    steered, told, plain = (
        column(page, name) for name in ("Steered", "Told in words", "Without steering")
    )

    expect(steered).to_contain_text("✓ French, as chosen")
    expect(told).to_contain_text("✗ English, French was chosen")
    expect(plain).to_contain_text("✗ English, French was chosen")
    expect(told).to_contain_text("“Answer in French.”")
    expect(steered).to_contain_text("18 tokens, ")
    expect(page.get_by_text("All three together: 54 tokens in ")).to_be_visible()
    expect(page.locator("#compare-status")).to_have_text("The three answers are there.")
    assert "".join(steered.locator(".said").all_inner_texts()).replace(" ", "") == FRENCH.replace(
        " ", ""
    )
    expect(steered.locator(".said").first).to_have_attribute("lang", "fr")
    expect(plain.locator(".said").first).to_have_attribute("lang", "en")
    expect(steered.locator(".in-words")).to_have_text("✓ French")
    expect(visit.button("Run")).to_be_visible()


def test_the_answers_come_word_by_word_while_stop_is_there(visit: Visit) -> None:
    run(visit, "Where is the cat?")
    steered = column(visit.page, "Steered")
    expect(steered).to_contain_text("Writing …")
    partial = steered.locator(".answer").inner_text()
    assert visit.button("Stop").is_visible()
    expect(steered).to_contain_text("✓ French, as chosen")

    assert len(partial) < len(steered.locator(".answer").inner_text())


def test_stop_stops_the_model_and_keeps_what_there_is(visit: Visit, engine: ScriptedEngine) -> None:
    run(visit, "forever")
    steered = column(visit.page, "Steered")
    expect(steered).to_contain_text("Le chat")
    visit.button("Stop").click()
    wait_until(lambda: engine.running == 0, within_s=1)

    expect(steered).to_contain_text("(stopped)")
    expect(steered).to_contain_text("Le chat")
    expect(visit.page.locator("#compare-status")).to_have_text("Stopped.")
    run(visit, "And the dog?")
    expect(visit.page.locator("#compare-status")).to_have_text("The three answers are there.")
    assert "(stopped)" not in steered.inner_text()


def test_closing_the_tab_stops_the_model(
    browser: Browser, url: str, engine: ScriptedEngine
) -> None:
    visit = open_tab(Visit(browser.new_page()), url)
    run(visit, "forever")
    expect(column(visit.page, "Steered")).to_contain_text("Le chat")
    visit.page.close()

    wait_until(lambda: engine.running == 0)


def test_an_example_fills_the_box(visit: Visit) -> None:
    visit.button("日本の首都はどこですか？").click()

    expect(question_box(visit.page)).to_have_value("日本の首都はどこですか？")


def test_bad_input_is_refused_in_words_and_the_page_stays_usable(visit: Visit) -> None:
    page = visit.page
    run(visit, "   ")
    expect(page.get_by_text("The message is empty.")).to_be_visible()
    run(visit, "a" * 100_000)
    expect(page.get_by_text("has '100,000' characters")).to_be_visible()
    run(visit, "fail")
    expect(page.locator("#compare-results")).to_contain_text("Something went wrong inside")
    expect(visit.button("Run")).to_be_visible()
    run(visit, "Where is the cat?")
    expect(column(page, "Steered")).to_contain_text("✓ French, as chosen")


def test_no_language_is_refused_in_words(visit: Visit) -> None:
    visit.page.get_by_label("Answer language").click()
    visit.page.get_by_role("option", name="No forced language").click()
    run(visit, "Where is the cat?")

    expect(visit.page.get_by_text("Expected an answer language")).to_be_visible()


def test_the_choices_above_the_tabs_hold_here_too(visit: Visit) -> None:
    visit.page.get_by_label("Off").check()
    run(visit, "Where is the cat?")

    steered = column(visit.page, "Steered")
    expect(steered).to_contain_text("✗ English, French was chosen")
    expect(steered).to_contain_text("(steering is off above")


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)><script>alert(2)</script>", "${1 + 1} {{value}} `x`"]
)
def test_what_looks_like_a_program_is_shown_and_not_run(text: str, visit: Visit) -> None:
    run(visit, f"echo {text}")
    plain = column(visit.page, "Without steering").locator(".answer")

    expect(plain).to_contain_text(f"echo {text}")
    assert plain.locator("img, script").count() == 0


def test_an_arabic_answer_runs_from_right_to_left(visit: Visit) -> None:
    run(visit, f"echo {ENGLISH}")
    expect(column(visit.page, "Steered").locator(".badge")).to_be_visible()
    run(visit, f"{ARABIC} echo")
    expect(visit.page.locator("#compare-results")).to_contain_text(ARABIC)

    paragraph = column(visit.page, "Steered").locator(".answer p").first
    first, last = (paragraph.locator(".said").nth(place).bounding_box() for place in (0, -1))
    assert first is not None
    assert last is not None
    assert first["x"] + first["width"] > last["x"] + last["width"] or first["y"] < last["y"]
    assert paragraph.evaluate("node => getComputedStyle(node).direction") == "rtl"


def test_while_the_model_loads_the_tab_says_so(
    browser: Browser, serve: Callable[[ScriptedEngine], str]
) -> None:
    engine = ScriptedEngine(is_ready=False)
    visit = Visit(browser.new_page())
    visit.page.goto(serve(engine) + "?lang=fr")
    visit.page.get_by_role("tab", name="Compare", exact=True).click()
    run(visit, "Where is the cat?")
    expect(visit.page.locator("#compare-status")).to_have_text("Loading the model …")
    engine.finish_loading()

    expect(column(visit.page, "Steered")).to_contain_text("✓ French, as chosen")
    visit.page.close()
    assert visit.complaints == []


def test_the_tab_can_be_used_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    question_box(page).focus()
    page.keyboard.type("Where is the cat?")
    page.keyboard.press("Tab")
    expect(visit.button("Run")).to_be_focused()
    page.keyboard.press("Enter")

    expect(column(page, "Steered")).to_contain_text("✓ French, as chosen")


def test_two_windows_compare_in_their_own_languages(
    browser: Browser, url: str, visit: Visit, engine: ScriptedEngine
) -> None:
    other = Visit(browser.new_page())
    other.open(url, "?lang=ja")
    other.page.get_by_role("tab", name="Compare", exact=True).click()
    run(visit, "Where is the cat?")
    run(other, "Where is the cat?")

    expect(column(visit.page, "Steered")).to_contain_text("✓ French, as chosen")
    expect(column(other.page, "Steered")).to_contain_text("✗ French, Japanese was chosen")
    expect(column(other.page, "Told in words")).to_contain_text("“Answer in Japanese.”")
    other.page.close()
    assert other.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_steered_answer_first_and_needs_no_sideways_scrolling(
    scheme: str, browser: Browser, url: str
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    visit = open_tab(Visit(context.new_page()), url)
    run(visit, f"echo {'Where_is_the_cat_' * 8} {ENGLISH} {FRENCH} Oui.")
    expect(visit.page.locator("#compare-status")).to_have_text("The three answers are there.")

    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    tops = []
    for name in ("Steered", "Told in words", "Without steering"):
        box = column(visit.page, name).bounding_box()
        assert box is not None
        tops.append(box["y"])
    assert tops == sorted(tops)
    marked = visit.page.locator("#compare-results .badge, #compare-results .said").all()
    assert len(marked) > 6
    for one in marked:
        assert contrast(one) >= 4.5
    for one in visit.page.locator("#compare-results :is(.how, .facts, .in-words, h2)").all():
        assert contrast_to_ground(one) >= 4.5
    context.close()
    assert visit.complaints == []


def test_on_a_wide_page_the_columns_stand_beside_each_other(visit: Visit) -> None:
    boxes = [
        column(visit.page, name).bounding_box()
        for name in ("Without steering", "Told in words", "Steered")
    ]
    ends = [(box["x"], box["x"] + box["width"]) for box in boxes if box is not None]

    assert len(ends) == 3
    assert ends[0][1] <= ends[1][0] < ends[1][1] <= ends[2][0]


def test_a_browser_that_prefers_french_is_told_in_french(browser: Browser, url: str) -> None:
    context = browser.new_context(locale="fr-FR")
    visit = Visit(context.new_page())
    visit.page.goto(url)
    visit.page.get_by_role("tab", name="Comparer", exact=True).click()

    expect(column(visit.page, "Sans guidage")).to_be_visible()
    visit.page.get_by_role("textbox", name="Question pour les trois").fill("Where is the cat?")
    visit.button("Lancer").click()
    expect(column(visit.page, "Avec guidage")).to_contain_text("✓ français")
    context.close()
    assert visit.complaints == []


def test_a_browser_that_prefers_arabic_is_told_from_right_to_left(
    browser: Browser, url: str
) -> None:
    context = browser.new_context(locale="ar")
    visit = Visit(context.new_page())
    visit.page.goto(url + "?lang=fr")
    visit.page.get_by_role("tab", name="مقارنة", exact=True).click()
    visit.page.get_by_role("textbox", name="سؤال للثلاثة").fill("Where is the cat?")
    visit.button("ابدأ").click()
    badge = column(visit.page, "مع التوجيه").locator(".badge")
    answer = column(visit.page, "مع التوجيه").locator(".answer p")

    expect(badge).to_have_text("✓ \u2068français\u2069، كما اخترت")
    assert badge.evaluate("node => getComputedStyle(node).direction") == "rtl"
    assert answer.evaluate("node => getComputedStyle(node).direction") == "ltr"
    context.close()
    assert visit.complaints == []


def test_a_program_gets_the_three_answers(url: str) -> None:
    client = Client(url, verbose=False)
    answer = client.predict("Where is the cat?", "fr", api_name="/compare")

    assert answer["is_finished"]
    assert answer["answers"]["steered"]["text"] == FRENCH
    assert answer["answers"]["steered"]["verdict"] == "on_target"
    assert answer["answers"]["plain"]["detected"] == "en"
    with pytest.raises(Exception, match=re.escape("Expected an answer language")):
        client.predict("Where is the cat?", "none", api_name="/compare")
    client.close()
