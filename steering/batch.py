"""Rows that are answered together: each comes, is steered, drawn, taken back and goes by itself.

What transformers' `generate` and its continuous batching lack (decision 0008): plans, settings and
ends per row, rows that join and leave, and going back within one row.
A row's cache is aligned at its right end; columns to the left of a row's own are masked.
Knows answers and the model, not queues or who asked. Dimension key: B rows, T columns of the cache,
H hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from steering.answer import Answer
from steering.errors import GenerationError, OutOfMemoryError
from steering.hooks import input_device
from steering.steerer import StepSteerer, steered
from steering.steering_plan import Phase, SteeringPlan
from steering.token_bias import TokenBiasProcessor, read_token_bias
from steering.token_choice import TokenChooser, read_own_processors

if TYPE_CHECKING:
    from transformers import DynamicCache

    from steering.loading import LoadedModel

_SPARE_COLUMNS = 128  # of the mask, so that it is not made anew for every token


class _KeysAndValues(Protocol):
    """A cache layer that has been written to; both are `(B, heads, T, H / heads)`."""

    keys: Tensor
    values: Tensor


class Batch:
    """The answers that a model is writing at the moment; one thread may use it."""

    def __init__(self, model: LoadedModel) -> None:
        """Begin without any."""
        self.answers: tuple[Answer, ...] = ()
        self._loaded, self._model = model, model.model
        self._device = input_device(model.model)
        self._accepted = inspect.signature(model.model.forward).parameters.keys()
        self._own = read_own_processors(model.model.generation_config)
        self._steerer = StepSteerer(model.model)
        self._cache = new_cache()
        self._columns = 0
        self._lengths: list[int] = []  # columns of each row that hold its tokens
        # What a step needs, and for which rows it was made; None where it is to be made anew.
        self._steered: list[tuple[Answer, SteeringPlan, Phase]] | None = None
        self._chosen_for: list[tuple[Answer, SteeringPlan]] | None = None
        self._mask: Tensor | None = None  # (B, columns and spare ones); None where no row is short
        self._positions: Tensor  # (B, 1)
        self._chooser: TokenChooser

    @torch.inference_mode()
    def add(self, answers: Sequence[Answer]) -> None:
        """Read the prompts of new rows, in one pass, and take their first tokens.

        Raises:
            OutOfMemoryError: If memory does not suffice for them; those that are there go on.
            PlanError: If a plan does not fit the model.
        """
        self.pause()
        width = max(len(answer.prompt.token_ids) for answer in answers)
        draws = [answer.choice.draws.getstate() for answer in answers]
        try:
            cache, chosen = self._read_prompts(answers, width)
            self._join(cache, width)
        except (RuntimeError, MemoryError) as err:
            for answer, state in zip(answers, draws, strict=True):  # it may be tried again
                answer.choice.draws.setstate(state)
            raise_if_out_of_memory(err, len(answers), width)
            raise
        self.answers = (*self.answers, *answers)
        self._lengths += [len(answer.prompt.token_ids) for answer in answers]
        self._take(chosen, first_row=len(self.answers) - len(answers))

    @torch.inference_mode()
    def step(self) -> None:
        """Write the next token of every row.

        Raises:
            OutOfMemoryError: If memory does not suffice; all rows are as they were before.
        """
        self._prepare()
        last = torch.tensor([[answer.last_id] for answer in self.answers], device=self._device)
        mask = None if self._mask is None else self._mask[:, : self._columns + 1]
        try:
            logits = self._forward(last, mask, self._positions, self._cache)
            chosen = self._chooser.choose(logits)
        except (RuntimeError, MemoryError) as err:
            self._map_cache(lambda t: t[..., : self._columns, :])  # some layers had gone ahead
            self._steered = None
            raise_if_out_of_memory(err, len(self.answers), self._columns)
            raise
        self._columns += 1
        self._lengths = [length + 1 for length in self._lengths]
        self._positions += 1
        self._take(chosen)

    @torch.inference_mode()
    def drop(self, gone: Callable[[Answer], bool]) -> None:
        """Forget rows; their places in the cache are free."""
        kept = [row for row, answer in enumerate(self.answers) if not gone(answer)]
        if len(kept) == len(self.answers):
            return
        lengths = [self._lengths[row] for row in kept]
        columns, rows = max(lengths, default=0), torch.tensor(kept)
        if kept:
            self._map_cache(lambda t: t[rows.to(t.device)][..., -columns:, :])
        else:
            self._cache = new_cache()
        self.answers = tuple(self.answers[row] for row in kept)
        self._lengths, self._columns = lengths, columns
        self.pause()

    def pause(self) -> None:
        """Take everything off the model, so that it can be used otherwise before the next step."""
        self._steerer.close()
        self._steered = None

    def _read_prompts(
        self, answers: Sequence[Answer], width: int
    ) -> tuple[DynamicCache, list[int]]:
        pad = self._loaded.tokenizer.pad_token_id or 0
        prompts = [answer.prompt.token_ids for answer in answers]
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self._device)
        mask = self._right_aligned([len(p) for p in prompts], width)
        cache = new_cache()
        with steered(self._model, [answer.plan for answer in answers]):
            logits = self._forward(ids, mask, _positions(mask, ids), cache)
        return cache, self._make_chooser(answers).choose(logits)

    def _prepare(self) -> None:
        """Make what a step needs anew where rows, plans or phases are others than before."""
        wanted = [(answer, answer.plan, answer.phase) for answer in self.answers]
        if wanted != self._steered:
            rows = [(answer, plan) for answer, plan, _ in wanted]
            if rows != self._chosen_for:
                self._chooser, self._chosen_for = self._make_chooser(self.answers), rows
            if self._steered is None:
                self._positions = torch.tensor(self._lengths, device=self._device)[:, None]
                self._make_mask()
            self._steerer.steer([plan for _, plan in rows], [phase for *_, phase in wanted])
            self._steered = wanted
        if self._mask is not None and self._mask.shape[1] <= self._columns:
            self._make_mask()

    def _make_mask(self) -> None:
        mask = self._right_aligned(self._lengths, self._columns)
        self._mask = None if mask is None else F.pad(mask, (0, _SPARE_COLUMNS), value=1)

    def _right_aligned(self, lengths: Sequence[int], width: int) -> Tensor | None:
        """Return a mask `(B, width)` with each row's own columns at the right; None if all are."""
        if min(lengths) == width:
            return None
        first = torch.tensor([width - length for length in lengths], device=self._device)
        return (torch.arange(width, device=self._device) >= first[:, None]).long()

    def _make_chooser(self, answers: Sequence[Answer]) -> TokenChooser:
        wanted = [answer.plan.token_bias for answer in answers]
        bias = None
        if any(one is not None for one in wanted):
            tokenizer = self._loaded.tokenizer
            bias = TokenBiasProcessor(
                [None if one is None else read_token_bias(tokenizer, one) for one in wanted],
                [answer.spared_ids for answer in answers],
            )
        rows = [
            replace(answer.choice, plan_penalty=answer.plan.repetition_penalty)
            for answer in answers
        ]
        return TokenChooser(rows, bias=bias, own=self._own)

    def _forward(
        self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: DynamicCache
    ) -> Tensor:
        """Return the logits of the last column, `(B, vocab)`; what a family lacks is left out."""
        optional = {"position_ids": positions, "logits_to_keep": self._last_column(ids.shape[1])}
        given = {name: value for name, value in optional.items() if name in self._accepted}
        output = self._model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _last_column(self, columns: int) -> Tensor | int:
        """Return what to give as `logits_to_keep`.

        On a CPU not 1 for several columns: the slice that transformers takes then isn't contiguous,
        and torch 2.13 copies the whole head for it (10 s for 152,000 tokens in bfloat16).
        """
        is_one = columns == 1 or self._device.type != "cpu"
        return 1 if is_one else torch.tensor([columns - 1])

    def _join(self, cache: DynamicCache, width: int) -> None:
        """Put the cache of new rows under that of the others, both as wide as the wider one."""
        columns = max(width, self._columns)
        if not self.answers:
            self._cache = cache
        else:
            joined = [  # all of them before the first is put in: memory may run out here
                (_stack(layer.keys, new.keys, columns), _stack(layer.values, new.values, columns))
                for layer, new in zip(_layers(self._cache), _layers(cache), strict=True)
            ]
            for layer, tensors in zip(_layers(self._cache), joined, strict=True):
                layer.keys, layer.values = tensors
        self._columns = columns

    def _take(self, chosen: Sequence[int], *, first_row: int = 0) -> None:
        for row, token in enumerate(chosen, start=first_row):
            if taken_back := self.answers[row].take(token):
                self._take_back(row, taken_back)

    def _take_back(self, row: int, columns: int) -> None:
        """Forget the last columns of a row; the others' stay where they are."""
        for layer in _layers(self._cache):  # in place, so that it needs no room for the others
            for values in (layer.keys, layer.values):  # (B, heads, T, H / heads)
                values[row] = values[row].roll(columns, dims=-2)
        self._lengths[row] -= columns
        self._steered = None

    def _map_cache(self, change: Callable[[Tensor], Tensor]) -> None:
        layers = _layers(self._cache)
        changed = [(change(layer.keys), change(layer.values)) for layer in layers]
        for layer, tensors in zip(layers, changed, strict=True):  # all or none
            layer.keys, layer.values = tensors


