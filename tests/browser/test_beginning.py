"""Tests of how the page begins: over a slow line, while the model loads, after a reload."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Route, expect

from steering.neuron_set import NeuronSet
from tests.browser.served import served_page
from tests.browser.visit import Visit, wait_until
from tests.started import free_port
from tests.ui.scripted import ScriptedEngine

pytestmark = pytest.mark.browser


def test_nobody_can_choose_or_ask_before_the_link_and_the_kept_chat_are_read(
    browser: Browser, url: str
) -> None:
    """What somebody chose before would be lost when they come."""
    visit, held = Visit(browser.new_page()), list[Route]()
    visit.page.route("**/run/predict*", lambda route: held.append(route))
    visit.page.goto(url + "?lang=ja&steering=strong&seed=7")
    page = visit.page
    page.get_by_text("Advanced", exact=True).click()
    language, seed = page.get_by_label("Answer language"), page.get_by_label("Seed")
    strong, message = page.get_by_label("Strong"), page.get_by_role("textbox", name="Message")
    closed = [language, seed, strong, message]
    for part in closed:
        expect(part).to_be_disabled()
    assert held
    for route in held:
        route.continue_()
    page.unroute("**/run/predict*")
    for part in closed:
        expect(part).to_be_enabled()

    expect(language).to_have_value(re.compile("Japanese"))
    expect(seed).to_have_value("7")
    expect(strong).to_be_checked()
    page.close()
    assert visit.complaints == []


def test_a_kept_chat_that_gradio_refuses_does_not_keep_the_page_closed(visit: Visit) -> None:
    """As one of an older version may be."""
    visit.ask("Where is the cat?")
    visit.expect_kept("✓ French, as chosen")
    spoilt = list[Route]()
    visit.page.route("**/run/predict*", lambda route: spoil(route, spoilt))
    visit.page.reload()

    expect(visit.page.get_by_role("textbox", name="Message")).to_be_enabled()
    expect(visit.page.get_by_label("Answer language")).to_be_enabled()
    assert spoilt
    visit.complaints.clear()  # of the server's answer
    visit.page.unroute("**/run/predict*")


def spoil(route: Route, spoilt: list[Route]) -> None:
    """Let what the browser has kept be sent as no chat that gradio takes."""
    body = route.request.post_data or ""
    if '"history"' in body:
        spoilt.append(route)
        body = body.replace('"role":"user"', '"role":"user","options":[{"label":"x"}]')
    route.continue_(post_data=body)


def test_while_the_model_loads_the_page_says_so(
    browser: Browser, serve: Callable[[ScriptedEngine], str]
) -> None:
    engine = ScriptedEngine(is_ready=False)
    visit = Visit(browser.new_page())
    visit.page.goto(serve(engine) + "?lang=fr")
    expect(visit.button("Loading the model …")).to_be_disabled()
    visit.ask("Where is the cat?")
    visit.expect("Loading the model …")
    engine.finish_loading()

    visit.expect("✓ French, as chosen")
    expect(visit.button("Send")).to_be_enabled()
    visit.page.close()
    assert visit.complaints == []


def test_the_chat_survives_a_reload_in_this_browser_alone(
    visit: Visit, browser: Browser, url: str
) -> None:
    visit.ask("Where is the cat?")
    visit.expect_kept("✓ French, as chosen")
    visit.page.reload()
    visit.expect("✓ French, as chosen")
    visit.ask("And the dog?")
    expect(visit.answers()).to_have_count(2)
    visit.expect_kept("✓ French, as chosen")
    visit.button("New chat").click()
    expect(visit.answers()).to_have_count(0)
    visit.page.reload()
    visit.button("Send").wait_for()
    visit.page.wait_for_timeout(500)
    expect(visit.answers()).to_have_count(0)

    stranger = browser.new_context()
    other = Visit(stranger.new_page())
    other.open(url)
    expect(other.answers()).to_have_count(0)
    stranger.close()


def test_a_reload_in_mid_answer_stops_the_model_and_the_chat_goes_on(
    visit: Visit, engine: ScriptedEngine
) -> None:
    visit.ask("forever")
    visit.expect("Le chat")
    visit.page.reload()
    wait_until(lambda: engine.running == 0)
    visit.complaints.clear()  # gradio's of the stream that the reload broke off
    expect(visit.page.locator("#chat .user.message")).to_contain_text("forever")
    visit.button("Send").wait_for()
    visit.ask("Where is the cat?")

    visit.expect("✓ French, as chosen")


def test_a_server_that_starts_again_in_mid_answer(browser: Browser, toy_set: NeuronSet) -> None:
    """Whatever of the answer the browser has kept: no question is left without words."""
    port, engine = free_port(), ScriptedEngine()
    engine.word_s = 0.03
    visit = Visit(browser.new_page())
    with served_page(toy_set, engine, port=port) as url:
        visit.open(url)
        visit.ask("forever")
        visit.expect("Le chat")
    with served_page(toy_set, port=port) as url:
        visit.open(url)
        visit.expect(re.compile("✗ (No answer came|Broken off)"))
        visit.ask("Where is the cat?")

        visit.expect("✓ French, as chosen")
        expect(visit.page.locator("#chat .user.message").first).to_contain_text("forever")
        visit.page.close()


def test_a_stronger_try_is_one_after_a_reload_as_well(visit: Visit) -> None:
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the cat?")
    visit.expect_kept("✗ English, French was chosen")
    visit.page.reload()
    visit.page.get_by_text("Try stronger").click()
    visit.expect_kept("✓ French, as chosen")
    visit.page.reload()
    visit.button("Send").wait_for()

    expect(visit.page.get_by_label("Gentle")).to_be_checked()


def test_asking_again_draws_anew_after_a_reload_as_well(
    visit: Visit, engine: ScriptedEngine
) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.button("Send").wait_for()
    for attempt in (1, 2):
        visit.page.reload()
        visit.expect("✓ French, as chosen")
        asked = len(engine.requests)
        visit.button("Retry").click()
        wait_until(lambda asked=asked: len(engine.requests) > asked)  # type: ignore[misc]
        visit.button("Send").wait_for()
        visit.expect("✓ French, as chosen")

        assert engine.requests[-1].sampling.seed == attempt
        assert engine.requests[-1].sampling.temperature == 0.7
