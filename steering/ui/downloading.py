"""Hands the browser a text as a file, without a file on the server."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component


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


def _save_js(name: str) -> str:
    """Return the function of the browser that saves a text."""
    return (
        "(text) => { const link = document.createElement('a'); "
        "link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain;charset=utf-8'})); "
        f"link.download = {json.dumps(name)}; link.click(); "
        "setTimeout(() => URL.revokeObjectURL(link.href), 1000); }"
    )
