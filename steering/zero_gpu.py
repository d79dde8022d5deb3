"""An engine for a Space with ZeroGPU, where a GPU is lent for one call at a time.

There the model is loaded before the page opens, and every request is answered in a process that is
forked for it: what goes there and comes back is pickled, and nothing that is set there is seen
here. So requests do not share a batch; the rows of one do. Has the methods of `Engine`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from steering.batch import Batch
from steering.engine import Engine, EngineLoad
from steering.errors import EngineClosedError, GenerationError, SteeringError
from steering.generation import ReplyUpdate, make_answers, make_update
from steering.jobs import GenerationRequest

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_Result = TypeVar("_Result")

# `spaces.GPU`: takes how long a call may last, returns a decorator.
GpuDecorator = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]

_PACE_S = 0.1
# What a call is announced to last; the shorter, the better its place in the queue. An 8B model
# writes some 20 tokens a second or more, and a process begins in a few seconds.
_BEGIN_S, _S_PER_TOKEN, _LONGEST_S = 10.0, 0.05, 120.0

# A guard may have passages written again; few answers take more than this many times as long.
_WITH_GUARD = 2.0

# Of this process and of those that are forked from it: a model is not sent to them.
_held: list[LoadedModel] = []


def is_zero_gpu() -> bool:
    """Say whether this is a Space with ZeroGPU, by the variable that such a Space sets."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


class ZeroGpuEngine:
    """Answers each request in a call of its own to a GPU that is lent for it."""

    def __init__(self, load: Callable[[], LoadedModel], *, gpu: GpuDecorator) -> None:
        """Load the model, here and now.

        Args:
            load: Returns the model.
            gpu: `spaces.GPU`.
        """
        _held[:] = [load()]
        self._answer = gpu(duration=lent_s)(answer_in_worker)
        self._running = 0
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Say that the model is loaded."""
        return True

    def has_waiting(self) -> bool:
        """Say that nothing waits here: the Space has a queue of its own."""
        return False

    def load(self) -> EngineLoad:
        """Return what there is to do; what waits for a GPU counts as running."""
        return EngineLoad(self._running, self._running, 0)

    def model(self, *, timeout_s: float | None = None) -> LoadedModel:  # noqa: ARG002 - Engine's
        """Return the model, which only a lent GPU can run."""
        return _held[0]

    def stream(
        self,
        request: GenerationRequest,
        *,
        heartbeat_s: float | None = None,  # noqa: ARG002 - the Space yields as it likes
        pace_s: float = 0.0,  # noqa: ARG002
    ) -> Generator[ReplyUpdate, None, None]:
        """Yield updates until every row is finished; closing the iterator ends the call.

        Raises:
            EngineClosedError: If the engine is closed.
            SteeringError: As `Engine.stream`.
        """
        if self._is_closed:
            raise EngineClosedError("This engine is closed. Start another one.")
        self._running += 1
        try:
            with closing(self._answer(request)) as updates:
                for update in updates:
                    if isinstance(update, SteeringError):
                        raise update
                    yield update
        finally:
            self._running -= 1

    def reply(self, request: GenerationRequest) -> ReplyUpdate:
        """Return the finished replies of a request."""
        for update in self.stream(request):
            last = update
        return last

    def call(self, function: Callable[[LoadedModel], _Result]) -> _Result:  # noqa: ARG002
        """Refuse: what a function does in a forked process does not come back.

        Raises:
            GenerationError: Always.
        """
        raise GenerationError(
            "Cannot record a model on 'ZeroGPU'. Expected a machine that keeps its GPU; build the "
            "neuron set there with `python -m steering build-set`."
        )

    def close(self, *, timeout_s: float = 10.0) -> None:  # noqa: ARG002 - Engine's
        """Refuse further requests; those that run end with their processes."""
        self._is_closed = True


AnyEngine: TypeAlias = Engine | ZeroGpuEngine


def lent_s(request: GenerationRequest) -> float:
    """Return how many seconds to ask for, by the longest answer that a request may get."""
    again = _WITH_GUARD if any(request.guards) else 1.0
    wanted = _BEGIN_S + _S_PER_TOKEN * request.sampling.max_new_tokens * again
    limit = min(_LONGEST_S, request.time_limit_s or _LONGEST_S)
    return min(wanted, _BEGIN_S + limit)


def answer_in_worker(request: GenerationRequest) -> Iterator[ReplyUpdate | SteeringError]:
    """Write the answers, in the forked process; an error of ours is yielded, to come back whole."""
    try:
        yield from _write(_held[0], request)
    except SteeringError as err:
        yield err


def _write(model: LoadedModel, request: GenerationRequest) -> Iterator[ReplyUpdate]:
    answers = make_answers(
        model,
        request.conversations,
        plans=request.plans,
        sampling=request.sampling,
        guards=request.guards,
    )
    if not answers:
        raise GenerationError("Cannot answer '0' conversations. Expected at least one.")
    # Before the GPU is taken away, so that what is written until then is not lost.
    lease_s = lent_s(request) - _BEGIN_S / 2
    ends_at = time.monotonic() + min(request.time_limit_s or lease_s, lease_s)
    batch, told_at = Batch(model), time.monotonic()
    try:
        batch.add(answers)
        while True:
            if time.monotonic() >= ends_at:
                for answer in answers:
                    answer.stop("time")
            batch.drop(lambda answer: answer.is_over)
            if not batch.answers:
                break
            if time.monotonic() - told_at >= _PACE_S:
                told_at = time.monotonic()
                yield make_update(answers)
            batch.step()
        yield make_update(answers)
    finally:  # the process may serve another request after this one
        batch.pause()
