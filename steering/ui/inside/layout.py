"""Lays the tab "Look inside" out: which components there are, and what stands on them.

Knows words, not what happens when a button is pressed (`shown.py`, `runs.py`).
"""

from dataclasses import dataclass

import gradio as gr
from gradio.i18n import I18nData

from steering.ui.scripts import in_place
from steering.ui.strings import label


@dataclass(frozen=True, slots=True)
class InsideParts:
    """The components that listeners use, from top to bottom."""

    words: gr.HTML  # what the tab is about, or that there is no set
    body: gr.Column  # everything else; unseen without a set
    language: gr.Dropdown
    is_own: gr.State  # whether the person chose a language here
    picture: gr.HTML
    table: gr.Dataframe
    table_note: gr.HTML
    answer: gr.Dropdown
    titles: gr.State  # of the answers in the list
    steps: gr.Column  # what can be done with an answer; unseen while there is none
    no_answer: gr.HTML
    how: gr.Radio
    look: gr.Button
    look_stop: gr.Button
    reading: gr.HTML
    group: gr.Radio
    other: gr.Dropdown
    layers: gr.CheckboxGroup
    all_layers: gr.Button
    no_layer: gr.Button
    is_unsteered: gr.Checkbox
    again: gr.Button
    again_stop: gr.Button
    before: gr.HTML
    after: gr.HTML
    turn: gr.State  # id of what is running; empty when nothing is


def lay_out_inside() -> InsideParts:
    """Make the components, inside the tab; they are filled when it is opened."""
    words = gr.HTML(padding=False, elem_classes="inside")
    with gr.Column(visible=False) as body:
        language = gr.Dropdown(
            [], label=label("inside_language"), filterable=True, elem_id="inside-language"
        )
        picture = gr.HTML(padding=False, elem_classes="inside")
        table = gr.Dataframe(
            label=label("inside_table"),
            interactive=False,
            show_search="search",
            max_height=360,
            buttons=["fullscreen"],
            elem_id="inside-table",
        )
        table_note = gr.HTML(padding=False, elem_classes="inside")
        no_answer = gr.HTML(padding=False, elem_classes="inside")
        with gr.Column(visible=False) as steps:
            answer = gr.Dropdown([], label=label("inside_answer"), elem_id="inside-answer")
            how, look, look_stop, reading = _lay_out_look()
            group, other, layers, all_layers, no_layer = _lay_out_neurons()
            is_unsteered, again, again_stop, before, after = _lay_out_again()
    return InsideParts(
        words, body, language, gr.State(False), picture, table, table_note, answer, gr.State([]),
        steps, no_answer, how, look, look_stop, reading, group, other, layers, all_layers,
        no_layer, is_unsteered, again, again_stop, before, after, turn=gr.State(""),
    )  # fmt: skip


def _lay_out_look() -> tuple[gr.Radio, gr.Button, gr.Button, gr.HTML]:
    how = gr.Radio(
        [(label("inside_how_steered"), "steered"), (label("inside_how_plain"), "plain")],
        value="steered",
        label=label("inside_how"),
    )
    swapped = in_place("look")
    look = gr.Button(label("inside_look"), variant="primary", elem_classes=swapped)
    stop = gr.Button(label("stop"), variant="stop", visible=False, elem_classes=swapped)
    return how, look, stop, gr.HTML(padding=False, elem_id="inside-reading", elem_classes="inside")


def _lay_out_neurons() -> tuple[gr.Radio, gr.Dropdown, gr.CheckboxGroup, gr.Button, gr.Button]:
    """Make what chooses the neurons to switch off."""
    group = gr.Radio(group_choices(has_control=True), value="own", label=label("inside_off_group"))
    other = gr.Dropdown([], label=label("inside_off_other_language"), visible=False)
    layers = gr.CheckboxGroup([], label=label("inside_off_layers"), elem_id="inside-layers")
    with gr.Row():
        all_layers, no_layer = (
            gr.Button(label(f"inside_off_{name}"), size="sm", min_width=120)
            for name in ("all_layers", "no_layer")
        )
    return group, other, layers, all_layers, no_layer


def _lay_out_again() -> tuple[gr.Checkbox, gr.Button, gr.Button, gr.HTML, gr.HTML]:
    """Make what answers without them, and where the two answers stand side by side."""
    is_unsteered = gr.Checkbox(label=label("inside_off_unsteered"))
    swapped = in_place("again")
    again = gr.Button(label("inside_off_run"), variant="primary", elem_classes=swapped)
    stop = gr.Button(label("stop"), variant="stop", visible=False, elem_classes=swapped)
    with gr.Row():
        with gr.Column(min_width=280):
            before = gr.HTML(padding=False, elem_id="inside-before", elem_classes="inside")
        with gr.Column(min_width=280):
            after = gr.HTML(padding=False, elem_id="inside-after", elem_classes="inside")
    return is_unsteered, again, stop, before, after


def group_choices(*, has_control: bool) -> list[tuple[str | I18nData, str | int | float]]:
    """Return label and name of the groups that can be switched off."""
    names = ("own", "all", "other", "random") if has_control else ("own", "all", "other")
    return [(label(f"inside_off_{name}"), name) for name in names]
