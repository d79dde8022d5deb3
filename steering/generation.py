"""Generates replies: a plain function for scripts, and an engine whose thread owns the model.

The engine has a queue in front of it; every request carries its own plans, so nothing is shared
between requests. Knows conversations and plans, not how a plan is made or what language came out.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from steering.conversation import FittedPrompt, Message, fit_prompt
from steering.errors import GenerationError
from steering.steerer import steered
from steering.steering_plan import SteeringPlan

if TYPE_CHECKING:
    from steering.loading import LoadedModel

FinishReason: TypeAlias = Literal["end", "length", "stopped"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; the seed makes sampling repeatable."""

    max_new_tokens: int = 120
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name, is_good, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature <= 5, "between 0 and 5"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not is_good:
                raise GenerationError(
                    f"'{name}' is '{getattr(self, name)}'. Expected {expected}; correct it."
                )


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A batch of conversations to answer, one plan each.

    Args:
        conversations: One per row, each ending with the person's message.
        plans: One per row.
        sampling: For all rows.
    """

    conversations: tuple[tuple[Message, ...], ...]
    plans: tuple[SteeringPlan, ...]
    sampling: Sampling = Sampling()


@dataclass(frozen=True, slots=True)
class ReplyUpdate:
    """The replies so far.

    Args:
        texts: Per row, the whole text up to here.
        finish_reasons: Per row once it is finished, None before.
        notes: Per row, what was left out of the prompt; empty when nothing was.
        new_tokens: Tokens generated so far, all rows together.
    """

    texts: tuple[str, ...]
    finish_reasons: tuple[FinishReason | None, ...]
    notes: tuple[str, ...]
    new_tokens: int


def generate(
    model: LoadedModel, prompts: Sequence[str], *, sampling: Sampling | None = None
) -> list[str]:
    """Answer each prompt, in one batch. Inside `with Steerer(...)` the replies are steered.

    Args:
        model: From `load_model`.
        prompts: The person's messages; longer ones than the context are cut at the beginning.
        sampling: Greedy, up to 120 tokens, when omitted.

    Raises:
        GenerationError: If a prompt is empty, or the model runs out of memory.
    """
    chosen = sampling or Sampling()
    conversations = [[Message("user", prompt)] for prompt in prompts]
    return list(_reply_to(model, conversations, chosen).texts)


def generate_conversations(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    plans: Sequence[SteeringPlan],
    sampling: Sampling | None = None,
) -> list[str]:
    """Answer conversations in one batch, each row with its own plan.

    Raises:
        GenerationError: As `generate`.
        PlanError: If a plan does not fit the model.
    """
    with steered(model.model, plans):
        return list(_reply_to(model, conversations, sampling or Sampling()).texts)


def _reply_to(
    model: LoadedModel, conversations: Sequence[Sequence[Message]], sampling: Sampling
) -> ReplyUpdate:
    fitted = [
        fit_prompt(model, conversation, answer_tokens=sampling.max_new_tokens)
        for conversation in conversations
    ]
    rows = _Rows(model, fitted)
    _run(model, fitted, sampling, streamer=rows, stop=threading.Event())
    return rows.update(is_final=True)


class Engine:
    """One thread that owns the model, and a queue in front of it.

    The model is loaded in that thread, so constructing an engine returns at once; a request that
    comes earlier waits. A load that fails is raised at every request.
    """

    def __init__(self, load: Callable[[], LoadedModel], *, max_waiting: int = 32) -> None:
        """Start the thread; *load* runs in it."""
        self._load = load
        self._jobs: queue.Queue[_Job | None] = queue.Queue(max_waiting)
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

    def model(self, *, timeout_s: float | None = None) -> LoadedModel:
        """Return the loaded model, waiting for it.

        Raises:
            SteeringError: What loading raised, or GenerationError when it takes longer.
        """
        if not self._loaded.wait(timeout_s):
            raise GenerationError(f"The model is still loading after '{timeout_s}' s. Try again.")
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def stream(
        self, request: GenerationRequest, *, heartbeat_s: float | None = None
    ) -> Iterator[ReplyUpdate]:
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
        with self._door:
            if self._is_closed:
                raise GenerationError("This engine is closed. Start another one.")
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise GenerationError(
                    f"'{self._jobs.maxsize}' people are waiting already. Try again in a moment."
                ) from None
        yield from job.updates(heartbeat_s)

    def reply(self, request: GenerationRequest) -> ReplyUpdate:
        """Return the finished replies of a request."""
        for update in self.stream(request):
            last = update
        return last

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Let the running and the waiting requests finish, then end the thread."""
        with self._door:
            self._is_closed = True
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

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


