"""Tests in Chromium of what the browser does by itself: `steering/ui/scripts/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from tests.browser.served import served_page
from tests.browser.visit import Visit, wait_until
from tests.ui.scripted import ScriptedEngine

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


@pytest.fixture
def inside(
    browser: Browser, toy_set: NeuronSet, load_tiny: Callable[..., LoadedModel]
) -> Iterator[Visit]:
    """A visit whose engine reads with a tiny model, slowly."""
    engine = ScriptedEngine()
    engine.loaded, engine.word_s = load_tiny("llama"), 0.1
    with served_page(toy_set, engine) as url:
        visit = Visit(browser.new_page())
        visit.open(url)
        yield visit
        visit.page.close()
    assert visit.complaints == []


def press(visit: Visit, name: str) -> None:
    """Press a button by keyboard; afterwards it has the focus, or whatever took it."""
    visit.button(name).filter(visible=True).focus()
    visit.page.keyboard.press("Enter")


def expect_focus(visit: Visit, name: str) -> None:
    expect(visit.page.locator("button:focus")).to_have_text(name)


def open_tab(visit: Visit, name: str) -> None:
    visit.page.get_by_role("tab", name=name, exact=True).click()


def test_in_the_chat_the_focus_goes_to_stop_and_back(visit: Visit) -> None:
    visit.page.get_by_role("textbox", name="Message").fill("forever")
    press(visit, "Send")
    expect_focus(visit, "Stop")
    visit.expect("Le chat")
    visit.page.keyboard.press("Enter")
    visit.expect("(stopped)")

    expect_focus(visit, "Send")


def test_what_goes_away_in_the_chat_gives_its_focus_to_stop_and_then_send(
    visit: Visit, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "word_s", 0.1)
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the cat?")
    visit.expect_kept("✗ English, French was chosen")
    stronger = visit.page.get_by_role("button", name="Try stronger")
    for again in (visit.button("Retry"), stronger):
        again.focus()
        visit.page.keyboard.press("Enter")
        expect_focus(visit, "Stop")
        expect_focus(visit, "Send")
    edit = visit.page.locator("#chat").get_by_role("button", name="Edit").first
    edit.focus()
    visit.page.keyboard.press("Enter")
    visit.page.locator("#chat textarea").fill("forever")
    visit.page.locator("#chat").get_by_role("button", name="Submit").focus()
    visit.page.keyboard.press("Enter")
    expect_focus(visit, "Stop")
    visit.page.keyboard.press("Enter")
    expect_focus(visit, "Send")


def test_who_uses_a_mouse_in_the_chat_or_cancels_an_edit_gets_no_focus(visit: Visit) -> None:
    visit.ask("Where is the cat?")
    visit.expect_kept("✓ French, as chosen")
    chat = visit.page.locator("#chat")
    chat.get_by_role("button", name="Edit").first.focus()
    visit.page.keyboard.press("Enter")
    chat.get_by_role("button", name="Cancel").focus()
    visit.page.keyboard.press("Enter")
    expect(chat.locator("textarea")).to_have_count(0)
    expect(visit.page.locator("button:focus")).to_have_count(0)
    visit.button("Retry").click()
    visit.button("Stop").wait_for()
    expect(visit.page.locator("button:focus")).to_have_count(0)
    visit.expect_kept("✓ French, as chosen")

    expect(visit.page.locator("button:focus")).to_have_count(0)


def test_in_compare_the_focus_goes_to_stop_and_back(visit: Visit) -> None:
    open_tab(visit, "Compare")
    visit.page.get_by_role("textbox", name="Question for all three").fill("forever")
    press(visit, "Run")
    expect_focus(visit, "Stop")
    expect(visit.page.locator("#compare-results")).to_contain_text("Le chat")
    visit.page.keyboard.press("Enter")

    expect_focus(visit, "Run")


@pytest.mark.parametrize("button", ["Run 8 prompts live", "Run my prompts"])
def test_in_does_it_work_the_focus_goes_to_stop_and_back_to_what_began(
    button: str, visit: Visit, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text("text,target\n" + "Where is the cat?,fr\n" * 9)
    open_tab(visit, "Does it work?")
    with visit.page.expect_file_chooser() as chosen:
        visit.button("Choose a file of prompts …").click()
    chosen.value.set_files(tmp_path / "own.csv")
    expect(visit.button("Run my prompts")).to_be_enabled()
    press(visit, button)
    expect_focus(visit, "Stop")
    visit.page.keyboard.press("Enter")

    expect_focus(visit, button)


@pytest.mark.parametrize("button", ["Show what fires", "Answer without them"])
def test_in_look_inside_the_focus_goes_to_stop_and_back(button: str, inside: Visit) -> None:
    inside.ask("Where is the cat?")
    inside.expect("✓ French, as chosen")
    open_tab(inside, "Look inside")
    press(inside, button)
    expect_focus(inside, "Stop")
    inside.page.keyboard.press("Enter")

    expect_focus(inside, button)


def test_who_has_gone_elsewhere_is_left_there(visit: Visit) -> None:
    box = visit.page.get_by_role("textbox", name="Message")
    box.fill("forever")
    press(visit, "Send")
    expect_focus(visit, "Stop")
    visit.page.keyboard.press("Shift+Tab")
    expect(box).to_be_focused()
    visit.button("Stop").dispatch_event("click")  # by nobody's finger
    visit.expect("(stopped)")
    visit.button("Send").wait_for()

    expect(box).to_be_focused()


def test_who_has_left_all_buttons_gets_none_back(visit: Visit) -> None:
    visit.page.get_by_role("textbox", name="Message").fill("forever")
    press(visit, "Send")
    expect_focus(visit, "Stop")
    visit.page.mouse.click(5, 5)
    expect(visit.page.locator(":focus")).to_have_count(0)
    visit.button("Stop").dispatch_event("click")
    visit.expect("(stopped)")
    visit.button("Send").wait_for()
    visit.page.wait_for_timeout(300)

    expect(visit.page.locator(":focus")).to_have_count(0)
