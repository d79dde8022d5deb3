"""What the page does with a turn: begin, write, stop, settle, ask again, begin anew.

Errors become words here: those that a person can cause as they are, all others as one sentence,
with the traceback in the log. Knows no steering method.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any, TypeAlias

import gradio as gr

from steering.errors import GenerationError
from steering.generation import ReplyUpdate
from steering.ui.badges import Badge, badge_html
from steering.ui.chat import Chat, Wish, notes_on
from steering.ui.layout import LOADING, SEND, Parts, status_html
from steering.ui.messages import (
    ShownMessage,
    answerable,
    before_question,
    show_answer,
    show_question,
    to_plain,
    up_to_question,
)
from steering.ui.wording import in_words

_ONE_AT_A_TIME = "An answer is being written. Wait for its end, or press Stop."

History: TypeAlias = list[ShownMessage]
# New values by component, gradio's own updates among them.
Updates: TypeAlias = dict[Any, Any]


@contextmanager
def errors_in_words(*, is_page: bool = True) -> Iterator[None]:
    """Turn every error into one that gradio shows; a page shows HTML, so there it is escaped."""
    try:
        yield
    except Exception as err:
        text = escape(in_words(err), quote=False) if is_page else in_words(err)
        raise gr.Error(text, print_exception=False) from err


class StopSigns:
    """Which turns a person asked to stop, by id, so that a turn can end itself in good order.

    Were it cancelled from outside, an update of its own could still arrive after the last word.
    """

    def __init__(self) -> None:
        self._asked: dict[str, bool] = {}  # turn -> whether to forget the conversation as well

    def ask(self, turn: str, *, is_to_forget: bool = False) -> None:
        """Ask a turn to stop."""
        self._asked[turn] = is_to_forget

    def is_asked(self, turn: str) -> bool:
        """Say whether a turn is to stop."""
        return turn in self._asked

    def take_down(self, turn: str) -> bool:
        """Forget a turn that has ended; say whether its conversation is to be forgotten too."""
        return self._asked.pop(turn, False)


class OpenSessions:
    """Which sessions have a request that is being answered: one each.

    The browser's own state comes a moment too late: Enter and a click on Send may both get through.
    """

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._door = threading.Condition()

    def enter(self, request: gr.Request | None, *, wait_s: float = 0.0) -> None:
        """Note that a session asks; refuse it if it does so already.

        Args:
            request: Whose session is meant.
            wait_s: How long to wait for the end of what was asked before, as that may have been
                cancelled a moment ago.

        Raises:
            GenerationError: If it does.
        """
        session = request and request.session_hash
        with self._door:
            if not self._door.wait_for(lambda: session not in self._open, wait_s):
                raise GenerationError(_ONE_AT_A_TIME)
            if session:
                self._open.add(session)

    def leave(self, request: gr.Request | None) -> None:
        """Note that a session's request is over."""
        with self._door:
            self._open.discard((request and request.session_hash) or "")
            self._door.notify_all()


