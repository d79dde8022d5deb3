"""What the page does about a missing neuron set: offer it, show how it goes, use it.

Knows components and who makes the set, not how.
"""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from steering.ui.asking import NO_LANGUAGE, Chat
from steering.ui.choices import Choices, language_choices, open_with
from steering.ui.events import Updates
from steering.ui.links import read_wishes
from steering.ui.making.maker import SetMaker
from steering.ui.making.panel import PanelParts, panel_html
from steering.ui.strings import label, locale_of

_OFFER, _SET = "offer", "set"  # what a page has shown


class SetListeners:
    """The listeners of the panel of one page; people on all pages see the same set made."""

    def __init__(self, choices: Choices, panel: PanelParts, chat: Chat, maker: SetMaker) -> None:
        self.choices, self._chat, self._maker = choices, chat, maker
        self.panel = panel

    def look(self, seen: str, kept: object, request: gr.Request | None = None) -> Updates:
        """Show how it stands; once there is a set, the timer has nothing more to do.

        Args:
            seen: What this page has shown before: whoever saw the offer is told of the set, and a
                choice that was made since is left alone.
            kept: The choices that the browser has kept.
            request: Says what the link and the browser wish.
        """
        panel, making = self.panel, self._maker.state()
        if seen == _SET:
            return {panel.timer: gr.Timer(active=False)}
        shown: Updates = {
            panel.column: gr.Column(visible=making.stage != "loading"),
            panel.words: panel_html(
                making,
                languages=self._maker.languages,
                questions=self._maker.questions,
                locale=locale_of(request),
            ),
            panel.make: gr.Button(
                visible=making.stage in ("measuring", "offered"),
                interactive=making.stage == "offered",
            ),
            panel.stop: gr.Button(
                label("stopping" if making.stage == "stopping" else "making_stop"),
                visible=making.stage in ("making", "stopping"),
                interactive=making.stage == "making",
            ),
            panel.seen: _OFFER if making.stage not in ("loading", "ready") else seen,
        }
        if making.stage == "ready":
            is_news = seen == _OFFER
            wished = {} if is_news else read_wishes(request, self._chat, kept)[0]
            shown |= self._open_choices(wished, is_news=is_news)
        return shown

    def start(self, seen: str, kept: object, request: gr.Request | None = None) -> Updates:
        """Begin to make the set, unless somebody else did."""
        self._maker.start()
        return self.look(seen, kept, request)

    def stop(self, seen: str, kept: object, request: gr.Request | None = None) -> Updates:
        """Stop making it, for everybody."""
        self._maker.stop()
        return self.look(seen, kept, request)

    def _open_choices(self, wished: Mapping[str, Any], *, is_news: bool) -> Updates:
        """Let people choose among the set's languages; where it is news, nothing is chosen yet."""
        closed, choices = self.choices.steering(), language_choices(self._chat.languages)
        return {
            **{one: open_with(wished, name) for name, one in self.choices.named() if one in closed},
            self.choices.language: gr.Dropdown(
                choices, value=wished.get("language", NO_LANGUAGE), interactive=True
            ),
            self.panel.column: gr.Column(visible=is_news),
            self.panel.timer: gr.Timer(active=False),
            self.panel.seen: _SET,
        }
