"""The table of languages: codes, names, scripts, and how a code is looked up.

Knows nothing of models or neuron sets: which languages a set holds is the set's own matter.
Codes are ISO 639-1 where one exists.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from steering.errors import UnknownLanguageError


@dataclass(frozen=True, slots=True, order=True)
class Language:
    """One natural language, identified by its code.

    Args:
        code: ISO 639-1 code, lower case.
        english_name: Name in English.
        native_name: Name in the language itself.
        script: Unicode script that most of its letters belong to, in ISO 15924 (`Latn`, `Hani`).
    """

    code: str
    english_name: str
    native_name: str
    script: str

    def __str__(self) -> str:
        """Return the code."""
        return self.code


_ROWS = """
ar|Arabic|العربية|Arab
bo|Tibetan|བོད་སྐད|Tibt
cs|Czech|čeština|Latn
da|Danish|dansk|Latn
de|German|Deutsch|Latn
el|Greek|ελληνικά|Grek
en|English|English|Latn
es|Spanish|español|Latn
fa|Persian|فارسی|Arab
fr|French|français|Latn
hi|Hindi|हिन्दी|Deva
id|Indonesian|Bahasa Indonesia|Latn
it|Italian|italiano|Latn
ja|Japanese|日本語|Jpan
ka|Georgian|ქართული|Geor
kk|Kazakh|қазақ тілі|Cyrl
ko|Korean|한국어|Hang
mt|Maltese|Malti|Latn
nl|Dutch|Nederlands|Latn
no|Norwegian|norsk|Latn
pl|Polish|polski|Latn
pt|Portuguese|português|Latn
ro|Romanian|română|Latn
ru|Russian|русский|Cyrl
sk|Slovak|slovenčina|Latn
sv|Swedish|svenska|Latn
sw|Swahili|Kiswahili|Latn
th|Thai|ไทย|Thai
tr|Turkish|Türkçe|Latn
uk|Ukrainian|українська|Cyrl
vi|Vietnamese|Tiếng Việt|Latn
zh|Chinese|中文|Hani
"""

LANGUAGES: dict[str, Language] = {
    row.split("|")[0]: Language(*row.split("|")) for row in _ROWS.strip().splitlines()
}

# Country codes that people type instead of the language code.
_COUNTRY_CODES = {"jp": "ja", "cn": "zh", "kr": "ko", "vn": "vi", "gr": "el", "cz": "cs",
                  "ua": "uk", "se": "sv", "dk": "da", "br": "pt", "in": "hi", "us": "en",
                  "gb": "en", "mx": "es", "ir": "fa", "tw": "zh"}  # fmt: skip


def parse_language(text: str, *, known: Iterable[Language] | None = None) -> Language:
    """Return the language with this code; case and a region suffix (`zh-CN`) do not matter.

    Args:
        text: A code such as `fr`, `FR` or `fr-CA`.
        known: The languages to choose from; the whole table when omitted.

    Raises:
        UnknownLanguageError: With the nearest match and up to eight of the known codes.
    """
    choices = LANGUAGES if known is None else {language.code: language for language in known}
    code = text.strip().lower().replace("_", "-").split("-")[0]
    if code in choices:
        return choices[code]
    shown = ", ".join(list(choices)[:8]) + (", ..." if len(choices) > 8 else "")
    nearest = _nearest_code(text.strip().lower(), choices)
    hint = f" Did you mean '{nearest}'?" if nearest else ""
    raise UnknownLanguageError(f"Unknown language '{text}'.{hint} Known here: {shown}.")


def _nearest_code(text: str, choices: dict[str, Language]) -> str | None:
    """Find the code that was probably meant, by country code, by name, then by spelling."""
    names = {
        name.lower(): code
        for code, language in choices.items()
        for name in (language.english_name, language.native_name, code)
    }
    if (code := _COUNTRY_CODES.get(text.split("-")[0])) in choices:
        return code
    matches = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    return names[matches[0]] if matches else None
