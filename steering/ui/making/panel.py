"""The panel that offers to make a missing neuron set: its components, and what it says.

Knows words and how far the making is, not who makes it (`maker.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from steering.languages import Language
from steering.ui.making.maker import Making

MAKE, STOP = "Make the neuron set", "Stop making it"


@dataclass(frozen=True, slots=True)
class PanelParts:
    """The components that listeners use."""

    column: gr.Column
    words: gr.HTML
    make: gr.Button
    stop: gr.Button
    timer: gr.Timer
    seen: gr.State  # what this page has shown of it: nothing, the offer, or the set


def lay_out_panel() -> PanelParts:
    """Make the components, unseen until it is known that there is no set."""
    with gr.Column(elem_id="making", visible=False) as column:
        words = gr.HTML(padding=False)
        make = gr.Button(MAKE, variant="primary", size="sm")
        stop = gr.Button(STOP, variant="stop", size="sm", visible=False)
    return PanelParts(column, words, make, stop, timer=gr.Timer(0.5), seen=gr.State(""))


def panel_html(making: Making, *, languages: Sequence[Language], questions: int) -> str:
    """Return what the panel says.

    Args:
        making: How far it is.
        languages: Those of a new set.
        questions: How many there are per language.
    """
    if making.stage in ("making", "stopping"):
        return _progress_html(making)
    if making.stage == "ready":
        return (
            '<p role="status"><b>The neuron set is ready.</b> Pick an answer language. '
            f"{escape(making.words)}</p>"
        )
    names = ", ".join(language.english_name for language in languages)
    takes = (
        "How long that takes is being measured …"
        if making.seconds_left is None
        else f"That takes about {duration(making.seconds_left)} on this machine."
    )
    trouble = f'<p class="trouble" role="status">{escape(making.words)}</p>' if making.words else ""
    return (
        "<h2>This model has no neuron set yet</h2>"
        "<p>Until it has one, it answers in whatever language it likes. One can be made with "
        f"nothing but the model: it is asked {questions} everyday questions in each of "
        f"{len(languages)} languages ({escape(names)}), and what its neurons do is recorded on "
        f"the answers that are in the language asked for. {takes} You can chat meanwhile, and "
        "stop at any time. The set is kept for the next start.</p>"
        f"{trouble}"
    )


def duration(seconds: float) -> str:
    """Return a duration in words, no finer than anybody can know it."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def _progress_html(making: Making) -> str:
    left = "" if making.seconds_left is None else f", about {duration(making.seconds_left)} left"
    return (
        "<h2>Making the neuron set</h2>"
        f'<progress aria-label="Making the neuron set" value="{making.fraction:.3f}" max="1">'
        f"</progress><p>{escape(making.words)}{left}</p>"
    )