def new_cache() -> DynamicCache:
    """Return an empty cache whose layers keep every column."""
    from transformers import DynamicCache  # not before the page is open: this import is slow

    return DynamicCache()


def raise_if_out_of_memory(error: BaseException, rows: int, width: int) -> None:
    """Raise OutOfMemoryError from an error that says so, with what a person can do.

    On a CPU torch raises a plain RuntimeError of its allocator.
    """
    words = str(error)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in words:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemoryError(
            f"The model ran out of memory on '{rows}' answers of {width} tokens. "
            "Write a shorter message, start a new chat, or ask for a shorter answer."
        ) from error


def answer_all(model: LoadedModel, answers: Sequence[Answer]) -> None:
    """Write answers to their ends, all in one batch.

    Raises:
        GenerationError: If there is none.
        OutOfMemoryError: If memory runs out.
        PlanError: If a plan does not fit the model.
    """
    if not answers:
        raise GenerationError("Cannot answer '0' conversations. Expected at least one.")
    batch = Batch(model)
    try:
        batch.add(answers)
        batch.drop(lambda answer: answer.is_over)
        while batch.answers:
            batch.step()
            batch.drop(lambda answer: answer.is_over)
    finally:
        batch.pause()


def _positions(mask: Tensor | None, ids: Tensor) -> Tensor:
    """Return each token's place in its own row, 0 for padding, `(B, T)`."""
    if mask is None:
        return torch.arange(ids.shape[1], device=ids.device).expand(len(ids), -1)
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _layers(cache: DynamicCache) -> list[_KeysAndValues]:
    """Return the layers; made without a configuration, all keep every column."""
    return cast("list[_KeysAndValues]", cache.layers)


def _stack(upper: Tensor, lower: Tensor, columns: int) -> Tensor:
    """Put `(B, heads, T, width)` under another, each with empty columns at the left if short."""
    return torch.cat([F.pad(t, (0, 0, columns - t.shape[-2], 0)) for t in (upper, lower)])