class _Rows(BaseStreamer):
    """Collects the tokens of a batch as `generate` makes them, and decodes them on demand."""

    def __init__(self, model: LoadedModel, prompts: Sequence[FittedPrompt]) -> None:
        self._tokenizer = model.tokenizer
        self._end_ids = _end_ids(model)
        self._notes = tuple(prompt.note for prompt in prompts)
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._reasons: list[FinishReason | None] = [None] * len(prompts)
        self._is_prompt = True

    def put(self, value: Tensor) -> None:
        """Take the prompt's ids first, then one token per row and step."""
        if self._is_prompt:
            self._is_prompt = False
            return
        for row, token in enumerate(value.tolist()):
            if self._reasons[row] is not None:
                continue
            if token in self._end_ids:
                self._reasons[row] = "end"
            else:
                self._ids[row].append(token)

    def end(self) -> None:
        """Do nothing: the caller knows when generation is over."""

    def update(self, *, is_final: bool, is_stopped: bool = False) -> ReplyUpdate:
        """Return the replies so far; a final update gives every row its reason."""
        reasons = list(self._reasons)
        if is_final:
            rest: FinishReason = "stopped" if is_stopped else "length"
            reasons = [reason or rest for reason in reasons]
        texts = tuple(self._decode(list(ids)) for ids in self._ids)
        return ReplyUpdate(texts, tuple(reasons), self._notes, self.new_tokens)

    @property
    def new_tokens(self) -> int:
        """Return the number of tokens so far, all rows together."""
        return sum(map(len, self._ids))

    def _decode(self, ids: list[int]) -> str:
        """Return the text, without a character whose last bytes are still to come."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip().rstrip("\ufffd")


class _Job:
    """A request on its way through the engine: run by its thread, read by the caller's."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._rows: _Rows | None = None
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
        self._rows = _Rows(model, fitted)
        streamer = _Notifier(self._rows, self._tell)
        with steered(model.model, self._request.plans):
            _run(model, fitted, sampling, streamer=streamer, stop=self._stop)
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


class _Notifier(BaseStreamer):
    """Passes tokens on and wakes the reader."""

    def __init__(self, rows: _Rows, tell: Callable[[], None]) -> None:
        self._rows, self._tell = rows, tell

    def put(self, value: Tensor) -> None:
        self._rows.put(value)
        self._tell()

    def end(self) -> None:
        self._tell()


class _StopWhenSet(StoppingCriteria):
    """Ends all rows after the current token once an event is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: Tensor, _scores: Tensor, **_: object) -> Tensor:
        return torch.full((input_ids.shape[0],), self._stop.is_set(), device=input_ids.device)


def _run(
    model: LoadedModel,
    prompts: Sequence[FittedPrompt],
    sampling: Sampling,
    *,
    streamer: BaseStreamer,
    stop: threading.Event,
) -> None:
    """Generate one left-padded batch into the streamer."""
    if not prompts:
        raise GenerationError("Cannot answer '0' conversations. Expected at least one.")
    pad = model.tokenizer.pad_token_id or 0
    width = max(len(prompt.token_ids) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(p.token_ids)) + p.token_ids for p in prompts])
    mask = torch.tensor(
        [[0] * (width - len(p.token_ids)) + [1] * len(p.token_ids) for p in prompts]
    )
    choice = (
        {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.temperature > 0
        else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    )
    torch.manual_seed(sampling.seed)
    try:
        with torch.inference_mode():
            model.model.generate(  # type: ignore[operator]  # transformers mixes it in untyped
                input_ids=ids.to(model.model.device),
                attention_mask=mask.to(model.model.device),
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=pad,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([_StopWhenSet(stop)]),
                disable_compile=True,
                **choice,
            )
    except torch.OutOfMemoryError as err:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise GenerationError(
            f"The model ran out of memory on '{len(prompts)}' prompts of {width} tokens. "
            "Write a shorter message, start a new chat, or ask for a shorter answer."
        ) from err


def _end_ids(model: LoadedModel) -> set[int]:
    config = model.model.generation_config
    ends = config.eos_token_id if config is not None else None
    ends = model.tokenizer.eos_token_id if ends is None else ends
    return set(ends if isinstance(ends, list) else [ends])
