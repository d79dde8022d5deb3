"""An engine whose one thread owns the model: requests that wait are answered together.

Every request carries its own plans, so nothing is shared between requests. Knows nothing of
languages; how rows are run together is `batch.py`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from steering.batch import Batch
from steering.errors import EngineClosedError, GenerationError, OutOfMemoryError, QueueFullError
from steering.generation import ReplyUpdate
from steering.hooks import count_hooks
from steering.jobs import Call, GenerationRequest, Job

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_Result = TypeVar("_Result")

_MOST_TIMES_PASSED = 16


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine has to do at the moment.

    Args:
        running_requests: Requests that are being answered.
        running_rows: Their rows that are not finished.
        waiting: Requests that wait.
        hooks: On the model; none of ours while nothing runs.
    """

    running_requests: int
    running_rows: int
    waiting: int
    hooks: int = 0


class Engine:
    """One thread that owns the model, and a queue in front of it.

    The model is loaded in that thread, so constructing an engine returns at once; a request that
    comes earlier waits. A load that fails is raised at every request. Requests are answered in the
    order in which they come, as many at once as there are rows for.
    """

    def __init__(
        self, load: Callable[[], LoadedModel], *, max_waiting: int = 32, max_rows: int = 16
    ) -> None:
        """Start the thread; *load* runs in it.

        Args:
            load: Returns the model.
            max_waiting: Requests that may wait; one more is refused.
            max_rows: Answers that are written at once. A request of more runs alone.
        """
        self._load = load
        self._max_waiting, self._max_rows = max_waiting, max_rows
        self._news = threading.Condition()  # guards the five that follow
        self._waiting: deque[Job | Call[Any]] = deque()
        self._running: list[Job] = []
        self._is_closed = False
        self._ends_at: float | None = None  # when what still runs is cancelled
        self._loaded = threading.Event()
        self._outcome: LoadedModel | BaseException
        self._thread = threading.Thread(target=self._serve, name="langsteer-engine", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Say whether the model is loaded, or has failed to load."""
        return self._loaded.is_set()

    def has_waiting(self) -> bool:
        """Say whether something waits for what is running to end."""
        return bool(self._waiting)

    def load(self) -> EngineLoad:
        """Return what there is to do."""
        with self._news:
            running = [job for job in self._running if not job.is_over]
            rows = sum(not answer.is_over for job in running for answer in job.answers)
            waiting = len(self._waiting)
        hooks = 0
        if self._loaded.is_set() and not isinstance(self._outcome, BaseException):
            hooks = count_hooks(self._outcome.model)
        return EngineLoad(len(running), rows, waiting, hooks)

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
        self,
        request: GenerationRequest,
        *,
        heartbeat_s: float | None = None,
        pace_s: float = 0.0,
    ) -> Generator[ReplyUpdate, None, None]:
        """Yield updates until every row is finished; closing the iterator frees its rows.

        The last update has a finish reason for every row. Rows are free within one token.

        Args:
            request: What to answer.
            heartbeat_s: Yield after this time also when nothing changed, as an iterator can be
                closed only where it yields; never when omitted.
            pace_s: Let this time pass between updates, but for the last.

        Raises:
            QueueFullError: If too many wait already.
            EngineClosedError: If the engine is closed, or closes while the request waits.
            OutOfMemoryError: If memory does not suffice for it.
            GenerationError: If a message is empty.
            SteeringError: What loading the model raised.
        """
        job = Job(request, place_of=self._place_of)
        self._put(job)
        try:
            yield from job.updates(heartbeat_s, pace_s)
        finally:
            self._forget(job)

    def reply(self, request: GenerationRequest) -> ReplyUpdate:
        """Return the finished replies of a request."""
        for update in self.stream(request, pace_s=60.0):
            last = update
        return last

    def call(self, function: Callable[[LoadedModel], _Result]) -> _Result:
        """Run a function in the engine's thread, after what waits already; return its result.

        For short work that may not run beside a forward pass: it comes between two tokens, and
        everybody waits for its end.

        Raises:
            QueueFullError: If too many wait already.
            EngineClosedError: If the engine is closed.
            SteeringError: What loading the model raised, or the function.
        """
        job = Call(function)
        self._put(job)
        return job.result()

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Let the running and the waiting requests finish, then end the thread.

        What is not finished after *timeout_s* is cancelled: a running answer ends as it is, a
        waiting one is refused.
        """
        with self._news:
            self._is_closed = True
            self._ends_at = time.monotonic() + timeout_s
            self._news.notify_all()
        self._thread.join(timeout_s + 1.0)  # the token that is being written then

    def _put(self, job: Job | Call[Any]) -> None:
        with self._news:
            if self._is_closed:
                raise EngineClosedError("This engine is closed. Start another one.")
            if len(self._waiting) >= self._max_waiting:
                raise QueueFullError(
                    f"'{self._max_waiting}' people are waiting already, and you would be the next. "
                    "Try again in a moment."
                )
            self._waiting.append(job)
            self._news.notify_all()

    def _forget(self, job: Job) -> None:
        """Give up a place in the queue, if there is one still."""
        with self._news:
            if job in self._waiting:
                self._waiting.remove(job)

    def _place_of(self, job: Job) -> int:
        """Return a request's place in the queue, 1 for the next; 0 when it does not wait."""
        with self._news:
            requests = [one for one in self._waiting if isinstance(one, Job)]
            return requests.index(job) + 1 if job in requests else 0

    def _serve(self) -> None:
        try:
            self._outcome = self._load()
        except BaseException as err:  # it is raised where the model is asked for
            self._outcome = err
        self._loaded.set()
        batch: Batch | None = None
        while self._wait_for_work():
            try:
                batch = batch or Batch(self.model())
            except BaseException as err:
                self._fail_waiting(err)
                continue
            try:
                self._admit(batch)
                self._step(batch)
            except BaseException as err:  # what is written is in doubt; those who wait go on
                batch.pause()
                batch = None
                self._fail_running(err)

    def _wait_for_work(self) -> bool:
        """Wait until there is something to do; False when there never will be."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._running or self._is_closed)
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                self._cancel_all()
            return bool(self._waiting or self._running)

    def _cancel_all(self) -> None:
        for job in self._waiting:
            job.fail(EngineClosedError("The program ends before your turn came. Ask again later."))
        self._waiting.clear()
        for running in self._running:
            running.cancel()

    def _fail_waiting(self, error: BaseException) -> None:
        with self._news:
            failed = list(self._waiting)
            self._waiting.clear()
        for job in failed:
            job.fail(error)

    def _fail_running(self, error: BaseException) -> None:
        with self._news:
            failed, self._running = self._running, []
        for job in failed:
            job.fail(error)

    def _admit(self, batch: Batch) -> None:
        """Run the calls and begin the requests that are next, as far as there are rows."""
        newcomers: list[Job] = []
        while (job := self._next(len(batch.answers), newcomers)) is not None:
            try:
                if isinstance(job, Job):
                    job.prepare(self.model())
                    newcomers.append(job)
                else:
                    batch.pause()
                    job.run(self.model())
            except BaseException as err:  # it belongs to the caller
                job.fail(err)
        if newcomers:
            self._begin(batch, newcomers)

    def _next(self, rows: int, newcomers: list[Job]) -> Job | Call[Any] | None:
        """Take the next call or request from the queue that there is room for.

        A request of many rows lets smaller ones pass, but not for ever.
        """
        rows += sum(len(one.answers) for one in newcomers)
        with self._news:
            passed: list[Job] = []
            for job in self._waiting:
                if not isinstance(job, Job) or not rows or rows + job.rows <= self._max_rows:
                    for one in passed:
                        one.times_passed += 1
                    self._waiting.remove(job)
                    return job
                if job.times_passed >= _MOST_TIMES_PASSED:
                    return None
                passed.append(job)
            return None

    def _begin(self, batch: Batch, newcomers: list[Job]) -> None:
        """Read the prompts of all newcomers at once; one by one where that fails."""
        present = [job for job in newcomers if not job.end_if_cancelled()]
        answers = [answer for job in present for answer in job.answers]
        if not answers:
            return
        failure = None
        try:
            batch.add(answers)
        except BaseException as err:
            if answers[0] in batch.answers:
                self._running += present
                raise  # they were read, and something is wrong since
            failure = _without_frames(err)
        if failure is None:
            with self._news:
                self._running += present
            for job in present:
                job.note_token()
        elif len(present) == 1:
            present[0].fail(failure)
        else:  # not in the handler above, which would keep what the first try needed
            for job in present:
                self._begin(batch, [job])

    def _step(self, batch: Batch) -> None:
        """Write one token of every row that is not over or cancelled."""
        for job in self._running:
            job.end_if_cancelled()
        self._leave(batch)
        if not batch.answers:
            return
        try:
            batch.step()
        except OutOfMemoryError as err:
            largest = max(self._running, key=lambda job: job.tokens)
            largest.fail(_without_frames(err))
        except BaseException as err:  # the model itself fails: nobody can go on
            for job in self._running:
                job.fail(err)
        for job in self._running:
            job.note_token()
        self._leave(batch)

    def _leave(self, batch: Batch) -> None:
        """Free the rows that are over, and forget the requests that are."""
        batch.drop(lambda answer: answer.is_over)
        if not batch.answers:
            batch.pause()
        with self._news:
            self._running = [job for job in self._running if not job.is_over]


def _without_frames(error: BaseException) -> BaseException:
    """Return an error that memory ran out without what it holds on to: tensors, in its frames."""
    if isinstance(error, OutOfMemoryError):
        error.__cause__ = error.__context__ = None
        error.with_traceback(None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return error
