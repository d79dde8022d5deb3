"""Tests of what the page says of a missing set, and of what it does with a set that comes."""

from __future__ import annotations

import re
from html import unescape

import gradio as gr
import pytest

from steering.conversation import Message
from steering.errors import PlanError, SettingsError
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING
from steering.ui.asking import Chat
from steering.ui.choices import Choices, lay_out_choices
from steering.ui.making.listeners import SetListeners
from steering.ui.making.maker import Making, Stage
from steering.ui.making.panel import duration, lay_out_panel, panel_html
from steering.ui.strings import LOCALES, Told, label, say
from steering.ui.wording import Words, saying, trouble
from tests.toy import EN, FR, JA
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

QUESTION = [Message("user", "Where is the cat?")]


def told(text: str) -> Words:
    return lambda _: Told(text)


class StillMaker:
    """Stands at one point; a test moves it."""

    languages = (EN, FR, JA)
    questions = 90

    def __init__(self, *states: Making) -> None:
        self.states = list(states) or [Making()]
        self.neurons: NeuronSet | None = None
        self.asked: list[str] = []

    def state(self) -> Making:
        return self.states[0]

    def start(self) -> None:
        self.asked.append("start")

    def stop(self) -> None:
        self.asked.append("stop")


@pytest.fixture
def maker() -> StillMaker:
    return StillMaker()


@pytest.fixture
def chat(engine: ScriptedEngine, maker: StillMaker) -> Chat:
    return Chat(engine, None, 40, maker)  # type: ignore[arg-type]  # all that Chat needs of them


@pytest.fixture
def choices(chat: Chat) -> Choices:
    with gr.Blocks():
        return lay_out_choices(chat, has_set=False)


@pytest.fixture
def listeners(choices: Choices, chat: Chat, maker: StillMaker) -> SetListeners:
    with gr.Blocks():
        panel = lay_out_panel()
    return SetListeners(choices, panel, chat, maker)  # type: ignore[arg-type]  # all that it needs


def test_without_a_set_nothing_can_be_chosen(choices: Choices) -> None:
    assert choices.language.value == "none"
    assert [value for _, value in choices.language.choices] == ["none"]


def test_the_offer_says_what_is_asked_and_how_long_it_takes(
    listeners: SetListeners, maker: StillMaker
) -> None:
    maker.states = [Making("offered", seconds_left=240.0)]
    panel = listeners.panel

    shown = listeners.look("", None)

    assert "no neuron set yet" in shown[panel.words]
    assert (
        "90 everyday questions in each of 3 languages (English, French, Japanese)"
        in (shown[panel.words])
    )
    assert "about 4 minutes on this machine" in shown[panel.words]
    assert shown[panel.column].visible
    assert shown[panel.make].visible
    assert shown[panel.make].interactive
    assert not shown[panel.stop].visible


def test_before_it_is_measured_nothing_can_be_pressed(
    listeners: SetListeners, maker: StillMaker
) -> None:
    maker.states = [Making("measuring")]

    shown = listeners.look("", None)

    assert "being measured" in shown[listeners.panel.words]
    assert not shown[listeners.panel.make].interactive


def test_while_the_model_loads_there_is_no_offer(listeners: SetListeners) -> None:
    assert not listeners.look("", None)[listeners.panel.column].visible


@pytest.mark.parametrize(("stage", "can_stop"), [("making", True), ("stopping", False)])
def test_progress_is_shown_with_what_is_left(
    stage: str, can_stop: bool, listeners: SetListeners, maker: StillMaker
) -> None:
    maker.states = [Making(stage, told("French: 32"), fraction=0.25, seconds_left=61)]  # type: ignore[arg-type]
    panel = listeners.panel

    shown = listeners.look("", None)

    assert 'value="0.250" max="1"' in shown[panel.words]
    assert "French: 32, about 60 seconds left" in shown[panel.words]
    assert not shown[panel.make].visible
    assert shown[panel.stop].visible
    assert shown[panel.stop].interactive is can_stop


def test_the_buttons_start_and_stop(listeners: SetListeners, maker: StillMaker) -> None:
    listeners.start("", None)
    listeners.stop("", None)

    assert maker.asked == ["start", "stop"]


def test_what_went_wrong_is_escaped() -> None:
    words = trouble("failed_making", SettingsError("no '<b>'"))
    html = panel_html(Making("offered", words), languages=(EN, FR), questions=60)

    assert "no '&lt;b&gt;'" in html


