"""Tests of `/compare`: what a program may give."""

from typing import Any

import gradio as gr
import pytest

from steering.ui.asking import Chat
from steering.ui.compare.tab import make_compare_endpoint
from tests.ui.scripted import ScriptedEngine


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"message": 5}, "'message' is '5'. Expected a text"),
        ({"message": ["Hi"]}, "'message' is '['Hi']'. Expected a text"),
        ({"message": "a" * 100_000}, "The message has '100,000' characters"),
        ({"guard": "no"}, "'guard' is 'no'. Expected true or false"),
        ({"temperature": "hot"}, "'temperature' is 'hot'. Expected a number"),
        ({"temperature": True}, "'temperature' is 'True'. Expected a number"),
        ({"seed": None}, "'seed' is 'None'. Expected a whole number"),
        ({"seed": 1.5}, "'seed' is '1.5'. Expected a whole number"),
        ({"seed": 10**40}, "Expected -9223372036854775808 to"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(
    given: dict[str, Any], expected: str, chat: Chat, engine: ScriptedEngine
) -> None:
    asked = {"message": "Where is the cat?", "language": "fr", **given}

    with pytest.raises(gr.Error) as caught:
        list(make_compare_endpoint(chat)(**asked))

    assert expected in str(caught.value.message)
    assert engine.requests == []
