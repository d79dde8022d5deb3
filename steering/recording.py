"""Records activation statistics of a model on text and on dialogues. Never changes the model.

Text is packed without padding into rows of equal length; separators and other special tokens are
read but not counted. Knows hooks and corpora, not what is done with the statistics.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats, StatsPhase
from steering.architectures import Site
from steering.conversation import Message, context_tokens, encode_prompt
from steering.corpus import Corpus, iter_dialogues, iter_text
from steering.hooks import TensorEdit, attached, find_sites
from steering.languages import Language

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# (language, phase, positions counted since the last call)
Progress: TypeAlias = Callable[[Language, StatsPhase, int], None]

_ROW_TOKENS = 2048  # a longer context is not used: statistics do not need it, memory grows with it


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How much is recorded, and in which batches.

    Args:
        batch_rows: Rows per forward pass; changes speed and memory, not the counts.
        tokens: Most text tokens per language; all when None.
    """

    batch_rows: int = 8
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One forward pass: ids int64 `(B, T)`, and per phase which positions count, bool `(B, T)`."""

    ids: Tensor
    masks: dict[StatsPhase, Tensor]
    attention: Tensor | None = None


# (model, corpus, language, options) -> the forward passes over a language
_ChunkMaker: TypeAlias = Callable[
    ["LoadedModel", Corpus, Language, RecordingOptions], Iterator[_Chunk]
]


def record(
    model: LoadedModel,
    languages: Sequence[Language],
    *,
    text: Corpus | None = None,
    dialogues: Corpus | None = None,
    options: RecordingOptions | None = None,
    progress: Progress | None = None,
) -> ActivationStats:
    """Record statistics of every language, phase `text` on text, `onset` and `body` on dialogues.

    Args:
        model: From `load_model`; it is not changed.
        languages: Their order is that of the statistics.
        text: Plain text, or None.
        dialogues: Dialogues whose answers are in the language, or None.
        options: Amount and batches.
        progress: Called after every forward pass.
    """
    options = options or RecordingOptions()
    phases: dict[StatsPhase, dict[Language, PhaseStats]] = {}
    sources: list[tuple[Corpus | None, tuple[StatsPhase, ...], _ChunkMaker]] = [
        (text, ("text",), _text_chunks),
        (dialogues, ("onset", "body"), _dialogue_chunks),
    ]
    for corpus, names, make_chunks in sources:
        if corpus is None:
            continue
        for language in languages:
            recorder = _Recorder(model, names)
            for chunk in make_chunks(model, corpus, language, options):
                recorder.run(chunk)
                if progress is not None:
                    progress(language, names[0], int(sum(m.sum() for m in chunk.masks.values())))
            for name, stats in recorder.stats().items():
                phases.setdefault(name, {})[language] = stats
    return ActivationStats(tuple(languages), phases)


class _Recorder:
    """Sums one language's activations, per phase."""

    def __init__(self, model: LoadedModel, phases: Sequence[StatsPhase]) -> None:
        self._model = model
        identity = model.identity
        neurons = (identity.layers, identity.neurons_per_layer)
        residual = (identity.layers, identity.hidden_size)
        vocabulary = int(model.model.config.get_text_config().vocab_size)
        self._sums = {
            phase: PhaseStats(
                token_count=0,
                active_count=torch.zeros(neurons, dtype=torch.int64),
                gate_sum=torch.zeros(neurons, dtype=torch.float64),
                value_sum=torch.zeros(neurons, dtype=torch.float64),
                residual_sum=torch.zeros(residual, dtype=torch.float64),
                token_id_count=torch.zeros(vocabulary, dtype=torch.int64),
            )
            for phase in phases
        }

    def run(self, chunk: _Chunk) -> None:
        """Run one forward pass, without the language-model head, and add what it shows."""
        network = self._model.model
        masks = {phase: mask.to(network.device) for phase, mask in chunk.masks.items()}
        edits: dict[Site, TensorEdit] = {
            "gate": lambda layer, x: self._add_gate(layer, x, masks),
            "value": lambda layer, x: self._add_sum("value_sum", layer, x, masks),
            "residual": lambda layer, x: self._add_sum("residual_sum", layer, x, masks),
        }
        attention = None if chunk.attention is None else chunk.attention.to(network.device)
        with torch.inference_mode(), attached(find_sites(network), edits):
            network.base_model(
                input_ids=chunk.ids.to(network.device), attention_mask=attention, use_cache=False
            )
        for phase, mask in chunk.masks.items():
            counts = torch.bincount(
                chunk.ids[mask], minlength=len(self._sums[phase].token_id_count)
            )
            self._sums[phase].token_id_count.add_(counts)

    def stats(self) -> dict[StatsPhase, PhaseStats]:
        """Return the sums."""
        return {
            phase: PhaseStats(
                int(sums.token_id_count.sum()),
                sums.active_count,
                sums.gate_sum,
                sums.value_sum,
                sums.residual_sum,
                sums.token_id_count,
            )
            for phase, sums in self._sums.items()
        }

    def _add_gate(self, layer: int, activation: Tensor, masks: dict[StatsPhase, Tensor]) -> None:
        for phase, mask in masks.items():
            counted = activation[mask]  # (tokens, N)
            self._sums[phase].active_count[layer] += (counted > 0).sum(dim=0).cpu()
            self._sums[phase].gate_sum[layer] += counted.sum(dim=0, dtype=torch.float64).cpu()

    def _add_sum(
        self, name: str, layer: int, activation: Tensor, masks: dict[StatsPhase, Tensor]
    ) -> None:
        for phase, mask in masks.items():
            total = activation[mask].sum(dim=0, dtype=torch.float64).cpu()
            getattr(self._sums[phase], name)[layer] += total


