"""Tests of the chat as a file: what is in it, and which answer has which settings."""

from __future__ import annotations

import json

from steering.ui.chat.messages import Stray, show_answer, show_question, show_rewrites
from steering.ui.chat.transcript import records_of, to_json, to_markdown

HISTORY = [
    show_question("Where is <b>it</b>?"),
    show_rewrites("1 passage", [Stray("The cat.", "English")]),
    show_answer("Le chat. The dog.", "badge", [Stray("The dog.", "English")]),
    show_question("And the dog?"),
    show_answer("Là.", "badge"),
]
RECORDS = [{"seed": 1, "rewritten": []}, {"seed": 2, "rewritten": []}]


def test_json_has_what_was_said_and_the_settings_of_each_answer() -> None:
    read = json.loads(to_json(HISTORY, RECORDS))

    assert read["messages"] == [
        {"role": "user", "content": "Where is <b>it</b>?"},
        {"role": "assistant", "content": "Le chat. The dog.", "made_with": RECORDS[0]},
        {"role": "user", "content": "And the dog?"},
        {"role": "assistant", "content": "Là.", "made_with": RECORDS[1]},
    ]


def test_markdown_has_them_in_the_same_order() -> None:
    lines = [line for line in to_markdown(HISTORY, RECORDS).splitlines() if line]

    assert lines == [
        "# Langsteer",
        "## Question",
        "Where is <b>it</b>?",
        "## Answer",
        "Le chat. The dog.",
        "*seed: 1*",
        "## Question",
        "And the dog?",
        "## Answer",
        "Là.",
        "*seed: 2*",
    ]


def test_a_shorter_history_has_fewer_records() -> None:
    assert records_of(HISTORY, RECORDS) == RECORDS
    assert records_of(HISTORY[:4], RECORDS) == RECORDS[:1]
    assert records_of([], RECORDS) == []
