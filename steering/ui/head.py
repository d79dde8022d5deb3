"""What stands above all tabs: what the page is, which model answers, and how that model is.

Knows words, not what happens on the page.
"""

from dataclasses import dataclass
from html import escape

import gradio as gr

from steering.bundled import REAL_MODEL
from steering.loading import BUNDLED_MODEL
from steering.ui.making.panel import PanelParts, lay_out_panel
from steering.ui.strings import Told, as_html, in_locale, say


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
        about = say("toy", locale, topics=say("toy_topics", locale))
        about += " " + say("real_model", locale, setting=f"LANGSTEER_MODEL={REAL_MODEL}")
    elif has_set:
        about = say("own_neurons", locale)
    return in_locale(
        f"<h1>{escape(say('promise', locale))}</h1>"
        f"<p>{escape(say('model', locale))}: <bdi><b>{escape(model)}</b></bdi>{escape(about)}</p>",
        locale,
    )


def status_html(words: str | Told) -> str:
    """Return what stands under the model's name; it is read out when it changes."""
    return f'<p role="status" dir="auto">{as_html(words)}</p>'
