"""Tests of drawing from the likeliest tokens without sorting the vocabulary."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import TopPLogitsWarper

from steering.token_choice import OwnProcessors, RowChoice, Sampling, TokenChooser

ROWS = 3


def choose_as_transformers(
    scores: torch.Tensor, temperature: float, top_p: float, seeds: range
) -> list[int]:
    """Sort everything, then draw in the order of ids, as the slow way does."""
    kept = TopPLogitsWarper(top_p)(torch.empty(0, dtype=torch.long), scores / temperature)
    up_to = kept.softmax(dim=-1).double().cumsum(dim=-1)
    where = torch.tensor([[random.Random(seed).random()] for seed in seeds]).double()
    return [int(place) for place in torch.searchsorted(up_to, where * up_to[:, -1:], right=True)]


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0], ids=["flat", "usual", "steep"])
@pytest.mark.parametrize("vocabulary", [7, 1024, 1025, 20_000])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.95, 0.9999])
def test_same_tokens_are_drawn_as_with_the_vocabulary_sorted(
    spread: float, vocabulary: int, top_p: float
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(vocabulary)
        scores = torch.randn(ROWS, vocabulary, dtype=torch.float32) * spread
    for start in range(0, 60, ROWS):
        seeds = range(start, start + ROWS)
        rows = [
            RowChoice(Sampling(temperature=0.7, top_p=top_p), random.Random(seed), [])
            for seed in seeds
        ]

        chosen = TokenChooser(rows, bias=None, own=OwnProcessors(None, None)).choose(scores)

        assert chosen == choose_as_transformers(scores, 0.7, top_p, seeds)


def test_top_k_of_the_model_and_top_p_go_together() -> None:
    """Of two tokens that top-k leaves, top-p drops the less likely one."""
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.9, 2.8]])
    draw = Sampling(temperature=1.0, top_p=0.5)
    own = OwnProcessors(None, top_k=2)

    chosen = {
        TokenChooser([RowChoice(draw, random.Random(seed), [])], bias=None, own=own).choose(scores)[
            0
        ]
        for seed in range(30)
    }

    assert chosen == {1}
