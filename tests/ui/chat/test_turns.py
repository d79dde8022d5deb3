"""Tests of what the page does with a turn, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from steering.errors import ModelLoadError, NeuronSetMismatchError
from steering.generation import ReplyUpdate
from steering.guard import Rewrite
from steering.languages import LANGUAGES
from steering.neuron_set import OtherWeights
from steering.ui.asking import Chat, Wish
from steering.ui.chat.layout import Parts
from steering.ui.chat.messages import (
    ShownMessage,
    show_answer,
    show_question,
    show_written,
    to_plain,
)
from steering.ui.chat.transcript import Record, keep
from steering.ui.chat.turns import MAX_LETTERS, Turns
from steering.ui.choices import language_choices
from steering.ui.events import Updates
from steering.ui.strings import label, say
from steering.ui.wording import errors_for_programs, errors_in_words
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

FR = Wish(LANGUAGES["fr"], max_new_tokens=40)
QUESTION = show_question("Where is the cat?")


def values_of(
    parts: Parts,
    *history: ShownMessage,
    box: str = "",
    records: Sequence[Record] = (),
    **chosen: object,
) -> dict[Any, Any]:
    """The values that the page sends: the choices' own, unless chosen otherwise, and the chat."""
    values = {c: chosen.get(name, c.value) for name, c in parts.choices.named()}
    values[parts.choices.language] = chosen.get("language", "fr")
    return values | {
        parts.box: box, parts.chat: list(history), parts.records: list(records),
        parts.turn: chosen.get("turn", ""), parts.edited: chosen.get("edited"),
    }  # fmt: skip


def write_all(turns: Turns, parts: Parts, message: str, wish: Wish) -> Updates:
    return list(turns.write([show_question(message)], [], wish, "a turn"))[-1]


def test_a_message_becomes_the_question_and_the_box_is_empty(turns: Turns, parts: Parts) -> None:
    updates = turns.begin(values_of(parts, box="Where is the cat?"))

    assert updates[parts.box] == ""
    assert updates[parts.chat] == [QUESTION]
    assert updates[parts.wish] == FR
    assert updates[parts.turn]
    assert updates[parts.kept]["history"] == [QUESTION]


def test_every_choice_is_in_the_wish(turns: Turns, parts: Parts) -> None:
    values = values_of(
        parts, box="Hi", language="ja", level="strong", method="diffmean", is_damped=True,
        has_guard=False, max_new_tokens=7, temperature=0.5, seed=3,
    )  # fmt: skip
    wish = Wish(LANGUAGES["ja"], "strong", "diffmean", True, False, 7, 0.5, 3)

    assert turns.begin(values)[parts.wish] == wish


def test_a_method_that_there_is_not_is_refused(turns: Turns, parts: Parts) -> None:
    with pytest.raises(gr.Error, match="Unknown steering method"):
        turns.begin(values_of(parts, box="Hi", method="magic"))


def test_an_answer_is_written_under_its_question(turns: Turns, parts: Parts) -> None:
    *earlier, last = turns.write([QUESTION], [], FR, "a turn")

    assert all("Writing" in str(updates[parts.chat][-1]) for updates in earlier)
    assert to_plain(last[parts.chat])[-1].content == FRENCH
    assert "✓ French, as chosen" in str(last[parts.chat][-1])
    assert "options" not in last[parts.chat][-1]


def test_what_is_said_of_an_answer_is_in_the_readers_language(turns: Turns, parts: Parts) -> None:
    request = SimpleNamespace(headers={"accept-language": "es-MX,fr;q=0.1"})

    last = list(turns.write([QUESTION], [], FR, "a turn", request))[-1]  # type: ignore[arg-type]

    assert "✓ français, como se eligió" in str(last[parts.chat][-1])


def test_a_sentence_in_another_language_is_marked_and_a_stronger_level_offered(
    turns: Turns, parts: Parts
) -> None:
    english = replace(FR, level="off")

    shown = write_all(turns, parts, "Where?", english)[parts.chat]

    marked = shown[-1]["content"][0]["text"]
    assert marked.count('<mark class="stray">') == 2  # ENGLISH has two sentences
    assert marked.count("✗ English</span>") == 2
    assert to_plain(shown)[-1].content == ENGLISH
    assert shown[-1]["options"] == [{"value": "gentle", "label": "Try stronger"}]
    chosen: Any = SimpleNamespace(value=shown[-1]["options"][0]["value"])
    assert turns.choose_stronger(chosen) == {parts.choices.level: "gentle"}


