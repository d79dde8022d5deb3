"""Tests of the table of languages and of looking one up."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import UnknownLanguageError
from steering.languages import LANGUAGES, parse_language


def test_rows_are_complete_and_their_codes_ascend() -> None:
    assert list(LANGUAGES) == sorted(LANGUAGES)
    for code, language in LANGUAGES.items():
        assert str(language) == language.code == code
        assert len(code) == 2
        assert len(language.script) == 4
        assert language.english_name.strip()
        assert language.native_name.strip()


def test_no_two_languages_share_a_name() -> None:
    english = {language.english_name for language in LANGUAGES.values()}
    native = {language.native_name for language in LANGUAGES.values()}

    assert len(english) == len(native) == len(LANGUAGES)


@pytest.mark.parametrize(
    ("text", "code"),
    [("fr", "fr"), ("FR", "fr"), (" fr ", "fr"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("no", "no")],
)
def test_case_space_and_region_do_not_matter(text: str, code: str) -> None:
    assert parse_language(text) is LANGUAGES[code]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("jp", "ja"),
        ("cn", "zh"),
        ("tw", "zh"),
        ("germn", "de"),
        ("Frnech", "fr"),
        ("españo", "es"),
    ],
)
def test_refusal_names_what_was_probably_meant(text: str, code: str) -> None:
    with pytest.raises(UnknownLanguageError, match=f"Unknown language '{text}'.*mean '{code}'"):
        parse_language(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nb", "no"),
        ("nn-NO", "no"),
        ("nob", "no"),
        ("in", "id"),
        ("zh-Hant-TW", "zh"),
        ("cmn", "zh"),
        ("fra", "fr"),
        ("fre", "fr"),
        ("French", "fr"),
        ("français", "fr"),
        ("FRANÇAIS", "fr"),
        ("日本語", "ja"),
        ("Bahasa Indonesia", "id"),
    ],
)
def test_other_codes_and_names_are_understood(text: str, code: str) -> None:
    assert parse_language(text) is LANGUAGES[code]


def test_a_name_of_a_language_that_is_not_offered_is_refused() -> None:
    with pytest.raises(UnknownLanguageError, match="Unknown language 'French'"):
        parse_language("French", known=[LANGUAGES["ja"]])


@pytest.mark.parametrize("text", ["", "qq", "???", "1", "he", "iw", "ms", "hr", "afr"])
def test_refusal_guesses_nothing_where_nothing_is_near(text: str) -> None:
    with pytest.raises(UnknownLanguageError) as caught:
        parse_language(text)

    assert "mean" not in str(caught.value)


def test_refusal_lists_no_more_than_eight_codes() -> None:
    with pytest.raises(UnknownLanguageError, match=r"ar, bo, cs, da, de, el, en, es, \.\.\.\.$"):
        parse_language("qq")


def test_only_the_given_languages_are_known() -> None:
    known = [LANGUAGES["fr"], LANGUAGES["zh"]]

    assert parse_language("zh", known=iter(known)) is LANGUAGES["zh"]
    with pytest.raises(UnknownLanguageError, match=r"'de'.* Known here: fr, zh\.$"):
        parse_language("de", known=known)


def test_country_of_a_language_that_is_not_known_is_not_suggested() -> None:
    with pytest.raises(UnknownLanguageError) as caught:
        parse_language("jp", known=[LANGUAGES["fr"], LANGUAGES["de"]])

    assert "'ja'" not in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_a_language_or_is_refused(text: str) -> None:
    known = [LANGUAGES["ja"]]

    with contextlib.suppress(UnknownLanguageError):
        assert parse_language(text) in LANGUAGES.values()
    with contextlib.suppress(UnknownLanguageError):
        assert parse_language(text, known=known) in known
