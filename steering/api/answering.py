"""How an answer is written: the engine's updates without blocking, whole or as a stream of events.

The engine is read in threads; a client that leaves is noticed between two updates, and closing
the engine's iterator stops the model within a token. Knows no routes.
"""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from steering.api.asked import ChatCompletionRequest
from steering.api.choosing import Choice, ServedModel
from steering.api.metrics import Metrics, RequestClock
from steering.api.refusals import Refusal, refuse
from steering.api.replies import (
    ChatCompletion,
    ChunkWriter,
    Delta,
    SteeringReport,
    complete,
    finish_of,
    report_on,
    usage_of,
)
from steering.errors import EngineClosedError
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.token_choice import Sampling
from steering.zero_gpu import AnyEngine

_HEARTBEAT_S = 0.1  # how late a client that left is noticed while nothing is written
# Between updates: often enough to read along, and not at the expense of everybody's tokens.
_STREAM_PACE_S, _WHOLE_PACE_S = 0.03, 0.1
# The status of a stream is decided when the answer begins, or after this time: from then on what
# goes wrong can only be told within the stream.
_DECIDE_S = 10.0
_KEEP_ALIVE_S = 15.0  # below the time after which a proxy gives a silent stream up
_KEEP_ALIVE = ": the answer is on its way\n\n"  # a comment, which clients pass over


class ClientLeftError(Exception):
    """Nobody is there to be answered any more."""


@dataclass(slots=True)
class Closing:
    """How far the end of the program is.

    Args:
        has_begun: No new request is taken.
        is_over: What is still being written ends.
    """

    has_begun: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """What all requests share.

    Args:
        engine: Owns the model.
        served: The model's names, and its neuron set.
        max_new_tokens: Longest answer.
        time_limit_s: Longest time of writing.
        closing: Set by whoever ends the program.
        metrics: Counts.
    """

    engine: AnyEngine
    served: ServedModel
    max_new_tokens: int
    time_limit_s: float
    closing: Closing = field(default_factory=Closing)
    metrics: Metrics = field(default_factory=Metrics)
    # Each request that is answered or waits needs a thread for moments; other work keeps its own.
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(128))

    def load_failure(self) -> BaseException | None:
        """Return what loading the model raised; None if it is loaded, or still loading."""
        if not self.engine.is_ready:
            return None
        try:
            self.engine.model()
        except Exception as err:
            return err
        return None

    def refuse(self, err: Exception) -> Refusal:
        """Return what to answer to an error."""
        return refuse(err, load_failure=self.load_failure())


