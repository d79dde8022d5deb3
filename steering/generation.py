"""Generates replies to a batch of conversations, each row with its own plan.

Knows conversations and plans, not how a plan is made or what language came out; `engine.py` puts
a thread and a queue around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from steering.conversation import FittedPrompt, Message, fit_prompt
from steering.errors import GenerationError
from steering.guard import Rewrite
from steering.hooks import input_device
from steering.steerer import steered
from steering.steering_plan import SteeringPlan
from steering.token_bias import (
    TokenBiasProcessor,
    make_token_bias,
    read_token_table,
    spared_prompt_ids,
)

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# `time`: the request took as long as it may; `end`: the model's own end, or a stop text.
FinishReason: TypeAlias = Literal["end", "length", "stopped", "time"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; the seed makes sampling repeatable.

    Args:
        max_new_tokens: The answer's greatest length.
        temperature: Divides the logits.
        top_p: Draw from the likeliest tokens that have this probability together.
        seed: Of this row's draws, whatever else is in the batch.
        stop: Texts that end the answer where they would begin; they are left out of it.
    """

    max_new_tokens: int = 120
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

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
class ReplyUpdate:
    """The replies so far.

    Args:
        texts: Per row, the whole text up to here.
        finish_reasons: Per row once it is finished, None before.
        notes: Per row, what was left out of the prompt; empty when nothing was.
        new_tokens: Tokens generated so far, all rows together.
        prompt_tokens: Per row, the tokens of its prompt; empty while the request waits.
        rewrites: Per row, the passages that the guard had written again; empty without a guard.
        place: 0 once it is being answered; before, its place in the queue, 1 being the next.
    """

    texts: tuple[str, ...]
    finish_reasons: tuple[FinishReason | None, ...]
    notes: tuple[str, ...]
    new_tokens: int
    prompt_tokens: tuple[int, ...] = ()
    rewrites: tuple[tuple[Rewrite, ...], ...] = ()
    place: int = 0


def generate(
    model: LoadedModel, prompts: Sequence[str], *, sampling: Sampling | None = None
) -> list[str]:
    """Answer each prompt, in one batch. Inside `with Steerer(...)` the replies are steered.

    A token bias needs plans: see `generate_conversations`.

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

    Args:
        model: From `load_model`; left as it was.
        conversations: One per row.
        plans: One per row.
        sampling: Greedy, up to 120 tokens, when omitted.

    Raises:
        GenerationError: As `generate`.
        PlanError: If a plan does not fit the model.
    """
    processor = make_bias_processor(model, conversations, plans)
    with steered(model.model, plans):
        return list(_reply_to(model, conversations, sampling or Sampling(), processor).texts)


def make_bias_processor(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    plans: Sequence[SteeringPlan],
) -> TokenBiasProcessor | None:
    """Return what adds the plans' token biases, sparing the names in the last message.

    None where no plan has one.

    Raises:
        PlanError: If there are biases, but not a plan per conversation.
    """
    wanted = [plan.token_bias for plan in plans]
    if not any(wanted):
        return None
    table = read_token_table(model.tokenizer)
    biases = [None if one is None else make_token_bias(table, one) for one in wanted]
    spared = [
        spared_prompt_ids(model.tokenizer, conversation[-1].content) if conversation else set()
        for conversation in conversations
    ]
    return TokenBiasProcessor(biases, spared)


def _reply_to(
    model: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    sampling: Sampling,
    bias: TokenBiasProcessor | None = None,
) -> ReplyUpdate:
    fitted = [
        fit_prompt(model, conversation, answer_tokens=sampling.max_new_tokens)
        for conversation in conversations
    ]
    rows = ReplyRows(model, fitted)
    run_batch(model, fitted, sampling, streamer=rows, stop=threading.Event(), bias=bias)
    return rows.update(is_final=True)


class ReplyRows(BaseStreamer):
    """Collects the tokens of a batch as `generate` makes them, and decodes them on demand."""

    def __init__(
        self,
        model: LoadedModel,
        prompts: Sequence[FittedPrompt],
        *,
        on_token: Callable[[], None] | None = None,
    ) -> None:
        """Begin with empty replies; *on_token* is called after every token."""
        self._on_token = on_token
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
        if self._on_token is not None:
            self._on_token()

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


class _StopWhenSet(StoppingCriteria):
    """Ends all rows after the current token once an event is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, input_ids: Tensor, _scores: Tensor, **_: object) -> Tensor:
        return torch.full((input_ids.shape[0],), self._stop.is_set(), device=input_ids.device)


def run_batch(
    model: LoadedModel,
    prompts: Sequence[FittedPrompt],
    sampling: Sampling,
    *,
    streamer: ReplyRows,
    stop: threading.Event,
    bias: TokenBiasProcessor | None = None,
) -> None:
    """Generate one left-padded batch into the streamer, until *stop* is set.

    Raises:
        GenerationError: If there is no prompt, or memory runs out.
    """
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
    device = input_device(model.model)
    try:
        with torch.inference_mode():
            model.model.generate(  # type: ignore[operator]  # transformers mixes it in untyped
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=sampling.max_new_tokens,
                pad_token_id=pad,
                streamer=streamer,
                stopping_criteria=StoppingCriteriaList([_StopWhenSet(stop)]),
                logits_processor=LogitsProcessorList([] if bias is None else [bias]),
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
