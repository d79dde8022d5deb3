"""An engine whose one thread owns the model, with a queue in front of it.

Every request carries its own plans, so nothing is shared between requests. Knows nothing of
languages; what a batch does is `generation.py`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from steering.conversation import Message, fit_prompt
from steering.errors import GenerationError
from steering.generation import (
    ReplyRows,
    ReplyUpdate,
    Sampling,
    make_bias_processor,
    run_batch,
)
from steering.guard import GuardSpec
from steering.steerer import steered
from steering.steering_plan import SteeringPlan

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


class Engine:
    """One thread that owns the model, and a queue in front of it.

    The model is loaded in that thread, so constructing an engine returns at once; a request that
    comes earlier waits. A load that fails is raised at every request.
    """

    def __init__(self, load: Callable[[], LoadedModel], *, max_waiting: int = 32) -> None:
        """Start the thread; *load* runs in it."""
        self._load = load
        self._jobs: queue.Queue[_Job | _Call[Any] | None] = queue.Queue(max_waiting)
        self._loaded = threading.Event()
        self._is_closed = False
        self._door = threading.Lock()  # so that no job comes after the one that ends the thread
        self._outcome: LoadedModel | BaseException
        self._thread = threading.Thread(target=self._serve, name="langsteer-engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Say whether the model is loaded, or has failed to load."""
        return self._loaded.is_set()

    def has_waiting(self) -> bool:
        """Say whether something waits for what is running to end."""
        return not self._jobs.empty()

    def model(self, *, timeout_s: float | None = None) -> LoadedModel:
        """Return the loaded model, waiting for it.

        Raises:
            SteeringError: What loading raised, or GenerationError when it takes longer.
        """
        if not self._loaded.wait(timeout_s):
            raise GenerationError(f"The model is still loading after '{timeout_s}' s. Try again.")
        if isinstance(self._outcome, BaseException):
            raise self._outcome.with_traceback(None)  # else it grows with every request
        return self._outcome

    def stream(
        self, request: GenerationRequest, *, heartbeat_s: float | None = None
    ) -> Generator[ReplyUpdate, None, None]:
        """Yield updates until every row is finished; closing the iterator stops the model.

        The last update has a finish reason for every row. The model stops within one token.

        Args:
            request: What to answer.
            heartbeat_s: Yield after this time also when nothing changed, as an iterator can be
                closed only where it yields; never when omitted.

        Raises:
            GenerationError: If the queue is full, a message is empty, or memory runs out.
            SteeringError: What loading the model raised.
        """
        job = _Job(request)
        self._put(job)
        yield from job.updates(heartbeat_s)

    def reply(self, request: GenerationRequest) -> ReplyUpdate:
        """Return the finished replies of a request."""
        for update in self.stream(request):
            last = update
        return last

    def call(self, function: Callable[[LoadedModel], _Result]) -> _Result:
        """Run a function in the engine's thread, after what waits already; return its result.

        For short work that may not run beside a reply: everybody else waits for its end.

        Raises:
            GenerationError: If the queue is full.
            SteeringError: What loading the model raised, or the function.
        """
        job = _Call(function)
        self._put(job)
        return job.result()

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Let the running and the waiting requests finish, then end the thread."""
        with self._door:
            self._is_closed = True
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _put(self, job: _Job | _Call[Any]) -> None:
        with self._door:
            if self._is_closed:
                raise GenerationError("This engine is closed. Start another one.")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise GenerationError(
                    f"'{self._jobs.maxsize}' people are waiting already. Try again in a moment."
                ) from None

    def _serve(self) -> None:
        try:
            self._outcome = self._load()
        except BaseException as err:  # it is raised where the model is asked for
            self._outcome = err
        self._loaded.set()
        while (job := self._jobs.get()) is not None:
            try:
                job.run(self.model())
            except BaseException as err:  # it belongs to the caller
                job.fail(err)


class _Call(Generic[_Result]):
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


class _Job:
    """A request on its way through the engine: run by its thread, read by the caller's."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._rows: ReplyRows | None = None
        self._is_over = False
        self._error: BaseException | None = None

    def run(self, model: LoadedModel) -> None:
        """Generate, in the engine's thread."""
        if self._stop.is_set():
            return self._finish()
        sampling = self._request.sampling
        fitted = [
            fit_prompt(model, conversation, answer_tokens=sampling.max_new_tokens)
            for conversation in self._request.conversations
        ]
        self._rows = ReplyRows(model, fitted, on_token=self._tell)
        bias = make_bias_processor(model, self._request.conversations, self._request.plans)
        with steered(model.model, self._request.plans):
            run_batch(model, fitted, sampling, streamer=self._rows, stop=self._stop, bias=bias)
        return self._finish()

    def fail(self, error: BaseException) -> None:
        """Hand an error to the caller."""
        self._error = error
        self._finish()

    def updates(self, heartbeat_s: float | None) -> Iterator[ReplyUpdate]:
        """Yield updates as tokens come, in the caller's thread."""
        seen_tokens = -1
        rows = len(self._request.conversations)
        try:
            while True:
                with self._news:
                    self._news.wait_for(partial(self._has_news, seen_tokens), heartbeat_s)
                    is_over = self._is_over
                if self._error is not None:
                    raise self._error
                if self._rows is None and is_over:
                    return
                if self._rows is None:
                    yield ReplyUpdate(("",) * rows, (None,) * rows, ("",) * rows, 0)
                    continue
                update = self._rows.update(is_final=is_over, is_stopped=self._stop.is_set())
                seen_tokens = update.new_tokens
                yield update
                if is_over:
                    return
        finally:
            self._stop.set()

    def _has_news(self, seen_tokens: int) -> bool:
        return self._is_over or (self._rows is not None and self._rows.new_tokens > seen_tokens)

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    def _finish(self) -> None:
        with self._news:
            self._is_over = True
            self._news.notify_all()