def test_beyond_strong_nothing_is_offered(turns: Turns, parts: Parts) -> None:
    japanese = Wish(LANGUAGES["ja"], "strong")  # the script answers in French

    (*_, shown) = write_all(turns, parts, "Where?", japanese)[parts.chat]

    assert "<mark" in shown["content"][0]["text"]
    assert "options" not in shown


def test_a_passage_that_was_written_again_can_be_unfolded(
    turns: Turns, parts: Parts, engine: ScriptedEngine
) -> None:
    engine.rewrites = (Rewrite(0, "The <cat>.", LANGUAGES["en"], 3, 1),)

    history = write_all(turns, parts, "Where?", FR)[parts.chat]

    assert history[1]["metadata"]["title"] == "Show what was written again"
    assert "✗ English: The <\u200bcat>." in history[1]["content"][0]["text"]
    assert [message.content for message in to_plain(history)] == ["Where?", FRENCH]


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en", "The guard gave up: the model kept writing English."),
        ("fr", "Le garde a renoncé : le modèle continuait d’écrire dans cette langue : English."),
    ],
)
def test_a_guard_that_gave_up_says_so_and_nothing_of_having_mended_it(
    turns: Turns, parts: Parts, engine: ScriptedEngine, locale: str, said: str
) -> None:
    in_vain = [Rewrite(0, "The cat.", LANGUAGES["en"], 3, attempt) for attempt in (1, 2)]
    engine.rewrites = (*in_vain, Rewrite(0, "The cat.", LANGUAGES["en"], 3, 3, is_kept=True))

    asked: Any = SimpleNamespace(headers={"accept-language": locale})
    *_, last = turns.write([show_question("Where?")], [], FR, "a turn", asked)

    line = last[parts.chat][-1]["content"][1]["text"]
    assert said in line
    assert "written again" not in line
    assert last[parts.records][0]["guard_gave_up"] is True


def test_what_is_not_settled_is_dimmed(turns: Turns, parts: Parts) -> None:
    updates = list(turns.write([show_question("Where?")], [], FR, "a turn"))

    written = [one[parts.chat][-1]["content"][0]["text"] for one in updates]
    assert '<span class="unsettled">Le chat dort sur</span>' in written
    assert any(
        text.startswith(f"{FRENCH.split('.')[0]}. <span")
        or text.startswith(f"{FRENCH.split('.')[0]}.<span")
        for text in written
    )
    assert written[-1] == FRENCH
    plain = [to_plain([one[parts.chat][-1]])[0].content for one in updates if "Le" in str(one)]
    assert all(FRENCH.startswith(text) for text in plain)


def test_a_passage_that_is_written_again_is_told_of_meanwhile(
    turns: Turns, parts: Parts, engine: ScriptedEngine
) -> None:
    again = Rewrite(0, "The cat.", LANGUAGES["en"], 3, 1)

    def lines(text: str, settled: int) -> str:
        update = ReplyUpdate(
            (text,), (None,), ("",), 3, (5,), ((again,),), settled=(settled,), row_tokens=(3,)
        )
        engine.stream = lambda *_args, **_kwargs: (one for one in [update])  # type: ignore[method-assign]
        (shown,) = turns.write([show_question("Where?")], [], FR, "a turn")
        return str(shown[parts.chat][-1]["content"][1]["text"])

    assert "Writing a passage again …" in lines("Le ch", 0)
    assert "Writing …" in lines("Le chat dort", 12)


def test_an_answer_has_a_record_of_what_it_was_made_with(turns: Turns, parts: Parts) -> None:
    wish = replace(FR, level="strong", temperature=0.5, seed=9)

    (record,) = write_all(turns, parts, "Where?", wish)[parts.records]

    assert record["language"] == "fr"
    assert (record["steering"], record["strength"]) == ("strong", 1.4)
    assert (record["temperature"], record["seed"], record["max_new_tokens"]) == (0.5, 9, 40)
    assert re.fullmatch("[0-9a-f]{64}", record["neuron_set_sha256"])
    assert (record["tokens"], record["ended"]) == (len(FRENCH.split()), "end")


def test_a_question_in_other_words_drops_what_followed_it(turns: Turns, parts: Parts) -> None:
    history = [QUESTION, show_answer(FRENCH, ""), QUESTION, show_answer(FRENCH, "")]
    event: Any = SimpleNamespace(index=2, value="Where is the dog?")
    values = values_of(parts, *history, records=[{}, {}])

    values[parts.edited] = turns.check_edit(values, event)
    updates = turns.begin_edited(values)

    assert updates[parts.chat] == [*history[:2], show_question("Where is the dog?")]
    assert len(updates[parts.records]) == 1


