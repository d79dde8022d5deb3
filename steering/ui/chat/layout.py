"""Lays the chat tab out: which components there are, and what stands on them.

Knows words, not what happens when a button is pressed (`listeners.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from steering.bundled import BUNDLED_QUESTIONS
from steering.loading import BUNDLED_MODEL
from steering.ui.choices import Choices
from steering.ui.head import Head
from steering.ui.scripts import in_place
from steering.ui.strings import label, say

# Where the browser keeps the chat and the choices. Gradio enciphers it, by a key that has to
# outlive the server; it is no secret, as whoever can read the browser's storage can read the page.
_KEPT_AS, _CHOICES_KEPT_AS, _KEPT_BY = "langsteer.chat", "langsteer.choices", "langsteer"


@dataclass(frozen=True, slots=True)
class Parts:
    """The components of the chat that listeners use."""

    head: Head
    choices: Choices
    chat: gr.Chatbot
    box: gr.Textbox
    send: gr.Button
    stop: gr.Button
    new_chat: gr.Button
    as_json: gr.Button
    as_markdown: gr.Button
    wish: gr.State  # what the running or last answer was asked with
    turn: gr.State  # id of the running turn; empty when none runs
    edited: gr.State  # which question is asked in other words, and these
    records: gr.State  # what each answer was made with
    kept: gr.BrowserState  # the chat and its records, across reloads
    kept_choices: gr.BrowserState  # what somebody chose last, as in a link


def lay_out_chat(head: Head, choices: Choices, model: str) -> Parts:
    """Make the components of the chat, inside a tab."""
    chat = _chatbot(model)
    with gr.Row(elem_id="ask", equal_height=True):
        box = gr.Textbox(
            label=label("message"),
            show_label=False,
            placeholder=label("message_placeholder"),
            max_lines=6,
            interactive=False,  # until it is known what the link and the browser wish
            scale=5,
            min_width=200,
            elem_id="box",
        )
        send = gr.Button(
            label("loading_model"), variant="primary", interactive=False, scale=1, min_width=110,
            elem_classes=in_place("chat"),
        )  # fmt: skip
        stop = gr.Button(
            label("stop"), variant="stop", visible=False, scale=1, min_width=110,
            elem_classes=in_place("chat"),
        )  # fmt: skip
    with gr.Row(elem_id="after"):
        names = ("new_chat", "download_json", "download_markdown")
        new_chat, as_json, as_markdown = (
            gr.Button(label(name), size="sm", min_width=110) for name in names
        )
    return Parts(
        head, choices, chat, box, send, stop, new_chat, as_json, as_markdown,
        wish=gr.State(None), turn=gr.State(""), edited=gr.State(None),
        records=gr.State([]),
        kept=gr.BrowserState(None, storage_key=_KEPT_AS, secret=_KEPT_BY),
        kept_choices=gr.BrowserState(None, storage_key=_CHOICES_KEPT_AS, secret=_KEPT_BY),
    )  # fmt: skip


def invitation(model: str, locale: str = "en") -> str:
    """Return what an empty chat says, in the reader's language."""
    return say("first_question", locale) if _questions(model) else ""


def _questions(model: str) -> Sequence[str]:
    return BUNDLED_QUESTIONS if model == BUNDLED_MODEL else ()


def _chatbot(model: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=label("answers"),
        elem_id="chat",
        height="min(50vh, 520px)",
        layout="bubble",
        editable="user",
        buttons=["copy"],
        feedback_options=None,
        placeholder=invitation(model),
        examples=[{"text": question} for question in _questions(model)],
    )
