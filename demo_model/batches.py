"""Turns text and dialogues into training rows. A batch depends on the seed and the step alone.

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
    """Token ids and labels, both int64 `(rows, tokens)`; label -100 carries no loss."""

    input_ids: Tensor
    labels: Tensor


class BatchMaker:
    """Makes training batches from natural text and sampled dialogues."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, lines: Mapping[str, Sequence[str]], *, seed: int
    ) -> None:
        """Tokenise all text once; *lines* are the training lines per language."""
        self._tokenizer = tokenizer
        self._seed = seed
        self._text = {code: _pack(tokenizer, rows) for code, rows in lines.items()}
        low, high = PROMPT_CHARS
        self._other_prompts = {
            code: [row for row in rows if low <= len(row) <= high] for code, rows in lines.items()
        }

    def text_batch(self, step: int, *, rows: int, tokens: int) -> Batch:
        """Return rows of natural text, languages in turn, loss on every token."""
        rng = np.random.default_rng([self._seed, step])
        codes = list(self._text)
        start = int(rng.integers(len(codes)))
        windows = [
            _window(self._text[codes[(start + i) % len(codes)]], rng, tokens) for i in range(rows)
        ]
        ids = torch.from_numpy(np.stack(windows))
        return Batch(ids, ids.clone())

    def dialogue_batch(self, step: int, *, rows: int, tokens: int) -> Batch:
        """Return rows packed with whole dialogues, loss on the answers only."""
        rng = random.Random(f"{self._seed}:{step}")
        stream = self._dialogue_tokens(rng)
        made = [_fill_row(stream, tokens) for _ in range(rows)]
        ids = torch.tensor([row[0] for row in made])
        return Batch(ids, torch.tensor([row[1] for row in made]))

    def _dialogue_tokens(self, rng: random.Random) -> Iterator[tuple[list[int], list[int]]]:
        while True:
            yield self._encode(sample_dialogue(rng, other_prompts=self._other_prompts))

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
        torch.cat([first.input_ids, second.input_ids]), torch.cat([first.labels, second.labels])
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
) -> tuple[list[int], list[int]]:
    """Pack dialogues into one row; the last one is cut at the row's end."""
    ids: list[int] = []
    labels: list[int] = []
    while len(ids) < tokens:
        more_ids, more_labels = next(stream)
        ids += more_ids
        labels += more_labels
    return ids[:tokens], labels[:tokens]
