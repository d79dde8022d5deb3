"""Turns text and dialogues into training rows. A batch depends on a seed and the step alone.

So a run that was stopped goes on exactly where it was, with no state but the step number.
Knows nothing of the model.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from demo_model.dialogues import Turn, sample_dialogue

NO_LOSS = -100  # the label that transformers' loss leaves out
PROMPT_CHARS = (8, 80)  # natural lines of this length also serve as prompts outside the topics


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids, labels and positions, all int64 `(rows, tokens)`.

    Label -100 carries no loss. Positions start at 0 with every dialogue (with the row in text),
    and a token sees those of its own dialogue alone.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor

    def attention_mask(self) -> Tensor:
        """Return 0 where a token sees another, else -inf, bfloat16 `(rows, 1, tokens, tokens)`.

        Added to the attention scores, as plain attention wants it: it takes a bool mask without a
        word and hides nothing.
        """
        document = (self.position_ids == 0).cumsum(dim=1)
        is_seen = (document[:, :, None] == document[:, None, :]).tril()[:, None]
        hidden = torch.full((), -torch.inf, dtype=torch.bfloat16)
        return torch.zeros_like(is_seen, dtype=hidden.dtype).masked_fill(~is_seen, hidden)


class BatchMaker:
    """Makes training batches from natural text and sampled dialogues."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, lines: Mapping[str, Sequence[str]]
    ) -> None:
        """Tokenise all text once; *lines* are the training lines per language."""
        self._tokenizer = tokenizer
        self._text = {code: _pack(tokenizer, rows) for code, rows in lines.items()}
        low, high = PROMPT_CHARS
        self._other_prompts = {
            code: [row for row in rows if low <= len(row) <= high] for code, rows in lines.items()
        }

    def text_batch(self, seed: int, step: int, *, rows: int, tokens: int) -> Batch:
        """Return rows of natural text, languages in turn, loss on every token."""
        rng = np.random.default_rng([seed, step])
        codes = list(self._text)
        start = int(rng.integers(len(codes)))
        windows = [
            _window(self._text[codes[(start + i) % len(codes)]], rng, tokens) for i in range(rows)
        ]
        ids = torch.from_numpy(np.stack(windows))
        return Batch(ids, ids.clone(), torch.arange(tokens).expand(rows, -1))

    def dialogue_batch(
        self, seed: int, step: int, *, rows: int, tokens: int, is_rough: bool = False
    ) -> Batch:
        """Return rows packed with whole dialogues, loss on the answers only."""
        rng = random.Random(f"{seed}:{step}")
        stream = self._dialogue_tokens(rng, is_rough=is_rough)
        made = [_fill_row(stream, tokens) for _ in range(rows)]
        ids = torch.tensor([row[0] for row in made])
        labels, positions = (torch.tensor([row[i] for row in made]) for i in (1, 2))
        return Batch(ids, labels, positions)

    def _dialogue_tokens(
        self, rng: random.Random, *, is_rough: bool
    ) -> Iterator[tuple[list[int], list[int]]]:
        while True:
            yield self._encode(
                sample_dialogue(rng, other_prompts=self._other_prompts, is_rough=is_rough)
            )

    def _encode(self, turns: Sequence[Turn]) -> tuple[list[int], list[int]]:
        """Return the ids and labels of a dialogue, the same ids as the chat template gives."""
        names = ("<s>", "<|user|>", "<|assistant|>", "<|end|>")
        start, user, assistant, end = (self._tokenizer.convert_tokens_to_ids(n) for n in names)
        texts = [text for turn in turns for text in (turn.question, turn.answer)]
        encoded = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        ids, labels = [start], [NO_LOSS]
        for question, answer in zip(encoded[::2], encoded[1::2], strict=True):
            ids += [user, *question, end, assistant, *answer, end]
            labels += [NO_LOSS] * (len(question) + 3) + [*answer, end]
        return ids, labels


def join(first: Batch, second: Batch) -> Batch:
    """Return both batches' rows as one batch; their rows must be equally long."""
    return Batch(
        torch.cat([first.input_ids, second.input_ids]),
        torch.cat([first.labels, second.labels]),
        torch.cat([first.position_ids, second.position_ids]),
    )


def _pack(tokenizer: PreTrainedTokenizerFast, rows: Sequence[str]) -> NDArray[np.int64]:
    end = tokenizer.eos_token_id
    encoded = tokenizer(list(rows), add_special_tokens=False)["input_ids"]
    return np.fromiter((i for ids in encoded for i in [*ids, end]), dtype=np.int64)


def _window(ids: NDArray[np.int64], rng: np.random.Generator, tokens: int) -> NDArray[np.int64]:
    start = int(rng.integers(len(ids) - tokens))
    return ids[start : start + tokens]


def _fill_row(
    stream: Iterator[tuple[list[int], list[int]]], tokens: int
) -> tuple[list[int], list[int], list[int]]:
    """Pack dialogues into one row of ids, labels, positions; the last one is cut at its end."""
    ids: list[int] = []
    labels: list[int] = []
    positions: list[int] = []
    while len(ids) < tokens:
        more_ids, more_labels = next(stream)
        ids += more_ids
        labels += more_labels
        positions += range(len(more_ids))
    return ids[:tokens], labels[:tokens], positions[:tokens]
