"""Turns a corpus into forward passes: ids, which positions count, and where the reading stands.

Text is packed without padding into rows of equal length; separators and other special tokens are
read but not counted. Chunks depend on the corpus and the options alone, so that a recording can be
stopped, continued, and shared between processes. Knows no activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.conversation import Message, context_tokens, encode_prompt
from steering.corpus import Corpus, Dialogue, Warn, chain_hash, iter_rows
from steering.languages import Language

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_ROW_TOKENS = 2048  # a longer context is not used: statistics do not need it, memory grows with it
_TOKENISED_ROWS = 64  # at once, for speed; changes nothing else


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """How a corpus becomes chunks.

    Args:
        batch_rows: Rows per chunk; changes speed and memory, not the counts.
        tokens: Most text tokens per language; all when None.
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
        leftover: Tokens taken that are in no chunk yet.
    """

    chunks: int = 0
    rows: int = 0
    tokens: int = 0
    digest: bytes = bytes(32)
    leftover: tuple[int, ...] = ()


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
    ids, at = list(start.leftover), start

    def cut(length: int) -> Chunk:
        nonlocal at, ids
        rows = torch.tensor(ids[:length]).view(-1, min(row_tokens, length))
        ids = ids[length:]
        at = Position(at.chunks + 1, at.rows, at.tokens, at.digest, tuple(ids))
        return Chunk(rows, {"text": ~torch.isin(rows, special)}, at)

    block = row_tokens * options.batch_rows
    while len(ids) >= block:
        yield cut(block)
    for number, text, more in _tokenised(model, corpus, language, start.rows, warn):
        if options.tokens is not None:
            if at.tokens == options.tokens:
                break
            more = more[: options.tokens - at.tokens]
        ids += more
        at = Position(
            at.chunks, number, at.tokens + len(more), chain_hash(at.digest, text), at.leftover
        )
        while len(ids) >= block:
            yield cut(block)
    if full := len(ids) // row_tokens * row_tokens:
        yield cut(full)
    if ids:
        yield cut(len(ids))
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
    while batch := list(islice(rows, _TOKENISED_ROWS)):
        texts = [str(text) for _, text in batch]
        encoded = model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for (number, _), text, ids in zip(batch, texts, encoded, strict=True):
            yield number, text, [*ids, separator] if separator is not None else list(ids)


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
        dialogues = [row for _, row in batch if isinstance(row, Dialogue)]
        digest = at.digest
        for dialogue in dialogues:
            digest = chain_hash(digest, dialogue)
        prompts, answers = _encode_dialogues(model, dialogues)
        at = Position(at.chunks + 1, batch[-1][0], at.tokens + sum(map(len, answers)), digest)
        yield _dialogue_chunk(prompts, answers, model.tokenizer.pad_token_id or 0, at)


def _encode_dialogues(
    model: LoadedModel, dialogues: list[Dialogue]
) -> tuple[list[list[int]], list[list[int]]]:
    """Return the ids of prompts in the model's template, and of what of their answers fits."""
    tokenizer, limit = model.tokenizer, context_tokens(model)
    prompts = [  # the end of one that fills the context, because the onset is there
        encode_prompt(tokenizer, [Message("user", row.prompt)])[-limit:] for row in dialogues
    ]
    encode: Callable[[str], list[int]] = lambda text: list(  # noqa: E731 - one line of glue
        tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    )
    answers = [
        encode(row.answer)[: limit - len(prompt)]
        for row, prompt in zip(dialogues, prompts, strict=True)
    ]
    return prompts, answers


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
