"""Which script (writing system) the letters of a text belong to, by Unicode block.

Kana and Han are told apart here; that together they are Japanese is for `identification.py`.
Knows nothing of languages.
"""

from bisect import bisect_right
from collections import Counter
from functools import lru_cache

# First code point of each run of a script; runs of no interest are "". Source: Unicode blocks.
_RUNS = """
0041 Latn|005B|0061 Latn|007B|00AA Latn|00AB|00BA Latn|00BB|00C0 Latn|00D7|00D8 Latn|00F7
00F8 Latn|0250|0370 Grek|0400 Cyrl|0530 Armn|0590 Hebr|0600 Arab|0700 Syrc|0750 Arab|0780 Thaa
07C0|0870 Arab|0900 Deva|0980 Beng|0A00 Guru|0A80 Gujr|0B00 Orya|0B80 Taml|0C00 Telu|0C80 Knda
0D00 Mlym|0D80 Sinh|0E00 Thai|0E80 Laoo|0F00 Tibt|1000 Mymr|10A0 Geor|1100 Hang|1200 Ethi
13A0|1780 Khmr|1800 Mong|18B0|1C80 Cyrl|1C90 Geor|1CC0|1E00 Latn|1F00 Grek|2000|2C60 Latn|2C80
2D00 Geor|2D30|2DE0 Cyrl|2E00|2E80 Hani|2FE0|3005 Hani|3008|3041 Kana|3100 Hani|3130 Hang|3190
31A0 Hani|31C0|31F0 Kana|3200|3400 Hani|4DC0|4E00 Hani|A000|A640 Cyrl|A6A0|A720 Latn|A800
A8E0 Deva|A900|A960 Hang|A980|AC00 Hang|D800|F900 Hani|FB00 Latn|FB13|FB1D Hebr|FB50 Arab
FE00|FE70 Arab|FF00|FF21 Latn|FF3B|FF41 Latn|FF5B|FF66 Kana|FFA0 Hang|FFE0|20000 Hani|323B0
"""
_STARTS = [int(run.split()[0], 16) for run in _RUNS.replace("\n", "|").strip("|").split("|")]
_NAMES = [(run.split() + [""])[1] for run in _RUNS.replace("\n", "|").strip("|").split("|")]

# A Han sign, a kana or a hangul syllable says about as much as two letters.
_WIDE_SCRIPTS = {"Hani", "Kana", "Hang"}
# Share of kana in Han and kana from which a text is Japanese; about 0.5 in Japanese prose, and a
# decorative の in Chinese stays below.
_KANA_SHARE = 0.08


@lru_cache(maxsize=8192)  # a text has few letters, and many of each
def script_of(letter: str) -> str:
    """Return the ISO 15924 code of a letter's script; kana is `Kana`, unknown is `Zyyy`."""
    place = bisect_right(_STARTS, ord(letter)) - 1
    return (_NAMES[place] if place >= 0 else "") or "Zyyy"


def count_scripts(text: str) -> Counter[str]:
    """Count the letters of each script; a wide letter counts as two."""
    counts: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            script = script_of(letter)
            counts[script] += times * (2 if script in _WIDE_SCRIPTS else 1)
    return counts


def is_japanese(counts: Counter[str]) -> bool:
    """Whether there is kana, and more than a decorative sign of it."""
    return 0 < counts["Kana"] >= _KANA_SHARE * (counts["Kana"] + counts["Hani"])
