"""Tests of prompts run live: which, how they are answered and judged, and how they end."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from demo_model.forcing_prompts import make_forcing_prompts
from steering.bundled import BUNDLED_CHECKS
from steering.evaluation.forcing import ForcingPrompt
from steering.languages import LANGUAGES, Language
from steering.steering_plan import NO_STEERING
from steering.ui.asking import Chat, Wish
from steering.ui.results.live_check import (
    Answered,
    Standing,
    check_can_run,
    prompts_to_check,
    run_check,
)
from steering.ui.results.live_html import answered_html, progress_html
from steering.ui.wording import Refusal
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

EN, FR, JA, HI = (LANGUAGES[code] for code in ("en", "fr", "ja", "hi"))
NORMAL = Wish(None, "normal")


def prompt(text: str = "Where is the cat?", target: Language = FR) -> ForcingPrompt:
    return ForcingPrompt(text, f"{text} Answer in French.", EN, target)


def run_all(chat: Chat, prompts: list[ForcingPrompt], wish: Wish = NORMAL) -> list[Standing]:
    return list(run_check(chat, prompts, wish))


def test_the_bundled_models_prompts_are_the_first_held_out_ones_of_the_grammar() -> None:
    held_out = [one.prompt for one in make_forcing_prompts(60, seed=0)]

    first = [(one.language, one.text) for one in held_out if one.language != one.target]
    assert tuple(first[:8]) == BUNDLED_CHECKS


@pytest.mark.parametrize("model", ["bundled", "org/model"])
@pytest.mark.parametrize(
    "codes", ["en,zh,fr,es,vi,id,ja", "en,fr", "fr,en", "th,sw", "en,zh,hi,es,fr,ar,pt,ru"]
)
def test_there_are_eight_prompts_that_each_ask_for_another_language(model: str, codes: str) -> None:
    languages = [LANGUAGES[code] for code in codes.split(",")]

    prompts = prompts_to_check(model, languages)

    assert len(prompts) == 8
    assert len({(one.text, one.target) for one in prompts}) == 8
    assert all(one.language != one.target for one in prompts)
    assert (
        {one.target for one in prompts} == set(languages)
        or len(languages) > 7
        or (model == "org/model" and "th" in codes)
    )


def test_every_prompt_is_answered_without_and_with_steering_in_its_own_target(
    chat: Chat, engine: ScriptedEngine
) -> None:
    *_, last = run_all(chat, [prompt(), prompt("Who sings?"), prompt("Why?", EN)])

    assert last.is_over
    assert last.fraction == 1
    assert [one.prompt.text for one in last.answered] == ["Where is the cat?", "Who sings?", "Why?"]
    first = last.answered[0]
    assert (first.unsteered.reply, first.unsteered.verdict) == (ENGLISH, "off_target")
    assert (first.steered.reply, first.steered.verdict) == (FRENCH, "on_target")
    assert first.steered.language == FR


def test_few_rows_are_asked_at_once_each_with_its_own_plan_and_guard(
    chat: Chat, engine: ScriptedEngine
) -> None:
    run_all(chat, [prompt(str(number)) for number in range(5)], replace(NORMAL, seed=7))

    assert [len(request.plans) for request in engine.requests] == [4, 4, 2]
    for request in engine.requests:
        assert all(plan == NO_STEERING for plan in request.plans[::2])
        assert all(plan.edits or plan.pulls for plan in request.plans[1::2])
        assert [guard is None for guard in request.guards] == [True, False] * (
            len(request.plans) // 2
        )
        assert request.sampling.seed == 7


def test_what_is_chosen_above_is_how_it_is_steered(chat: Chat, engine: ScriptedEngine) -> None:
    run_all(chat, [prompt()], NORMAL)
    run_all(chat, [prompt()], replace(NORMAL, method="diffmean", has_guard=False))

    (usual, own) = engine.requests
    assert usual.plans[1] != own.plans[1]
    assert own.guards == (None, None)


def test_progress_only_grows_and_results_come_as_they_are(chat: Chat) -> None:
    standings = run_all(chat, [prompt(str(number)) for number in range(4)])

    fractions = [standing.fraction for standing in standings]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.2
    assert sorted({len(standing.answered) for standing in standings}) == [0, 2, 4]


def test_stop_ends_the_run_within_a_token_and_keeps_what_is_finished(
    chat: Chat, engine: ScriptedEngine
) -> None:
    prompts = [prompt("one"), prompt("two"), prompt("forever"), prompt("four")]
    seen: list[Standing] = []
    stop = threading.Event()

    for standing in run_check(chat, prompts, NORMAL, is_stopped=stop.is_set):
        seen.append(standing)
        if len(standing.answered) == 2 and standing.begun > 0:
            stop.set()

    assert seen[-1].is_over
    assert len(seen[-1].answered) == 2
    assert engine.running == 0
    assert len(engine.requests) == 2


def test_closing_the_run_stops_the_engine(chat: Chat, engine: ScriptedEngine) -> None:
    run = run_check(chat, [prompt("forever")], NORMAL)
    next(run)
    assert engine.running == 1

    run.close()

    assert engine.running == 0


def test_a_run_that_could_show_nothing_is_refused(chat: Chat) -> None:
    with pytest.raises(Refusal, match="it is 'off'"):
        check_can_run(chat, replace(NORMAL, level="off"), [prompt()])
    with pytest.raises(Refusal, match="no neuron set yet"):
        check_can_run(replace(chat, neurons=None), NORMAL, [prompt()])
    with pytest.raises(Refusal, match="no prompts"):
        check_can_run(chat, NORMAL, [])
    check_can_run(chat, NORMAL, [prompt()])


def finished(chat: Chat, *prompts: ForcingPrompt) -> tuple[Answered, ...]:
    return run_all(chat, list(prompts))[-1].answered


def test_counts_are_shown_and_not_rates(chat: Chat) -> None:
    answered = finished(chat, prompt(), prompt("Who?"), prompt("short"))

    html = answered_html(answered, level="normal", languages=chat.languages, locale="en")

    assert "%" not in html.replace('width="100.00%"', "").replace('width="100%"', "").replace(
        'width="0.00%"', ""
    ).replace('width="66.67%"', "")
    assert "2 of 3" in html
    assert "0 of 3" in html
    assert "Steered (Normal)" in html
    assert "✓ French, as chosen" in html
    assert "✗ English, French was chosen" in html
    assert "more cannot be told" in html


def test_prompts_and_answers_are_shown_and_never_run(chat: Chat) -> None:
    (one,) = finished(chat, prompt("<script>alert(1)</script>"))
    judged = replace(one.steered, reply="<img src=x onerror=alert(1)> ![x](http://x/y.png)")

    html = answered_html(
        [replace(one, steered=judged)], level="normal", languages=chat.languages, locale="en"
    )

    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_a_long_answer_is_cut_in_the_table(chat: Chat) -> None:
    (one,) = finished(chat, prompt())
    judged = replace(one.steered, reply="mot " * 1000)

    html = answered_html(
        [replace(one, steered=judged)], level="normal", languages=chat.languages, locale="en"
    )

    assert html.count("mot ") == 100


@pytest.mark.parametrize(
    ("standing", "is_ready", "words"),
    [
        (Standing(8), False, "Loading the model"),
        (Standing(8, place=3), True, "0 of 8 prompts answered … Waiting: number 3"),
        (Standing(8), True, "0 of 8 prompts answered …"),
        (Standing(8, is_over=True), True, "Stopped: 0 of 8"),
        (Standing(0, is_over=True), True, "Done: 0 of 0"),
    ],
)
def test_the_bar_says_what_is_being_done(standing: Standing, is_ready: bool, words: str) -> None:
    html = progress_html(standing, is_ready=is_ready, locale="en")

    assert words in html
    assert "<progress" in html
    assert 'role="status"' in html