@pytest.mark.parametrize(
    ("words", "chosen", "expected"),
    [
        (" ", {}, "empty"),
        ("x" * (MAX_LETTERS + 1), {}, "at most 20,000"),
        ("Hi", {"turn": "a turn"}, "being written"),
        ("Hi", {"method": "magic"}, "Unknown steering method"),
    ],
)
def test_other_words_that_cannot_be_asked_are_refused(
    words: str, chosen: dict[str, str], expected: str, turns: Turns, parts: Parts
) -> None:
    event: Any = SimpleNamespace(index=0, value=words)

    with pytest.raises(gr.Error, match=expected):
        turns.check_edit(values_of(parts, QUESTION, **chosen), event)


def test_a_new_chat_behind_the_last_word_of_an_answer_is_forgotten_too(
    turns: Turns, parts: Parts
) -> None:
    turns.begin_anew("a turn")

    updates = turns.settle([QUESTION, show_answer(FRENCH, "")], [{"seed": 1}], "a turn")

    assert (updates[parts.chat], updates[parts.records]) == ([], [])
    assert updates[parts.kept] == keep([], [])


def test_a_question_whose_answer_never_came_says_so(turns: Turns, parts: Parts) -> None:
    for updates in (
        turns.settle([QUESTION], [], "a turn"),
        turns.restore(keep([QUESTION], [])),
    ):
        question, ended = updates[parts.chat]
        assert question == QUESTION
        assert "✗ No answer came" in str(ended)
        assert updates[parts.records] == [{}]


def test_an_answer_that_was_broken_off_says_so_and_keeps_its_words(
    turns: Turns, parts: Parts
) -> None:
    written = list(turns.write([QUESTION], [], FR, "a turn"))[2][parts.chat]
    said = to_plain(written)
    for updates in (
        turns.settle(written, [], "a turn"),
        turns.restore(keep(written, [])),
    ):
        assert "✗ Broken off" in str(updates[parts.chat][-1])
        assert "Writing" not in str(updates[parts.chat])
        assert to_plain(updates[parts.chat]) == said
        assert said[-1].content in FRENCH
        assert updates[parts.records] == [{}]


def test_an_answer_that_was_waited_for_in_vain_never_came(turns: Turns, parts: Parts) -> None:
    waited = show_written("", "Waiting: number 2 in the queue", "en")

    updates = turns.settle([QUESTION, waited], [], "a turn")

    question, ended = updates[parts.chat]
    assert question == QUESTION
    assert "✗ No answer came" in str(ended)
    assert "Waiting" not in str(ended)


@pytest.mark.parametrize(
    "text", ["", "Writing …", '<span class="note being-written" lang="en">Writing …</span>']
)
def test_a_finished_answer_is_left_as_it_is(text: str, turns: Turns, parts: Parts) -> None:
    history = [QUESTION, show_answer(text, "")]
    updates = turns.settle(history, [{"seed": 1}], "a turn")

    assert (updates[parts.chat], updates[parts.records]) == (history, [{"seed": 1}])


def test_undo_gives_the_question_back(turns: Turns, parts: Parts) -> None:
    history = [QUESTION, show_answer(FRENCH, "")]

    updates = turns.undo(history, [{}], "")

    assert (updates[parts.box], updates[parts.chat]) == ("Where is the cat?", [])
    assert updates[parts.records] == []
    assert parts.chat not in turns.undo(history, [{}], "a turn")
    assert parts.chat not in turns.undo([], [], "")


def test_a_kept_chat_comes_back_and_a_broken_one_does_not(turns: Turns, parts: Parts) -> None:
    history = [QUESTION, show_answer(FRENCH, "")]
    kept = turns.settle(history, [{"seed": 1}], "a turn")[parts.kept]

    assert turns.restore(kept) == {parts.chat: history, parts.records: [{"seed": 1}]}
    for broken in (None, {}, "x", {**kept, "format": "2"}, {**kept, "history": [{"role": "user"}]}):
        assert parts.chat not in turns.restore(broken)


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

    last = write_all(Turns(parts, make_chat(engine), "bundled"), parts, "Where?", FR)

    assert "made for 'A', but loaded is '&lt;B&gt;'." in str(last[parts.chat]).replace("\\'", "'")


def test_after_a_failure_the_next_question_stands_alone(
    turns: Turns, parts: Parts, engine: ScriptedEngine
) -> None:
    failed = write_all(turns, parts, "fail", FR)[parts.chat]
    list(turns.write([*failed, QUESTION], [], FR, "another turn"))

    assert [m.content for m in engine.requests[-1].conversations[0]] == ["Where is the cat?"]


