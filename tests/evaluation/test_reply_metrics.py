"""Looping, answer overlap and foreign words of single replies, as their definitions say."""

import pytest

from steering.evaluation.answer_overlap import overlap_with
from steering.evaluation.foreign_words import foreign_words
from steering.everyday_prompts import everyday_languages, everyday_prompts
from steering.languages import LANGUAGES, Language
from steering.looping import distinct_share, is_looping
from steering.text_units import split_units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Die 3 Katzen, ja!", ["die", "3", "katzen", "ja"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("猫がABC食べ", ["猫", "が", "abc", "食", "べ"]),
        ("a" * 31, ["a"] * 31),
        ("... ,", []),
    ],
)
def test_units_are_words_and_signs_of_scripts_without_spaces(text: str, units: list[str]) -> None:
    assert split_units(text) == units


def test_share_of_distinct_sequences_counts_every_window_of_four() -> None:
    # a b c d a b c d: five windows, four of them distinct.
    assert distinct_share("a b c d a b c d") == pytest.approx(4 / 5)
    assert distinct_share("a b c") == 1
    assert distinct_share("来来来来来来来") == pytest.approx(1 / 4)


@pytest.mark.parametrize("text", ["the cat " * 8, "来" * 9, "no" * 40, "чай, " * 9])
def test_replies_that_say_the_same_over_and_over_loop(text: str) -> None:
    assert is_looping(text)


@pytest.mark.parametrize("language", everyday_languages(), ids=str)
def test_whole_sentences_do_not_loop(language: Language) -> None:
    assert not any(is_looping(text) for text in everyday_prompts(language))


def test_overlap_is_of_words_without_case_punctuation_and_articles() -> None:
    found = overlap_with("It was the Red, house.", ["a red house", "nothing"])

    # The reply has four words without the article, the answer two, both shared.
    assert found.recall == 1
    assert found.f1 == pytest.approx(2 * 0.5 / 1.5)


def test_overlap_counts_signs_where_there_are_no_spaces() -> None:
    found = overlap_with("罗伯特", ["罗伯特金"])

    assert found.recall == pytest.approx(3 / 4)
    assert overlap_with("", ["罗"]).f1 == 0


def words_in(reply: str, target: str, prompt_language: str = "en") -> tuple[str, ...]:
    return foreign_words(
        reply, target=LANGUAGES[target], prompt_language=LANGUAGES[prompt_language]
    )


@pytest.mark.parametrize(
    ("reply", "target", "expected"),
    [
        ("Die drei best-known Werke sind published worden.", "de", ("known", "published")),
        ("Le livre and le chat.", "fr", ("and",)),
        ("Das ist 来 gut.", "de", ("来",)),
        ("ルターの work は有名です。", "ja", ("work",)),
        ("路德 called のです", "zh", ("called", "のです")),
        ("Это house, и это дом.", "ru", ("house",)),
        ("Ich mag iPhone, NASA und `some code`.", "de", ()),
        ("これはOKです。NASAは有名。", "ja", ()),
    ],
)
def test_words_of_another_language_are_found(
    reply: str, target: str, expected: tuple[str, ...]
) -> None:
    assert words_in(reply, target) == expected


def test_the_language_of_the_prompt_is_looked_for_beside_english() -> None:
    reply = "The cat schläft auf dem Sofa."

    assert "schläft" in words_in(reply, "en", "de")


@pytest.mark.parametrize("language", everyday_languages(), ids=str)
def test_sentences_of_a_language_seldom_have_foreign_words(language: Language) -> None:
    texts = everyday_prompts(language)

    flagged = [text for text in texts if words_in(text, language.code, "fr")]
    assert len(flagged) <= 0.05 * len(texts), flagged
