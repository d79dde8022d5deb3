"""Tests of the page in Chromium, with an engine that follows a script."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect

from steering.neuron_set import NeuronSet
from steering.ui.chat import Chat
from steering.ui.launching import build_page, open_page
from tests.browser.visit import Visit
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def serve(toy_set: NeuronSet) -> Iterator[Callable[[ScriptedEngine], str]]:
    """Serve the page of the bundled model with a scripted engine: its address."""
    pages = []

    def start(engine: ScriptedEngine) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        page = build_page(Chat(engine, toy_set, 40), model="bundled")  # type: ignore[arg-type]
        open_page(page, name="127.0.0.1", port=port)
        pages.append(page)
        return f"http://127.0.0.1:{port}/"

    yield start
    for page in pages:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.word_s = 0.03
    return engine


@pytest.fixture(scope="module")
def url(serve: Callable[[ScriptedEngine], str], engine: ScriptedEngine) -> str:
    return serve(engine)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1200, "height": 850})
    visit = Visit(context.new_page())
    visit.open(url)
    yield visit
    context.close()
    assert visit.complaints == []


def wait_until(is_true: Callable[[], bool], *, within_s: float = 5) -> None:
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_the_page_says_what_it_is_and_offers_questions(visit: Visit) -> None:
    text = visit.page.inner_text("body")

    assert "Pick a language. Ask in any language. The answer comes in yours." in text
    assert "bundled" in text
    assert "a toy" in text
    for question in ("Where is the cat?", "¿Qué come el perro?", "日本の首都はどこですか？"):
        assert question in text


def test_a_question_is_answered_word_by_word_in_the_chosen_language(visit: Visit) -> None:
    visit.ask("Where is the cat?")
    expect(visit.answers()).to_contain_text("Writing …")
    partial = visit.answers().inner_text()
    visit.expect("✓ French, as chosen")

    assert 0 < len(partial.replace("Writing …", "").strip()) < len(FRENCH)
    assert FRENCH in visit.answers().inner_text()
    assert visit.page.get_by_role("textbox", name="Message").input_value() == ""


def test_off_gives_another_language_and_the_badge_says_so(visit: Visit) -> None:
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the cat?")

    visit.expect("✗ English, French was chosen")
    visit.expect(ENGLISH)


def test_no_forced_language_is_not_judged(visit: Visit) -> None:
    visit.page.get_by_label("Answer language").click()
    visit.page.get_by_role("option", name="No forced language").click()
    visit.ask("Where is the cat?")

    visit.expect("· English")


def test_stop_stops_the_model_and_keeps_what_there_is(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("forever")
    visit.expect("Le chat")
    visit.button("Stop").click()
    wait_until(lambda: engine.running == 0, within_s=1)
    visit.expect("(stopped)")
    stopped = visit.answers().inner_text()
    visit.button("Send").wait_for()

    assert stopped.startswith("Le chat")
    assert "Writing" not in stopped


def test_after_stop_the_chat_goes_on(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("forever")
    visit.expect("Le chat")
    visit.button("Stop").click()
    visit.expect("(stopped)")
    visit.ask("And the dog?")
    expect(visit.answers()).to_have_count(2)
    visit.expect("✓ French, as chosen")

    said = [message.content for message in engine.requests[-1].conversations[0]]
    assert said[0] == "forever"
    assert said[1].startswith("Le chat")
    assert "stopped" not in said[1]
    assert said[2] == "And the dog?"


def test_closing_the_tab_stops_the_model(
    browser: Browser, url: str, engine: ScriptedEngine
) -> None:
    visit = Visit(browser.new_page())
    visit.open(url)
    visit.ask("forever")
    visit.expect("Le chat")
    visit.page.close()

    wait_until(lambda: engine.running == 0)


def test_asking_again_replaces_the_answer(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.page.get_by_label("Off").check()
    visit.button("Ask again").click()
    visit.expect("✗ English, French was chosen")

    expect(visit.page.locator("#chat .user.message")).to_have_count(1)
    assert len(engine.requests[-1].conversations[0]) == 1


def test_a_new_chat_forgets_also_while_an_answer_is_written(
    visit: Visit, engine: ScriptedEngine
) -> None:
    visit.ask("forever")
    visit.expect("Le chat")
    visit.button("New chat").click()
    wait_until(lambda: engine.running == 0)
    expect(visit.answers()).to_have_count(0)
    visit.page.get_by_text("¿Qué come el perro?").click()
    visit.expect("✓ French, as chosen")

    said = [message.content for message in engine.requests[-1].conversations[0]]
    assert said == ["¿Qué come el perro?"]


def test_the_twin_stands_beside_the_answer(visit: Visit) -> None:
    visit.page.get_by_label("Also show the answer without steering").check()
    visit.ask("Where is the cat?")

    visit.expect("✓ French, as chosen")
    visit.expect("✗ English, French was chosen", "twin")
    answer, twin = (visit.page.locator(f"#{name}").bounding_box() for name in ("chat", "twin"))
    assert answer is not None
    assert twin is not None
    assert answer["x"] + answer["width"] <= twin["x"]


def test_refusals_are_in_words_and_the_page_stays_usable(visit: Visit) -> None:
    visit.ask("   ")
    expect(visit.page.get_by_text("The message is empty.")).to_be_visible()
    visit.ask("fail")
    visit.expect("Something went wrong inside the program.")
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")


def test_a_second_message_waits_for_the_first_answer(visit: Visit) -> None:
    visit.ask("forever")
    visit.expect("Le chat")
    visit.ask("And the dog?")
    expect(visit.page.get_by_text("An answer is being written.")).to_be_visible()
    assert visit.page.get_by_role("textbox", name="Message").input_value() == "And the dog?"
    visit.button("Stop").click()
    visit.expect("(stopped)")


def test_tags_and_pictures_in_a_message_are_text(visit: Visit) -> None:
    visit.ask("<img src=x onerror=alert(1)> ![a](http://example.com/a.png)")
    visit.expect("✓ French, as chosen")

    shown = visit.page.locator("#chat .user.message").first
    expect(shown).to_contain_text("<img src=x onerror=alert(1)>")
    assert shown.locator("img").count() == 0


def test_while_the_model_loads_the_page_says_so(
    browser: Browser, serve: Callable[[ScriptedEngine], str]
) -> None:
    engine = ScriptedEngine(is_ready=False)
    visit = Visit(browser.new_page())
    visit.page.goto(serve(engine))
    expect(visit.button("Loading the model …")).to_be_disabled()
    visit.ask("Where is the cat?")
    visit.expect("Loading the model …")
    engine.finish_loading()

    visit.expect("✓ French, as chosen")
    expect(visit.button("Send")).to_be_enabled()
    visit.page.close()
    assert visit.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(scheme: str, browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    visit = Visit(context.new_page())
    visit.open(url)
    visit.page.get_by_label("Also show the answer without steering").check()
    visit.ask("Where_is_the_cat_" * 8)
    visit.expect("✗ English, French was chosen", "twin")

    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    answer, twin = (visit.page.locator(f"#{name}").bounding_box() for name in ("chat", "twin"))
    assert answer is not None
    assert twin is not None
    assert answer["y"] + answer["height"] <= twin["y"]
    for badge in visit.page.locator(".badge").all():
        assert contrast(badge) >= 4.5
    context.close()
    assert visit.complaints == []


def contrast(badge: Locator) -> float:
    """The contrast of a badge's text to its ground, as WCAG 2 has it; 0 if it shines through."""
    seen = badge.evaluate(
        "node => { let o = 1; for (; node; node = node.parentElement)"
        " o *= getComputedStyle(node).opacity; return o }"
    )
    if seen < 1:
        return 0
    colours = badge.evaluate(
        "node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]"
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