class Answer:
    """The answer to one request, as it is written; `begin` it first and `close` it in the end."""

    def __init__(self, service: Service, asked: ChatCompletionRequest, request: Request) -> None:
        self._service, self._asked, self._request = service, asked, request
        self._choice: Choice
        self._first: ReplyUpdate
        self._updates: AsyncGenerator[ReplyUpdate, None]

    async def begin(self) -> None:
        """Wait for the answer's beginning, for a while.

        Raises:
            Exception: What makes the request one that is not answered.
        """
        service = self._service
        if service.closing.has_begun:
            raise _closed()
        in_thread = partial(to_thread.run_sync, limiter=service.threads)
        self._choice = await in_thread(service.served.choose, self._asked)
        job = make_job(service, self._asked, self._choice)
        self._updates = self._read(job)
        began_s = time.monotonic()
        try:
            async for update in self._updates:
                self._first = update
                is_late = time.monotonic() - began_s > _DECIDE_S
                if is_late or has_begun(update) or is_finished(update):
                    return
            raise _closed()
        except BaseException:
            await self.close()
            raise

    async def whole(self) -> ChatCompletion:
        """Return the finished answer.

        Raises:
            Exception: What went wrong.
        """
        last = self._first
        async with aclosing(self._updates):
            async for update in self._updates:
                last = update
        return complete(self._asked.model, last, await self._report(last))

    async def events(self) -> AsyncIterator[str]:
        """Yield the events of a stream; what goes wrong is the last of them."""
        options = self._asked.stream_options
        writer = ChunkWriter(
            self._asked.model, has_usage=options is not None and options.include_usage
        )
        sent, last = "", self._first
        quiet_since_s = time.monotonic()
        yield writer.add(Delta(role="assistant", content=""))
        try:
            async for last in self._from_first():
                settled = settled_text(last)
                if len(settled) > len(sent):
                    yield writer.add(Delta(content=settled[len(sent) :]))
                    sent, quiet_since_s = settled, time.monotonic()
                elif time.monotonic() - quiet_since_s > _KEEP_ALIVE_S:
                    yield _KEEP_ALIVE
                    quiet_since_s = time.monotonic()
            yield writer.finish(finish_of(last), await self._report(last))
            yield writer.close(usage_of(last))
        except ClientLeftError:
            self._request.state.ending = 499
        except Exception as err:
            refusal = self._service.refuse(err)
            self._request.state.ending = refusal.status
            yield f"data: {refusal.body.model_dump_json()}\n\n"

    async def close(self) -> None:
        """Stop the model, wherever the answer is."""
        await self._updates.aclose()

    async def _from_first(self) -> AsyncIterator[ReplyUpdate]:
        yield self._first
        async for update in self._updates:
            yield update

    async def _read(self, job: GenerationRequest) -> AsyncGenerator[ReplyUpdate, None]:
        """Yield the engine's updates as long as there is somebody to read them."""
        service = self._service
        clock = RequestClock(service.metrics)
        pace_s = _STREAM_PACE_S if self._asked.stream else _WHOLE_PACE_S
        updates = service.engine.stream(job, heartbeat_s=_HEARTBEAT_S, pace_s=pace_s)
        in_thread = partial(to_thread.run_sync, limiter=service.threads)
        try:
            while (update := await in_thread(next, updates, None)) is not None:
                clock.note(update)
                is_cut = service.closing.is_over and None in update.finish_reasons
                if is_cut or "stopped" in update.finish_reasons:
                    raise _closed()
                if await self._request.is_disconnected():
                    raise ClientLeftError
                yield update
        finally:
            updates.close()
            clock.stop()

    async def _report(self, last: ReplyUpdate) -> SteeringReport:
        report = await to_thread.run_sync(
            report_on, last, self._choice, limiter=self._service.threads
        )
        self._service.metrics.off_target.inc(report.verdict == "off_target")
        return report


class EventStream(StreamingResponse):
    """The answer as server-sent events; it is closed however the response ends."""

    def __init__(self, answer: Answer) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(answer.events(), media_type="text/event-stream", headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that leaves, or the end of the server, stops the model."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.close()


def make_job(service: Service, asked: ChatCompletionRequest, choice: Choice) -> GenerationRequest:
    """Return what the engine is to do.

    Raises:
        Refusal: If the answer may not be as long as is asked for.
    """
    wanted = asked.wanted_tokens() or service.max_new_tokens
    if wanted > service.max_new_tokens:
        raise Refusal(
            400,
            f"An answer of '{wanted}' tokens is asked for. Expected at most "
            f"{service.max_new_tokens}; ask for fewer, or start the server with a larger "
            "LANGSTEER_MAX_NEW_TOKENS.",
            param="max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens",
        )
    sampling = Sampling(
        max_new_tokens=wanted,
        temperature=asked.temperature,
        top_p=asked.top_p,
        stop=tuple(asked.stop),
    )
    if asked.seed is not None:
        sampling = replace(sampling, seed=asked.seed)
    elif asked.temperature:
        sampling = replace(sampling, seed=secrets.randbits(31))
    return GenerationRequest(
        (tuple(message.to_message() for message in asked.messages),),
        (choice.plan,),
        sampling,
        guards=() if choice.guard is None else (choice.guard,),
        time_limit_s=service.time_limit_s,
    )


def settled_text(update: ReplyUpdate) -> str:
    """Return the part of an answer that will not change any more: a stream takes nothing back."""
    if is_finished(update):
        return update.texts[0]
    return update.texts[0][: sum(update.settled)]


def has_begun(update: ReplyUpdate) -> bool:
    """Say whether an answer's turn has come."""
    return bool(update.prompt_tokens)


def is_finished(update: ReplyUpdate) -> bool:
    """Say whether an answer is complete."""
    return None not in update.finish_reasons


def _closed() -> EngineClosedError:
    return EngineClosedError("The program is ending. Try again when it has been started anew.")
