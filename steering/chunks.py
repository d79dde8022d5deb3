"""Turns a corpus into forward passes: ids, which positions count, and where the reading stands.

Text is packed without padding into rows of equal length; separators and other special tokens are
read but not counted. Chunks depend on the corpus and the options alone, so that a recording can be
stopped, continued, and shared between processes. Knows no activations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.architectures import activation_dtype
from steering.conversation import Message, context_tokens, encode_prompt
from steering.corpus import Corpus, Warn, chain_hash, iter_rows
from steering.corpus_rows import Dialogue
from steering.languages import Language

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_ROW_TOKENS = 2048  # a longer context is not used: statistics do not need it, memory grows with it
_TOKENISED_CHARS = 100_000  # at once, for speed; changes nothing else


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How a corpus becomes chunks.

    Args:
        batch_rows: Rows per chunk; changes speed and memory, not the counts.
        tokens: Most tokens of text, or of answers, per language; all when None.
    """

    batch_rows: int = 8
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where the reading of one language stands, to go on from.

    Args:
        chunks: Chunks made so far.
        rows: Rows of the corpus read so far.
        tokens: Tokens taken from them.
        digest: `corpus.chain_hash` over them.
        pending: Tokens of which the later ones are in no chunk yet; never changed.
        pending_from: Where those begin.
    """

    chunks: int = 0
    rows: int = 0
    tokens: int = 0
    digest: bytes = bytes(32)
    pending: Sequence[int] = ()
    pending_from: int = 0

    @property
    def leftover(self) -> list[int]:
        """Return the tokens taken that are in no chunk yet."""
        return list(self.pending[self.pending_from :])


@dataclass(frozen=True, slots=True)
class Chunk:
    """One forward pass.

    Args:
        ids: int64 `(B, T)`.
        masks: Per phase, which positions count, bool `(B, T)`.
        after: Where the reading stands behind it.
        attention: 0 where a row is padded to the right, int64 `(B, T)`; None without padding.
    """

    ids: Tensor
    masks: dict[StatsPhase, Tensor]
    after: Position
    attention: Tensor | None = None


def iter_chunks(
    model: LoadedModel,
    corpus: Corpus,
    language: Language,
    *,
    options: ChunkOptions,
    start: Position,
    warn: Warn | None = None,
) -> Iterator[Chunk]:
    """Yield the forward passes over a language from a position on.

    Raises:
        CorpusError: When the corpus cannot be read any further.
    """
    make = _text_chunks if corpus.kind == "text" else _dialogue_chunks
    return make(model, corpus, language, options, start, warn or (lambda _: None))


def model_state(model: LoadedModel) -> str:
    """Describe all of a model that its numbers depend on: which one, of which precision."""
    quantised = model.model.config.to_dict().get("quantization_config")
    return f"{model.identity} {activation_dtype(model.model)} {quantised}"


def corpus_phases(corpus: Corpus) -> tuple[StatsPhase, ...]:
    """Return the phases that a corpus is recorded in."""
    return ("text",) if corpus.kind == "text" else ("onset", "body")


def _text_chunks(
    model: LoadedModel,
    corpus: Corpus,
    language: Language,
    options: ChunkOptions,
    start: Position,
    warn: Warn,
) -> Iterator[Chunk]:
    """Pack a language's texts into rows; the last row is shorter and comes alone."""
    row_tokens = min(context_tokens(model), _ROW_TOKENS)
    special = torch.tensor(sorted(set(model.tokenizer.all_special_ids)))
    packer = _Packer(row_tokens, options.batch_rows, special, start)
    yield from packer.full_chunks()
    for number, text, ids in _tokenised(model, corpus, language, start.rows, warn):
        if options.tokens is not None:
            if packer.at.tokens == options.tokens:
                break
            ids = ids[: options.tokens - packer.at.tokens]
        packer.take(number, text, ids)
        yield from packer.full_chunks()
    yield from packer.last_chunks()
    _warn_if_short(packer.at, options, language, warn)


