"""A reply that repeats itself is told from one that doesn't, in scripts with and without spaces."""

import pytest

from steering.evaluation.looping import is_looping
from tests.texts import TEXTS


@pytest.mark.parametrize(
    "reply",
    ["来来来来来来来来来来", "the end of the end of the end of the end of the end of the end of",
     "โรมโรมโรมโรมโรมโรมโรมโรม", "a" * 60],
)  # fmt: skip
def test_a_loop_is_found_in_every_script(reply: str) -> None:
    assert is_looping(reply)


@pytest.mark.parametrize("code", TEXTS)
def test_ordinary_text_does_not_loop(code: str) -> None:
    assert not any(is_looping(text) for text in TEXTS[code])


@pytest.mark.parametrize("reply", ["", " \n", "no", "no no no"])
def test_too_little_text_does_not_loop(reply: str) -> None:
    assert not is_looping(reply)
