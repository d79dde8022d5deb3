"""axe-core finds nothing serious on any tab, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from steering.neuron_set import NeuronSet
from tests.browser.accessibility import find_violations
from tests.browser.served import served_page
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(toy_set: NeuronSet) -> Iterator[str]:
    with served_page(toy_set) as url:
        yield url


@pytest.fixture
def visit(
    browser: Browser, url: str, width: int, scheme: Literal["light", "dark"]
) -> Iterator[Visit]:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    visit = Visit(context.new_page())
    visit.open(url)
    yield visit
    context.close()
    assert visit.complaints == []


_FILL_MS = 1000  # within which a tab that was opened has what it shows

everywhere = [
    pytest.mark.parametrize("scheme", ["light", "dark"]),
    pytest.mark.parametrize("width", [1200, 360]),
]


def on_every_screen(test: object) -> object:
    for mark in everywhere:
        test = mark(test)
    return test


def tab_names(page: Page) -> list[str]:
    return page.get_by_role("tab").all_inner_texts()


@on_every_screen
def test_no_tab_has_a_serious_fault(visit: Visit) -> None:
    names = tab_names(visit.page)
    visit.page.get_by_role("button", name="Advanced").click()

    assert {"Chat", "About & API"} <= set(names)
    faults = {}
    for name in names:
        visit.page.get_by_role("tab", name=name, exact=True).click()
        visit.page.wait_for_timeout(_FILL_MS)
        faults[name] = find_violations(visit.page)
    assert faults == {name: [] for name in names}


@on_every_screen
def test_a_chat_has_no_serious_fault(visit: Visit) -> None:
    """With an answer as chosen, one in another language, and a warning."""
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the dog?")
    visit.expect("✗ English, French was chosen")
    visit.ask("   ")
    expect(visit.page.get_by_text("The message is empty.")).to_be_visible()
    visit.page.wait_for_timeout(_FILL_MS)  # a warning fades in

    assert find_violations(visit.page) == []


@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("width", [1200])
def test_a_fault_is_found_and_told_in_words(visit: Visit) -> None:
    visit.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<input id=nameless><p id=pale "
        'style="color:#ccc;background:#fff">Hardly to be read</p>\')'
    )

    faults = find_violations(visit.page)
    assert [fault.split()[0] for fault in faults] == ["color-contrast", "label"]
    assert "#pale" in faults[0]
    assert "#nameless" in faults[1]
