"""Words of another script inside a text that is otherwise in its language, and where they stand.

A verdict on a line goes by most of its letters, so that "확인했고 規則을 추가" passes as Korean.
Foreign words in the language's own script are found by `evaluation/foreign_words.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from steering.countable_text import countable_text, split_lines
from steering.languages import Language
from steering.text_units import LETTERS
from steering.unicode_scripts import script_of

# Han, kana and hangul say something with one letter, other scripts (a Greek variable) with two.
_WIDE = frozenset({"Hani", "Kana", "Hang"})
_OWN_SCRIPTS = {"Jpan": frozenset({"Hani", "Kana"})}
_LATIN_LETTERS = 4  # of a word in lower case; what is shorter or capitalised may be a name
# One Han letter stands for a country in Korean headlines, one kana is ornament in Chinese names.
_DECISIVE_LETTERS = 2
_KATAKANA = re.compile(r"[\u30a0-\u30ff\uff66-\uff9f]+")
# What stands in brackets explains a word in its own script, as in "도쿄(東京)".
_BRACKETS = re.compile(r"\([^()\n]{1,60}\)|\[[^\[\]\n]{1,60}\]|【[^【】\n]{1,60}】")


@dataclass(frozen=True, slots=True)
class Intrusion:
    """A word, or part of one, in a script that the language isn't written in.

    Args:
        text: The letters.
        script: Theirs, in ISO 15924; kana is `Kana`.
        line: Number of the line in the text, from 0.
        start: Where they begin in that line; None where the line was normalised too much to tell.
    """

    text: str
    script: str
    line: int
    start: int | None

    @property
    def is_decisive(self) -> bool:
        """Say whether it makes an answer off target.

        Latin words may be terms, katakana is how Chinese texts keep Japanese names, and one letter
        alone may be a symbol; these are reported alone.
        """
        if self.script == "Latn" or len(self.text) < _DECISIVE_LETTERS:
            return False
        return not (self.script == "Kana" and _KATAKANA.fullmatch(self.text))


def find_intrusions(text: str, *, expected: Language) -> tuple[Intrusion, ...]:
    """Return the words of another script in a text, in order.

    What doesn't count as language (`countable_text`), and what stands in brackets, is left out.

    Args:
        text: A reply, as it was written.
        expected: The language that it should be in.
    """
    lines = zip(split_lines(text), countable_text(text).split("\n"), strict=False)
    return tuple(
        intrusion
        for number, (shown, counted) in enumerate(lines)
        for intrusion in _in_line(shown, counted, number, expected)
    )


def _in_line(shown: str, counted: str, number: int, expected: Language) -> Iterator[Intrusion]:
    place = 0
    for piece in script_runs(_BRACKETS.sub(" ", counted)):
        if not is_of_other_script(piece, expected):
            continue
        found = shown.find(piece, place)
        if found >= 0:
            place = found + len(piece)
        yield Intrusion(piece, script_of(piece[0]), number, found if found >= 0 else None)


def script_runs(text: str) -> Iterator[str]:
    """Yield the words of a text, cut where their script changes: Chinese has no spaces."""
    for word in LETTERS.findall(text):
        start, script = 0, script_of(word[0])
        for place, letter in enumerate(word):
            if letter.isalpha() and script_of(letter) != script:
                yield word[start:place]
                start, script = place, script_of(letter)
        yield word[start:]


def is_of_other_script(word: str, language: Language) -> bool:
    """Say whether a word of one script is none of a language by its script alone.

    Latin words count in lower case and from four letters on, Han, kana and hangul from one, all
    others from two.
    """
    script = script_of(word[0])
    if script == "Zyyy" or script in _OWN_SCRIPTS.get(language.script, {language.script}):
        return False
    if script == "Latn":
        return word.islower() and len(word) >= _LATIN_LETTERS
    return len(word) >= (1 if script in _WIDE else 2)
