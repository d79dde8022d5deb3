"""What the page does with a turn: begin, write, settle, stop, ask again, begin anew.

Errors become words here: those that a person can cause as they are, all others as one sentence,
with the traceback in the log. Knows no steering method.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any, TypeAlias

import gradio as gr

from steering.errors import GenerationError, SteeringError
from steering.generation import ReplyUpdate
from steering.ui.badges import Badge, badge_html
from steering.ui.chat import Chat, Wish, notes_on
from steering.ui.layout import LOADING, SEND, Parts, status_html
from steering.ui.messages import (
    ShownMessage,
    answerable,
    before_answer,
    before_question,
    is_unfinished,
    show_answer,
    show_question,
    to_plain,
    up_to_question,
)

log = logging.getLogger(__name__)

History: TypeAlias = list[ShownMessage]
# New values by component, gradio's own updates among them.
Updates: TypeAlias = dict[Any, Any]

_WENT_WRONG = "Something went wrong inside the program. Try again; its log says what it was."


@contextmanager
def errors_in_words(*, is_page: bool = True) -> Iterator[None]:
    """Turn every error into one that gradio shows; a page shows HTML, so there it is escaped."""
    try:
        yield
    except Exception as err:
        text = escape(in_words(err), quote=False) if is_page else in_words(err)
        raise gr.Error(text, print_exception=False) from err


def in_words(err: Exception) -> str:
    """Return what to tell a person of an error; an unexpected one goes to the log."""
    if isinstance(err, SteeringError):
        return str(err)
    log.error("A turn of the chat failed", exc_info=err)
    return _WENT_WRONG


class Turns:
    """The listeners of one page; holds its components and the chat, and nothing that changes."""

    def __init__(self, parts: Parts, chat: Chat) -> None:
        self._parts, self._chat = parts, chat

    def check_message(self, message: str, is_busy: bool) -> None:
        """Refuse an empty message, and one while an answer is being written."""
        with errors_in_words():
            _refuse_if(is_busy)
            if not message.strip():
                raise GenerationError("The message is empty. Expected some text; write it first.")

    def check_question(self, history: History, is_busy: bool) -> None:
        """Refuse to ask again where nothing was asked, or while an answer is being written."""
        with errors_in_words():
            _refuse_if(is_busy)
            if not up_to_question(history):
                raise GenerationError("There is no question to ask again. Write a message first.")

    def begin(
        self,
        message: str,
        history: History,
        twin: History,
        language: str,
        level: str,
        has_twin: bool,
    ) -> Updates:
        """Show the question and remember what was asked for; the message is checked already."""
        with errors_in_words():
            wish = self._chat.read_wish(language, level, has_twin=has_twin)
            return {self._parts.box: "", **self._start(history, twin, message, wish)}

    def begin_example(self, event: gr.SelectData, *asked: Any) -> Updates:
        """Ask an example's question; what the person was writing stays."""
        updates = self.begin(event.value["text"], *asked)
        return {part: value for part, value in updates.items() if part is not self._parts.box}

    def begin_again(
        self,
        history: History,
        twin: History,
        language: str,
        level: str,
        has_twin: bool,
        last: Wish | None,
    ) -> Updates:
        """Ask the last question again, as the choices are by this time.

        If they are the same as before, another answer is drawn: the first would only come again.
        """
        with errors_in_words():
            wish = self._chat.read_wish(language, level, has_twin=has_twin)
            if last is not None and replace(last, attempt=0) == wish:
                wish = last.next_attempt()
            question = to_plain(up_to_question(history))[-1].content
            kept_twin = before_question(twin) if last is not None and last.has_twin else twin
            return self._start(before_question(history), kept_twin, question, wish)

    def begin_anew(self) -> Updates:
        """Forget the conversation."""
        parts = self._parts
        return {parts.box: "", parts.chat: [], parts.twin: [], parts.wish: None, **self.settle()}

    def write(self, history: History, twin: History, wish: Wish) -> Iterator[Updates]:
        """Stream the answer, and its twin where one is wanted, under the question.

        What goes wrong stands where the answer would: an error raised here would pass by.
        """
        parts = self._parts
        latest = ""
        try:
            for update in self._chat.answer(answerable(to_plain(history)), wish):
                latest = update.texts[0]
                updates = {parts.chat: [*history, self._show(update, 0, wish)]}
                if wish.has_twin:
                    updates[parts.twin] = [*twin, self._show(update, 1, wish)]
                yield updates
        except Exception as err:
            failure = show_answer(latest, badge_html(Badge("bad", in_words(err)), ()))
            yield {parts.chat: [*history, failure], parts.twin: twin}

    def settle(self) -> Updates:
        """Make ready for the next message, whether the turn ended well or not."""
        return {
            self._parts.send: gr.Button(visible=True),
            self._parts.stop: gr.Button(visible=False),
            self._parts.is_busy: False,
        }

    def stop(self, history: History, twin: History, wish: Wish | None) -> Updates:
        """Mark what there is of the answers as stopped; gradio has closed `write` by this time."""
        updates = self.settle()
        if wish is None:
            return updates
        updates[self._parts.chat] = self._mark_stopped(history, wish)
        if wish.has_twin:
            updates[self._parts.twin] = self._mark_stopped(twin, wish)
        return updates

    def look_at_model(self) -> Updates:
        """Say whether the model is there; once it is, the timer has nothing more to do."""
        parts = self._parts
        if not self._chat.engine.is_ready:
            return {
                parts.status: status_html(LOADING),
                parts.send: gr.Button(LOADING, interactive=False),
            }
        return {
            parts.status: status_html(self._model_state()),
            parts.send: gr.Button(SEND, interactive=True),
            parts.timer: gr.Timer(active=False),
        }

    def _model_state(self) -> str:
        try:
            self._chat.engine.model()
        except Exception as err:
            return in_words(err)
        return "The model is ready."

    def _start(self, history: History, twin: History, message: str, wish: Wish) -> Updates:
        parts, question = self._parts, show_question(message)
        return {
            parts.chat: [*history, question],
            parts.twin: [*twin, question] if wish.has_twin else twin,
            parts.send: gr.Button(visible=False),
            parts.stop: gr.Button(visible=True),
            parts.wish: wish,
            parts.is_busy: True,
        }

    def _show(self, update: ReplyUpdate, row: int, wish: Wish) -> ShownMessage:
        text = update.texts[row]
        if update.finish_reasons[row] is not None:
            line = self._chat.line_under(text, wish, notes_on(update, row))
            return show_answer(text, line)
        waits = LOADING if not self._chat.engine.is_ready else "Writing …"
        return show_answer(text, waits, is_finished=False)

    def _mark_stopped(self, history: History, wish: Wish) -> History:
        if history and history[-1]["role"] == "assistant" and not is_unfinished(history[-1]):
            return history
        kept = before_answer(history)
        answer = to_plain(history[len(kept) :])
        text = answer[0].content if answer else ""
        return [*kept, show_answer(text, self._chat.line_under(text, wish, ["(stopped)"]))]


def _refuse_if(is_busy: bool) -> None:
    if is_busy:
        raise GenerationError("An answer is being written. Wait for its end, or press Stop.")
