"""Who is being answered, and whose turn is to stop: what one page's listeners share between people.

Knows ids of turns and sessions, not components, messages or the model.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from steering.ui.wording import Refusal

_CANCEL_S = 3.0  # by then what a program has cancelled has ended
ONE_AT_A_TIME = "one_at_a_time"  # key of what a session is told that asks twice


class StopSigns:
    """Which turns a person asked to stop, by id, so that a turn can end itself in good order.

    Were it cancelled from outside, an update of its own could still arrive after the last word.
    """

    def __init__(self) -> None:
        self._asked: dict[str, bool] = {}  # turn -> whether to forget the conversation as well

    def ask(self, turn: str, *, is_to_forget: bool = False) -> None:
        """Ask a turn to stop."""
        self._asked[turn] = is_to_forget or self._asked.get(turn, False)

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
            Refusal: If it does.
        """
        session = request and request.session_hash
        with self._door:
            if not self._door.wait_for(lambda: session not in self._open, wait_s):
                raise Refusal(ONE_AT_A_TIME)
            if session:
                self._open.add(session)

    def leave(self, request: gr.Request | None) -> None:
        """Note that a session's request is over."""
        with self._door:
            self._open.discard((request and request.session_hash) or "")
            self._door.notify_all()

    @contextmanager
    def answering(self, request: gr.Request | None) -> Iterator[None]:
        """Hold the session of a program that asks until it is answered.

        Raises:
            Refusal: If it is answered already.
        """
        self.enter(request, wait_s=_CANCEL_S)
        try:
            yield
        finally:
            self.leave(request)
