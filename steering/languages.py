"""The table of languages: codes, names, scripts, and how a code is looked up.

Knows nothing of models or neuron sets: which languages a set holds is the set's own matter.
Codes are ISO 639-1 where one exists.
"""

import difflib
import functools
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

# Other codes of the languages in the table: the two written forms of Norwegian, the
# withdrawn `in` for Indonesian, and the three-letter codes of ISO 639-2 and 639-3.
_ALIASES = {
    "nb": "no", "nn": "no", "nob": "no", "nno": "no", "nor": "no", "in": "id", "ind": "id",
    "cmn": "zh", "zho": "zh", "chi": "zh", "ara": "ar", "arb": "ar", "deu": "de", "ger": "de",
    "eng": "en", "spa": "es", "fas": "fa", "per": "fa", "pes": "fa", "fra": "fr", "fre": "fr",
    "hin": "hi", "ita": "it", "jpn": "ja", "kor": "ko", "nld": "nl", "dut": "nl", "pol": "pl",
    "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru", "swe": "sv", "swa": "sw", "swh": "sw",
    "tha": "th", "tur": "tr", "ukr": "uk", "vie": "vi", "ces": "cs", "cze": "cs", "dan": "da",
    "ell": "el", "gre": "el", "kat": "ka", "geo": "ka", "kaz": "kk", "mlt": "mt", "slk": "sk",
    "slo": "sk", "bod": "bo", "tib": "bo",
}  # fmt: skip

# Country codes that people type instead of the language code.
_COUNTRY_CODES = {"jp": "ja", "cn": "zh", "kr": "ko", "vn": "vi", "gr": "el", "cz": "cs",
                  "ua": "uk", "se": "sv", "dk": "da", "br": "pt", "us": "en",
                  "gb": "en", "mx": "es", "ir": "fa", "tw": "zh"}  # fmt: skip


_NAME_LETTERS = 4  # shorter text is taken for a code
_ALIKE = 0.7  # difflib's ratio of a misspelt name and the right one


def parse_language(text: str, *, known: Iterable[Language] | None = None) -> Language:
    """Return the language with this code or name; case, region and script do not matter.

    Args:
        text: A code such as `fr`, `FR`, `fr-CA`, `zh-Hant` or `fra`, or a name such as `French` or
            `français`.
        known: The languages to choose from; the whole table when omitted.

    Raises:
        UnknownLanguageError: With the nearest match and up to eight of the known codes.
    """
    choices = LANGUAGES if known is None else {language.code: language for language in known}
    code = text.strip().lower().replace("_", "-").split("-")[0]
    for candidate in (code, _ALIASES.get(code), _codes_by_name().get(text.strip().lower())):
        if candidate in choices:
            return choices[candidate]
    shown = ", ".join(list(choices)[:8]) + (", ..." if len(choices) > 8 else "")
    nearest = _nearest_code(text.strip().lower(), choices)
    hint = f" Did you mean '{nearest}'?" if nearest else ""
    raise UnknownLanguageError(f"Unknown language '{text}'.{hint} Known here: {shown}.")


def _nearest_code(text: str, choices: dict[str, Language]) -> str | None:
    """Find the code that was probably meant: by country code, or by a name that is misspelt.

    Codes have too few letters to guess by: "he" is Hebrew, not nearly Chinese.
    """
    if (code := _COUNTRY_CODES.get(text.split("-")[0])) in choices:
        return code
    names = {name: code for name, code in _codes_by_name().items() if code in choices}
    is_code = text.isascii() and len(text) < _NAME_LETTERS
    matches = [] if is_code else difflib.get_close_matches(text, names, n=1, cutoff=_ALIKE)
    return names[matches[0]] if matches else None


@functools.cache
def _codes_by_name() -> dict[str, str]:
    return {
        name.lower(): language.code
        for language in LANGUAGES.values()
        for name in (language.english_name, language.native_name)
    }
