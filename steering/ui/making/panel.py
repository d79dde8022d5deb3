"""The panel that offers to make a missing neuron set: its components, and what it says.

Knows words and how far the making is, not who makes it (`maker.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from steering.languages import Language
from steering.ui.badges import name_in
from steering.ui.making.maker import Making
from steering.ui.strings import enumerate_in, in_locale, label, say


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
        make = gr.Button(label("making_make"), variant="primary", size="sm")
        stop = gr.Button(label("making_stop"), variant="stop", size="sm", visible=False)
    return PanelParts(column, words, make, stop, timer=gr.Timer(0.5), seen=gr.State(""))


def panel_html(
    making: Making, *, languages: Sequence[Language], questions: int, locale: str = "en"
) -> str:
    """Return what the panel says.

    Args:
        making: How far it is.
        languages: Those of a new set.
        questions: How many there are per language.
        locale: Of whoever reads.
    """
    if making.stage in ("making", "stopping"):
        return in_locale(_progress_html(making, locale), locale)
    if making.stage == "ready":
        return in_locale(
            f'<p role="status"><b>{escape(say("making_ready", locale))}</b> '
            f"{escape(say('making_pick', locale))} {_words_html(making, locale)}</p>",
            locale,
        )
    title, offer = (escape(text) for text in _offer(making, languages, questions, locale))
    words = _words_html(making, locale)
    news = f'<p class="trouble" role="status">{words}</p>' if words else ""
    return in_locale(f"<h2>{title}</h2><p>{offer}</p>{news}", locale)


def duration(seconds: float, locale: str = "en") -> str:
    """Return a duration in words, no finer than anybody can know it."""
    if seconds < 90:
        return say("duration_seconds", locale, count=max(5, 5 * round(seconds / 5)))
    if seconds < 90 * 60:
        return say("duration_minutes", locale, count=round(seconds / 60))
    return say("duration_hours", locale, count=f"{seconds / 3600:.1f}")


def _offer(
    making: Making, languages: Sequence[Language], questions: int, locale: str
) -> tuple[str, str]:
    """Return title and text: what would be made, how, and how long it takes."""
    names = enumerate_in(locale, (name_in(language, locale) for language in languages))
    takes = say("making_measuring", locale)
    if making.seconds_left is not None:
        takes = say("making_takes", locale, duration=duration(making.seconds_left, locale))
    sentences = (
        say("making_none", locale),
        say(
            "making_how", locale, questions=questions, count=len(languages), languages=names,
        ),
        takes,
        say("making_meanwhile", locale),
    )  # fmt: skip
    return say("making_title", locale), " ".join(sentences)


def _progress_html(making: Making, locale: str) -> str:
    title, words = escape(say("making_running", locale)), _words_html(making, locale)
    left = ""
    if making.seconds_left is not None:
        left = say("making_left", locale, duration=duration(making.seconds_left, locale))
    return (
        f'<h2>{title}</h2><progress aria-label="{title}" value="{making.fraction:.3f}" max="1">'
        f"</progress><p>{words}{escape(left)}</p>"
    )


def _words_html(making: Making, locale: str) -> str:
    return making.words(locale).html if making.words is not None else ""
