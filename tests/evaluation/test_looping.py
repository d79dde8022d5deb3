"""A reply that repeats itself is told from one that doesn't, in scripts with and without spaces."""

import pytest

from steering.evaluation.looping import distinct_ngram_share, is_looping, split_for_looping
from tests.texts import TEXTS


def test_the_share_counts_each_ngram_once() -> None:
    assert distinct_ngram_share([1, 2, 1, 2, 1, 2], n=2) == 2 / 5
    assert distinct_ngram_share("abcdef") == 1
    assert distinct_ngram_share([1, 1, 1]) == 1


@pytest.mark.parametrize(
    "reply",
    ["来来来来来来来来来来", "the end of the end of the end of the end of the end of the end of",
     "โรมโรมโรมโรมโรมโรมโรมโรม", "a" * 60, [7, 7, 7, 7, 7, 7]],
)  # fmt: skip
def test_a_loop_is_found_in_every_script(reply: str | list[object]) -> None:
    assert is_looping(reply)


@pytest.mark.parametrize("code", TEXTS)
def test_ordinary_text_does_not_loop(code: str) -> None:
    assert not any(is_looping(text) for text in TEXTS[code])


@pytest.mark.parametrize("reply", ["", " \n", "no", "no no no"])
def test_too_little_text_does_not_loop(reply: str) -> None:
    assert not is_looping(reply)


def test_scripts_without_spaces_are_split_by_character() -> None:
    assert split_for_looping("我 们 去 Rome") == ["我", "们", "去", "R", "o", "m", "e"]
    assert split_for_looping("We go to 罗马") == ["We", "go", "to", "罗马"]
