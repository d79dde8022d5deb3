"""Tests of the page in Chromium, with an engine that follows a script."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from steering.guard import Rewrite
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet, NeuronSetMetadata
from tests.browser.contrast import contrast
from tests.browser.visit import Visit, wait_until
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

pytestmark = pytest.mark.browser

ARABIC = "القطة تنام على الأريكة. هي تحب الشمس ولا تريد أن تتحرك."
JAPANESE = "猫はソファで寝ています。日なたが好きなので、動きたくないのです。"


def rename_language(neurons: NeuronSet, old: str, new: str) -> NeuronSet:
    """Return the set with one language's place given to another."""
    described = neurons.metadata.model_dump_json().replace(f'"{old}"', f'"{new}"')
    return replace(neurons, metadata=NeuronSetMetadata.model_validate_json(described))


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
    for sentence in ENGLISH.split(". "):
        visit.expect(sentence)


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
    visit.button("Retry").click()
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
    visit.expect_kept("✓ French, as chosen")
    visit.page.reload()
    visit.expect("✓ French, as chosen")
    expect(visit.page.locator("#chat .user.message")).to_have_count(1)


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
    expect(shown).to_contain_text("<\u200bimg src=x onerror=alert(1)>")
    assert shown.locator("img").count() == 0


def test_a_question_can_be_edited_and_taken_back(visit: Visit, engine: ScriptedEngine) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    visit.page.locator("#chat textarea").fill("Where is the dog?")
    visit.page.locator("#chat").get_by_role("button", name="Submit").click()
    wait_until(lambda: len(engine.requests[-1].conversations[0]) == 1)
    expect(visit.page.locator("#chat .user.message")).to_contain_text("Where is the dog?")
    visit.expect("✓ French, as chosen")
    visit.button("Undo").click()

    expect(visit.answers()).to_have_count(0)
    box = visit.page.get_by_role("textbox", name="Message")
    expect(box).to_have_value("Where is the dog?")


def test_what_is_off_target_is_marked_in_words_and_a_stronger_try_is_offered(visit: Visit) -> None:
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the cat?")
    visit.expect("✗ English, French was chosen")
    expect(visit.answers().locator("mark.stray")).to_have_count(2)
    expect(visit.answers().locator(".why").first).to_have_text("✗ English")
    visit.page.get_by_text("Try stronger").click()

    visit.expect("✓ French, as chosen")
    expect(visit.page.get_by_label("Gentle")).to_be_checked()
    expect(visit.answers()).to_have_count(1)


def test_what_was_written_again_can_be_unfolded(
    browser: Browser, serve: Callable[[ScriptedEngine], str]
) -> None:
    engine = ScriptedEngine()
    engine.rewrites = (Rewrite(0, "The <b>cat</b> sleeps.", LANGUAGES["en"], 3, 1),)
    visit = Visit(browser.new_page())
    visit.open(serve(engine))
    visit.ask("Where is the cat?")
    visit.expect("1 passage was written again; before it was in: English")
    passage = visit.page.get_by_text("The <\u200bb>cat<\u200b/b> sleeps.")
    if not passage.is_visible():
        visit.page.get_by_text("Show what was written again").click()

    expect(passage).to_be_visible()
    visit.page.close()
    assert visit.complaints == []


def test_two_windows_do_not_mix_languages(visit: Visit, browser: Browser, url: str) -> None:
    context = browser.new_context()
    other = Visit(context.new_page())
    other.open(url, "?lang=ja&steering=off")
    visit.ask("Where is the cat?")
    other.ask("Where is the dog?")

    visit.expect("✓ French, as chosen")
    other.expect("✗ English, Japanese was chosen")
    assert "dog" not in visit.page.inner_text("#chat")
    context.close()
    assert other.complaints == []


def test_by_keyboard_alone(visit: Visit) -> None:
    """From the language to the message to the answer, and Stop, without a mouse."""
    keyboard, page = visit.page.keyboard, visit.page
    language = page.get_by_label("Answer language")
    language.focus()
    keyboard.press("Control+A")
    keyboard.type("japan")
    keyboard.press("Enter")
    expect(language).to_have_value(re.compile("Japanese"))
    tab_to(visit, "Off")
    keyboard.press("Space")
    tab_to(visit, "Message")
    keyboard.type("forever")
    keyboard.press("Enter")
    visit.expect("The cat")
    tab_to(visit, "Stop")
    keyboard.press("Enter")

    visit.expect("(stopped)")
    visit.button("Send").wait_for()


