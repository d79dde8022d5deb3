"""What the page does about a missing neuron set: offer it, show how it goes, use it.

Knows components and who makes the set, not how.
"""

import gradio as gr

from steering.ui.chat import NO_LANGUAGE
from steering.ui.layout import Parts, first_choice, language_choices
from steering.ui.making import SetMaker
from steering.ui.set_panel import STOP, PanelParts, panel_html
from steering.ui.turns import Updates


class SetListeners:
    """The listeners of the panel of one page; people on all pages see the same set made."""

    def __init__(self, parts: Parts, panel: PanelParts, maker: SetMaker) -> None:
        self._parts, self._maker = parts, maker
        self.panel = panel

    def look_first(self) -> Updates:
        """Show how it stands to somebody who opens the page; with a set there is nothing to say."""
        if self._maker.state().stage == "ready":
            return {self.panel.column: gr.Column(visible=False), **self._open_choices()}
        return self.look()

    def look(self) -> Updates:
        """Show how it stands; once there is a set, the timer has nothing more to do."""
        panel, making = self.panel, self._maker.state()
        is_running = making.stage in ("making", "stopping")
        words = panel_html(making, languages=self._maker.languages, questions=self._maker.questions)
        shown: Updates = {
            panel.column: gr.Column(visible=making.stage != "loading"),
            panel.words: words,
            panel.make: gr.Button(
                visible=making.stage in ("measuring", "offered"),
                interactive=making.stage == "offered",
            ),
            panel.stop: gr.Button(
                "Stopping …" if making.stage == "stopping" else STOP,
                visible=is_running,
                interactive=making.stage == "making",
            ),
        }
        if making.stage != "ready":
            return shown
        if not making.is_from_now:  # it was there all the time
            return {**shown, **self._open_choices(), panel.column: gr.Column(visible=False)}
        return {**shown, **self._open_choices(chosen=NO_LANGUAGE)}

    def start(self) -> Updates:
        """Begin to make the set, unless somebody else did."""
        self._maker.start()
        return self.look()

    def stop(self) -> Updates:
        """Stop making it, for everybody."""
        self._maker.stop()
        return self.look()

    def _open_choices(self, *, chosen: str = "") -> Updates:
        """Let people choose among the set's languages."""
        neurons = self._maker.neurons
        languages = neurons.languages if neurons is not None else ()
        return {
            self._parts.language: gr.Dropdown(
                language_choices(languages),
                value=chosen or first_choice(languages),
                interactive=True,
            ),
            self._parts.level: gr.Radio(interactive=True),
            self._parts.compare: gr.Checkbox(interactive=True),
            self.panel.timer: gr.Timer(active=False),
        }