def _text_chunks(
    model: LoadedModel, corpus: Corpus, language: Language, options: RecordingOptions
) -> Iterator[_Chunk]:
    """Pack a language's lines into rows; the last row is shorter and comes alone."""
    row_tokens = min(context_tokens(model), _ROW_TOKENS)
    special = torch.tensor(sorted(set(model.tokenizer.all_special_ids)))
    ids = _text_ids(model, corpus, language)
    if options.tokens is not None:
        ids = islice(ids, options.tokens)
    rows: list[list[int]] = []
    while row := list(islice(ids, row_tokens)):
        if len(row) == row_tokens:
            rows.append(row)
        if rows and (len(rows) == options.batch_rows or len(row) < row_tokens):
            yield _text_chunk(rows, special)
            rows = []
        if len(row) < row_tokens:
            yield _text_chunk([row], special)
    if rows:
        yield _text_chunk(rows, special)


def _text_ids(model: LoadedModel, corpus: Corpus, language: Language) -> Iterator[int]:
    separator = model.tokenizer.eos_token_id
    for line in iter_text(corpus, language):
        yield from model.tokenizer(line, add_special_tokens=False, verbose=False)["input_ids"]
        if separator is not None:
            yield separator


def _text_chunk(rows: list[list[int]], special: Tensor) -> _Chunk:
    ids = torch.tensor(rows)
    return _Chunk(ids, {"text": ~torch.isin(ids, special)})


def _dialogue_chunks(
    model: LoadedModel, corpus: Corpus, language: Language, options: RecordingOptions
) -> Iterator[_Chunk]:
    """Put dialogues into right-padded rows; padding to the right changes no earlier position."""
    tokenizer, limit = model.tokenizer, context_tokens(model)
    rows = iter_dialogues(corpus, language)
    while dialogues := list(islice(rows, options.batch_rows)):
        prompts = [  # the end of one that fills the context, because the onset is there
            encode_prompt(tokenizer, [Message("user", row.prompt)])[-limit:] for row in dialogues
        ]
        answers = [
            list(tokenizer(row.answer, add_special_tokens=False)["input_ids"])[
                : limit - len(prompt)
            ]
            for row, prompt in zip(dialogues, prompts, strict=True)
        ]
        yield _dialogue_chunk(prompts, answers, tokenizer.pad_token_id or 0)


def _dialogue_chunk(prompts: list[list[int]], answers: list[list[int]], pad: int) -> _Chunk:
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
    return _Chunk(ids, masks, attention)