def tab_to(visit: Visit, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    script = (
        "name => { const at = document.activeElement; return [at.getAttribute('aria-label'), "
        "at.innerText, at.value, at.labels && at.labels[0] && at.labels[0].innerText]"
        ".some(text => (text || '').trim().toLowerCase() === name.toLowerCase()) }"
    )
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate(script, name):
            return
    raise AssertionError(f"Tab never comes to '{name}'")


@pytest.mark.parametrize(
    ("code", "said", "direction"),
    [("ar", ARABIC, "rtl"), ("ja", JAPANESE, "ltr")],
)
def test_arabic_and_japanese_read_in_their_own_direction(
    code: str, said: str, direction: str, browser: Browser, serve: Callable[..., str],
    toy_set: NeuronSet,
) -> None:  # fmt: skip
    engine = ScriptedEngine()
    engine.steered = said
    visit = Visit(browser.new_page())
    visit.open(serve(engine, rename_language(toy_set, "th", "ar")), f"?lang={code}")
    visit.ask("Where is the cat?")
    visit.expect(f"✓ {LANGUAGES[code].english_name}, as chosen")

    paragraph = visit.answers().locator("p").first
    expect(paragraph).to_contain_text(said[:10])
    assert starts_at(paragraph) == ("right" if direction == "rtl" else "left")
    question = visit.page.locator("#chat .user.message p").first
    assert starts_at(question) == "left"
    visit.page.close()
    assert visit.complaints == []


def starts_at(paragraph: Locator) -> str:
    """The side at which a paragraph's first letter is drawn."""
    return str(
        paragraph.evaluate(
            "node => { const range = document.createRange(); const walker = "
            "document.createTreeWalker(node, NodeFilter.SHOW_TEXT); const text = walker.nextNode();"
            " range.setStart(text, 0); range.setEnd(text, 1); const first = "
            "range.getBoundingClientRect(); const box = node.getBoundingClientRect(); "
            "return first.left - box.left < box.right - first.right ? 'left' : 'right' }"
        )
    )


def test_script_in_an_answer_is_shown_and_never_run(
    browser: Browser, serve: Callable[..., str]
) -> None:
    engine = ScriptedEngine()
    engine.steered = "<script>document.title='bad'</script> <b onclick=alert(1)>Le chat</b> dort."
    visit = Visit(browser.new_page())
    visit.open(serve(engine))
    visit.ask("Where is the cat?")
    visit.expect("<\u200bscript>document.title='bad'<\u200b/script>")
    visit.expect("<\u200bb onclick=alert(1)>Le chat<\u200b/b>")

    assert visit.page.title() == "Langsteer"
    visit.page.close()
    assert visit.complaints == []


def test_a_message_without_end_is_refused(visit: Visit) -> None:
    visit.ask("a" * 100_000)

    expect(visit.page.get_by_text("The message has '100,000' characters.")).to_be_visible()


@pytest.mark.parametrize(
    ("button", "suffix"), [("Download JSON", "json"), ("Download Markdown", "md")]
)
def test_the_chat_can_be_saved(button: str, suffix: str, visit: Visit) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    with visit.page.expect_download() as saved:
        visit.button(button).click()
    text = Path(saved.value.path()).read_text(encoding="utf-8")

    assert saved.value.suggested_filename == f"langsteer-chat.{suffix}"
    assert FRENCH in text
    assert re.search(r"neuron_set_sha256\W+[0-9a-f]{64}", text)


def test_other_words_that_are_none_leave_the_chat_as_it_was(visit: Visit) -> None:
    visit.ask("Where is the cat?")
    visit.expect("✓ French, as chosen")
    visit.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    visit.page.locator("#chat textarea").fill("  ")
    visit.page.locator("#chat").get_by_role("button", name="Submit").click()

    expect(visit.page.get_by_text("The message is empty.")).to_be_visible()
    expect(visit.page.locator("#chat .user.message")).to_contain_text("Where is the cat?")
    visit.expect("✓ French, as chosen")


def test_copying_an_answer_copies_what_was_said(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.get_by_label("Off").check()
    visit.ask("Where is the cat?")
    visit.expect("✗ English, French was chosen")
    visit.page.locator("#chat").get_by_role("button", name="Copy").last.click()

    # Gradio's own copy comes first, with the marks.
    read = "navigator.clipboard.readText()"
    wait_until(lambda: visit.page.evaluate(read) == ENGLISH)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(scheme: str, browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    visit = Visit(context.new_page())
    visit.open(url)
    visit.page.get_by_role("button", name="Advanced").click()
    visit.page.get_by_label("Off").check()
    visit.ask("Where_is_the_cat_" * 8)
    visit.expect("✗ English, French was chosen")

    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert visit.page.locator("mark.stray").count() == 2
    for badge in visit.page.locator(".badge, mark.stray, .why").all():
        assert contrast(badge) >= 4.5
    context.close()
    assert visit.complaints == []
