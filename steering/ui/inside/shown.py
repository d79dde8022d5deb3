"""What the tab "Look inside" shows of a set and of the chat; nothing here runs the model.

Knows components and words, not hooks or tensors; what runs the model is `runs.py`.
"""

import functools
from typing import cast

import gradio as gr

from steering.languages import Language, parse_language
from steering.neuron_set import NeuronSet
from steering.report_card.card import ReportCard, make_report_card
from steering.ui.asking import NO_LANGUAGE, Chat
from steering.ui.chat.answers import list_answers
from steering.ui.chat.layout import Parts
from steering.ui.choices import language_choices
from steering.ui.events import Updates, Values
from steering.ui.inside.layout import InsideParts, group_choices
from steering.ui.inside.neuron_pictures import language_html, words_html
from steering.ui.inside.neuron_table import make_neuron_table
from steering.ui.inside.switching_off import Group, count_by_layer
from steering.ui.links import first_choice
from steering.ui.strings import locale_of, say
from steering.ui.wording import Refusal, errors_in_words


class Inside:
    """The listeners that show something; holds the components of one page."""

    def __init__(self, parts: Parts, inside: InsideParts, chat: Chat) -> None:
        self._parts, self._inside, self._chat = parts, inside, chat

    def open(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Fill the tab, as the set and the chat are by this time."""
        inside, locale = self._inside, locale_of(request)
        neurons = self._chat.set_in_use
        if neurons is None:
            words = words_html(say("inside_no_set", locale), locale)
            return {inside.words: words, inside.body: gr.Column(visible=False)}
        with errors_in_words("failed_show", locale):
            language = self._first_language(neurons, values)
            choices = language_choices(neurons.languages)[:-1]  # without the choice of none
            others = [code for _, code in choices if code != language.code]
            other = values[inside.other] or next(iter(others), None)
            has_control = neurons.control is not None
            return {
                inside.words: words_html(say("inside_intro", locale), locale),
                inside.body: gr.Column(visible=True),
                inside.language: gr.Dropdown(choices, value=language.code),
                inside.other: gr.Dropdown(choices, value=other),
                inside.group: gr.Radio(group_choices(has_control=has_control)),
                **self._show_language(neurons, language, locale),
                **self._list_answers(values, locale),
                **self._keep_layers(neurons, values, language),
            }

    def choose_language(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Show another language's neurons; from here on the tab goes its own way."""
        with errors_in_words("failed_show", locale_of(request)):
            neurons = set_in_use(self._chat)
            language = chosen_language(self._inside, neurons, values)
            return {
                self._inside.is_own: True,
                **self._show_language(neurons, language, locale_of(request)),
                **self._show_layers(neurons, values),
            }

    def choose_group(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Show which layers hold the neurons of a group, all of them chosen."""
        with errors_in_words("failed_show", locale_of(request)):
            return self._show_layers(set_in_use(self._chat), values)

    def choose_no_layer(self) -> Updates:
        """Choose no layer."""
        return {self._inside.layers: []}

    def _first_language(self, neurons: NeuronSet, values: Values) -> Language:
        """Return the language that the person chose here, else the one above the tabs."""
        here, above = values[self._inside.language], values[self._parts.choices.language]
        wanted = [str(here)] if values[self._inside.is_own] else []
        wanted += [] if above == NO_LANGUAGE else [str(above)]
        code = first_choice(neurons.languages, wanted)
        return parse_language(code, known=neurons.languages)

    def _show_language(self, neurons: NeuronSet, language: Language, locale: str) -> Updates:
        inside = self._inside
        table = make_neuron_table(neurons, language, locale)
        value = {"headers": list(table.headers), "data": table.rows}
        return {
            inside.picture: language_html(_card(neurons), language, locale),
            inside.table: gr.Dataframe(value, datatype=list(table.kinds), visible=bool(table.rows)),
            inside.table_note: words_html(table.note if table.rows else "", locale),
        }

    def _list_answers(self, values: Values, locale: str) -> Updates:
        """Offer the answers of the chat, at first the last; a choice among the same ones stays."""
        inside, parts = self._inside, self._parts
        answers = list_answers(values[parts.chat] or (), values[parts.records] or ())
        titles = [answer.title for answer in answers]
        choices = [(f"{place + 1}. {title}", place) for place, title in enumerate(titles)]
        none = "" if answers else say("inside_no_answer", locale)
        updates: Updates = {
            inside.no_answer: words_html(none, locale),
            inside.steps: gr.Column(visible=bool(answers)),
            inside.titles: titles,
        }
        if titles == values[inside.titles]:
            return updates
        last = len(answers) - 1 if answers else None
        return {
            **updates,
            inside.answer: gr.Dropdown(choices, value=last),
            inside.reading: "",
            inside.before: "",
            inside.after: "",
        }

    def _keep_layers(self, neurons: NeuronSet, values: Values, language: Language) -> Updates:
        """Show the layers' choices anew where the language is another than before."""
        inside = self._inside
        if values[inside.language] == language.code:
            return {}
        return self._show_layers(neurons, {**values, inside.language: language.code})

    def _show_layers(self, neurons: NeuronSet, values: Values) -> Updates:
        inside = self._inside
        group, language = chosen_group(inside, neurons, values)
        counts = count_by_layer(neurons, group, language)
        choices = [(f"{layer} ({count:,})", layer) for layer, count in counts.items()]
        return {
            inside.other: gr.Dropdown(visible=group == "other"),
            inside.layers: gr.CheckboxGroup(choices, value=list(counts)),
        }


@functools.lru_cache(maxsize=2)
def _card(neurons: NeuronSet) -> ReportCard:
    """Return a set's card; counting the pairs of a large set takes a moment."""
    return make_report_card(neurons)


def set_in_use(chat: Chat) -> NeuronSet:
    """Return the set that answers are steered with.

    Raises:
        Refusal: If there is none.
    """
    if chat.set_in_use is None:
        raise Refusal("inside_no_set")
    return chat.set_in_use


def chosen_language(inside: InsideParts, neurons: NeuronSet, values: Values) -> Language:
    """Return the language that is looked at."""
    return parse_language(str(values[inside.language]), known=neurons.languages)


def chosen_group(inside: InsideParts, neurons: NeuronSet, values: Values) -> tuple[Group, Language]:
    """Return the group that is to be switched off, and the language that it is of."""
    group = str(values[inside.group])
    if group not in ("own", "all", "other", "random"):
        raise Refusal("unknown_group")
    named = inside.other if group == "other" else inside.language
    language = parse_language(str(values[named]), known=neurons.languages)
    return cast(Group, group), language
