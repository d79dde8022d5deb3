"""Tests in Chromium of a server that goes away in mid-answer: a process of its own, killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.accessibility import find_violations
from tests.browser.contrast import contrast
from tests.browser.scripted_server import scripted_server
from tests.browser.visit import Visit
from tests.started import free_port

pytestmark = pytest.mark.browser

NOTICED_MS = 20_000  # two questions three seconds apart, and a machine that is busy
HUNG_MS = 40_000  # the same, each question waited for


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A visit that may complain of a server that is gone: Chromium says so of every request."""
    visit = Visit(browser.new_page())
    visit.page.set_default_timeout(NOTICED_MS)
    yield visit
    visit.page.close()


@pytest.fixture
def unharmed(browser: Browser, url: str) -> Iterator[Visit]:
    """A visit to a server that stays."""
    visit = Visit(browser.new_page())
    visit.open(url)
    yield visit
    visit.page.close()
    assert visit.complaints == []


@pytest.fixture
def asked(unharmed: Visit) -> list[str]:
    """What the page asks for once it is open."""
    asked: list[str] = []
    unharmed.page.on("request", lambda request: asked.append(request.url))
    return asked


def banner(page: Page) -> Locator:
    return page.locator("#server-watch")


def begin_an_answer(visit: Visit, port: int) -> None:
    visit.open(f"http://127.0.0.1:{port}/")
    visit.ask("forever")
    visit.expect("Le chat")


def test_a_server_that_is_killed_in_mid_answer_is_told_of_until_it_is_back(
    visit: Visit, port: int
) -> None:
    with scripted_server(port) as server:
        begin_an_answer(visit, port)
        # As where gradio has not noticed: where it has, it asks for this, and reloads by itself.
        visit.page.route("**/app_id", lambda route: route.abort())
        server.kill()
        words = banner(visit.page).filter(has_text="The server does not answer.")
        expect(words).to_be_visible(timeout=NOTICED_MS)
    assert banner(visit.page).get_attribute("role") == "alert"
    expect(banner(visit.page)).to_contain_text("The chat is kept in this browser")
    expect(banner(visit.page).get_by_role("button")).to_have_count(0)

    with scripted_server(port):
        expect(banner(visit.page)).to_contain_text("The server answers again", timeout=NOTICED_MS)
        visit.button("Reload the page").click()
        visit.expect("✗ No answer came")
        expect(visit.page.locator("#chat .user.message")).to_contain_text("forever")
        expect(banner(visit.page)).to_be_empty()
        visit.ask("Where is the cat?")
        visit.expect("✓ French, as chosen")


def test_a_server_that_ends_in_good_order_in_mid_answer_is_told_of_as_well(
    visit: Visit, port: int
) -> None:
    """Gradio settles the turn then: Send is back, and half an answer has to say what it is."""
    with scripted_server(port) as server:
        begin_an_answer(visit, port)
        visit.page.route("**/app_id", lambda route: route.abort())
        server.terminate()
        expect(banner(visit.page)).to_contain_text("does not answer", timeout=NOTICED_MS)
        assert server.wait(10) == 0

    with scripted_server(port):
        expect(banner(visit.page)).to_contain_text("The server answers again", timeout=NOTICED_MS)
        visit.button("Reload the page").click()
        visit.button("Send").wait_for()
        expect(visit.answers().last).to_contain_text("✗")
        expect(visit.answers().last).to_contain_text("the connection or the server ended before")
        expect(visit.answers().last).not_to_contain_text("Writing")
        expect(banner(visit.page)).to_be_empty()


def test_an_answer_that_is_settled_without_its_end_says_so_and_has_the_server_asked_a_few_times(
    unharmed: Visit, asked: list[str]
) -> None:
    unharmed.ask("cut off")
    unharmed.expect("✗ Broken off")
    unharmed.button("Send").wait_for()
    unharmed.page.wait_for_timeout(7000)
    after_the_end = [one for one in asked if "healthz" in one]
    unharmed.page.reload()
    unharmed.expect("✗ Broken off")
    asked.clear()
    unharmed.page.wait_for_timeout(7000)

    assert after_the_end
    assert [one for one in asked if "healthz" in one] == []
    assert banner(unharmed.page).text_content() == ""


@pytest.mark.slow
def test_a_server_that_hangs_is_told_of_and_no_more_once_the_answer_goes_on(
    visit: Visit, port: int
) -> None:
    with scripted_server(port) as server:
        begin_an_answer(visit, port)
        server.send_signal(signal.SIGSTOP)
        expect(banner(visit.page)).to_contain_text("does not answer", timeout=HUNG_MS)
        server.send_signal(signal.SIGCONT)
        expect(banner(visit.page)).to_contain_text("answers again", timeout=HUNG_MS)
        visit.button("Stop").click()
        visit.expect("(stopped)")

        expect(banner(visit.page)).to_be_empty()


def test_the_server_is_asked_while_an_answer_is_written_and_else_never(
    unharmed: Visit, asked: list[str]
) -> None:
    unharmed.page.wait_for_timeout(7000)
    before = [one for one in asked if "healthz" in one]
    unharmed.ask("forever")
    with unharmed.page.expect_response("**/healthz") as response:
        unharmed.expect("Le chat")
    unharmed.button("Stop").click()
    unharmed.expect("(stopped)")
    unharmed.button("Send").wait_for()
    asked.clear()
    unharmed.page.wait_for_timeout(7000)

    assert before == []
    assert response.value.ok
    assert asked == []
    assert banner(unharmed.page).text_content() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_banner_can_be_read_on_a_phone_in_the_readers_language(
    scheme: Literal["light", "dark"], browser: Browser, url: str
) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 740}, color_scheme=scheme, locale="fr-FR"
    )
    page = context.new_page()
    status = 502
    page.route("**/healthz", lambda route: route.fulfill(status=status))
    page.goto(url + "?lang=fr")
    page.get_by_role("button", name="Envoyer", exact=True).wait_for()
    page.locator("#box textarea").fill("forever")
    page.keyboard.press("Enter")
    expect(banner(page)).to_contain_text("⚠ Le serveur ne répond pas.", timeout=NOTICED_MS)
    status = 200
    expect(banner(page)).to_contain_text("⚠ Le serveur répond de nouveau.", timeout=NOTICED_MS)
    expect(page.get_by_role("button", name="Recharger la page")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert find_violations(page) == []
    words, ground = banner(page).evaluate(
        "node => [getComputedStyle(node.firstChild).color, getComputedStyle(node).color]"
    )
    assert words == ground
    assert contrast(banner(page)) >= 4.5
    page.get_by_role("button", name="Arrêter", exact=True).click()
    expect(banner(page)).to_be_empty(timeout=NOTICED_MS)
    context.close()
