"""Hands the browser a text to save or to copy, without a file on the server."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from steering.ui.chat.messages import said_in


def download_on_click(
    button: gr.Button,
    make: Callable[..., str],
    inputs: Sequence[Component] = (),
    *,
    name: str,
) -> None:
    """Have the browser save what *make* returns when a button is pressed.

    Args:
        button: The button.
        make: Makes the text of the inputs' values.
        inputs: Components.
        name: Of the file.
    """
    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    carrier = gr.Textbox(visible="hidden")
    made = button.click(make, list(inputs), carrier, queue=False, **hidden)
    made.success(None, carrier, None, js=_save_js(name), **hidden)


def copy_plainly(chat: gr.Chatbot) -> None:
    """Have the copy button copy what was said: gradio copies the marks and the badge as well."""

    def read(event: gr.CopyData) -> str:
        return said_in(str(event.value))

    hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    carrier = gr.Textbox(visible="hidden")
    copied = chat.copy(read, None, carrier, queue=False, **hidden)
    copied.success(
        None, carrier, None, js="(text) => { navigator.clipboard.writeText(text) }", **hidden
    )


def _save_js(name: str) -> str:
    """Return the function of the browser that saves a text."""
    return (
        "(text) => { const link = document.createElement('a'); "
        "link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain;charset=utf-8'})); "
        f"link.download = {json.dumps(name)}; link.click(); "
        "setTimeout(() => URL.revokeObjectURL(link.href), 1000); }"
    )
