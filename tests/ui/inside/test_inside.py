"""Tests of the tab "Look inside" without a browser: what it shows, reads, and answers otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import pytest

from steering.errors import ModelLoadError
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.ui.asking import Chat, Wish
from steering.ui.chat.layout import Parts, lay_out_chat
from steering.ui.chat.messages import show_question
from steering.ui.chat.turns import Turns
from steering.ui.choices import lay_out_choices
from steering.ui.events import Updates
from steering.ui.head import lay_out_head
from steering.ui.inside.layout import InsideParts, lay_out_inside
from steering.ui.inside.neuron_pictures import words_html
from steering.ui.inside.runs import InsideRuns
from steering.ui.inside.shown import Inside
from tests.toy import EN, FR
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine


@dataclass
class Tab:
    """The tab of one page, and the values that its browser would send."""

    chat: Chat
    parts: Parts
    inside: InsideParts
    values: dict[Any, Any]

    @property
    def shows(self) -> Inside:
        return Inside(self.parts, self.inside, self.chat)

    @property
    def runs(self) -> InsideRuns:
        return InsideRuns(self.parts, self.inside, self.chat)

    def ask(self, wish: Wish, question: str = "Where is the cat?") -> None:
        """Have a question answered in the chat."""
        history = [*self.values[self.parts.chat], show_question(question)]
        turns = Turns(self.parts, self.chat, "bundled")
        last = list(turns.write(history, self.values[self.parts.records], wish, "a turn"))[-1]
        self.values |= last

    def take(self, updates: Updates) -> Updates:
        """Let the browser have new values."""
        for component, update in updates.items():
            is_update = isinstance(update, gr.blocks.Block)
            value = getattr(update, "value", None) if is_update else update
            if not is_update or value is not None:
                self.values[component] = value
        return updates

    def open(self) -> Updates:
        return self.take(self.shows.open(self.values))

    def read(self) -> str:
        return str(list(self.runs.read(self.values))[-1][self.inside.reading])


@pytest.fixture
def make_tab() -> Callable[..., Tab]:
    def make(engine: ScriptedEngine, neurons: NeuronSet | None) -> Tab:
        chat = Chat(engine, neurons, 40)  # type: ignore[arg-type]  # all that Chat needs of one
        with gr.Blocks():
            choices = lay_out_choices(chat, has_set=neurons is not None)
            head = lay_out_head("bundled", has_set=True)
            parts, inside = lay_out_chat(head, choices, "bundled"), lay_out_inside()
        values = {
            parts.chat: [], parts.records: [], choices.language: "fr", inside.language: None,
            inside.is_own: False, inside.titles: [], inside.group: "own", inside.other: None,
            inside.layers: [], inside.answer: None, inside.how: "steered", inside.turn: "",
            inside.is_unsteered: False,
        }  # fmt: skip
        return Tab(chat, parts, inside, values)

    return make


@pytest.fixture
def tab(
    engine: ScriptedEngine,
    toy_set: NeuronSet,
    make_tab: Callable[..., Tab],
    load_tiny: Callable[..., LoadedModel],
) -> Tab:
    engine.loaded = load_tiny("llama")
    return make_tab(engine, toy_set)


def test_without_a_set_the_tab_says_so(
    engine: ScriptedEngine, make_tab: Callable[..., Tab]
) -> None:
    tab = make_tab(engine, None)

    updates = tab.open()

    assert "has no neuron set yet" in updates[tab.inside.words]
    assert updates[tab.inside.body].visible is False


def test_opening_the_tab_shows_the_language_above_and_runs_no_model(
    tab: Tab, engine: ScriptedEngine, toy_set: NeuronSet
) -> None:
    updates = tab.open()

    assert tab.values[tab.inside.language] == "fr"
    own = len(toy_set.neurons_of(FR))
    assert f"French: {own} neurons" in updates[tab.inside.picture]
    assert len(updates[tab.inside.table].value["data"]) == own
    assert updates[tab.inside.steps].visible is False
    assert "ask something in the chat first" in updates[tab.inside.no_answer]
    assert engine.calls == 0
    assert engine.requests == []


def test_a_language_chosen_here_stays_when_the_one_above_changes(tab: Tab) -> None:
    tab.open()
    tab.values[tab.parts.choices.language] = "ja"
    tab.open()
    followed = tab.values[tab.inside.language]
    tab.values[tab.inside.language] = "en"
    tab.take(tab.shows.choose_language(tab.values))
    tab.values[tab.parts.choices.language] = "fr"
    tab.open()

    assert followed == "ja"
    assert tab.values[tab.inside.language] == "en"


def test_with_no_language_above_there_is_one_here(tab: Tab) -> None:
    tab.values[tab.parts.choices.language] = "none"
    tab.open()

    assert tab.values[tab.inside.language] == "fr"


def test_a_language_without_neurons_says_so(tab: Tab) -> None:
    tab.values[tab.parts.choices.language] = "th"
    updates = tab.open()

    assert "Thai has no neurons of its own" in updates[tab.inside.picture]
    assert updates[tab.inside.table].visible is False
    assert tab.values[tab.inside.layers] == []


def test_layers_are_those_of_the_group_and_all_are_chosen(tab: Tab, toy_set: NeuronSet) -> None:
    tab.open()
    own = tab.values[tab.inside.layers]
    tab.values[tab.inside.group] = "other"
    tab.values[tab.inside.other] = "th"
    shown = tab.take(tab.shows.choose_group(tab.values))

    assert own == [layer for layer, count in enumerate(toy_set.layer_counts(FR)) if count]
    assert tab.values[tab.inside.layers] == []
    assert shown[tab.inside.other].visible is True
    assert tab.shows.choose_no_layer() == {tab.inside.layers: []}


def test_layers_that_were_chosen_stay_when_the_tab_is_opened_again(tab: Tab) -> None:
    tab.open()
    tab.values[tab.inside.layers] = [1]
    tab.open()

    assert tab.values[tab.inside.layers] == [1]


def test_random_neurons_are_offered_only_where_the_set_has_some(
    engine: ScriptedEngine, toy_set: NeuronSet, make_tab: Callable[..., Tab], tab: Tab
) -> None:
    bare = make_tab(engine, replace(toy_set, control=None))

    groups = [[name for _, name in one.open()[one.inside.group].choices] for one in (tab, bare)]

    assert groups == [["own", "all", "other", "random"], ["own", "all", "other"]]


def test_the_last_answer_is_chosen_until_the_person_chooses_another(tab: Tab) -> None:
    tab.ask(Wish(FR))
    tab.ask(Wish(None), "short")
    updates = tab.open()
    choices = updates[tab.inside.answer].choices
    tab.values[tab.inside.answer] = 0
    again = tab.open()

    assert [place for _, place in choices] == [0, 1]
    assert choices[0][0].startswith("1. Where is the cat? → Le chat dort")
    assert updates[tab.inside.answer].value == 1
    assert tab.inside.answer not in again
    assert tab.values[tab.inside.answer] == 0


def test_an_answer_is_read_as_it_was_steered(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR))
    tab.open()

    html = tab.read()

    assert "Read with the steering that wrote it: French, Normal, method" in html
    assert html.count('class="said"') == 1 + len(FRENCH)  # the onset, and a token per letter
    assert engine.calls == 2  # the tokens, and one pass for all of them


def test_neurons_that_were_found_at_onsets_are_said_to_tell_of_these(
    engine: ScriptedEngine, toy_set: NeuronSet, make_tab: Callable[..., Tab], tab: Tab
) -> None:
    about = toy_set.metadata.model_copy(update={"selection_phase": "onset"})
    other = make_tab(engine, replace(toy_set, metadata=about))
    for one in (tab, other):
        one.ask(Wish(FR))
        one.open()

    assert ["were found at the moment before" in one.read() for one in (tab, other)] == [
        False,
        True,
    ]


def test_an_answer_can_be_read_without_its_steering_with_another_result(tab: Tab) -> None:
    tab.ask(Wish(FR, level="strong", method="lape/gate/every@50"))
    tab.open()
    steered = tab.read()
    tab.values[tab.inside.how] = "plain"
    plain = tab.read()

    assert "Read without steering, although" in plain
    assert steered.split("<details>")[1] != plain.split("<details>")[1]


def test_an_unsteered_answer_says_that_it_is_read_so(tab: Tab) -> None:
    tab.ask(Wish(FR, level="off"))
    tab.open()

    assert "It was written without steering, and is read without." in tab.read()


def test_an_answer_of_another_set_is_not_read_as_if_by_this_one(
    tab: Tab, engine: ScriptedEngine
) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values[tab.parts.records] = [{**tab.values[tab.parts.records][0], "neuron_set_sha256": "x"}]

    assert "by another neuron set than the one in use" in tab.read()
    tab.values[tab.inside.how] = "plain"
    assert "Read without steering, although" in tab.read()


@pytest.mark.parametrize(
    "change", [{"seed": "many"}, {"steering": "magic"}, {"language": "xx"}, {"temperature": -1}]
)
def test_a_record_that_makes_no_sense_is_refused_in_words(
    tab: Tab, change: dict[str, object]
) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values[tab.parts.records] = [{**tab.values[tab.parts.records][0], **change}]

    with pytest.raises(gr.Error) as caught:
        tab.runs.check_reading(tab.values)
    assert "Something went wrong" not in caught.value.message


def test_stopping_ends_the_reading_within_a_pass(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values[tab.inside.turn] = "a turn"
    runs = tab.runs
    reading = runs.read(tab.values)
    next(reading)
    runs.stop("a turn")

    assert [update[tab.inside.reading] for update in reading] == [words_html("(stopped)", "en")]
    assert engine.calls == 1  # the tokens were made, no pass was run


def test_reading_takes_no_longer_than_an_answer_may(tab: Tab, engine: ScriptedEngine) -> None:
    engine.word_s = 0.02
    tab.ask(Wish(FR))
    tab.open()
    tab.chat = replace(tab.chat, time_limit_s=0.01)

    assert "it took as long as an answer may take" in tab.read()


def test_what_goes_wrong_stands_where_the_reading_would(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR))
    tab.open()

    def fail(function: object) -> None:
        raise ModelLoadError("the folder '<x>' lacks weights.")

    engine.call = fail  # type: ignore[method-assign,assignment]

    assert "the folder '&lt;x&gt;' lacks weights." in tab.read()


def test_nothing_begins_without_an_answer_or_a_model_or_beside_another(
    tab: Tab, toy_set: NeuronSet, make_tab: Callable[..., Tab]
) -> None:
    tab.open()
    with pytest.raises(gr.Error, match="No answer is chosen"):
        tab.runs.check_reading(tab.values)
    with pytest.raises(gr.Error, match="An answer is being written"):
        tab.runs.check_again({**tab.values, tab.inside.turn: "a turn"})
    loading = make_tab(ScriptedEngine(is_ready=False), toy_set)
    with pytest.raises(gr.Error, match="still loading"):
        loading.runs.check_reading(loading.values)


def test_neurons_are_switched_off_beside_the_answer_as_it_was(
    tab: Tab, engine: ScriptedEngine, toy_set: NeuronSet
) -> None:
    tab.ask(Wish(FR, seed=3, temperature=0.5))
    tab.open()
    own = len(toy_set.neurons_of(FR))
    tab.runs.check_again(tab.values)

    first, *_, last = tab.runs.answer_again(tab.values)

    original, again = engine.requests
    assert FRENCH in first[tab.inside.before]
    assert "✓ French, as chosen" in first[tab.inside.before]
    assert f"With {own} neurons set to zero" in last[tab.inside.after]
    assert "same steering and seed" in last[tab.inside.after]
    assert again.conversations == original.conversations
    assert again.sampling == original.sampling
    assert again.guards == ()
    zeroed = [
        (layer, unit)
        for (site, phase, layer), edit in again.plans[0].edits.items()
        if (site, phase) == ("value", "body")
        for unit in edit.units[(edit.scale == 0) & (edit.shift == 0)].tolist()
    ]
    places = toy_set.neurons_of(FR)
    assert sorted(zeroed) == sorted(
        zip(toy_set.layer[places].tolist(), toy_set.index[places].tolist(), strict=True)
    )


def test_without_the_steering_only_the_switched_off_layers_are_edited(
    tab: Tab, engine: ScriptedEngine
) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values |= {tab.inside.is_unsteered: True, tab.inside.layers: [1]}

    last = list(tab.runs.answer_again(tab.values))[-1]

    assert "no steering, same seed" in last[tab.inside.after]
    assert {layer for _, _, layer in engine.requests[-1].plans[0].edits} == {1}


def test_switching_nothing_off_is_refused_in_words(tab: Tab) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values[tab.inside.layers] = []

    with pytest.raises(gr.Error, match="No neuron is chosen to be switched off"):
        tab.runs.check_again(tab.values)


def test_stop_ends_an_answer_and_keeps_what_there_is(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR))
    tab.open()
    tab.values[tab.inside.turn] = "a turn"
    engine.steered = " ".join([FRENCH] * 50)
    runs = tab.runs
    answering = runs.answer_again(tab.values)
    next(answering), next(answering)
    runs.stop("a turn")

    last = list(answering)[-1][tab.inside.after]

    assert "(stopped)" in last
    assert "Le chat" in last
    assert engine.running == 0


def test_what_the_guard_wrote_again_is_said(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR))
    tab.open()
    record = {**tab.values[tab.parts.records][0], "rewritten": [{"text": "x", "language": "en"}]}
    tab.values[tab.parts.records] = [record]

    assert "Passages of it were written again" in tab.read()


def test_tags_in_an_answer_are_text(tab: Tab, engine: ScriptedEngine) -> None:
    engine.steered = "<b>Le</b> chat"
    tab.ask(Wish(FR))
    tab.open()

    first, *_, last = tab.runs.answer_again(tab.values)

    assert "&lt;b&gt;Le&lt;/b&gt; chat" in first[tab.inside.before]
    assert "<b>" not in first[tab.inside.before] + last[tab.inside.after] + tab.read()


def test_begin_and_settle_swap_the_buttons(tab: Tab) -> None:
    inside, runs = tab.inside, tab.runs
    begun, settled = runs.begin(), runs.settle("a turn")

    assert begun[inside.turn] != ""
    assert settled[inside.turn] == ""
    for running, other in ((inside.look_stop, inside.look), (inside.again_stop, inside.again)):
        assert (begun[running].visible, begun[other].visible) == (True, False)
        assert (settled[running].visible, settled[other].visible) == (False, True)


def test_an_english_answer_is_judged_by_what_was_chosen(tab: Tab, engine: ScriptedEngine) -> None:
    tab.ask(Wish(FR, level="off"))
    tab.open()
    first = next(iter(tab.runs.answer_again(tab.values)))[tab.inside.before]

    assert ENGLISH in first
    assert f"✗ {EN.english_name}, French was chosen" in first
