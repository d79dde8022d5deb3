"""Whether a reply repeats itself: the share of its 4-grams that are distinct."""

from steering.evaluation.text_units import split_units

_WINDOW = 4
# Replies that broke under strong pushes lie below ("来来来来来来"), ordinary ones above 0.9
# (Qwen2.5-Coder 0.5B and 1.5B).
_LEAST_DISTINCT = 0.6


def distinct_share(reply: str) -> float:
    """Return the number of distinct 4-grams over the number of 4-grams, 0..1.

    A unit is a word, or a sign of a script without spaces (`split_units`). A reply of fewer than
    four units has no 4-gram and gives 1.
    """
    units = split_units(reply)
    windows = [tuple(units[at : at + _WINDOW]) for at in range(len(units) - _WINDOW + 1)]
    return len(set(windows)) / len(windows) if windows else 1.0


def is_looping(reply: str) -> bool:
    """Say whether fewer than 60% of a reply's 4-grams are distinct."""
    return distinct_share(reply) < _LEAST_DISTINCT
