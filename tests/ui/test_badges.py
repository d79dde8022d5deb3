"""Tests of what is said of an answer's language."""

import pytest

from steering.languages import LANGUAGES
from steering.ui.badges import Badge, badge_html, judge_answer
from steering.ui.strings import Told
from tests.ui.scripted import ENGLISH, FRENCH

IN_PLAY = [LANGUAGES[code] for code in ("en", "zh", "fr", "es", "vi", "id", "ja")]


@pytest.mark.parametrize(
    ("answer", "chosen", "text"),
    [
        (FRENCH, "fr", "✓ French, as chosen"),
        (ENGLISH, "fr", "✗ English, French was chosen"),
        ("猫はソファーで寝ています。", "ja", "✓ Japanese, as chosen"),
        ("Кот спит на диване.", "fr", "✗ Another language, French was chosen"),
        (f"{FRENCH}\n{ENGLISH}\n{FRENCH}\n{FRENCH}", "fr", "✗ partly English, French was chosen"),
        ("Oui.", "fr", "· too short to tell the language"),
        ("2 + 2 = 4", "fr", "· no words in any language"),
        (FRENCH, None, "· French"),
        ("Oui.", None, "· too short to tell the language"),
    ],
)
def test_a_badge_says_the_language_in_words_and_by_sign(
    answer: str, chosen: str | None, text: str
) -> None:
    badge = judge_answer(
        answer, chosen=None if chosen is None else LANGUAGES[chosen], languages=IN_PLAY
    )

    assert badge.text == text


def test_the_line_under_an_answer_escapes_what_it_is_given() -> None:
    line = badge_html(Badge("bad", "<b>x</b>"), ["<i>note</i>", ""])

    assert line == (
        '<span class="badge badge-bad" lang="en" dir="ltr">✗ &lt;b&gt;x&lt;/b&gt;</span> '
        '<span class="note" lang="en" dir="ltr">&lt;i&gt;note&lt;/i&gt;</span>'
    )


def test_the_line_under_an_answer_runs_in_the_direction_of_its_words() -> None:
    line = badge_html(Badge("good", "français، كما اخترت"), [Told("بقي", "left out.")], "ar")

    assert '<span class="badge badge-good" lang="ar" dir="rtl">✓ français' in line
    assert '<span class="note" lang="ar" dir="rtl">بقي <span lang="en" dir="ltr">left' in line


def test_without_badge_and_notes_the_line_is_empty() -> None:
    assert badge_html(None, ()) == ""


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("Le chat mange un 苹果 rouge ce matin.", "French, with words in another script: 苹果"),
        (
            "Le chat dort sur le canapé et rêve de poisson. However, the dog is in the garden.",
            "partly English, French was chosen",
        ),
    ],
)
def test_a_mixed_answer_is_marked(answer: str, words: str) -> None:
    badge = judge_answer(answer, chosen=LANGUAGES["fr"], languages=list(LANGUAGES.values()))

    assert (badge.tone, badge.words) == ("bad", words)
