"""Tests of a question that is asked again: when another answer is drawn, and after a reload."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from steering.languages import LANGUAGES
from steering.ui.asking import Wish
from steering.ui.chat.layout import Parts
from steering.ui.chat.messages import show_answer
from steering.ui.chat.transcript import Record, keep
from steering.ui.chat.turns import Turns
from tests.ui.chat.test_turns import FR, QUESTION, values_of, write_all
from tests.ui.scripted import FRENCH


@pytest.mark.parametrize(
    ("last", "attempt"),
    [
        (FR, 1),
        (replace(FR, attempt=4), 5),
        (replace(FR, max_new_tokens=None), 1),  # as long as any may be, which is 40
        (replace(FR, method="diffmean"), 0),
        (replace(FR, level="strong"), 0),
        (replace(FR, seed=1), 0),
        (replace(FR, temperature=0.7), 0),
        (replace(FR, is_damped=True), 0),
        (replace(FR, has_guard=False), 0),
        (Wish(LANGUAGES["ja"]), 0),
    ],
)
def test_asking_again_draws_another_answer_only_if_nothing_else_changed(
    last: Wish, attempt: int, turns: Turns, parts: Parts
) -> None:
    """Also where the last wish is known by what the browser kept, which passes through JSON."""
    (record,) = write_all(turns, parts, "Where is the cat?", last)[parts.records]
    history = [QUESTION, show_answer(FRENCH, "")]
    kept = json.loads(json.dumps(keep(history, [record])))
    restored = turns.restore(kept)

    updates = turns.begin_again(
        values_of(parts, *restored[parts.chat], records=restored[parts.records])
    )

    assert updates[parts.chat] == [QUESTION]
    assert updates[parts.records] == []
    assert updates[parts.wish] == replace(FR, attempt=attempt)


def test_asking_again_looks_at_the_last_answer_alone(turns: Turns, parts: Parts) -> None:
    asked = [
        write_all(turns, parts, "Where?", wish)[parts.records][0]
        for wish in (replace(FR, attempt=6), replace(FR, attempt=2))
    ]
    history = [QUESTION, show_answer(FRENCH, ""), QUESTION, show_answer(FRENCH, "")]

    updates = turns.begin_again(values_of(parts, *history, records=asked))

    assert updates[parts.wish].attempt == 3
    assert updates[parts.records] == asked[:1]


@pytest.mark.parametrize("change", [{"attempt": "1"}, {"attempt": -1}, {"seed": None}])
def test_asking_again_draws_the_first_answer_where_the_record_makes_no_sense(
    change: Record, turns: Turns, parts: Parts
) -> None:
    (record,) = write_all(turns, parts, "Where?", FR)[parts.records]
    history = [QUESTION, show_answer(FRENCH, "")]

    for broken in ({}, {**record, **change}):
        updates = turns.begin_again(values_of(parts, *history, records=[broken]))
        assert updates[parts.wish] == FR


def test_a_record_of_before_draws_were_counted_is_one_of_the_first(
    turns: Turns, parts: Parts
) -> None:
    (record,) = write_all(turns, parts, "Where?", FR)[parts.records]
    del record["attempt"]
    history = [QUESTION, show_answer(FRENCH, "")]

    updates = turns.begin_again(values_of(parts, *history, records=[record]))

    assert updates[parts.wish].attempt == 1
