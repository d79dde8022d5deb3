"""Whether a reply repeats itself: the share of its n-grams that are distinct."""

from __future__ import annotations

from collections.abc import Sequence

from steering.unicode_scripts import count_scripts

NGRAM = 4
# Below this share a reply loops; ordinary answers of real models lie above 0.9
# (reference measurements on Qwen2.5-Coder 0.5B and 1.5B).
LOOPING_SHARE = 0.6
# Scripts that put no space between words.
_WITHOUT_SPACES = frozenset({"Hani", "Kana", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})
# Words are never this long on average, so that such a text is one without spaces.
_LONG_WORD_CHARS = 25


def distinct_ngram_share(tokens: Sequence[object], n: int = NGRAM) -> float:
    """Return how many of a sequence's n-grams are distinct, as a share of them all.

    Args:
        tokens: Words, characters or token ids; anything that can be hashed.
        n: Length of an n-gram.

    Returns:
        0..1; 1 where there are fewer than *n* tokens.
    """
    ngrams = [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 1.0


def is_looping(reply: str | Sequence[object]) -> bool:
    """Say whether fewer than 60% of a reply's 4-grams are distinct.

    Args:
        reply: Text, which `split_for_looping` splits, or its tokens.
    """
    tokens = split_for_looping(reply) if isinstance(reply, str) else reply
    return distinct_ngram_share(tokens) < LOOPING_SHARE


def split_for_looping(text: str) -> list[str]:
    """Split a text into what is repeated when it loops.

    Words between white space; characters without the white space where most letters are of a
    script that has no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan), or
    where the words are longer on average than any language's.
    """
    words = text.split()
    scripts = count_scripts(text)
    unspaced = sum(scripts[script] for script in _WITHOUT_SPACES)
    characters = sum(map(len, words))
    if 2 * unspaced > scripts.total() or characters > _LONG_WORD_CHARS * len(words):
        return [character for word in words for character in word]
    return words
