"""How much of a right answer a reply holds, word by word: recall, precision and F1.

Source: Rajpurkar et al. 2016 (SQuAD), `evaluate-v1.1.py`, and Artetxe et al. 2020 (XQuAD). In
words: both texts lose case, punctuation and the English articles; what is left is compared as bags
of words. Differs: a sign of a script without spaces between words is a word.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steering.evaluation.text_units import split_units

_ARTICLES = frozenset({"a", "an", "the"})


@dataclass(frozen=True, slots=True)
class AnswerOverlap:
    """Shares of words, 0..1.

    Args:
        recall: Of the answer's words, those that the reply holds.
        f1: Harmonic mean of recall and of the share of the reply's words that the answer holds.
    """

    recall: float
    f1: float


def overlap_with(reply: str, answers: Sequence[str]) -> AnswerOverlap:
    """Return the best recall and the best F1 over the right answers; zeros where nothing is shared.

    Args:
        reply: The whole reply.
        answers: At least one.
    """
    found = [_overlap(_words(reply), _words(answer)) for answer in answers]
    return AnswerOverlap(max(one.recall for one in found), max(one.f1 for one in found))


def _overlap(reply: Counter[str], answer: Counter[str]) -> AnswerOverlap:
    shared = (reply & answer).total()
    if not shared:
        return AnswerOverlap(0.0, 0.0)
    recall, precision = shared / answer.total(), shared / reply.total()
    return AnswerOverlap(recall, 2 * recall * precision / (recall + precision))


def _words(text: str) -> Counter[str]:
    return Counter(unit for unit in split_units(text) if unit not in _ARTICLES)
