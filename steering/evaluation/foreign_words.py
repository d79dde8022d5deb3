"""Words of another language inside an answer: what verdicts on whole answers and lines do not see.

"Die drei best-known Werk" is German as a whole. Two kinds of words are found: those in another
script, and those of the prompt's language or English in the same script.
"""

from __future__ import annotations

import functools
import math

from steering.countable_text import countable_text
from steering.function_words import FUNCTION_WORDS
from steering.identification import load_profile
from steering.intrusions import is_of_other_script, script_runs
from steering.languages import LANGUAGES, Language
from steering.unicode_scripts import script_of

_LETTERS = 4  # of a Latin word; shorter ones are too often abbreviations
_FUNCTION_LETTERS = 3
_SMOOTHING = 5e-5  # as in `identification.py`
# Nats of evidence for one word. On text of eight languages beside English (everyday sentences,
# Wikipedia, documentation) 0.2 to 1.2% of words are above it, 2.9% of Indonesian ones, many of them
# English indeed; of English words 31 to 60%.
_EVIDENCE_NATS = 10.0


def foreign_words(reply: str, *, target: Language, prompt_language: Language) -> tuple[str, ...]:
    """Return the words of a reply that are of another language than *target*, in order.

    What does not count as language is left out (`countable_text`: code, addresses, short
    quotations). A word is foreign if

    - its letters are of a script that *target* is not written in: Latin ones only in lower case
      and from four letters on, as others may be names or abbreviations, Han, kana and hangul from
      one, the rest from two;
    - or *target* shares its script with the prompt's language or with English, it is in lower case,
      and it is a function word of three letters or more of one of these two that is none of
      *target*, or its letter sequences of two and three speak for one of them by more than
      10 nats (n-gram profiles of the langdetect package).

    Half of the foreign words in the same script are missed and a few own ones are taken for
    foreign, so the number is for comparing conditions, not for itself.

    Args:
        reply: The whole reply.
        target: The language that was asked for.
        prompt_language: Of the prompt.
    """
    words = script_runs(countable_text(reply))
    return tuple(word for word in words if _is_foreign(word, target.code, prompt_language.code))


@functools.lru_cache(maxsize=2**16)
def _is_foreign(word: str, target: str, prompt_language: str) -> bool:
    own = LANGUAGES[target].script
    if script_of(word[0]) != own:
        return is_of_other_script(word, LANGUAGES[target])
    if not word.islower():
        return False
    others = {prompt_language, "en"} - {target}
    return any(_speaks_for(word, c, target) for c in others if LANGUAGES[c].script == own)


def _speaks_for(word: str, code: str, target: str) -> bool:
    function_words = FUNCTION_WORDS.get(code, frozenset()) - FUNCTION_WORDS.get(target, frozenset())
    evidence = _evidence(word, code, target)
    if evidence is None:
        return False
    if word in function_words and len(word) >= _FUNCTION_LETTERS:
        return evidence > 0
    return len(word) >= _LETTERS and evidence > _EVIDENCE_NATS


def _evidence(word: str, code: str, target: str) -> float | None:
    """Return the log-odds of a word's bigrams and trigrams, nats; None without profiles."""
    theirs, own = _profile(code), _profile(target)
    if not theirs or not own:
        return None
    padded = f" {word} "
    ngrams = [padded[at : at + n] for n in (2, 3) for at in range(len(padded) - n + 1)]
    return sum(
        math.log((theirs.get(g, 0) + _SMOOTHING) / (own.get(g, 0) + _SMOOTHING)) for g in ngrams
    )


@functools.lru_cache(maxsize=32)
def _profile(code: str) -> dict[str, float]:
    return load_profile(code)
