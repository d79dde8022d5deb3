"""What goes through an engine's queue: a request to answer, and a function to call.

Run by the engine's thread, read by the caller's. Knows answers, not the model's batch or queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from steering.answer import Answer
from steering.conversation import Message
from steering.errors import GenerationError
from steering.generation import ReplyUpdate, make_answers, make_update
from steering.guard import GuardSpec
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A batch of conversations to answer, one plan each.

    Args:
        conversations: One per row, each ending with the person's message.
        plans: One per row.
        sampling: For all rows.
        guards: One per row, None for a row without; empty for none at all.
        time_limit_s: The answer is cut off after this time of writing; never when omitted.
    """

    conversations: tuple[tuple[Message, ...], ...]
    plans: tuple[SteeringPlan, ...]
    sampling: Sampling = field(default_factory=Sampling)
    guards: tuple[GuardSpec | None, ...] = ()
    time_limit_s: float | None = None


class Call(Generic[_Result]):
    """A function on its way through the engine."""

    def __init__(self, function: Callable[[LoadedModel], _Result]) -> None:
        self._function = function
        self._is_over = threading.Event()
        self._outcome: _Result
        self._error: BaseException | None = None

    def run(self, model: LoadedModel) -> None:
        """Call it, in the engine's thread."""
        self._outcome = self._function(model)
        self._is_over.set()

    def fail(self, error: BaseException) -> None:
        """Hand an error to the caller."""
        self._error = error
        self._is_over.set()

    def result(self) -> _Result:
        """Wait for the end, in the caller's thread."""
        self._is_over.wait()
        if self._error is not None:
            raise self._error
        return self._outcome


class Job:
    """A request on its way through the engine: run by its thread, read by the caller's."""

    def __init__(self, request: GenerationRequest, *, place_of: Callable[[Job], int]) -> None:
        self.rows = len(request.conversations)
        self.answers: list[Answer] = []
        self.is_over = False
        self.times_passed = 0  # by requests that came later and needed fewer rows
        self._request = request
        self._place_of = place_of
        self._stop = threading.Event()
        self._over = threading.Event()
        self._news = threading.Condition()
        self._version = 0  # grows with every token
        self._ends_at = float("inf")
        self._error: BaseException | None = None

    @property
    def tokens(self) -> int:
        """Return how many tokens its rows hold, prompts and answers."""
        return sum(len(answer.choice.ids) for answer in self.answers)

    def prepare(self, model: LoadedModel) -> None:
        """Make its rows, in the engine's thread."""
        request = self._request
        if not request.conversations:
            raise GenerationError("Cannot answer '0' conversations. Expected at least one.")
        self.answers = make_answers(
            model,
            request.conversations,
            plans=request.plans,
            sampling=request.sampling,
            guards=request.guards,
        )
        if request.time_limit_s is not None:
            self._ends_at = time.monotonic() + request.time_limit_s

    def end_if_cancelled(self) -> bool:
        """End its rows if nobody wants them any more, or they have had their time."""
        if self._stop.is_set() or time.monotonic() >= self._ends_at:
            for answer in self.answers:
                answer.stop("stopped" if self._stop.is_set() else "time")
            self._finish()
        return self.is_over

    def note_token(self) -> None:
        """Tell the caller of new tokens, in the engine's thread."""
        if all(answer.is_over for answer in self.answers):
            return self._finish()
        with self._news:
            self._version += 1
            self._news.notify_all()
        return None

    def cancel(self) -> None:
        """Ask for its end at the next token."""
        self._stop.set()

    def fail(self, error: BaseException) -> None:
        """Hand an error to the caller and give up the rows."""
        self._error = error
        for answer in self.answers:
            answer.stop("stopped")
        self._finish()

    def updates(self, heartbeat_s: float | None, pace_s: float) -> Iterator[ReplyUpdate]:
        """Yield updates as tokens come, in the caller's thread."""
        seen = 0
        try:
            while True:
                with self._news:
                    has_news = self._news.wait_for(partial(self._has_news, seen), heartbeat_s)
                    is_over, seen = self.is_over, self._version
                if self._error is not None:
                    raise self._error
                update = self._update()
                if self._error is not None:  # come while the update was made
                    raise self._error
                yield update
                if is_over:
                    return
                if has_news:  # after a heartbeat time has passed, and the first token may come
                    self._over.wait(pace_s)
        finally:
            self._stop.set()

    def _has_news(self, seen: int) -> bool:
        return self.is_over or self._version > seen

    def _update(self) -> ReplyUpdate:
        if not self.answers:
            nothing = ("",) * self.rows
            place = self._place_of(self)
            return ReplyUpdate(nothing, (None,) * self.rows, nothing, 0, place=place)
        return make_update(self.answers)

    def _finish(self) -> None:
        with self._news:
            self.is_over = True
            self._news.notify_all()
        self._over.set()
