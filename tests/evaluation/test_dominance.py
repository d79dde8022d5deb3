"""Whether a diagonal dominates: against loops over sorted changes, and in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.evaluation.dominance import (
    Matrix,
    Verdict,
    column_dominates,
    ratios,
    row_dominates,
)

# en suffers most from its own neurons, fr by row but not by column, ja not at all.
OWN: Matrix = ((0.5, 0.4, 0.1), (0.2, 0.3, 0.1), (0.3, 0.0, -0.1))
RANDOM: Matrix = ((0.01, 0.02, 0.0), (0.0, 0.03, 0.01), (0.02, 0.0, 0.01))
SQUARES = st.integers(2, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from([-0.5, 0.0, 0.25, 1.0]), min_size=size, max_size=size),
        min_size=size,
        max_size=size,
    )
)


@given(SQUARES)
def test_dominating_is_standing_first_and_alone_among_the_sorted(square: list[list[float]]) -> None:
    changes = tuple(map(tuple, square))
    for place in range(len(square)):
        own = square[place][place]
        row = sorted(square[place], reverse=True)
        column = sorted((line[place] for line in square), reverse=True)

        assert row_dominates(changes, place) == (row[0] == own and row[1] < own)
        assert column_dominates(changes, place) == (column[0] == own and column[1] < own)


def test_ratio_is_perplexity_over_perplexity() -> None:
    base_nats = 2.0

    got = ratios(OWN)

    for row, changes in zip(got, OWN, strict=True):
        for ratio, change in zip(row, changes, strict=True):
            assert ratio == pytest.approx(math.e ** (base_nats + change) / math.e**base_nats)


def test_sentences_say_by_language_what_the_matrix_holds() -> None:
    said = Verdict(["en", "fr", "ja"], [10, 20, 0], OWN, RANDOM).by_language()

    assert said["en"] == (
        "With the 10 neurons of en off, en suffers most (+0.500 nats per token, perplexity times "
        "1.65; then fr +0.400); no other language's neurons cost en as much. With as many random "
        "neurons off, en changes by +0.010, and fr +0.020 as much or more."
    )
    assert "fr suffers most (+0.300" in said["fr"]
    assert "the neurons of en +0.400 cost fr as much or more" in said["fr"]
    assert said["fr"].endswith("fr changes by +0.030, and suffers most there too.")
    assert said["ja"] == "ja has no neurons in this set, so nothing was switched off."


def test_overall_sentence_counts_both_ways_and_names_the_exceptions() -> None:
    said = Verdict(["en", "fr", "ja"], [10, 20, 30], OWN, RANDOM).overall()

    assert "dominates for 2 of 3 languages by row and for 1 by column" in said
    assert "random neurons off for 1 by row and 1 by column" in said
    assert "By row it does not for ja. By column it does not for fr, ja." in said
    assert "mean is +0.233 nats per token, under random neurons +0.017" in said


def test_where_all_dominate_no_exception_is_named() -> None:
    own: Matrix = ((1.0, 0.0), (0.0, 1.0))

    said = Verdict(["en", "fr"], [1, 1], own, ((0.0, 0.0), (0.0, 0.0))).overall()

    assert "2 of 2 languages by row and for 2 by column" in said
    assert "random neurons off for 0 by row and 0 by column" in said
    assert "does not" not in said
