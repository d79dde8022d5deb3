"""Lays the page out: which components there are, and what stands on them.

Knows languages and words, not what happens when a button is pressed (`listeners.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from steering.bundled import BUNDLED_QUESTIONS, BUNDLED_TOPICS
from steering.languages import Language
from steering.loading import BUNDLED_MODEL
from steering.ui.chat import NO_LANGUAGE
from steering.ui.set_panel import PanelParts, lay_out_panel

LEVELS = [("Off", "off"), ("Gentle", "gentle"), ("Normal", "normal"), ("Strong", "strong")]
SEND, LOADING = "Send", "Loading the model …"

_PROMISE = "Pick a language. Ask in any language. The answer comes in yours."
_TOY = (
    "a toy that comes with the program, so that everybody can try it. "
    f"It knows a few topics only: {', '.join(BUNDLED_TOPICS)}."
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The components that listeners use."""

    language: gr.Dropdown
    level: gr.Radio
    compare: gr.Checkbox
    guard: gr.Checkbox
    chat: gr.Chatbot
    twin_column: gr.Column
    twin: gr.Chatbot
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    retry: gr.Button
    new_chat: gr.Button
    status: gr.HTML
    timer: gr.Timer
    wish: gr.State  # what the running or last answer was asked with
    turn: gr.State  # id of the running turn; empty when none runs
    panel: PanelParts | None  # where a missing neuron set is offered


def lay_out(languages: Sequence[Language], model: str, *, has_set: bool = True) -> Parts:
    """Make the components, inside a `gr.Blocks`.

    Args:
        languages: To choose from.
        model: Name to show.
        has_set: Whether there is a set; without one, choices wait until `set_panel` fills them.
    """
    with gr.Column(elem_id="head"):
        gr.HTML(_head_html(model, has_set=has_set), padding=False)
        status = gr.HTML(status_html(LOADING), padding=False)
    panel = None if has_set else lay_out_panel()
    with gr.Row(elem_id="choices"):
        language = gr.Dropdown(
            language_choices(languages if has_set else ()),
            value=first_choice(languages) if has_set else NO_LANGUAGE,
            label="Answer language",
            min_width=220,
            interactive=has_set,
        )
        level = gr.Radio(
            LEVELS, value="normal", label="Steering", min_width=280, interactive=has_set
        )
    compare, guard = _checkboxes(is_open=has_set)
    with gr.Row(elem_id="answers"):
        with gr.Column(min_width=300):
            chat = _chatbot("Answers", "chat", questions=_questions(model))
        with gr.Column(min_width=300, visible=False) as twin_column:
            twin = _chatbot("Without steering", "twin", questions=())
    with gr.Row(elem_id="ask", equal_height=True):
        box = gr.Textbox(
            label="Message",
            show_label=False,
            placeholder="Write in any language, Enter sends",
            max_lines=6,
            scale=5,
            min_width=200,
            elem_id="box",
        )
        send = gr.Button(LOADING, variant="primary", interactive=False, scale=1, min_width=110)
        stop = gr.Button("Stop", variant="stop", visible=False, scale=1, min_width=110)
    with gr.Row():
        retry = gr.Button("Ask again", size="sm", min_width=120)
        new_chat = gr.Button("New chat", size="sm", min_width=120)
    return Parts(
        language=language, level=level, compare=compare, guard=guard, chat=chat,
        twin_column=twin_column, twin=twin, box=box, send=send, stop=stop, retry=retry,
        new_chat=new_chat, status=status,
        timer=gr.Timer(0.5), wish=gr.State(None), turn=gr.State(""), panel=panel,
    )  # fmt: skip


def _checkboxes(*, is_open: bool) -> tuple[gr.Checkbox, gr.Checkbox]:
    """Make what is to be shown beside the answer, and what is to be done about one that drifts."""
    with gr.Row(elem_id="compare"):
        compare = gr.Checkbox(
            label="Also show the answer without steering", container=False, interactive=is_open
        )
        guard = gr.Checkbox(
            value=True,
            label="Write a passage again when it is in another language",
            container=False,
            interactive=is_open,
        )
    return compare, guard


def language_choices(languages: Sequence[Language]) -> list[tuple[str, str]]:
    """Return label and code of every choice, by English name, then the choice of none."""
    named = [
        (
            language.english_name
            if language.native_name == language.english_name
            else f"{language.native_name} ({language.english_name})",
            language.code,
        )
        for language in sorted(languages, key=lambda language: language.english_name)
    ]
    return [*named, ("No forced language", NO_LANGUAGE)]


def status_html(text: str) -> str:
    """Return what stands under the model's name, plain text given; read out when it changes."""
    return f'<p role="status">{escape(text)}</p>'


def first_choice(languages: Sequence[Language]) -> str:
    """French where there is French, else the first that is not English."""
    codes = [language.code for language in languages]
    return "fr" if "fr" in codes else next(code for code in codes if code != "en")


def _questions(model: str) -> Sequence[str]:
    return BUNDLED_QUESTIONS if model == BUNDLED_MODEL else ()


def _head_html(model: str, *, has_set: bool) -> str:
    own = ", steered by its own neurons as it writes." if has_set else ""
    about = f", {_TOY}" if model == BUNDLED_MODEL else own
    return f"<h1>{escape(_PROMISE)}</h1><p>Model: <b>{escape(model)}</b>{escape(about)}</p>"


def _chatbot(label: str, name: str, *, questions: Sequence[str]) -> gr.Chatbot:
    return gr.Chatbot(
        label=label,
        elem_id=name,
        height="min(50vh, 520px)",
        layout="bubble",
        buttons=[],
        feedback_options=None,
        placeholder="Ask something, or pick a question." if questions else "",
        examples=[{"text": question} for question in questions],
    )
