"""Tests of what the page does with a turn, without a browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import pytest

from steering.errors import ModelLoadError, NeuronSetMismatchError
from steering.languages import LANGUAGES
from steering.ui.chat import Chat, Wish
from steering.ui.layout import LOADING, Parts, language_choices, lay_out
from steering.ui.messages import show_answer, show_question, to_plain
from steering.ui.turns import Turns, Updates, errors_in_words
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

FR = Wish(LANGUAGES["fr"], "normal")
QUESTION = show_question("Where is the cat?")


@pytest.fixture
def parts(chat: Chat) -> Parts:
    with gr.Blocks():
        return lay_out(chat.neurons.languages, "bundled")


@pytest.fixture
def turns(parts: Parts, chat: Chat) -> Turns:
    return Turns(parts, chat)


def write_all(turns: Turns, parts: Parts, message: str, wish: Wish) -> Updates:
    question = show_question(message)
    return list(turns.write([question], [question] if wish.has_twin else [], wish, "a turn"))[-1]


def test_a_message_becomes_the_question_and_the_box_is_empty(turns: Turns, parts: Parts) -> None:
    updates = turns.begin("Where is the cat?", [], [], "fr", "normal", False, True)

    assert updates[parts.box] == ""
    assert updates[parts.chat] == [QUESTION]
    assert updates[parts.twin] == []
    assert updates[parts.wish] == FR
    assert updates[parts.turn]


def test_a_twin_gets_the_question_as_well(turns: Turns, parts: Parts) -> None:
    updates = turns.begin("Where is the cat?", [], [], "fr", "normal", True, True)

    assert updates[parts.twin] == [QUESTION]


def test_an_answer_is_written_under_its_question(turns: Turns, parts: Parts) -> None:
    *earlier, last = turns.write([QUESTION], [], FR, "a turn")

    assert all("Writing" in str(updates[parts.chat][-1]) for updates in earlier)
    assert to_plain(last[parts.chat])[-1].content == FRENCH
    assert "✓ French, as chosen" in str(last[parts.chat][-1])
    assert parts.twin not in last


def test_a_twin_is_judged_by_the_same_language(turns: Turns, parts: Parts) -> None:
    last = write_all(turns, parts, "Where?", replace(FR, has_twin=True))

    assert to_plain(last[parts.twin])[-1].content == ENGLISH
    assert "✗ English, French was chosen" in str(last[parts.twin][-1])


def test_what_was_left_out_of_the_prompt_is_said(turns: Turns, parts: Parts) -> None:
    last = write_all(turns, parts, "a long one", FR)

    assert "2 messages were left out" in str(last[parts.chat][-1])


def test_an_unexpected_error_is_one_plain_sentence_and_a_traceback_in_the_log(
    turns: Turns, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    last = write_all(turns, parts, "fail", FR)

    assert "Something went wrong" in str(last[parts.chat][-1])
    assert "secret" not in str(last[parts.chat])
    assert "a secret of the program" in caplog.text
    assert "Traceback" in caplog.text


def test_a_model_that_does_not_load_is_said_where_the_answer_would_be(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    engine = ScriptedEngine(error=NeuronSetMismatchError("made for 'A', but loaded is '<B>'."))

    last = write_all(Turns(parts, make_chat(engine)), parts, "Where?", FR)

    assert "made for &#x27;A&#x27;, but loaded is &#x27;&lt;B&gt;&#x27;." in str(last[parts.chat])


def test_after_a_failure_the_next_question_stands_alone(
    turns: Turns, parts: Parts, engine: ScriptedEngine
) -> None:
    failed = write_all(turns, parts, "fail", FR)[parts.chat]
    list(turns.write([*failed, QUESTION], [], FR, "another turn"))

    assert [m.content for m in engine.requests[-1].conversations[0]] == ["Where is the cat?"]


@pytest.mark.parametrize(("message", "turn"), [("", ""), (" \n", ""), ("Hi", "a turn")])
def test_an_empty_message_and_one_too_many_are_refused(
    message: str, turn: str, turns: Turns
) -> None:
    expected = "being written" if turn else "empty"
    with pytest.raises(gr.Error, match=expected):
        turns.check_message(message, turn)


def test_a_good_message_passes(turns: Turns) -> None:
    turns.check_message("Hi", "")
    turns.check_question([QUESTION], "")


def test_without_a_question_nothing_is_asked_again(turns: Turns) -> None:
    with pytest.raises(gr.Error, match="no question"):
        turns.check_question([], "")


@pytest.mark.parametrize(
    ("last", "attempt"),
    [(FR, 1), (replace(FR, attempt=4), 5), (replace(FR, level="strong"), 0), (None, 0)],
)
def test_asking_again_draws_another_answer_only_if_nothing_else_changed(
    last: Wish | None, attempt: int, turns: Turns, parts: Parts
) -> None:
    history = [QUESTION, show_answer(FRENCH, "")]

    updates = turns.begin_again(history, [], "fr", "normal", False, True, last)

    assert updates[parts.chat] == [QUESTION]
    assert updates[parts.wish] == replace(FR, attempt=attempt)


def test_asking_again_replaces_the_twin_of_the_last_turn_alone(turns: Turns, parts: Parts) -> None:
    history = [QUESTION, show_answer(FRENCH, "")]
    with_twin = replace(FR, has_twin=True)

    replaced = turns.begin_again(history, history, "fr", "normal", True, True, with_twin)
    kept = turns.begin_again(history, history, "fr", "normal", False, True, FR)

    assert replaced[parts.twin] == [QUESTION]
    assert kept[parts.twin] == history


def test_stop_ends_the_turn_which_marks_its_answers(turns: Turns, parts: Parts) -> None:
    question = show_question("forever")
    wish = replace(FR, has_twin=True)
    written = turns.write([question], [question], wish, "a turn")
    next(written)
    assert turns.stop("a turn")[parts.stop].interactive is False
    last = list(written)[-1]

    assert to_plain(last[parts.chat])[-1].content.startswith("Le")
    assert to_plain(last[parts.twin])[-1].content.startswith("The")
    assert "(stopped)" in str(last[parts.chat][-1])
    assert "(stopped)" in str(last[parts.twin][-1])


def test_stop_before_the_first_word_leaves_a_mark(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    turns = Turns(parts, make_chat(ScriptedEngine(is_ready=False)))
    turns.stop("a turn")
    (last,) = turns.write([QUESTION], [], FR, "a turn")

    assert "(stopped)" in str(last[parts.chat][-1])
    assert len(to_plain(last[parts.chat])) == 1


def test_a_stop_is_for_one_turn_alone(turns: Turns, parts: Parts) -> None:
    turns.stop("another turn")

    last = list(turns.write([QUESTION], [], FR, "a turn"))[-1]

    assert "(stopped)" not in str(last[parts.chat])


def test_a_stop_that_comes_too_late_leaves_nothing_behind(turns: Turns, parts: Parts) -> None:
    turns.stop("a turn")
    turns.settle("a turn")

    last = list(turns.write([QUESTION], [], FR, "a turn"))[-1]

    assert "(stopped)" not in str(last[parts.chat])


def test_a_new_chat_forgets_everything(turns: Turns, parts: Parts) -> None:
    updates = turns.begin_anew("")

    assert updates[parts.chat] == updates[parts.twin] == []
    assert updates[parts.wish] is None


def test_the_last_word_of_a_turn_that_a_new_chat_ends_is_nothing(
    turns: Turns, parts: Parts
) -> None:
    written = turns.write([show_question("forever")], [], FR, "a turn")
    next(written)
    turns.begin_anew("a turn")

    assert list(written)[-1] == {parts.chat: [], parts.twin: []}


def test_the_page_says_what_it_waits_for_until_the_model_is_there(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    engine = ScriptedEngine(is_ready=False)
    turns = Turns(parts, make_chat(engine))

    waiting = turns.look_at_model()
    engine.finish_loading()
    ready = turns.look_at_model()

    assert LOADING in waiting[parts.status]
    assert parts.timer not in waiting
    assert "ready" in ready[parts.status]
    assert ready[parts.timer].active is False


def test_the_page_says_why_the_model_is_not_there(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    engine = ScriptedEngine(error=ModelLoadError("the folder '<x>' lacks weights."))

    status = Turns(parts, make_chat(engine)).look_at_model()[parts.status]

    assert "lacks weights" in status
    assert "<x>" not in status


def test_an_error_on_the_page_is_escaped_and_one_of_the_api_is_not() -> None:
    for is_page, expected in ((True, "'&lt;b>'"), (False, "'<b>'")):
        with pytest.raises(gr.Error) as caught, errors_in_words(is_page=is_page):
            raise ModelLoadError("'<b>'")
        assert caught.value.message.replace("&gt;", ">") == expected


def test_languages_have_both_names_and_stand_in_the_order_of_the_english_ones() -> None:
    codes = ("zh", "fr", "en")

    assert language_choices([LANGUAGES[code] for code in codes]) == [
        ("中文 (Chinese)", "zh"),
        ("English", "en"),
        ("français (French)", "fr"),
        ("No forced language", "none"),
    ]
