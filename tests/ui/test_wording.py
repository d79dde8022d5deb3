"""Tests of what a person is told of an error, and in which language."""

from __future__ import annotations

import gradio as gr
import pytest

from steering.errors import (
    EngineClosedError,
    GenerationError,
    OutOfMemoryError,
    QueueFullError,
)
from steering.ui.chat.turns import MAX_LETTERS, check_text
from steering.ui.strings import LOCALES, say
from steering.ui.wording import (
    Refusal,
    errors_for_programs,
    errors_in_words,
    failure_html,
    saying,
    tell,
    trouble,
)
from tests.toy import FR, JA

OTHERS = [locale for locale in LOCALES if locale != "en"]


@pytest.mark.parametrize("locale", LOCALES)
def test_what_the_page_refuses_is_in_the_readers_language_alone(locale: str) -> None:
    with pytest.raises(Refusal) as caught:
        check_text("a" * (MAX_LETTERS + 1))

    told = tell("failed_ask", caught.value, locale)

    assert told.said == say("message_long", locale, count="20,001", most="20,000")
    assert told.english == ""
    assert str(caught.value).startswith("The message has '20,001' characters.")


@pytest.mark.parametrize("locale", OTHERS)
def test_what_the_library_says_is_english_behind_what_failed(locale: str) -> None:
    told = tell("failed_answer", GenerationError("It is '<too>' long."), locale)

    assert told.said == say("failed_answer", locale)
    assert told.html.endswith('<span lang="en" dir="ltr">It is \'&lt;too&gt;\' long.</span>')


def test_an_english_reader_gets_the_librarys_words_alone() -> None:
    assert tell("failed_answer", GenerationError("Too long."), "en").html == "Too long."


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (QueueFullError("'32' people are waiting already."), "queue_full"),
        (OutOfMemoryError("The model ran out of memory on '4' answers."), "out_of_memory"),
        (EngineClosedError("The program ends before your turn came."), "server_closing"),
    ],
)
def test_a_full_queue_and_an_ending_server_are_told_in_the_readers_language(
    error: GenerationError, key: str
) -> None:
    assert str(tell("failed_answer", error, "en")) == str(error)
    for locale in OTHERS:
        assert str(tell("failed_answer", error, locale)) == say(key, locale)


def test_an_unexpected_error_is_logged_once_however_many_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = trouble("failed_making", RuntimeError("a secret of the program"))

    assert [str(words(locale)) for locale in LOCALES] == [
        say("went_wrong", locale) for locale in LOCALES
    ]
    assert len(caplog.records) == 1
    assert "a secret of the program" in caplog.text


def test_an_error_on_the_page_has_language_and_direction_one_of_the_api_is_plain() -> None:
    with pytest.raises(gr.Error) as on_page, errors_in_words("failed_ask", "ar"):
        raise Refusal("message_empty")
    with pytest.raises(gr.Error) as of_api, errors_for_programs():
        raise Refusal("message_empty")

    assert on_page.value.message == f'<div lang="ar" dir="rtl">{say("message_empty", "ar")}</div>'
    assert of_api.value.message == "The message is empty. Expected some text; write it first."


def test_a_text_for_everybody_names_languages_in_each_readers_way() -> None:
    words = saying("making_recording", language=FR)

    assert "writes French" in str(words("en"))
    assert "écrit en français" in str(words("fr"))
    assert JA.native_name in str(saying("making_recording", language=JA)("es"))


def test_a_failure_stands_where_a_badge_would_in_its_own_direction() -> None:
    html = failure_html(tell("failed_answer", GenerationError("No."), "ar"), "ar")

    assert html.startswith('<span class="badge badge-bad" lang="ar" dir="rtl">✗ ')
    assert html.endswith('<span lang="en" dir="ltr">No.</span></span>')
