"""Refuses a corpus whose files are in another language than their names say."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from steering.corpus import Corpus, iter_rows
from steering.corpus_rows import Dialogue
from steering.detection import identify_reply, is_decided
from steering.errors import CorpusError
from steering.languages import LANGUAGES, Language

_ROWS = 300  # of every file, from its beginning
_CHARACTERS = 500  # of every row
_LEAST_LETTERS = 20  # one of Han, kana and hangul counts as two
_LEAST_JUDGED = 10  # with fewer rows long enough, nothing is said
# Clean text in 15 languages has at most 1.2% of lines that are judged to be in another language.
_MOST_OTHERS = 0.05
# Hard to tell apart line by line; taken for one another only where most lines are.
_SIBLINGS = (frozenset({"da", "no", "sv"}), frozenset({"cs", "sk"}))


def check_corpus_languages(corpus: Corpus) -> None:
    """Read the beginning of every file and refuse the corpus if one is in another language.

    That is where more than 5% of its lines (of dialogues, its answers) are. Lines under 20 letters
    and lines that the detector can't decide don't count.

    Raises:
        CorpusError: Naming all such files, their languages and shares.
    """
    if problems := [problem for one in corpus.sources if (problem := _problem(corpus, one))]:
        raise CorpusError(
            f"The corpus '{corpus.name}' is not in the languages that its parts are named after: "
            f"{'; '.join(problems)}. Expected at most {_MOST_OTHERS:.0%} in other languages; fix "
            "the data, or give `--any-language` if they are right."
        )


def _problem(corpus: Corpus, language: Language) -> str:
    """Say what is wrong with a language's file; nothing for a right one."""
    judged, others = 0, Counter[Language | None]()
    for _, row in islice(iter_rows(corpus, language), _ROWS):
        text = row.answer if isinstance(row, Dialogue) else row
        guess = identify_reply(text[:_CHARACTERS], languages=tuple(LANGUAGES.values()))
        if guess.letters < _LEAST_LETTERS:
            continue
        judged += 1
        if is_decided(guess) and guess.language != language:
            others[guess.language] += 1
    if judged < _LEAST_JUDGED:
        return ""
    for other, count in others.items():
        if _are_siblings(language, other) and count <= judged / 2:
            others[other] = 0
    share = others.total() / judged
    if share <= _MOST_OTHERS:
        return ""
    (most, _), *_ = others.most_common(1)
    name = "an unknown language" if most is None else most.english_name
    label = corpus.sources[language].label
    return f"'{label}' is {share:.0%} in other languages, mostly {name}"


def _are_siblings(one: Language, other: Language | None) -> bool:
    return other is not None and any({one.code, other.code} <= group for group in _SIBLINGS)
