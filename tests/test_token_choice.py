"""Tests of drawing from the likeliest tokens without sorting the vocabulary."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import TopPLogitsWarper

from steering.errors import GenerationError
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

        chosen = TokenChooser(rows, bias=None, own=OwnProcessors(1.0, None)).choose(scores)

        assert chosen == choose_as_transformers(scores, 0.7, top_p, seeds)


def test_top_k_of_the_model_and_top_p_go_together() -> None:
    """Of two tokens that top-k leaves, top-p drops the less likely one."""
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.9, 2.8]])
    draw = Sampling(temperature=1.0, top_p=0.5)
    own = OwnProcessors(1.0, top_k=2)

    chosen = {
        TokenChooser([RowChoice(draw, random.Random(seed), [])], bias=None, own=own).choose(scores)[
            0
        ]
        for seed in range(30)
    }

    assert chosen == {1}


@pytest.mark.parametrize(
    ("own", "plan", "asked", "chosen"),
    [
        (1.0, 1.0, None, 1),  # nothing is penalised
        (1.5, 1.0, None, 0),  # the makers' penalty
        (1.0, 1.5, None, 0),  # the plan's
        (1.5, 1.5, 1.0, 1),  # what is asked for in words wins
        (1.0, 1.0, 1.5, 0),
    ],
)
def test_the_larger_penalty_counts_unless_one_is_asked_for(
    own: float, plan: float, asked: float | None, chosen: int
) -> None:
    scores = torch.tensor([[2.0, 2.5]])
    row = RowChoice(Sampling(repetition_penalty=asked), random.Random(0), [1], plan)

    assert TokenChooser([row], bias=None, own=OwnProcessors(own, None)).choose(scores) == [chosen]


@pytest.mark.parametrize("penalty", [0.9, 0.0, 6.0])
def test_a_repetition_penalty_that_makes_no_sense_is_refused(penalty: float) -> None:
    with pytest.raises(GenerationError, match="repetition_penalty"):
        Sampling(repetition_penalty=penalty)
