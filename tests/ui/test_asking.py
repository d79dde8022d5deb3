"""Tests of one turn: what is asked of the engine, and how often the page is told."""

import itertools
from dataclasses import replace

import pytest
import torch

from steering.conversation import Message
from steering.errors import PlanError, SteeringError, UnknownLanguageError
from steering.generation import ReplyUpdate
from steering.languages import LANGUAGES
from steering.steering_plan import NO_STEERING
from steering.ui.asking import Chat, Wish, notes_on
from steering.ui.strings import Told, say
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

FR = Wish(LANGUAGES["fr"], "normal")
QUESTION = [Message("user", "Where is the cat?")]


def last_of(chat: Chat, wish: Wish) -> ReplyUpdate:
    return list(chat.answer(QUESTION, wish))[-1]


def test_a_chosen_language_is_steered_to(chat: Chat) -> None:
    assert last_of(chat, FR).texts == (FRENCH,)


@pytest.mark.parametrize("wish", [Wish(None, "normal"), replace(FR, level="off")])
def test_no_language_and_no_steering_leave_the_model_alone(
    wish: Wish, chat: Chat, engine: ScriptedEngine
) -> None:
    assert last_of(chat, wish).texts == (ENGLISH,)
    assert engine.requests[0].plans == (NO_STEERING,)


def test_a_stronger_level_edits_more(chat: Chat, engine: ScriptedEngine) -> None:
    for level in ("gentle", "strong"):
        last_of(chat, replace(FR, level=level, method="lape"))
    gentle, strong = (
        sum(float(edit.shift.abs().sum()) for edit in request.plans[0].edits.values())
        for request in engine.requests
    )

    assert 0 < gentle < strong


def test_the_questions_language_is_detected_for_the_plan(
    chat: Chat, engine: ScriptedEngine
) -> None:
    neurons = chat.neurons
    metadata = neurons.metadata.model_copy(update={"steering_method": "redirect@1"})
    redirecting = replace(chat, neurons=replace(neurons, metadata=metadata))

    for text in ("Where is the cat?", "Où est le chat ?", "7 + 6"):
        list(redirecting.answer([Message("user", text)], FR))

    shifts = [
        torch.cat([edit.shift for edit in request.plans[0].edits.values()])
        for request in engine.requests
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(shifts, 2))


def test_only_another_attempt_draws(chat: Chat, engine: ScriptedEngine) -> None:
    for attempt in (0, 1, 2):
        last_of(chat, replace(FR, attempt=attempt))
    samplings = [request.sampling for request in engine.requests]

    assert [sampling.temperature > 0 for sampling in samplings] == [False, True, True]
    assert len({sampling.seed for sampling in samplings}) == 3
    assert {sampling.max_new_tokens for sampling in samplings} == {40}


def test_the_page_asks_to_be_told_at_most_ten_times_a_second(
    chat: Chat, engine: ScriptedEngine
) -> None:
    list(chat.answer(QUESTION, FR))

    assert engine.paces == [0.1]


def test_closing_an_answer_stops_the_engine(chat: Chat, engine: ScriptedEngine) -> None:
    answer = chat.answer([Message("user", "forever")], FR)
    next(answer)
    assert engine.running == 1
    answer.close()  # type: ignore[attr-defined]  # a generator, seen as an iterator

    assert engine.running == 0


def test_a_stopped_answer_keeps_its_text_and_says_so(chat: Chat, engine: ScriptedEngine) -> None:
    updates = []
    for update in chat.answer([Message("user", "forever")], FR, is_stopped=lambda: bool(updates)):
        updates.append(update)

    assert updates[-1].finish_reasons == ("stopped",)
    assert updates[-1].texts[0].startswith("Le")
    assert engine.running == 0


@pytest.mark.parametrize("text", ["none", "", " None "])
def test_none_is_no_language(text: str, chat: Chat) -> None:
    assert chat.read_wish(text, "Strong") == Wish(None, "strong")


def test_a_language_may_have_a_region(chat: Chat) -> None:
    assert chat.read_wish("fr-CA", "normal", Wish(None, seed=3)) == replace(FR, seed=3)


def test_an_unknown_language_is_refused_with_the_nearest(chat: Chat) -> None:
    with pytest.raises(UnknownLanguageError, match="Did you mean 'ja'"):
        chat.read_wish("jp", "normal")


def test_an_unknown_level_is_refused_with_the_nearest(chat: Chat) -> None:
    with pytest.raises(PlanError, match=r"'storng'\. Did you mean 'strong'\?"):
        chat.read_wish("fr", "storng")


def test_a_row_tells_how_it_ended_and_what_was_left_out() -> None:
    update = ReplyUpdate(("a", "b", "c"), ("stopped", "length", "end"), ("left out", "", ""), 3)

    assert list(map(str, notes_on(update, 0))) == ["(stopped)", "left out"]
    assert list(map(str, notes_on(update, 1))) == ["(cut off: as long as an answer may be)"]
    assert notes_on(update, 0, "ja")[1] == Told(say("left_out", "ja"), "left out")
    assert notes_on(update, 2) == ()


def test_an_empty_answer_has_no_badge(chat: Chat) -> None:
    assert "badge" not in chat.line_under("", FR, ["(stopped)"])


def test_damping_adds_to_the_method_and_a_method_replaces_it(
    chat: Chat, engine: ScriptedEngine
) -> None:
    for wish in (FR, replace(FR, is_damped=True), replace(FR, method="tokens")):
        last_of(chat, wish)
    own, damped, tokens = (request.plans[0] for request in engine.requests)

    assert any((edit.scale < 1).any() for edit in damped.edits.values())
    assert not any((edit.scale < 1).any() for edit in own.edits.values())
    assert not tokens.edits
    assert tokens.token_bias is not None


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(None, method="magic"), "Unknown steering method 'magic'"),
        (Wish(None, temperature=-1), "'temperature' is '-1'"),
        (Wish(None, max_new_tokens=-1), "'max_new_tokens' is '-1'"),
    ],
)
def test_what_cannot_be_is_refused(wish: Wish, expected: str, chat: Chat) -> None:
    with pytest.raises(SteeringError, match=expected):
        chat.read_wish("fr", "normal", wish)


def test_nobody_gets_a_longer_answer_than_any_may_be(chat: Chat, engine: ScriptedEngine) -> None:
    for length in (7, 4000):
        last_of(chat, replace(FR, max_new_tokens=length))

    assert [request.sampling.max_new_tokens for request in engine.requests] == [7, 40]