class _Packer:
    """Collects tokens and cuts them into chunks."""

    def __init__(self, row_tokens: int, batch_rows: int, special: Tensor, start: Position) -> None:
        self._row, self._block, self._special = row_tokens, row_tokens * batch_rows, special
        self._ids, self._cut = start.leftover, 0  # those before the cut are in chunks
        self.at = start

    def take(self, number: int, text: str, ids: list[int]) -> None:
        """Add the tokens of a text."""
        self._ids = self._ids[self._cut :] + ids
        self._cut = 0
        at = self.at
        self.at = replace(
            at,
            rows=number,
            tokens=at.tokens + len(ids),
            digest=chain_hash(at.digest, text),
            pending=self._ids,
            pending_from=0,
        )

    def full_chunks(self) -> Iterator[Chunk]:
        """Yield chunks of all rows while there are tokens for them."""
        while len(self._ids) - self._cut >= self._block:
            yield self._chunk(self._block)

    def last_chunks(self) -> Iterator[Chunk]:
        """Yield what is left: full rows, then the shorter last one alone."""
        left = len(self._ids) - self._cut
        if full := left // self._row * self._row:
            yield self._chunk(full)
        if left > full:
            yield self._chunk(left - full)

    def _chunk(self, length: int) -> Chunk:
        end = self._cut + length
        rows = torch.tensor(self._ids[self._cut : end]).view(-1, min(self._row, length))
        self._cut = end
        self.at = replace(self.at, chunks=self.at.chunks + 1, pending_from=end)
        return Chunk(rows, {"text": ~torch.isin(rows, self._special)}, self.at)


def _warn_if_short(at: Position, options: ChunkOptions, language: Language, warn: Warn) -> None:
    if options.tokens is not None and at.tokens < options.tokens:
        warn(
            f"{language.english_name} ended after {at.tokens} tokens of the {options.tokens} that "
            "were asked for"
        )


def _tokenised(
    model: LoadedModel, corpus: Corpus, language: Language, start: int, warn: Warn
) -> Iterator[tuple[int, str, list[int]]]:
    """Yield every text with the rows read up to it and its tokens, the separator behind them."""
    separator = model.tokenizer.eos_token_id
    rows = iter_rows(corpus, language, start=start, warn=warn)
    while batch := _take_chars(rows, _TOKENISED_CHARS):
        texts = [text for _, text in batch]
        encoded = model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for (number, _), text, ids in zip(batch, texts, encoded, strict=True):
            yield number, text, [*ids, separator] if separator is not None else list(ids)


def _take_chars(rows: Iterator[tuple[int, str | Dialogue]], limit: int) -> list[tuple[int, str]]:
    """Return the next rows, as many as reach so many characters together."""
    taken: list[tuple[int, str]] = []
    chars = 0
    while chars < limit and (row := next(rows, None)) is not None:
        taken.append((row[0], str(row[1])))
        chars += len(taken[-1][1]) + 1
    return taken


def _dialogue_chunks(
    model: LoadedModel,
    corpus: Corpus,
    language: Language,
    options: ChunkOptions,
    start: Position,
    warn: Warn,
) -> Iterator[Chunk]:
    """Put dialogues into right-padded rows; padding to the right changes no earlier position."""
    at = start
    rows = iter_rows(corpus, language, start=start.rows, warn=warn)
    while batch := list(islice(rows, options.batch_rows)):
        if options.tokens is not None and at.tokens >= options.tokens:
            break
        prompts, answers = [], []
        for number, dialogue in batch:
            if not isinstance(dialogue, Dialogue) or at.tokens >= (options.tokens or math.inf):
                break  # the last dialogue of the budget is whole
            prompt, answer = _encode_dialogue(model, dialogue)
            prompts.append(prompt)
            answers.append(answer)
            at = replace(
                at,
                rows=number,
                tokens=at.tokens + len(answer),
                digest=chain_hash(at.digest, dialogue),
            )
        at = replace(at, chunks=at.chunks + 1)
        yield _dialogue_chunk(prompts, answers, model.tokenizer.pad_token_id or 0, at)
    _warn_if_short(at, options, language, warn)


def _encode_dialogue(model: LoadedModel, dialogue: Dialogue) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt in the model's template, and of what of its answer fits."""
    tokenizer, limit = model.tokenizer, min(context_tokens(model), _ROW_TOKENS)
    # The end of one that fills the context, because the onset is there.
    prompt = encode_prompt(tokenizer, [Message("user", dialogue.prompt)])[-limit:]
    answer = tokenizer(dialogue.answer, add_special_tokens=False, verbose=False)["input_ids"]
    return prompt, list(answer)[: limit - len(prompt)]


def _dialogue_chunk(
    prompts: list[list[int]], answers: list[list[int]], pad: int, after: Position
) -> Chunk:
    lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    shape = (len(prompts), max(lengths))
    ids = torch.full(shape, pad)
    attention = torch.zeros(shape, dtype=torch.int64)
    masks: dict[StatsPhase, Tensor] = {
        "onset": torch.zeros(shape, dtype=torch.bool),
        "body": torch.zeros(shape, dtype=torch.bool),
    }
    for row, (prompt, answer, length) in enumerate(zip(prompts, answers, lengths, strict=True)):
        ids[row, :length] = torch.tensor(prompt + answer)
        attention[row, :length] = 1
        masks["onset"][row, len(prompt) - 1] = True
        masks["body"][row, len(prompt) : length] = True
    return Chunk(ids, masks, after, attention)