class Turns:
    """The listeners of one page; holds its components, the chat, and which turns are to stop."""

    def __init__(self, parts: Parts, chat: Chat) -> None:
        self._parts, self._chat = parts, chat
        self._stops = StopSigns()
        self._sessions = OpenSessions()

    def check_message(self, message: str, turn: str, request: gr.Request | None = None) -> None:
        """Refuse an empty message, and one while an answer is being written."""
        with errors_in_words():
            _refuse_if_running(turn)
            if not message.strip():
                raise GenerationError("The message is empty. Expected some text; write it first.")
            self._sessions.enter(request)

    def check_question(
        self, history: History, turn: str, request: gr.Request | None = None
    ) -> None:
        """Refuse to ask again where nothing was asked, or while an answer is being written."""
        with errors_in_words():
            _refuse_if_running(turn)
            if not up_to_question(history):
                raise GenerationError("There is no question to ask again. Write a message first.")
            self._sessions.enter(request)

    def begin(
        self,
        message: str,
        history: History,
        twin: History,
        language: str,
        level: str,
        has_twin: bool,
        has_guard: bool,
    ) -> Updates:
        """Show the question and remember what was asked for; the message is checked already."""
        with errors_in_words():
            wish = self._chat.read_wish(language, level, has_twin=has_twin, has_guard=has_guard)
            return {self._parts.box: "", **self._start(history, twin, message, wish)}

    def pick_example(self, event: gr.SelectData) -> str:
        """Put an example's question where a message is written."""
        return str(event.value["text"])

    def begin_again(
        self,
        history: History,
        twin: History,
        language: str,
        level: str,
        has_twin: bool,
        has_guard: bool,
        last: Wish | None,
    ) -> Updates:
        """Ask the last question again, as the choices are by this time.

        If they are the same as before, another answer is drawn: the first would only come again.
        """
        with errors_in_words():
            wish = self._chat.read_wish(language, level, has_twin=has_twin, has_guard=has_guard)
            if last is not None and replace(last, attempt=0) == wish:
                wish = last.next_attempt()
            question = to_plain(up_to_question(history))[-1].content
            kept_twin = before_question(twin) if last is not None and last.has_twin else twin
            return self._start(before_question(history), kept_twin, question, wish)

    def begin_anew(self, turn: str) -> Updates:
        """Forget the conversation; a turn that is running is stopped first."""
        parts = self._parts
        updates: Updates = {parts.box: "", parts.chat: [], parts.twin: [], parts.wish: None}
        if not turn:
            return updates
        self._stops.ask(turn, is_to_forget=True)
        return {**updates, parts.stop: _stopping()}

    def stop(self, turn: str) -> Updates:
        """Ask the running turn to stop; it marks the answer itself."""
        if not turn:
            return {self._parts.stop: gr.Button(visible=False)}
        self._stops.ask(turn)
        return {self._parts.stop: _stopping()}

    def write(self, history: History, twin: History, wish: Wish, turn: str) -> Iterator[Updates]:
        """Stream the answer, and its twin where one is wanted, under the question.

        What goes wrong stands where the answer would: an error raised here would pass by.
        """
        parts = self._parts
        conversation = answerable(to_plain(history))
        latest = ""
        try:
            for update in self._chat.answer(
                conversation, wish, is_stopped=lambda: self._stops.is_asked(turn)
            ):
                latest = update.texts[0]
                updates = {parts.chat: [*history, self._show(update, 0, wish)]}
                if wish.has_twin:
                    updates[parts.twin] = [*twin, self._show(update, 1, wish)]
                yield updates
        except Exception as err:
            failure = show_answer(latest, badge_html(Badge("bad", in_words(err)), ()))
            yield {parts.chat: [*history, failure], parts.twin: twin}
        finally:
            is_to_forget = self._stops.take_down(turn)
        if is_to_forget:
            yield {parts.chat: [], parts.twin: []}

    def give_up(self, request: gr.Request | None = None) -> None:
        """Let the session ask again where a turn could not even begin."""
        self._sessions.leave(request)

    def settle(self, turn: str, request: gr.Request | None = None) -> Updates:
        """Make ready for the next message, whether the turn ended well or not."""
        self._stops.take_down(turn)  # asked for after the turn's last word
        self._sessions.leave(request)
        return {
            self._parts.send: gr.Button(visible=True),
            self._parts.stop: gr.Button("Stop", visible=False, interactive=True),
            self._parts.turn: "",
        }

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
            parts.turn: uuid.uuid4().hex,
        }

    def _show(self, update: ReplyUpdate, row: int, wish: Wish) -> ShownMessage:
        text = update.texts[row]
        if update.finish_reasons[row] is not None:
            line = self._chat.line_under(text, wish, notes_on(update, row))
            return show_answer(text, line)
        waits = LOADING if not self._chat.engine.is_ready else "Writing …"
        if update.place:
            waits = f"Waiting: number {update.place} in the queue"
        return show_answer(text, badge_html(None, [waits]))


def _stopping() -> gr.Button:
    return gr.Button("Stopping …", interactive=False)


def _refuse_if_running(turn: str) -> None:
    if turn:
        raise GenerationError(_ONE_AT_A_TIME)
