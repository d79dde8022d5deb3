"""The tab "Compare": one question, three answers side by side; and the endpoint `/compare`.

Lays the components out and connects them. Knows neither steering nor how answers are shown.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.events import api

from steering.bundled import BUNDLED_QUESTIONS
from steering.loading import BUNDLED_MODEL
from steering.ui.asking import Chat, Wish
from steering.ui.choices import Choices
from steering.ui.compare.comparison import (
    Comparison,
    Question,
    compare,
    make_readers,
    read_question,
    to_json,
)
from steering.ui.compare.comparison_html import comparison_html, empty_html
from steering.ui.events import CHECK, ON_MODEL, QUICK, Updates, Values
from steering.ui.head import status_html
from steering.ui.parameters import check_seed, refuse_other_kinds
from steering.ui.scripts import in_place
from steering.ui.sessions import OpenSessions, StopSigns
from steering.ui.strings import in_locale, label, locale_of, say
from steering.ui.wording import errors_for_programs, errors_in_words, failure_html, tell

_SETTLE_S = 0.5  # by then a comparison that has shown its last word has ended


@dataclass(frozen=True, slots=True)
class CompareParts:
    """The components that listeners use."""

    intro: gr.HTML
    box: gr.Textbox
    run: gr.Button
    stop: gr.Button
    status: gr.HTML
    results: gr.HTML


def add_compare_tab(page: gr.Blocks, choices: Choices, chat: Chat, *, model: str) -> None:
    """Add the tab's components, listeners and endpoint; call it inside a `gr.Tab` of *page*.

    Args:
        page: Says when it is opened, and by whom.
        choices: Above all tabs.
        chat: The engine, the neuron set and the limits.
        model: Name; the bundled one has example questions.
    """
    parts = _lay_out(BUNDLED_QUESTIONS if model == BUNDLED_MODEL else ())
    tab = CompareListeners(parts, choices, chat)
    page.load(tab.greet, None, [parts.intro, parts.results], **QUICK)
    values: set[Block] = {parts.box, *choices.all()}
    for sent in (parts.run.click, parts.box.submit):
        checked = sent(tab.check, values, None, **CHECK)
        written = checked.success(
            tab.write,
            values,
            [parts.run, parts.stop, parts.status, parts.results],
            show_progress="hidden",
            api_visibility="private",
            **ON_MODEL,
        )
        written.failure(tab.give_up, None, [parts.run, parts.stop], **QUICK)  # such as a full queue
    parts.stop.click(tab.stop, None, parts.stop, **QUICK)
    api(make_compare_endpoint(chat), api_name="compare", **ON_MODEL)


def _lay_out(questions: tuple[str, ...]) -> CompareParts:
    intro = gr.HTML(_intro_html("en"), padding=False, elem_id="compare-intro")
    with gr.Row(elem_id="compare-ask", equal_height=False):
        box = gr.Textbox(
            label=label("compare_question"),
            placeholder=label("message_placeholder"),
            max_lines=6,
            scale=5,
            min_width=200,
            elem_id="compare-box",
        )
        run = gr.Button(
            label("compare_run"), variant="primary", scale=1, min_width=110,
            elem_classes=in_place("compare"),
        )  # fmt: skip
        stop = gr.Button(
            label("stop"), variant="stop", visible=False, scale=1, min_width=110,
            elem_classes=in_place("compare"),
        )  # fmt: skip
    if questions:
        with gr.Row(elem_id="compare-examples"):
            for question in questions:
                _fill_on_click(gr.Button(question, size="sm", min_width=110), question, box)
    status = gr.HTML(status_html(""), padding=False, elem_id="compare-status")
    results = gr.HTML(empty_html("en"), padding=False, elem_id="compare-results")
    return CompareParts(intro, box, run, stop, status, results)


def _fill_on_click(button: gr.Button, question: str, box: gr.Textbox) -> None:
    """Have the browser put a question where one is written."""
    button.click(None, None, box, js=f"() => {json.dumps(question)}", **QUICK)


class CompareListeners:
    """The listeners of the tab; holds its components, and which comparisons are to stop.

    A session compares one question at a time, so that its id says which one is meant.
    """

    def __init__(self, parts: CompareParts, choices: Choices, chat: Chat) -> None:
        self._parts, self._choices, self._chat = parts, choices, chat
        self._stops = StopSigns()
        self._sessions = OpenSessions()

    def greet(self, request: gr.Request | None = None) -> Updates:
        """Say what the tab is, in the browser's language."""
        locale = locale_of(request)
        return {
            self._parts.intro: _intro_html(locale),
            self._parts.results: empty_html(locale),
        }

    def check(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse what cannot be compared, and a question while another one is answered."""
        with errors_in_words("failed_ask", locale_of(request)):
            self._read_question(values)
            self._sessions.enter(request, wait_s=_SETTLE_S)

    def write(self, values: Values, request: gr.Request | None = None) -> Iterator[Updates]:
        """Stream the three answers, and make ready for the next question.

        What goes wrong stands where the answers would: an error raised here would pass by.
        """
        parts, locale, session = self._parts, locale_of(request), _session_of(request)
        self._stops.take_down(session)  # asked for after the last comparison's last word
        status = ""
        try:
            yield {parts.run: gr.Button(visible=False), parts.stop: gr.Button(visible=True)}
            question = self._read_question(values)
            readers = make_readers(self._chat, question)
            for comparison in self._answers(question, session):
                shown = {parts.results: comparison_html(comparison, self._chat, readers, locale)}
                last, status = status, self._status(comparison, locale)
                if status != last:  # it is read out when it changes
                    shown[parts.status] = status_html(status)
                yield shown
            yield self._ready()
        except Exception as err:
            failure = failure_html(tell("failed_answer", err, locale), locale)
            yield {
                parts.results: f'<p class="line">{failure}</p>{empty_html(locale)}',
                parts.status: status_html(say("compare_failed", locale)),
                **self._ready(),
            }
        finally:
            self._stops.take_down(session)
            self._sessions.leave(request)

    def stop(self, request: gr.Request | None = None) -> gr.Button:
        """Ask the session's comparison to stop; it marks its answers itself."""
        self._stops.ask(_session_of(request))
        return gr.Button(label("stopping"), interactive=False)

    def give_up(self, request: gr.Request | None = None) -> Updates:
        """Let the session ask again where a comparison could not even begin."""
        self._sessions.leave(request)
        return self._ready()

    def _answers(self, question: Question, session: str) -> Iterator[Comparison]:
        return compare(self._chat, question, is_stopped=lambda: self._stops.is_asked(session))

    def _read_question(self, values: Values) -> Question:
        wish = self._choices.read(
            [values[component] for component in self._choices.all()], self._chat
        )
        return read_question(values[self._parts.box] or "", wish)

    def _status(self, comparison: Comparison, locale: str) -> str:
        """Say in words how it stands."""
        update = comparison.update
        if comparison.is_finished:
            is_stopped = "stopped" in update.finish_reasons
            return say("compare_stopped" if is_stopped else "compare_finished", locale)
        if not self._chat.engine.is_ready:
            return say("loading", locale)
        if update.place:
            return say("waiting", locale, place=update.place)
        return say("writing", locale)

    def _ready(self) -> Updates:
        return {
            self._parts.run: gr.Button(visible=True),
            self._parts.stop: gr.Button(label("stop"), visible=False, interactive=True),
        }


def make_compare_endpoint(chat: Chat) -> Callable[..., Iterator[dict[str, Any]]]:
    """Return what `/compare` calls; its signature and docstring are the API's documentation."""
    sessions = OpenSessions()

    def compare_answers(
        message: str,
        language: str,
        steering: str = "normal",
        guard: bool = True,
        temperature: float = 0.0,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Answer a message three ways at once: steered, told the language in words, left alone.

        Streams how far the answers are; the last is the finished one (`is_finished`). Under
        `answers` stand `steered`, `instructed` and `plain`, each with what was `asked`, its
        `text`, the `verdict` on it (on_target, off_target, too_short, no_language), the language
        `detected`, its `sentences` with their languages, `tokens`, `tokens_per_s`, how it `ended`
        and `notes`. One request per session at a time.

        Args:
            message: The message, in any language.
            language: Code of the answers' language, such as `fr`.
            steering: off, gentle, normal or strong.
            guard: Whether a passage of the steered answer in another language is written again.
            temperature: 0 takes the likeliest token, always.
            seed: Of what is drawn, the same for all three.
            request: Who asks; filled in by gradio.
        """
        with errors_for_programs(), sessions.answering(request):
            refuse_other_kinds({"message": message}, str, "a text")
            refuse_other_kinds({"guard": guard}, bool, "true or false")
            refuse_other_kinds({"temperature": temperature}, (int, float), "a number")
            check_seed(seed)
            rest = Wish(None, has_guard=guard, temperature=temperature, seed=seed)
            question = read_question(message, chat.read_wish(language, steering, rest))
            readers = make_readers(chat, question)
            for comparison in compare(chat, question):
                yield to_json(comparison, chat, readers)

    return compare_answers


def _intro_html(locale: str) -> str:
    return in_locale(f"<p>{escape(say('compare_intro', locale))}</p>", locale)


def _session_of(request: gr.Request | None) -> str:
    return (request and request.session_hash) or ""
