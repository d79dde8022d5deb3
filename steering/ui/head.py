"""What stands above all tabs: what the page is, which model answers, and how that model is.

Knows words, not what happens on the page.
"""

from dataclasses import dataclass
from html import escape

import gradio as gr

from steering.bundled import BUNDLED_TOPICS
from steering.loading import BUNDLED_MODEL
from steering.ui.making.panel import PanelParts, lay_out_panel
from steering.ui.strings import say


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above the tabs."""

    words: gr.HTML
    status: gr.HTML
    timer: gr.Timer
    panel: PanelParts | None  # where a missing neuron set is offered


def lay_out_head(model: str, *, has_set: bool) -> Head:
    """Make what stands above the tabs.

    Args:
        model: Name to show.
        has_set: Whether there is a set; without one, one is offered.
    """
    with gr.Column(elem_id="head"):
        words = gr.HTML(head_html(model, has_set=has_set), padding=False)
        status = gr.HTML(status_html(say("loading")), padding=False)
    panel = None if has_set else lay_out_panel()
    return Head(words, status, gr.Timer(0.5), panel)


def head_html(model: str, *, has_set: bool, locale: str = "en") -> str:
    """Return what the page is and which model answers, in the reader's language."""
    about = ""
    if model == BUNDLED_MODEL:
        about = say("toy", locale, topics=", ".join(BUNDLED_TOPICS))
    elif has_set:
        about = say("own_neurons", locale)
    return (
        f'<h1 dir="auto">{escape(say("promise", locale))}</h1><p dir="auto">'
        f"{escape(say('model', locale))}: <b>{escape(model)}</b>{escape(about)}</p>"
    )


def status_html(text: str) -> str:
    """Return what stands under the model's name, plain text given; read out when it changes."""
    return f'<p role="status" dir="auto">{escape(text)}</p>'
