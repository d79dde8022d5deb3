"""What holds for more than one tab: a reload, two windows with their languages, keys alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.ui.results.measured import results_path
from tests.browser.served import served_page
from tests.browser.visit import Visit
from tests.ui.results.test_measured import FILE
from tests.ui.scripted import ScriptedEngine

pytestmark = pytest.mark.browser


@pytest.fixture
def engine(load_tiny: Callable[..., LoadedModel]) -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.loaded = load_tiny("llama")
    return engine


@pytest.fixture
def url(toy_set: NeuronSet, engine: ScriptedEngine, tmp_path: Path) -> Iterator[str]:
    neuron_set = tmp_path / "toy.safetensors"
    results_path(neuron_set).write_text(json.dumps(FILE), encoding="utf-8")
    with served_page(toy_set, engine, neuron_set=neuron_set) as url:
        yield url


@pytest.fixture
def open_window(browser: Browser, url: str) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(tab: str, language: str = "fr") -> Visit:
        visit = Visit(browser.new_context(viewport={"width": 1200, "height": 900}).new_page())
        visits.append(visit)
        visit.open(url, f"?lang={language}")
        open_tab(visit, tab)
        return visit

    yield start
    for visit in visits:
        visit.page.context.close()
        assert visit.complaints == []


def open_tab(visit: Visit, name: str) -> None:
    visit.page.get_by_role("tab", name=name, exact=True).click()


def fill_until_kept(visit: Visit, field: Locator, value: str) -> None:
    """Fill in a number, and again where Gradio draws the field anew in that very moment."""
    for _ in range(3):
        field.fill(value)
        field.press("Tab")
        visit.page.wait_for_timeout(500)
        if field.input_value() == value:
            return


def press_tab_to(visit: Visit, there: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        if there.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab never comes to '{there}'")


def results(visit: Visit) -> Locator:
    return visit.page.locator(".results")


def reading(visit: Visit) -> Locator:
    return visit.page.locator("#inside-reading")


def test_live_prompts_go_on_after_a_reload(
    open_window: Callable[..., Visit], engine: ScriptedEngine
) -> None:
    engine.word_s = 0.05
    visit = open_window("Does it work?")
    visit.button("Run 8 prompts live").click()
    expect(results(visit)).to_contain_text("2 of 8 prompts answered …")
    visit.page.reload()
    visit.button("Send").wait_for()
    visit.complaints.clear()  # gradio's of the stream that the reload broke off
    open_tab(visit, "Does it work?")
    visit.button("Run 8 prompts live").click()

    expect(results(visit)).to_contain_text("Done: 8 of 8 prompts answered.", timeout=30_000)


def test_prompts_of_two_windows_are_answered_in_their_own_languages(
    open_window: Callable[..., Visit], tmp_path: Path
) -> None:
    visits = {name: open_window("Does it work?") for name in ("fr", "ja")}
    for target, visit in visits.items():
        mine = tmp_path / f"{target}.csv"
        mine.write_text(f"text,target\nWhere is the cat?,{target}\n", encoding="utf-8")
        with visit.page.expect_file_chooser() as chosen:
            visit.button("Choose a file of prompts …").click()
        chosen.value.set_files(mine)
        expect(results(visit)).to_contain_text(f"{target}.csv: prompts: 1")
    for visit in visits.values():
        visit.button("Run my prompts").click()

    french, japanese = map(results, visits.values())
    for one in (french, japanese):
        expect(one).to_contain_text("Done: 1 of 1 prompts answered.")
    expect(french).to_contain_text("✓ French, as chosen")
    expect(french).not_to_contain_text("Japanese was chosen")
    expect(japanese).to_contain_text("✗ French, Japanese was chosen")
    expect(japanese).not_to_contain_text("✓ French, as chosen")


def test_live_prompts_by_keyboard_alone(open_window: Callable[..., Visit]) -> None:
    visit = open_window("Chat")
    tabs = visit.page.get_by_role("tab", name="Chat", exact=True)
    tabs.focus()
    press_tab_to(visit, visit.page.get_by_role("tab", name="Does it work?"))
    visit.page.keyboard.press("Enter")
    press_tab_to(visit, visit.button("Run 8 prompts live"))
    visit.page.keyboard.press("Enter")

    expect(results(visit)).to_contain_text("Done: 8 of 8 prompts answered.", timeout=30_000)


def test_what_fires_can_be_read_after_a_reload(open_window: Callable[..., Visit]) -> None:
    visit = open_window("Chat")
    visit.ask("Where is the cat?")
    visit.expect_kept("✓ French, as chosen")
    visit.page.reload()
    visit.expect("✓ French, as chosen")
    open_tab(visit, "Look inside")
    visit.button("Show what fires").click()

    expect(reading(visit)).to_contain_text("Read with the steering that wrote it: French, Normal")


def test_two_windows_look_inside_their_own_answers(open_window: Callable[..., Visit]) -> None:
    visits = [open_window("Chat", code) for code in ("fr", "ja")]
    for visit in visits:
        visit.ask("Where is the cat?")
        expect(visit.answers().last).to_contain_text(re.compile("as chosen|was chosen"))
        open_tab(visit, "Look inside")
        visit.button("Show what fires").click()

    for visit, name in zip(visits, ("French", "Japanese"), strict=True):
        expect(reading(visit)).to_contain_text(f"the steering that wrote it: {name}, Normal")


def test_what_fires_by_keyboard_alone(open_window: Callable[..., Visit]) -> None:
    visit = open_window("Chat")
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.page.get_by_role("tab", name="Chat", exact=True).focus()
    press_tab_to(visit, visit.page.get_by_role("tab", name="Look inside"))
    visit.page.keyboard.press("Enter")
    press_tab_to(visit, visit.button("Show what fires"))
    visit.page.keyboard.press("Enter")

    expect(reading(visit)).to_contain_text("Read with the steering that wrote it: French, Normal")


@pytest.mark.parametrize("is_reload", [True, False])
def test_what_somebody_chose_is_there_after_a_reload_and_on_a_later_visit(
    is_reload: bool, open_window: Callable[..., Visit], url: str
) -> None:
    visit = open_window("Chat", "fr")
    language = visit.page.get_by_label("Answer language")
    language.click()
    visit.page.get_by_role("option", name=re.compile("Japanese")).last.click()
    visit.page.get_by_label("Strong").check()
    visit.page.get_by_text("Advanced", exact=True).click()
    visit.page.get_by_label("Write a passage again").uncheck()
    visit.page.get_by_label("Seed").fill("7")
    visit.page.get_by_label("Seed").press("Tab")
    expect(visit.page).to_have_url(f"{url}?lang=ja&steering=strong&guard=0&seed=7")
    visit.page.reload() if is_reload else visit.page.goto(url)
    visit.button("Send").wait_for()

    expect(language).to_have_value(re.compile("Japanese"))
    expect(visit.page.get_by_label("Strong")).to_be_checked()
    visit.page.get_by_text("Advanced", exact=True).click()
    expect(visit.page.get_by_label("Write a passage again")).not_to_be_checked()
    expect(visit.page.get_by_label("Seed")).to_have_value("7")
    expect(visit.page.get_by_label("Damp the other")).not_to_be_checked()


def test_a_slider_that_is_set_back_is_kept_as_it_is(open_window: Callable[..., Visit]) -> None:
    visit = open_window("Chat")
    visit.page.get_by_text("Advanced", exact=True).click()
    fill_until_kept(visit, visit.page.get_by_label("number input for Creativity"), "0.5")
    expect(visit.page).to_have_url(re.compile("creativity=0.5"))
    visit.page.get_by_label("Reset to default value").last.click()

    expect(visit.page).to_have_url(re.compile(r"creativity=0(&|$)"))


@pytest.mark.parametrize("name", ["Compare", "Does it work?", "Look inside", "About & API"])
def test_a_link_with_a_language_holds_on_every_tab_and_after_a_reload(
    name: str, open_window: Callable[..., Visit]
) -> None:
    visit = open_window(name, "ja")
    language = visit.page.get_by_label("Answer language")
    expect(language).to_have_value(re.compile("Japanese"))
    visit.page.reload()
    visit.button("Send").wait_for()

    expect(language).to_have_value(re.compile("Japanese"))
