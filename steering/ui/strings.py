"""What the page says, in the languages of its own controls: one table, read from `strings/`.

A component's label is chosen by the browser (`label`); a sentence that is made here, such as a
badge, is chosen by what the browser says it prefers (`say`, `locale_of`). A text that a locale
lacks is the English one. What the library says of an error is in English (`wording.py`).
Knows no component and no chat.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import gradio as gr
from gradio.i18n import I18nData

LOCALES = ("en", "fr", "es", "zh", "ja", "ar")
_RIGHT_TO_LEFT = ("ar",)
_COMMAS = {"zh": "、", "ja": "、", "ar": "، "}
_FOLDER = Path(__file__).parent / "strings"
_TAG = re.compile(r"\s*([A-Za-z]{1,8})(?:-[\w-]+)?\s*(?:;\s*q=([\d.]+))?\s*")


@dataclass(frozen=True, slots=True)
class Told:
    """What a person is told.

    Args:
        said: In the page's language.
        english: What follows it in English, as the library has it; empty for nothing.
    """

    said: str
    english: str = ""

    def __str__(self) -> str:
        """Return it as plain text."""
        return f"{self.said} {self.english}".strip()

    @property
    def html(self) -> str:
        """Return it as HTML, with the English part marked as such."""
        if not self.english:
            return escape(self.said, quote=False)
        english = f'<span lang="en" dir="ltr">{escape(self.english, quote=False)}</span>'
        return f"{escape(self.said, quote=False)} {english}"


@functools.cache
def read_strings() -> Mapping[str, Mapping[str, str]]:
    """Return every text by key, then by locale."""
    table: dict[str, dict[str, str]] = {}
    for path in sorted(_FOLDER.glob("*.json")):
        table |= json.loads(path.read_text(encoding="utf-8"))
    return table


@functools.cache
def make_i18n() -> gr.I18n:
    """Return the table as gradio takes it: by locale, then by key."""
    strings = read_strings()
    return gr.I18n(
        **{
            locale: {key: texts.get(locale, texts["en"]) for key, texts in strings.items()}
            for locale in LOCALES
        }
    )


def label(key: str) -> I18nData:
    """Return what a component takes as its label: the browser puts the text in."""
    read_strings()[key]  # a typing error shows when the page is built
    return make_i18n()(key)


def say(key: str, locale: str = "en", **values: object) -> str:
    """Return a text in a locale, with values put in for `{name}`."""
    texts = read_strings()[key]
    if direction_of(locale) == "rtl":
        values = {name: _isolated(value) for name, value in values.items()}
    return texts.get(locale, texts["en"]).format(**values)


def as_html(words: str | Told) -> str:
    """Return plain text, or what a person is told, as HTML."""
    return words.html if isinstance(words, Told) else escape(words)


def direction_of(locale: str) -> Literal["ltr", "rtl"]:
    """Return the direction in which a locale is written."""
    return "rtl" if locale in _RIGHT_TO_LEFT else "ltr"


def in_locale(html: str, locale: str, *, name: str = "") -> str:
    """Return HTML as a part of the page that has a locale's language and direction.

    Args:
        html: What stands in it.
        locale: What it is said in.
        name: Class of the part; empty for none.
    """
    kind = f' class="{name}"' if name else ""
    return f'<div{kind} lang="{locale}" dir="{direction_of(locale)}">{html}</div>'


def enumerate_in(locale: str, items: Iterable[str]) -> str:
    """Return items one after the other, with the comma of a locale between them."""
    return _COMMAS.get(locale, ", ").join(items)


def _isolated(value: object) -> object:
    """Keep a Latin name, or a date, from changing its order within a line of Arabic."""
    if isinstance(value, str) and value:
        kinds = set(map(unicodedata.bidirectional, value))
        if "L" in kinds or not kinds & {"R", "AL"}:
            return f"\u2068{value}\u2069"
    return value


def preferred_codes(header: str | None) -> list[str]:
    """Return the language codes of an `Accept-Language` header, the most wanted first."""
    wanted = []
    for part in (header or "").split(",")[:20]:
        if match := _TAG.fullmatch(part):
            weight = float(match[2]) if re.fullmatch(r"[01](\.\d+)?", match[2] or "") else 1.0
            wanted.append((-weight, match[1].lower()))
    return [code for _, code in sorted(wanted, key=lambda pair: pair[0])]


def locale_of(request: gr.Request | None) -> str:
    """Return the locale of whoever asks: the browser's first, or English where that is not there.

    As Gradio chooses for labels and buttons, which looks at the first alone.
    """
    header = request.headers.get("accept-language") if request else None
    first = next(iter(preferred_codes(header)), "en")
    return first if first in LOCALES else "en"
