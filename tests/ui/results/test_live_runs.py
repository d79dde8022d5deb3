"""Tests of what the page does with a run of prompts, without a browser."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from steering.languages import LANGUAGES
from steering.ui.asking import Chat
from steering.ui.choices import lay_out_choices
from steering.ui.results.live_runs import LiveRuns, RunParts
from steering.ui.results.tab import _lay_out_run
from steering.ui.strings import make_i18n
from tests.ui.results.test_own_prompts import TABLE, tell
from tests.ui.scripted import ScriptedEngine


@pytest.fixture
def parts(chat: Chat) -> RunParts:
    make_i18n()
    with gr.Blocks():
        return _lay_out_run(lay_out_choices(chat, has_set=True))


@pytest.fixture
def runs(parts: RunParts, chat: Chat) -> LiveRuns:
    return LiveRuns(parts, chat, "bundled")


@pytest.fixture
def values(parts: RunParts) -> dict[Any, Any]:
    chosen = {component: component.value for component in parts.choices.all()}
    return {parts.picked: (), parts.run: "", **chosen}


def request(session: str, accept: str = "en") -> Any:
    return SimpleNamespace(session_hash=session, headers={"accept-language": accept})


def test_a_run_begins_answers_and_settles(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    runs.check_examples(values, request("a"))
    begun = runs.begin_examples(values)
    *_, last = runs.answer(begun[parts.asked], begun[parts.wish], begun[parts.run], request("a"))
    settled = runs.settle(begun[parts.asked], (), begun[parts.run], request("a"))

    assert set(begun) == set(parts.begun())
    assert set(settled) == set(parts.settled())
    assert len(begun[parts.asked]) == 8
    assert "Done: 8 of 8" in last[parts.progress]
    assert settled[parts.run] == ""
    assert begun[parts.made_with]["steering"] == "normal"


def test_results_come_as_they_are_finished_and_only_then(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    begun = runs.begin_examples(values)
    updates = list(runs.answer(begun[parts.asked], begun[parts.wish], begun[parts.run]))

    shown = [one[parts.answered] for one in updates if parts.answered in one]
    assert [len(answered) for answered in shown] == [2, 4, 6, 8]
    assert len(updates) > 8
    assert all(parts.progress in one for one in updates)


def test_one_session_has_one_run_and_another_session_its_own(
    runs: LiveRuns, values: dict[Any, Any]
) -> None:
    runs.check_examples(values, request("a"))

    with pytest.raises(gr.Error, match="being written"):
        runs.check_examples(values, request("a"))
    runs.check_examples(values, request("b"))
    runs.give_up(request("a"))
    runs.check_examples(values, request("a"))


def test_a_running_run_refuses_another(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    with pytest.raises(gr.Error, match="Prompts are being run"):
        runs.check_examples({**values, parts.run: "x"})


def test_steering_that_is_off_and_no_file_are_refused_in_words(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    with pytest.raises(gr.Error, match="Cannot compare with steering"):
        runs.check_examples({**values, parts.choices.level: "off"})
    with pytest.raises(gr.Error, match="no prompts to run"):
        runs.check_own(values)


def test_stop_is_said_and_what_is_finished_is_kept(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    begun = runs.begin_examples(values)
    run = begun[parts.run]
    shown = ""
    for updates in runs.answer(begun[parts.asked], begun[parts.wish], run):
        if parts.shown in updates:
            shown = updates[parts.shown]
            assert runs.stop(run)[parts.stop].interactive is False

    assert "Stopped: 2 of 8" in updates[parts.progress]
    assert "Where" in shown or "2" in shown
    assert runs.stop("")[parts.stop].visible is False


def test_an_unexpected_error_is_one_plain_sentence_beside_what_is_finished(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    told = tell("p.csv", b"text,target\nOne?,fr\nTwo?,fr\nfail,fr\n")
    picked = runs.read_file(told)[parts.picked]
    begun = runs.begin_own({**values, parts.picked: picked})

    updates = list(runs.answer(begun[parts.asked], begun[parts.wish], begun[parts.run]))

    assert "Something went wrong inside the program" in updates[-1][parts.progress]
    assert "secret" not in str(updates)
    assert "a secret of the program" in caplog.text
    assert [len(one[parts.answered]) for one in updates if parts.answered in one] == [2]


def test_a_file_is_read_and_run(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any], engine: ScriptedEngine
) -> None:
    read = runs.read_file(tell("<b>.csv", TABLE))

    assert "✓ &lt;b&gt;.csv: prompts: 2, to be answered in: French, Japanese." in read[parts.info]
    assert read[parts.own].interactive is True
    begun = runs.begin_own({**values, parts.picked: read[parts.picked]})
    *_, last = runs.answer(begun[parts.asked], begun[parts.wish], begun[parts.run])
    assert "Done: 2 of 2" in last[parts.progress]
    asked = [conversation[0].content for conversation in engine.requests[0].conversations]
    assert asked == ["Where is the cat?"] * 2 + ["Who?"] * 2


def test_a_wrong_file_is_said_in_words_and_takes_the_earlier_ones_place(
    runs: LiveRuns, parts: RunParts
) -> None:
    refused = runs.read_file(tell("x.csv", b"<script>,y\n"))

    assert "✗ 'x.csv' is no file of prompts" in refused[parts.info]
    assert "<script>" not in refused[parts.info]
    assert refused[parts.picked] == ()
    assert refused[parts.own].interactive is False
    assert set(runs.read_file(None)) == {parts.info}


def test_the_page_says_it_in_the_readers_language(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    begun = runs.begin_examples(values)
    asked = begun[parts.asked][:1]

    *_, last = runs.answer(asked, begun[parts.wish], "r", request("a", "ja"))

    assert "完了" in last[parts.progress]
    told = runs.read_file(tell("p.csv", TABLE), request("a", "fr"))
    assert LANGUAGES["ja"].native_name in told[parts.info]


def test_verdicts_are_kept_as_both_kinds_of_file(
    runs: LiveRuns, parts: RunParts, values: dict[Any, Any]
) -> None:
    begun = runs.begin_examples(values)
    updates = list(runs.answer(begun[parts.asked][:2], begun[parts.wish], "r"))
    answered = next(one[parts.answered] for one in updates if parts.answered in one)

    assert runs.as_csv(answered).count("\r\n") >= 3
    assert len(json.loads(runs.as_json(answered, begun[parts.made_with]))["verdicts"]) == 2
