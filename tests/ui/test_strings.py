"""Tests of the page's texts: whole in every language, all used, none missing."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

import gradio as gr
import pytest

import steering.ui
from steering.ui.strings import (
    LOCALES,
    Told,
    as_html,
    enumerate_in,
    in_locale,
    locale_of,
    preferred_codes,
    read_strings,
    say,
)

FOLDER = Path(steering.ui.__file__).parent
# What is called with the key of a text, as its first argument.
_ASKING = ("label", "say", "saying", "trouble", "tell", "with_lead", "errors_in_words", "Refusal")
FILES = sorted((FOLDER / "strings").glob("*.json"))


def read_pairs(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Every key and its texts, one that stands twice included."""
    return json.loads(  # type: ignore[no-any-return]
        path.read_text("utf-8"), object_pairs_hook=lambda pairs: pairs
    )


@cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text("utf-8")) for path in sorted(FOLDER.rglob("*.py")))


def nodes(kind: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for tree in trees() for node in ast.walk(tree) if isinstance(node, kind))


def asked_for() -> Iterator[ast.expr]:
    """The keys that texts are asked for with, as expressions."""
    for call in nodes(ast.Call):
        assert isinstance(call, ast.Call)
        if isinstance(call.func, ast.Name) and call.func.id in _ASKING:
            yield call.args[0]


def as_pattern(text: ast.JoinedStr) -> str:
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+"
        for part in text.values
    )


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_is_there_in_every_language(path: Path) -> None:
    for key, texts in read_pairs(path):
        assert [locale for locale, _ in texts] == list(LOCALES), key
        assert all(text.strip() == text and text for _, text in texts), key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_text_has_the_same_places_for_values_in_every_language(path: Path) -> None:
    """A language may say a value twice."""
    for key, texts in read_pairs(path):
        each = [placeholders(text) for _, text in texts]
        assert all(one == each[0] for one in each), key


def test_no_key_stands_twice() -> None:
    keys = Counter(key for path in FILES for key, _ in read_pairs(path))

    assert [key for key, count in keys.items() if count > 1] == []
    assert set(keys) == set(read_strings())


def test_every_key_that_the_code_names_is_there() -> None:
    known = read_strings()
    asked = list(asked_for())
    constants = [node.value for node in asked if isinstance(node, ast.Constant)]
    patterns = [as_pattern(node) for node in asked if isinstance(node, ast.JoinedStr)]

    assert len(constants) > 30
    assert [key for key in constants if key not in known] == []
    for pattern in patterns:
        assert any(re.fullmatch(pattern, key) for key in known), pattern


def test_every_key_is_used() -> None:
    named = {node.value for node in nodes(ast.Constant) if isinstance(node, ast.Constant)}
    patterns = [as_pattern(node) for node in asked_for() if isinstance(node, ast.JoinedStr)]

    unused = [
        key
        for key in read_strings()
        if key not in named and not any(re.fullmatch(pattern, key) for pattern in patterns)
    ]
    assert unused == []


@pytest.mark.parametrize(
    ("header", "codes"),
    [
        (None, []),
        ("", []),
        ("fr", ["fr"]),
        ("fr-FR,fr;q=0.9,en;q=0.8", ["fr", "fr", "en"]),
        ("en;q=0.3, zh-Hans-CN", ["zh", "en"]),
        ("*", []),
        ("<script>, ja;q=x, ar;q=0.5", ["ar"]),
    ],
)
def test_a_browsers_wishes_are_read_in_its_order(header: str | None, codes: list[str]) -> None:
    assert preferred_codes(header) == codes


@pytest.mark.parametrize(
    ("header", "locale"),
    [
        ("fr-CA", "fr"),
        ("zh-TW,vi;q=0.5", "zh"),
        ("vi,zh-TW;q=0.5", "en"),
        ("vi", "en"),
        (None, "en"),
    ],
)
def test_a_text_is_in_the_browsers_first_language_as_gradios_are(
    header: str | None, locale: str
) -> None:
    headers = {} if header is None else {"accept-language": header}

    assert locale_of(gr.Request(headers=headers)) == locale
    assert say("send", locale) == read_strings()["send"][locale]


def test_without_anybody_who_asks_a_text_is_english() -> None:
    assert locale_of(None) == "en"


def test_a_latin_name_stays_where_it_is_within_a_line_of_arabic() -> None:
    assert "\u2068French.\u2069" in say("how_instructed", "ar", instruction="French.")
    assert "\u2068" not in say("how_instructed", "fr", instruction="French.")
    assert "\u20682026-01-02\u2069" in say(
        "results_measured", "ar", model="x", date="2026-01-02", commit="1"
    )
    assert "\u2068" not in say("partly", "ar", found=say("another_language", "ar"))


def test_a_part_of_the_page_has_the_language_and_direction_of_its_words() -> None:
    assert in_locale("<p>x</p>", "ar") == '<div lang="ar" dir="rtl"><p>x</p></div>'
    assert in_locale("", "ja", name="a") == '<div class="a" lang="ja" dir="ltr"></div>'


def test_an_enumeration_has_the_comma_of_its_locale() -> None:
    each = {locale: enumerate_in(locale, ["a", "b"]) for locale in LOCALES}

    assert each["en"] == each["fr"] == each["es"] == "a, b"
    assert each["zh"] == each["ja"] == "a、b"
    assert each["ar"] == "a، b"


def test_what_follows_in_english_is_marked_as_english_and_escaped() -> None:
    told = Told("失敗 <1>", "No '<b>'.")

    assert str(told) == "失敗 <1> No '<b>'."
    assert told.html == '失敗 &lt;1&gt; <span lang="en" dir="ltr">No \'&lt;b&gt;\'.</span>'
    assert as_html("<i>") == "&lt;i&gt;"
    assert as_html(Told("<i>")) == "&lt;i&gt;"
