"""Tests of a comparison: what is asked of the engine, and what is said of the three answers."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from steering.generation import ReplyUpdate
from steering.languages import LANGUAGES
from steering.steering_plan import NO_STEERING
from steering.ui.asking import Chat, Wish
from steering.ui.chat.turns import MAX_LETTERS
from steering.ui.compare.comparison import (
    WAYS,
    Comparison,
    Question,
    Stopwatch,
    compare,
    make_readers,
    make_request,
    read_question,
    to_json,
)
from steering.ui.compare.comparison_html import comparison_html, empty_html
from steering.ui.wording import Refusal
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

WISH = Wish(LANGUAGES["fr"], "normal")
QUESTION = read_question("Where is the cat?", WISH)


def last_of(chat: Chat, question: Question = QUESTION) -> Comparison:
    return list(compare(chat, question))[-1]


def shown(chat: Chat, question: Question = QUESTION, locale: str = "en") -> str:
    readers = make_readers(chat, question)
    return comparison_html(last_of(chat, question), chat, readers, locale)


def column(html: str, way: str) -> str:
    return html.split(f'id="way-{way}"')[1].split("</section>")[0]


def test_three_ways_are_one_batch_with_one_seed(chat: Chat, engine: ScriptedEngine) -> None:
    wish = replace(WISH, seed=7, temperature=0.5)
    last = last_of(chat, read_question("Where is the cat?", wish))
    (request,) = engine.requests

    assert [row[0].content for row in request.conversations] == [
        "Where is the cat?",
        "Where is the cat? Answer in French.",
        "Where is the cat?",
    ]
    assert [plan == NO_STEERING for plan in request.plans] == [False, True, True]
    assert [guard is None for guard in request.guards] == [False, True, True]
    assert (request.sampling.seed, request.sampling.temperature) == (7, 0.5)
    assert last.update.texts == (FRENCH, ENGLISH, ENGLISH)
    assert last.is_finished


def test_without_a_guard_and_with_steering_off_nothing_is_watched_or_edited(chat: Chat) -> None:
    unguarded = make_request(chat, read_question("Hi", replace(WISH, has_guard=False)))
    off = make_request(chat, read_question("Hi", replace(WISH, level="off")))

    assert unguarded.guards == (None,) * 3
    assert unguarded.plans[0] != NO_STEERING
    assert off.plans == (NO_STEERING,) * 3


def test_the_page_is_told_at_most_ten_times_a_second(chat: Chat, engine: ScriptedEngine) -> None:
    last_of(chat)

    assert engine.paces == [0.1]


@pytest.mark.parametrize("message", ["", "  \n", "a" * (MAX_LETTERS + 1)])
def test_an_empty_or_endless_message_is_refused(message: str) -> None:
    with pytest.raises(Refusal, match=r"empty|characters"):
        read_question(message, WISH)


def test_a_missing_language_is_refused_in_words() -> None:
    with pytest.raises(Refusal, match=r"without a language.*choose it first"):
        read_question("Hi", Wish(None))


def test_a_comparison_can_be_stopped_and_keeps_what_there_is(
    chat: Chat, engine: ScriptedEngine
) -> None:
    seen: list[Comparison] = []
    for comparison in compare(chat, read_question("forever", WISH), is_stopped=lambda: bool(seen)):
        seen.append(comparison)

    assert seen[-1].update.finish_reasons == ("stopped",) * 3
    assert seen[-1].update.texts[0].startswith("Le")
    assert engine.running == 0


def test_closing_a_comparison_stops_the_engine(chat: Chat, engine: ScriptedEngine) -> None:
    answers = compare(chat, read_question("forever", WISH))
    next(answers)
    assert engine.running == 1
    answers.close()  # type: ignore[attr-defined]  # a generator, seen as an iterator

    assert engine.running == 0


def test_time_is_counted_from_the_turn_and_per_row_up_to_its_end() -> None:
    moments = iter([0.0, 5.0, 6.0, 8.0, 10.0])
    stopwatch = Stopwatch(lambda: next(moments))
    waiting = ReplyUpdate(("",) * 3, (None,) * 3, ("",) * 3, 0, place=1)
    begun = replace(waiting, place=0, prompt_tokens=(5,) * 3, row_tokens=(1, 1, 1), new_tokens=3)
    one_ended = replace(
        begun, finish_reasons=("end", None, None), row_tokens=(6, 4, 2), new_tokens=12
    )
    ended = replace(one_ended, finish_reasons=("end",) * 3, row_tokens=(6, 8, 6), new_tokens=20)

    first, *_, last = [
        stopwatch.read(QUESTION, update) for update in (waiting, begun, one_ended, ended)
    ]

    assert first.first_token_s is None
    assert (last.first_token_s, last.seconds, last.rate) == (1.0, 5.0, 4.0)
    assert last.row_seconds == (3.0, 5.0, 5.0)
    assert [last.row_rate(row) for row in range(3)] == [2.0, 1.6, 1.2]


def test_no_time_is_no_speed() -> None:
    update = ReplyUpdate(("",), (None,), ("",), 4, prompt_tokens=(5,), row_tokens=(4,))
    read = Stopwatch(lambda: 1.0).read(QUESTION, update)

    assert (read.rate, read.row_rate(0)) == (0.0, 0.0)


def test_each_column_says_what_was_asked_and_what_came(chat: Chat) -> None:
    html = shown(chat)
    steered, instructed, plain = (column(html, way) for way in WAYS)

    assert "As chosen above: French, Normal." in steered
    assert "✓ French, as chosen" in steered
    assert 'lang="fr">Le chat dort sur le canapé.</span>' in steered
    assert "18 tokens, " in steered
    assert "“Answer in French.”" in instructed
    assert "✗ English, French was chosen" in instructed
    assert "The question as it is" in plain
    assert 'said-other" lang="en"' in plain
    assert "All three together: 54 tokens in " in html
    assert "First token after " in html


def test_while_it_is_written_there_is_no_verdict(chat: Chat) -> None:
    comparison = next(compare(chat, QUESTION))
    html = comparison_html(comparison, chat, make_readers(chat, QUESTION), "en")

    assert "Writing …" in html
    assert "as chosen</span>" not in html


def test_steering_that_is_off_is_said(chat: Chat) -> None:
    off = shown(chat, read_question("Where is the cat?", replace(WISH, level="off")))

    assert "steering is off above" in column(off, "steered")
    assert "steering is off above" not in column(off, "plain")
    assert "steering is off above" not in shown(chat)


def test_a_stopped_and_a_shortened_conversation_are_noted(chat: Chat) -> None:
    html = shown(chat, read_question("long", WISH))

    assert html.count("2 messages were left out") == 3


def test_tags_in_answers_are_text(chat: Chat) -> None:
    html = shown(chat, read_question("echo <img src=x onerror=alert(1)>", WISH))

    assert "&lt;img src=x" in html
    assert "<img" not in html


@pytest.mark.parametrize("locale", ["fr", "es", "zh", "ja", "ar"])
def test_everything_is_said_in_the_browsers_language(locale: str, chat: Chat) -> None:
    for html in (shown(chat, locale=locale), empty_html(locale)):
        for english in ("Without steering", "Told in words", "can’t tell:", "tokens in", "{"):
            assert english not in html


def test_a_program_gets_languages_and_verdicts(chat: Chat) -> None:
    answer = to_json(last_of(chat), chat, make_readers(chat, QUESTION))
    json.dumps(answer)
    steered, instructed = answer["answers"]["steered"], answer["answers"]["instructed"]

    assert answer["is_finished"]
    assert (answer["language"], answer["tokens"], answer["seed"]) == ("fr", 54, 0)
    assert steered["text"] == FRENCH
    assert (steered["verdict"], steered["detected"]) == ("on_target", "fr")
    assert [one["language"] for one in steered["sentences"]] == ["fr", "fr"]
    assert instructed["asked"] == "Where is the cat? Answer in French."
    assert (instructed["verdict"], instructed["tokens"]) == ("off_target", 18)


def test_a_request_that_waits_has_no_speed(
    make_chat: Callable[[ScriptedEngine], Chat],
) -> None:
    chat = make_chat(ScriptedEngine(is_ready=False))
    waiting = next(compare(chat, QUESTION))
    html = comparison_html(waiting, chat, make_readers(chat, QUESTION), "en")

    assert "tokens" not in html
    assert "Writing" not in html
