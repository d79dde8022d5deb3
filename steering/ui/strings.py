"""What the page says, in the languages of its own controls: one table, read from `strings/`.

A component's label is chosen by the browser (`label`); a sentence that is made here, such as a
badge, is chosen by what the browser says it prefers (`say`, `locale_of`). A text that a locale
lacks is the English one. Errors stay in English, as the terminal and the log have them.
Knows no component and no chat.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

LOCALES = ("en", "fr", "es", "zh", "ja", "ar")
_FOLDER = Path(__file__).parent / "strings"
_TAG = re.compile(r"\s*([A-Za-z]{1,8})(?:-[\w-]+)?\s*(?:;\s*q=([\d.]+))?\s*")


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
    return texts.get(locale, texts["en"]).format(**values)


def preferred_codes(header: str | None) -> list[str]:
    """Return the language codes of an `Accept-Language` header, the most wanted first."""
    wanted = []
    for part in (header or "").split(",")[:20]:
        if match := _TAG.fullmatch(part):
            weight = float(match[2]) if re.fullmatch(r"[01](\.\d+)?", match[2] or "") else 1.0
            wanted.append((-weight, match[1].lower()))
    return [code for _, code in sorted(wanted, key=lambda pair: pair[0])]


def locale_of(request: gr.Request | None) -> str:
    """Return the locale of whoever asks: the first that is preferred and there."""
    header = request.headers.get("accept-language") if request else None
    return next((code for code in preferred_codes(header) if code in LOCALES), "en")
