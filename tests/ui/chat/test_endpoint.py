"""Tests of what the endpoint `/chat` asks of the engine, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from steering.conversation import Message
from steering.languages import LANGUAGES
from steering.ui.asking import Chat, Wish
from steering.ui.chat.endpoint import make_endpoint
from tests.ui.scripted import FRENCH, ScriptedEngine

QUESTION = "Where is the cat?"


def test_a_program_may_choose_everything_that_a_person_may(
    chat: Chat, engine: ScriptedEngine
) -> None:
    wish = Wish(LANGUAGES["ja"], "strong", "diffmean", True, False, 7, 0.5, 3)

    list(make_endpoint(chat)(QUESTION, "ja", "strong", False, "diffmean", True, 7, 0.5, 3))
    list(chat.answer([Message("user", QUESTION)], wish))

    asked, as_on_page = engine.requests
    assert asked == as_on_page
    assert asked.sampling == wish.sampling(40)


def test_the_four_first_are_enough_and_the_rest_is_as_usual(
    chat: Chat, engine: ScriptedEngine
) -> None:
    *_, last = make_endpoint(chat)(QUESTION, "fr", "gentle", True)
    list(chat.answer([Message("user", QUESTION)], Wish(LANGUAGES["fr"], "gentle")))

    asked, as_on_page = engine.requests
    assert last == FRENCH
    assert (asked.plans, asked.sampling) == (as_on_page.plans, as_on_page.sampling)
    assert asked.guards[0] is not None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"message": 5}, "'message' is '5'. Expected a text"),
        ({"method": None}, "'method' is 'None'. Expected a text"),
        ({"method": "magic"}, "Unknown steering method 'magic'"),
        ({"guard": "false"}, "'guard' is 'false'. Expected true or false"),
        ({"damping": 1}, "'damping' is '1'. Expected true or false"),
        ({"length": 1.5}, "'length' is '1.5'. Expected a whole number"),
        ({"length": True}, "'length' is 'True'. Expected a whole number"),
        ({"length": -1}, "'max_new_tokens' is '-1'. Expected at least 1"),
        ({"creativity": "hot"}, "'creativity' is 'hot'. Expected a number"),
        ({"creativity": 9}, "'temperature' is '9'. Expected between 0 and 5"),
        ({"creativity": float("nan")}, "'temperature' is 'nan'. Expected between 0 and 5"),
        ({"seed": "x"}, "'seed' is 'x'. Expected a whole number"),
        ({"seed": 10**40}, f"'seed' is '1{29 * '0'}'. Expected -9223372036854775808 to "),
        ({"message": "a" * 100_000}, "The message has '100,000' characters"),
        ({"message": " "}, "The message is empty."),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(
    given: dict[str, Any], expected: str, chat: Chat, engine: ScriptedEngine
) -> None:
    asked = {"message": QUESTION, **given}

    with pytest.raises(gr.Error) as caught:
        list(make_endpoint(chat)(**asked))

    assert str(caught.value.message).startswith(expected)
    assert engine.requests == []


def test_a_length_beyond_the_servers_is_the_servers(chat: Chat, engine: ScriptedEngine) -> None:
    list(make_endpoint(replace(chat, max_new_tokens=30))(QUESTION, length=1000))

    assert engine.requests[-1].sampling.max_new_tokens == 30
