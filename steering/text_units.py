"""Splits text into words, or into characters for scripts that put no spaces between words.

The metrics that count words in any language use these units.
"""

import re
import unicodedata

from steering.unicode_scripts import script_of

_UNSPACED = frozenset({"Hani", "Kana", "Thai", "Tibt"})
# Vowel signs and accents, which are neither letters nor digits to `re`.
_MARKS = "".join(c for c in map(chr, range(0x300, 0x1900)) if unicodedata.category(c)[0] == "M")
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
LETTERS = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_MARKS}])*")  # a word of letters alone
_LONGEST_WORD = 30  # letters; a longer run, such as one letter again and again, is cut into letters


def split_units(text: str) -> list[str]:
    """Return the words of a text, case-folded, without punctuation.

    Every sign of a script without spaces between words (Han, kana, Thai, Tibetan) is a unit, and
    so is every letter of a run of more than 30.
    """
    units: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if len(word) > _LONGEST_WORD:
            units += word
            continue
        start = 0
        for place, sign in enumerate(word):
            if script_of(sign) in _UNSPACED:
                units += [word[start:place], sign] if place > start else [sign]
                start = place + 1
        if start < len(word):
            units.append(word[start:])
    return units