@pytest.mark.parametrize(
    ("message", "turn"), [("", ""), (" \n", ""), ("Hi", "a turn"), ("x" * (MAX_LETTERS + 1), "")]
)
def test_an_empty_message_and_one_too_many_are_refused(
    message: str, turn: str, turns: Turns, parts: Parts
) -> None:
    expected = "being written" if turn else "empty" if not message.strip() else "at most 20,000"
    with pytest.raises(gr.Error, match=expected):
        turns.check_message(values_of(parts, box=message, turn=turn))


def test_a_good_message_passes(turns: Turns, parts: Parts) -> None:
    turns.check_message(values_of(parts, box="Hi"))
    turns.check_question(values_of(parts, QUESTION))


def test_a_setting_that_there_is_not_is_refused_before_anything_is_shown(
    turns: Turns, parts: Parts
) -> None:
    with pytest.raises(gr.Error, match="Unknown steering method"):
        turns.check_message(values_of(parts, box="Hi", method="magic"))
    with pytest.raises(gr.Error, match="Unknown steering method"):
        turns.check_question(values_of(parts, QUESTION, method="magic"))


def test_without_a_question_nothing_is_asked_again(turns: Turns, parts: Parts) -> None:
    with pytest.raises(gr.Error, match="no question"):
        turns.check_question(values_of(parts))


def test_stop_ends_the_turn_which_marks_its_answers(turns: Turns, parts: Parts) -> None:
    written = turns.write([show_question("forever")], [], FR, "a turn")
    next(written)
    assert turns.stop("a turn")[parts.stop].interactive is False
    last = list(written)[-1]

    assert to_plain(last[parts.chat])[-1].content.startswith("Le")
    assert "(stopped)" in str(last[parts.chat][-1])


def test_stop_before_the_first_word_leaves_a_mark(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    turns = Turns(parts, make_chat(ScriptedEngine(is_ready=False)), "bundled")
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
    turns.settle([], [], "a turn")

    last = list(turns.write([QUESTION], [], FR, "a turn"))[-1]

    assert "(stopped)" not in str(last[parts.chat])


def test_a_new_chat_forgets_everything(turns: Turns, parts: Parts) -> None:
    updates = turns.begin_anew("")

    assert updates[parts.chat] == updates[parts.records] == []
    assert updates[parts.kept] == keep([], [])  # None would leave the old chat in the browser
    assert updates[parts.wish] is None


def test_the_last_word_of_a_turn_that_a_new_chat_ends_is_nothing(
    turns: Turns, parts: Parts
) -> None:
    written = turns.write([show_question("forever")], [], FR, "a turn")
    next(written)
    turns.begin_anew("a turn")

    assert list(written)[-1] == {parts.chat: [], parts.records: []}


def test_the_page_says_what_it_waits_for_until_the_model_is_there(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    engine = ScriptedEngine(is_ready=False)
    turns = Turns(parts, make_chat(engine), "bundled")

    waiting = turns.look_at_model()
    engine.finish_loading()
    ready = turns.look_at_model()

    assert say("loading") in waiting[parts.head.status]
    assert parts.head.timer not in waiting
    assert "ready" in ready[parts.head.status]
    assert ready[parts.head.timer].active is False


def test_the_page_says_that_the_set_is_of_other_weights(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    warned = replace(make_chat(ScriptedEngine()), warnings=[OtherWeights("org/<made>", "loaded")])

    status = Turns(parts, warned, "bundled").look_at_model()[parts.head.status]

    assert "made on other weights of the same model (org/&lt;made&gt;)" in status


def test_the_page_says_why_the_model_is_not_there(
    make_chat: Callable[[ScriptedEngine], Chat], parts: Parts
) -> None:
    engine = ScriptedEngine(error=ModelLoadError("the folder '<x>' lacks weights."))

    status = Turns(parts, make_chat(engine), "bundled").look_at_model()[parts.head.status]

    assert "lacks weights" in status
    assert "<x>" not in status


def test_an_error_on_the_page_is_escaped_and_one_of_the_api_is_not() -> None:
    with pytest.raises(gr.Error) as on_page, errors_in_words("failed_load", "en"):
        raise ModelLoadError("'<b>'")
    with pytest.raises(gr.Error) as of_api, errors_for_programs():
        raise ModelLoadError("'<b>'")

    assert on_page.value.message == """<div lang="en" dir="ltr">'&lt;b&gt;'</div>"""
    assert of_api.value.message == "'<b>'"


def test_languages_have_both_names_and_stand_in_the_order_of_the_english_ones() -> None:
    codes = ("zh", "fr", "en")

    *named, none = language_choices([LANGUAGES[code] for code in codes])

    assert named == [("中文 (Chinese)", "zh"), ("English", "en"), ("français (French)", "fr")]
    assert (str(none[0]), none[1]) == (str(label("no_language")), "none")
