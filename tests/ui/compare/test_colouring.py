"""Tests of the colouring of an answer: which sentence is in which language, and how it is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.languages import LANGUAGES
from steering.ui.compare.colouring import SentenceReader, colour_html, cut_sentences, legend_html
from tests.ui.scripted import ENGLISH, FRENCH

FR, EN, JA = (LANGUAGES[code] for code in ("fr", "en", "ja"))
IN_PLAY = [LANGUAGES[code] for code in ("en", "zh", "fr", "es", "vi", "id", "ja")]


@pytest.fixture
def reader() -> SentenceReader:
    return SentenceReader(FR, IN_PLAY)


def html(reader: SentenceReader, text: str, locale: str = "en") -> str:
    return colour_html(reader.read(text), locale)


def test_each_sentence_has_a_language_of_its_own(reader: SentenceReader) -> None:
    (paragraph,) = reader.read(f"{FRENCH} {ENGLISH} Oui. 2 + 2 = 4.")

    assert [(one.kind, one.language) for one in paragraph.sentences] == [
        ("wanted", FR), ("wanted", FR), ("other", EN), ("other", EN),
        ("unsure", None), ("blank", None),
    ]  # fmt: skip


def test_a_script_that_no_language_in_play_uses_is_another_language(reader: SentenceReader) -> None:
    (paragraph,) = reader.read("Кот спит на диване.")

    assert [(one.kind, one.language) for one in paragraph.sentences] == [("other", None)]
    assert "✗ Another language" in html(reader, "Кот спит на диване.")


def test_han_beside_kana_is_japanese() -> None:
    reader = SentenceReader(JA, IN_PLAY)
    (alone,) = reader.read("東京大学。")
    (beside,) = reader.read("東京大学。とても大きいです。")

    assert alone.sentences[0].kind != "wanted"
    assert beside.sentences[0].kind == "wanted"


def test_fenced_code_has_no_language_and_does_not_change_what_follows(
    reader: SentenceReader,
) -> None:
    paragraphs = reader.read(f"{FRENCH}\n```\n{ENGLISH}\n```\n\n{FRENCH}")

    assert [one.is_code for one in paragraphs] == [False, True, True, True, False]
    assert {one.kind for p in paragraphs if p.is_code for one in p.sentences} == {"blank"}


@given(st.text(alphabet='ab .!?"»。」\t', max_size=40))
def test_a_line_cut_into_sentences_is_whole(line: str) -> None:
    assert "".join(cut_sentences(line)) == line


def test_sentences_say_their_language_by_sign_words_and_attribute(reader: SentenceReader) -> None:
    shown = html(reader, f"Le chat dort sur le canapé. {ENGLISH}")

    assert shown == (
        '<p dir="auto">'
        '<span class="said said-wanted" lang="fr">Le chat dort sur le canapé.</span> '
        '<bdi class="in-words">✓ French</bdi> '
        '<span class="said said-other" lang="en">The cat is sleeping on the sofa.</span> '
        '<span class="said said-other" lang="en">It likes the sun and it does not want to move.'
        '</span><bdi class="in-words">✗ English</bdi> </p>'
    )


def test_what_cannot_be_told_is_said_to_be_so_and_has_no_language(reader: SentenceReader) -> None:
    assert html(reader, "Oui.") == (
        '<p dir="auto"><span class="said said-unsure">Oui.</span>'
        '<bdi class="in-words">· can’t tell</bdi> </p>'
    )


def test_the_words_are_in_the_browsers_language(reader: SentenceReader) -> None:
    assert "✓ français" in html(reader, FRENCH, "ja")
    assert "✗ English" in html(reader, ENGLISH, "fr")


@pytest.mark.parametrize("text", ["<b>x</b> & <script>alert(1)</script>", "```\n<b>x</b>"])
def test_tags_are_text(text: str, reader: SentenceReader) -> None:
    shown = html(reader, text)

    assert "&lt;b&gt;x&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert "<script" not in shown


def test_an_answer_that_grows_is_read_as_if_it_were_new(reader: SentenceReader) -> None:
    text = f"{FRENCH} {ENGLISH}\n東京大学。とても大きいです。"
    for end in range(0, len(text) + 1, 7):
        reader.read(text[:end])

    assert reader.read(text) == SentenceReader(FR, IN_PLAY).read(text)


def test_nothing_is_shown_of_nothing(reader: SentenceReader) -> None:
    assert html(reader, "") == ""
    assert html(reader, " \n\n ") == ""


def test_the_legend_says_each_colour_in_words() -> None:
    legend = legend_html(FR, "en")

    for words in ("✓ in the chosen language (French)", "✗ in another language", "· can’t tell"):
        assert words in legend
    assert "(" not in legend_html(None, "en")