def test_a_page_that_offered_the_set_says_that_it_is_there_and_forces_no_language(
    listeners: SetListeners, maker: StillMaker, choices: Choices, toy_set: NeuronSet
) -> None:
    maker.states = [Making("making")]
    seen = listeners.look("", None)[listeners.panel.seen]
    maker.states, maker.neurons = [Making("ready", told("Kept."))], toy_set

    shown = listeners.look(seen, None)

    assert "ready" in shown[listeners.panel.words]
    assert shown[listeners.panel.column].visible
    assert shown[choices.language].value == "none"
    assert shown[choices.language].interactive
    assert ("français (French)", "fr") in shown[choices.language].choices
    assert shown[choices.level] == gr.update(interactive=True)
    assert shown[listeners.panel.timer].active is False


def test_a_page_that_opens_later_speaks_of_no_set(
    listeners: SetListeners, maker: StillMaker, choices: Choices, toy_set: NeuronSet
) -> None:
    loading = listeners.look("", None)[listeners.panel.seen]
    maker.states, maker.neurons = [Making("ready", told("Kept."))], toy_set

    shown = listeners.look(loading, None)

    assert not shown[listeners.panel.column].visible
    assert shown[choices.language].value == "fr"


def test_a_page_that_opens_later_shows_what_was_chosen_before_a_reload(
    listeners: SetListeners, maker: StillMaker, choices: Choices, toy_set: NeuronSet
) -> None:
    maker.states, maker.neurons = [Making("ready", told("Kept."))], toy_set

    shown = listeners.look("", {"lang": "ja", "steering": "strong", "guard": "0"})

    assert shown[choices.language].value == "ja"
    assert shown[choices.level] == gr.update(value="strong", interactive=True)
    assert shown[choices.has_guard] == gr.update(value=False, interactive=True)
    assert shown[choices.method] == gr.update(interactive=True)


def test_a_look_too_many_leaves_the_choices_alone(
    listeners: SetListeners, maker: StillMaker, choices: Choices, toy_set: NeuronSet
) -> None:
    maker.states, maker.neurons = [Making("ready", told("Kept."))], toy_set
    seen = listeners.look("", None)[listeners.panel.seen]

    assert choices.language not in listeners.look(seen, None)


def test_people_chat_unsteered_until_there_is_a_set(
    chat: Chat, maker: StillMaker, engine: ScriptedEngine, toy_set: NeuronSet
) -> None:
    wish = chat.read_wish("none", "normal")
    before = list(chat.answer(QUESTION, wish))[-1]
    with pytest.raises(PlanError, match="Cannot steer to 'fr': this model has no neuron set yet"):
        chat.read_wish("fr", "normal")
    maker.neurons = toy_set
    after = list(chat.answer(QUESTION, chat.read_wish("fr", "normal")))[-1]

    assert before.texts == (ENGLISH,)
    assert engine.requests[0].plans == (NO_STEERING,)
    assert after.texts == (FRENCH,)
    assert "English" in chat.line_under(ENGLISH, wish, ())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "5 seconds"), (42, "40 seconds"), (89, "90 seconds"), (95, "2 minutes"),
     (1500, "25 minutes"), (9000, "2.5 hours")],
)  # fmt: skip
def test_a_duration_is_no_finer_than_it_can_be_known(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("stage", ["measuring", "offered", "making", "stopping", "ready"])
def test_the_panel_is_in_the_readers_language_and_direction(stage: Stage, locale: str) -> None:
    words = saying("making_asking", language=FR, count=32)
    making = Making(stage, words, fraction=0.5, seconds_left=300)

    html = panel_html(making, languages=(EN, FR, JA), questions=90, locale=locale)

    direction = "rtl" if locale == "ar" else "ltr"
    assert html.startswith(f'<div lang="{locale}" dir="{direction}">')
    plain = re.sub("<.*?>", "", unescape(html))
    english = re.findall("[A-Za-z]{3,}", plain.replace("English", "").replace("français", ""))
    if locale in ("zh", "ja", "ar"):
        assert english == []
    assert ("français" in plain) is (locale != "en")


def test_a_french_browser_is_offered_the_set_in_french(
    listeners: SetListeners, maker: StillMaker
) -> None:
    maker.states = [Making("offered", seconds_left=240.0)]
    request = gr.Request(headers={"accept-language": "fr-CA"})

    shown = listeners.look("", None, request)

    words = unescape(shown[listeners.panel.words])
    assert "Ce modèle n’a pas encore de jeu de neurones" in words
    assert "90 questions de tous les jours dans chacune de 3 langues" in words
    assert "(English, français, 日本語)" in words
    assert "environ 4 minutes sur cette machine" in words
    assert str(shown[listeners.panel.stop].value) == str(label("making_stop"))


def test_trouble_with_a_set_is_led_by_the_readers_language_and_marked_as_english() -> None:
    words = trouble("failed_making", SettingsError("Cannot keep it."))

    html = panel_html(Making("offered", words), languages=(EN, FR), questions=60, locale="ar")

    assert f'{say("failed_making", "ar")} <span lang="en" dir="ltr">Cannot keep it.</span>' in html
