"""Tests of the tab "Look inside" in Chromium: a scripted engine that reads with a tiny model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from tests.browser.contrast import contrast
from tests.browser.served import served_page
from tests.browser.visit import Visit
from tests.toy import FR
from tests.ui.scripted import FRENCH, ScriptedEngine

pytestmark = pytest.mark.browser


@pytest.fixture
def engine(load_tiny: Callable[..., LoadedModel]) -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.loaded = load_tiny("llama")
    return engine


@pytest.fixture
def url(engine: ScriptedEngine, toy_set: NeuronSet) -> Iterator[str]:
    with served_page(toy_set, engine) as url:
        yield url


def open_tab(visit: Visit, name: str = "Look inside") -> None:
    visit.page.get_by_role("tab", name=name).click()


def ask_and_look(visit: Visit, message: str = "Where is the cat?") -> None:
    visit.ask(message)
    visit.expect("✓ French, as chosen")
    open_tab(visit)
    visit.button("Show what fires").click()
    visit.page.locator("#inside-reading .tokens").wait_for()


def test_a_language_is_shown_without_running_the_model(
    visit: Visit, engine: ScriptedEngine
) -> None:
    open_tab(visit)

    expect(visit.page.get_by_text(re.compile(r"^French: \d+ neurons, "))).to_be_visible()
    expect(visit.page.get_by_role("img", name=re.compile("^Bars of the neurons"))).to_be_visible()
    expect(visit.page.locator("#inside-table [role=gridcell]:visible").first).to_be_visible()
    expect(visit.page.get_by_text("ask something in the chat first")).to_be_visible()
    assert engine.calls == 0
    assert engine.requests == []


def test_the_tab_follows_the_language_above_until_another_is_chosen_here(visit: Visit) -> None:
    open_tab(visit)
    here = visit.page.locator("#inside-language input")
    expect(here).to_have_value(re.compile("French"))
    here.click()
    visit.page.get_by_role("option", name=re.compile("Japanese")).last.click()
    expect(visit.page.get_by_text("Japanese: ")).to_be_visible()
    open_tab(visit, "Chat")
    open_tab(visit)

    expect(here).to_have_value(re.compile("Japanese"))
    expect(visit.page.get_by_label("Answer language")).to_have_value(re.compile("French"))


def test_the_table_can_be_searched_and_sorted(visit: Visit, toy_set: NeuronSet) -> None:
    open_tab(visit)
    table = visit.page.locator("#inside-table")
    second = table.locator("[role=gridcell][data-col='1']:visible")
    second.first.wait_for()
    header = table.locator("[role=columnheader]:visible").nth(1)
    header.hover()
    header.locator("button").click()
    visit.page.get_by_text("Sort descending").click()
    own = toy_set.index[toy_set.neurons_of(FR)].tolist()
    expect(second.first).to_have_text(str(max(own)))
    table.get_by_placeholder("Search").fill("no such neuron")

    expect(second).to_have_count(0)


def test_an_answer_is_shown_token_by_token_with_the_language_that_fired(visit: Visit) -> None:
    ask_and_look(visit)
    reading = visit.page.locator("#inside-reading")

    said = reading.locator(".said").all_inner_texts()
    assert "".join(said[1:]) == FRENCH
    codes = set(reading.locator(".tokens .code").all_inner_texts())
    assert codes <= {"fr", "ja", "en", "–"}
    assert len(codes) > 1
    expect(reading).to_contain_text("Read with the steering that wrote it: French, Normal")
    reading.get_by_text("The same as a table").click()
    expect(reading.locator("table tr")).to_have_count(len(said) + 1)


def test_neurons_are_switched_off_beside_the_answer(visit: Visit, engine: ScriptedEngine) -> None:
    ask_and_look(visit)
    visit.page.get_by_label("Leave the steering out as well").check()
    visit.button("Answer without them").click()
    after = visit.page.locator("#inside-after")
    expect(after).to_contain_text("no steering, same seed")

    expect(after).to_contain_text(re.compile(r"With \d+ neurons set to zero"))
    expect(visit.page.locator("#inside-before")).to_contain_text("✓ French, as chosen")
    boxes = [visit.page.locator(f"#inside-{name}").bounding_box() for name in ("before", "after")]
    assert boxes[0] and boxes[1] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]  # noqa: PT018
    assert len(engine.requests) == 2


def test_no_layer_is_refused_and_the_tab_stays_usable(visit: Visit) -> None:
    ask_and_look(visit)
    visit.button("No layer").click()
    expect(visit.page.locator("#inside-layers input:checked")).to_have_count(0)
    visit.button("Answer without them").click()
    expect(visit.page.get_by_text("No neuron is chosen to be switched off.")).to_be_visible()
    visit.button("All layers").click()
    expect(visit.page.locator("#inside-layers input:checked")).not_to_have_count(0)
    visit.button("Answer without them").click()

    expect(visit.page.locator("#inside-after .badge")).to_be_visible()


def test_stop_stops_the_answer(visit: Visit, engine: ScriptedEngine) -> None:
    engine.steered = " ".join([FRENCH] * 100)
    visit.ask("Where is the cat?")
    visit.expect("Le chat")
    visit.button("Stop").click()
    visit.expect("(stopped)")
    open_tab(visit)
    visit.button("Answer without them").click()
    expect(visit.page.locator("#inside-after")).to_contain_text("Le chat")
    visit.page.get_by_role("button", name="Stop", exact=True).last.click()

    expect(visit.page.locator("#inside-after")).to_contain_text("(stopped)")
    expect(visit.button("Answer without them")).to_be_visible()
    assert engine.running == 0


def test_stop_stops_the_reading(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    engine.word_s = 1.0
    open_tab(visit)
    visit.button("Show what fires").click()
    visit.page.get_by_text("Reading the answer …").wait_for()
    visit.page.get_by_role("button", name="Stop", exact=True).first.click()

    expect(visit.page.locator("#inside-reading")).to_contain_text("(stopped)")
    expect(visit.button("Show what fires")).to_be_visible()


def test_script_in_an_answer_is_shown_and_never_run(visit: Visit, engine: ScriptedEngine) -> None:
    engine.steered = "<img src=x onerror=\"document.title='bad'\"> Le chat dort sur le canapé."
    ask_and_look(visit)
    visit.button("Answer without them").click()
    expect(visit.page.locator("#inside-after .badge")).to_be_visible()

    expect(visit.page.locator("#inside-after")).to_contain_text("<img src=x")
    assert visit.page.title() == "Langsteer"
    assert visit.page.locator("#inside-after img, #inside-reading img").count() == 0


def test_japanese_is_not_broken_into_bytes(visit: Visit, engine: ScriptedEngine) -> None:
    engine.steered = "Le chat. 猫はソファで寝ています。"
    visit.ask("Where is the cat?")
    visit.expect("猫")
    open_tab(visit)
    visit.button("Show what fires").click()
    visit.page.locator("#inside-reading .tokens").wait_for()

    said = visit.page.locator("#inside-reading .said").all_inner_texts()
    assert "猫" in said
    assert "\ufffd" not in "".join(said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(scheme: str, browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    visit = Visit(context.new_page())
    visit.open(url)
    ask_and_look(visit)
    visit.page.locator("#inside-reading summary").click()
    visit.button("Answer without them").click()
    expect(visit.page.locator("#inside-after .badge")).to_be_visible()

    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    for shown in visit.page.locator(".inside .fired").all()[:20]:
        assert contrast(shown) >= 4.5
    context.close()
    assert visit.complaints == []
