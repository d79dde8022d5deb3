"""The tab "Does it work?": what was measured with the neuron set, and prompts run live.

Lays the components out and connects them. Knows neither numbers nor the engine.
"""

import shlex
from pathlib import Path

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from steering.errors import SettingsError
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set
from steering.ui.asking import Chat
from steering.ui.choices import Choices
from steering.ui.downloading import download_on_click
from steering.ui.events import CHECK, ON_MODEL, QUICK
from steering.ui.results.live_html import intro_html
from steering.ui.results.live_runs import LiveRuns, RunParts
from steering.ui.results.measured import Results, read_results, results_path
from steering.ui.results.measured_html import nothing_html, results_html, unread_html
from steering.ui.results.own_prompts import ENDINGS, LIMIT_BYTES
from steering.ui.scripts import in_place
from steering.ui.strings import label, locale_of, say
from steering.ui.uploading import pick_js
from steering.ui.wording import tell


def add_results_tab(
    page: gr.Blocks, tab: gr.Tab, choices: Choices, chat: Chat, *, model: str
) -> None:
    """Add what is in the tab; call it inside the tab.

    Args:
        page: The page that is being built.
        tab: The tab itself.
        choices: Those above all tabs.
        chat: The engine, the neuron set or who makes it, and the limits.
        model: Its name.
    """
    measured = Measurements(chat, model)
    with gr.Column(elem_classes="results"):
        shown = gr.HTML(padding=False)
        intro = gr.HTML(intro_html("en"), padding=False)
        parts = _lay_out_run(choices)
    page.load(measured.show, None, shown, **QUICK)
    tab.select(measured.show, None, shown, **QUICK)  # the set may have been found meanwhile
    page.load(_show_intro, None, intro, **QUICK)
    _connect_run(parts, LiveRuns(parts, chat, model))


class Measurements:
    """What was measured with the set that is loaded, in words for whoever opens the page."""

    def __init__(self, chat: Chat, model: str) -> None:
        self._chat, self._model = chat, model
        self._hashed: tuple[NeuronSet, str] | None = None

    def show(self, request: gr.Request | None = None) -> str:
        """Return the results beside the set, or why there are none, as HTML."""
        locale = locale_of(request)
        neuron_set = self._chat.path_in_use
        if neuron_set is None:
            return nothing_html(None, "", locale)
        path = results_path(neuron_set)
        try:
            results = read_results(path)
        except SettingsError as err:
            return unread_html(tell("failed_results", err, locale), locale)
        if results is None:
            return nothing_html(path.name, self._command(neuron_set), locale)
        return results_html(results, warnings=self._warnings(results, locale), locale=locale)

    def _command(self, neuron_set: Path) -> str:
        """Return the command that makes the results, without the server's folders."""
        words = ["--model", self._model, "--neuron-set", neuron_set.name]
        words += ["--json", results_path(neuron_set).name]
        return f"python -m steering evaluate forcing {shlex.join(words)}"

    def _warnings(self, results: Results, locale: str) -> list[str]:
        """Say why the results may not hold for what is loaded."""
        warnings = []
        neurons = self._chat.set_in_use
        made_for = neurons.metadata.model_id if neurons is not None else self._model
        if results.model not in (self._model, made_for):
            warnings.append(
                say("results_other_model", locale, measured=results.model, loaded=self._model)
            )
        if results.neuron_set_sha256 is None:
            warnings.append(say("results_unknown_set", locale))
        elif neurons is not None and results.neuron_set_sha256 != self._hash(neurons):
            warnings.append(say("results_other_set", locale))
        return warnings

    def _hash(self, neurons: NeuronSet) -> str:
        if self._hashed is None or self._hashed[0] is not neurons:
            self._hashed = neurons, hash_neuron_set(neurons)
        return self._hashed[1]


def _show_intro(request: gr.Request) -> str:
    return intro_html(locale_of(request))


def _lay_out_run(choices: Choices) -> RunParts:
    with gr.Row(elem_classes="run-buttons"):
        swapped = in_place("results")
        examples = gr.Button(
            label("live_run"), variant="primary", min_width=180, elem_classes=swapped
        )
        pick = gr.Button(label("own_pick"), min_width=180)
        own = gr.Button(label("own_run"), min_width=180, interactive=False, elem_classes=swapped)
        stop = gr.Button(
            label("stop"), variant="stop", visible=False, min_width=110, elem_classes=swapped
        )
    info, progress, shown = (gr.HTML(padding=False) for _ in range(3))
    with gr.Row():
        as_csv = gr.Button(label("verdicts_csv"), size="sm", min_width=150, visible=False)
        as_json = gr.Button(label("verdicts_json"), size="sm", min_width=150, visible=False)
    return RunParts(
        choices, examples, pick, own, stop, info, progress, shown, as_csv, as_json,
        picked=gr.State(()), asked=gr.State(()), wish=gr.State(None), run=gr.State(""),
        answered=gr.State(()), made_with=gr.State(None),
    )  # fmt: skip


def _connect_run(parts: RunParts, runs: LiveRuns) -> None:
    values: set[Block] = {parts.picked, parts.run, *parts.choices.all()}
    checked = parts.examples.click(runs.check_examples, values, None, **CHECK)
    _finish_run(parts, runs, checked.success(runs.begin_examples, values, parts.begun(), **QUICK))
    checked = parts.own.click(runs.check_own, values, None, **CHECK)
    _finish_run(parts, runs, checked.success(runs.begin_own, values, parts.begun(), **QUICK))
    parts.stop.click(runs.stop, parts.run, parts.stop, **QUICK)
    told = gr.Textbox(visible="hidden")
    parts.pick.click(
        runs.read_file,
        told,
        [parts.picked, parts.info, parts.own],
        js=pick_js(accept=ENDINGS, limit_bytes=LIMIT_BYTES),
        **QUICK,
    )
    answered = [parts.answered]
    download_on_click(parts.as_csv, runs.as_csv, answered, name="langsteer-verdicts.csv")
    download_on_click(
        parts.as_json, runs.as_json, [*answered, parts.made_with], name="langsteer-verdicts.json"
    )


def _finish_run(parts: RunParts, runs: LiveRuns, begun: Dependency) -> None:
    """Answer the prompts of a run that has begun, then make ready for the next."""
    begun.failure(runs.give_up, None, None, **QUICK)
    answered = begun.success(
        runs.answer,
        [parts.asked, parts.wish, parts.run],
        [parts.progress, parts.shown, parts.answered],
        show_progress="hidden",
        api_visibility="private",
        **ON_MODEL,
    )
    for ended in (answered.success, answered.failure):
        ended(runs.settle, [parts.answered, parts.picked, parts.run], parts.settled(), **QUICK)
