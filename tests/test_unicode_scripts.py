"""Scripts by code point, against the names that Unicode gives the letters."""

import unicodedata

import pytest

from steering.unicode_scripts import count_scripts, is_japanese, script_of


@pytest.mark.parametrize(
    ("letter", "script"),
    [("a", "Latn"), ("é", "Latn"), ("ế", "Latn"), ("Ａ", "Latn"), ("ж", "Cyrl"), ("ω", "Grek"),
     ("ب", "Arab"), ("ह", "Deva"), ("ท", "Thai"), ("བ", "Tibt"), ("ქ", "Geor"), ("한", "Hang"),
     ("あ", "Kana"), ("ア", "Kana"), ("ｱ", "Kana"), ("漢", "Hani"), ("々", "Hani"), ("𠮷", "Hani"),
     ("ש", "Hebr"), ("\ud800", "Zyyy"), ("\n", "Zyyy")],
)  # fmt: skip
def test_script_of_a_letter(letter: str, script: str) -> None:
    assert script_of(letter) == script


@pytest.mark.parametrize(
    ("name", "script"),
    [("LATIN ", "Latn"), ("CYRILLIC ", "Cyrl"), ("HIRAGANA ", "Kana"), ("DEVANAGARI ", "Deva"),
     ("THAI ", "Thai"), ("GREEK ", "Grek"), ("HEBREW ", "Hebr"), ("TIBETAN ", "Tibt")],
)  # fmt: skip
def test_letters_of_the_basic_plane_have_the_script_of_their_name(name: str, script: str) -> None:
    letters = [chr(code) for code in range(0xD800) if chr(code).isalpha()]
    named = [letter for letter in letters if unicodedata.name(letter, "").startswith(name)]

    found = [script_of(letter) for letter in named]

    # Phonetic and historic extensions lie in blocks that no answer uses.
    assert found.count(script) >= 0.75 * len(named)
    assert set(found) <= {script, "Zyyy"}


def test_wide_letters_count_twice_and_signs_do_not_count() -> None:
    assert dict(count_scripts("ab, 猫 1!")) == {"Latn": 2, "Hani": 2}


@pytest.mark.parametrize(
    ("text", "answer"),
    [("猫です", True), ("カメラ", True), ("猫在这里", False), ("", False), ("abc", False)],
)
def test_kana_makes_a_text_japanese(text: str, answer: bool) -> None:
    assert is_japanese(count_scripts(text)) is answer
