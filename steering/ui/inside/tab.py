"""The tab "Look inside": a language's neurons, what fires in an answer, and answers without some.

Connects its components; what they do is `shown.py` and `runs.py`.
"""

from collections.abc import Callable, Iterator

import gradio as gr
from gradio.blocks import Block

from steering.ui.asking import Chat
from steering.ui.chat.layout import Parts
from steering.ui.events import CHECK, ON_MODEL, QUICK, Updates
from steering.ui.inside.layout import InsideParts, lay_out_inside
from steering.ui.inside.runs import InsideRuns
from steering.ui.inside.shown import Inside


def add_inside_tab(tab: gr.Tab, parts: Parts, chat: Chat) -> InsideParts:
    """Lay the tab out and connect it; call it inside *tab*.

    Args:
        tab: Is filled whenever it is opened; that runs no model.
        parts: The chat, for its answers and the choices above the tabs.
        chat: The engine, the set and the limits.
    """
    inside = lay_out_inside()
    _connect_showing(tab, parts, inside, Inside(parts, inside, chat))
    runs = InsideRuns(parts, inside, chat)
    given = {parts.chat, parts.records, inside.answer, inside.turn}
    _connect_run(
        (inside.look, inside.look_stop),
        inside,
        runs,
        (runs.check_reading, runs.read),
        (given | {inside.how}, [inside.reading]),
    )
    chosen = {
        inside.language, inside.group, inside.other, inside.layers, inside.is_unsteered,
    }  # fmt: skip
    _connect_run(
        (inside.again, inside.again_stop),
        inside,
        runs,
        (runs.check_again, runs.answer_again),
        (given | chosen, [inside.before, inside.after]),
    )
    return inside


def _connect_showing(tab: gr.Tab, parts: Parts, inside: InsideParts, shows: Inside) -> None:
    chosen: set[Block] = {inside.language, inside.group, inside.other, inside.layers}
    about = [inside.picture, inside.table, inside.table_note]
    layers = [inside.other, inside.layers]
    seen = {parts.chat, parts.records, parts.choices.language, inside.is_own, inside.titles}
    tab.select(
        shows.open,
        chosen | seen,
        [
            inside.words, inside.body, inside.language, inside.group, *about, *layers,
            inside.answer, inside.titles, inside.steps, inside.no_answer, inside.reading,
            inside.before, inside.after,
        ],
        **QUICK,
    )  # fmt: skip
    inside.language.input(shows.choose_language, chosen, [inside.is_own, *about, *layers], **QUICK)
    for changed in (inside.group.input, inside.other.input, inside.all_layers.click):
        changed(shows.choose_group, chosen, layers, **QUICK)
    inside.no_layer.click(shows.choose_no_layer, None, [inside.layers], **QUICK)


def _connect_run(
    buttons: tuple[gr.Button, gr.Button],
    inside: InsideParts,
    runs: InsideRuns,
    steps: tuple[Callable[..., None], Callable[..., Iterator[Updates]]],
    data: tuple[set[Block], list[Block]],
) -> None:
    """Check, begin, run and settle when a button is pressed; stop when the other is.

    Args:
        buttons: Which begins it, which stops it.
        inside: The components.
        runs: Their listeners.
        steps: What checks and what runs.
        data: Components to read, and components to fill.
    """
    (button, stop), (check, work), (inputs, outputs) = buttons, steps, data
    state = [
        inside.turn, inside.look, inside.again, inside.look_stop, inside.again_stop,
    ]  # fmt: skip
    begun = button.click(check, inputs, None, **CHECK).success(runs.begin, None, state, **QUICK)
    begun.failure(runs.give_up, None, None, **QUICK)
    done = begun.success(
        work, inputs, outputs, show_progress="hidden", api_visibility="private", **ON_MODEL
    )
    for ended in (done.success, done.failure):
        ended(runs.settle, inside.turn, state, **QUICK)
    stop.click(runs.stop, inside.turn, [inside.look_stop, inside.again_stop], **QUICK)
