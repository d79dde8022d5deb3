"""Whether a reply is in the language that was asked for: per line and as a whole.

Knows nothing of models, prompts or steering; `identification.py` names languages,
`countable_text.py` says what counts as language.

The metrics that rest on it, as the field defines them (docs/glossary.md, docs/sources.md):

- language forcing success (LFS): share of replies whose whole text is in the target language,
  `reply.language == target`; the off-target rate is 1 - LFS;
- line-level pass rate (LPR, Language Confusion Benchmark): share of replies without a line in
  another language, `reply.has_only_target_lines`; lines that are too short do not count;
- word-level pass rate (WPR, same source): share of those replies without an English word of more
  than three letters, for targets that are not in Latin script, `not reply.latin_words`.
  Differs: no dictionary; every lower-case Latin word counts, a capitalised one is a name.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from steering.countable_text import (
    countable_text,
    split_clauses,
    split_lines,
    split_sentences,
    without_names,
)
from steering.identification import Guess, Identifier, identify_text
from steering.intrusions import Intrusion, find_intrusions
from steering.languages import LANGUAGES, Language
from steering.unicode_scripts import count_scripts, is_japanese

Verdict = Literal["on_target", "off_target", "too_short", "no_language"]

# Read off sentences of 5 to 60 letters in nine Latin-script languages: below 6 letters nothing is
# decided by n-grams, below 16 only what is all but certain.
_MIN_LETTERS = 6
# A piece that is off target by n-grams is so with this probability, and has so many letters
# outside of words with a capital, which may be names.
_CERTAIN = 0.995
_MIN_NAMELESS_LETTERS = 8
_SHORT_LETTERS = 16
_CONFIDENCE = 0.9
_SHORT_CONFIDENCE = 0.99
# A script that decides alone needs two letters (one wide one) and most of the text.
_MIN_SCRIPT_LETTERS = 2
_MIN_LATIN_LETTERS = 16
_SCRIPT_CONFIDENCE = 0.5
_SCRIPT_CONFIDENCE_OFF_TARGET = 0.65

_LATIN_WORD = re.compile(r"(?<![A-Za-z])[a-z]{4,}(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class LineVerdict:
    """One line (or sentence) of a reply.

    Args:
        text: The line as it was written.
        language: None if it has no letters or is in none of the languages considered.
        confidence: 0..1.
        verdict: `too_short` also stands for text that is undecided for another reason.
    """

    text: str
    language: Language | None
    confidence: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ReplyVerdict:
    """A reply as a whole.

    Args:
        language: Language of the whole text, None as for a line.
        confidence: 0..1, of that language.
        verdict: `off_target` if any sentence, any line or the whole text is off target, or there is
            a decisive intrusion; else `on_target` if the whole text or any line is; else
            `too_short`, or `no_language` without letters.
        lines: The lines (or sentences) that are not blank, in order.
        latin_words: Lower-case Latin words of more than three letters in the text, when the target
            is not in Latin script; empty otherwise.
        intrusions: Words in a script that the target is not written in.
        sentences: The sentences and clauses, cut at line ends and closing punctuation.
    """

    language: Language | None
    confidence: float
    verdict: Verdict
    lines: tuple[LineVerdict, ...]
    latin_words: tuple[str, ...]
    intrusions: tuple[Intrusion, ...] = ()
    sentences: tuple[LineVerdict, ...] = ()

    @property
    def has_only_target_lines(self) -> bool:
        """True when no line is off target (the reply counts for the line-level pass rate)."""
        return all(line.verdict != "off_target" for line in self.lines)


def language_of_prompt(text: str, *, languages: Sequence[Language]) -> Language | None:
    """Return the language that a prompt is in, or None where that is not decided.

    Args:
        text: What the person wrote.
        languages: The languages in play, such as those of the neuron set.
    """
    guess = identify_reply(text, languages=languages)
    return guess.language if is_decided(guess) else None


def detect(
    text: str,
    *,
    expected: Language,
    languages: Sequence[Language],
    identifier: Identifier | None = None,
    unit: Literal["line", "sentence"] = "line",
) -> ReplyVerdict:
    """Judge a reply against the language that was asked for.

    The languages considered are those given, the expected one, and English, which is what models
    fall back to. Text in a script that none of them uses is off target with language None; text
    in yet another language of a script that one of them uses cannot be told from it.

    Args:
        text: The reply; any string, also one with lone surrogates.
        expected: The language that was asked for.
        languages: The languages in play, such as those of the neuron set.
        identifier: Decides where languages share a script; langdetect's profiles when omitted.
        unit: What `lines` holds: lines, or sentences, which also show a switch within a line.

    Returns:
        The verdict, the same for the same input, in any thread.
    """
    in_play = languages_in_play(expected, languages)
    countable = countable_text(text)
    identify = partial(
        identify_text,
        languages=in_play,
        identifier=identifier,
        has_kana_around=is_japanese(count_scripts(countable)),
    )
    judge = functools.cache(partial(_judge, expected=expected, identify=identify))
    sentences = tuple(judge(piece, piece) for piece in split_clauses(countable))
    lines = (
        tuple(judge(piece, piece) for piece in split_sentences(countable))
        if unit == "sentence"
        else tuple(judge(piece, shown) for shown, piece in _pair_lines(text, countable))
    )
    whole = judge(countable, text)
    intrusions = find_intrusions(text, expected=expected)
    return ReplyVerdict(
        language=whole.language,
        confidence=whole.confidence,
        verdict=_overall((whole, *lines, *sentences), intrusions),
        lines=lines,
        latin_words=() if expected.script == "Latn" else tuple(_LATIN_WORD.findall(countable)),
        intrusions=intrusions,
        sentences=sentences,
    )


def _overall(pieces: Sequence[LineVerdict], intrusions: Sequence[Intrusion]) -> Verdict:
    """Return the verdict on a reply from those on its pieces and its intrusions."""
    if any(intrusion.is_decisive for intrusion in intrusions):
        return "off_target"
    found = {piece.verdict for piece in pieces}
    ranking: tuple[Verdict, ...] = ("off_target", "on_target", "too_short", "no_language")
    return next(verdict for verdict in ranking if verdict in found)


def _judge(
    piece: str, shown: str, *, expected: Language, identify: Callable[[str], Guess]
) -> LineVerdict:
    guess = identify(piece)
    verdict = judge_piece(piece, guess, expected=expected, identify=identify)
    return LineVerdict(shown, guess.language, guess.confidence, verdict)


def judge_piece(
    piece: str, guess: Guess, *, expected: Language, identify: Callable[[str], Guess]
) -> Verdict:
    """Judge a sentence, a line or a whole text; it is off target only if that is beyond doubt.

    A short piece misleads n-grams, and so do names and titles: "Star Wars" says nothing of the
    sentence that it stands in.

    Args:
        piece: What counts of it.
        guess: Its language.
        expected: The language that was asked for.
        identify: How it was guessed.
    """
    verdict = judge_guess(guess, expected)
    if verdict not in ("off_target", "too_short"):
        return verdict
    is_off = _is_certainly_off(piece, guess, expected, identify)
    return "off_target" if is_off else "too_short"


def _is_certainly_off(
    piece: str, guess: Guess, expected: Language, identify: Callable[[str], Guess]
) -> bool:
    if not _is_off(guess, expected):
        return False
    rest = identify(without_names(piece))
    if guess.script == _script_of(expected) and rest.letters < _MIN_NAMELESS_LETTERS:
        return False
    return judge_guess(rest, expected) != "on_target"


def _is_off(guess: Guess, expected: Language) -> bool:
    """Say whether the expected language is all but ruled out, whichever language it is instead."""
    if guess.script != _script_of(expected):
        return _is_off_by_script(guess, guess.script_share)
    if guess.is_by_script:
        return guess.language != expected and _is_off_by_script(guess, guess.confidence)
    if guess.letters < _MIN_LETTERS or guess.language == expected:
        return False
    if guess.letters < _SHORT_LETTERS or not guess.shares:
        return guess.confidence >= _CERTAIN
    return guess.shares.get(expected.code, 0.0) <= 1 - _CERTAIN


def _script_of(language: Language) -> str:
    """Return the script that `Guess.script` says of a language: kana count as Han there."""
    return "Hani" if language.script == "Jpan" else language.script


def identify_reply(
    text: str, *, languages: Sequence[Language], identifier: Identifier | None = None
) -> Guess:
    """Name the language of a whole reply among those in play, when none was asked for.

    The same rules as in `detect` say what counts as language; English is not added.
    """
    in_play = _sorted_unique(languages)
    return identify_text(countable_text(text), languages=in_play, identifier=identifier)


def is_decided(guess: Guess) -> bool:
    """Whether a guess rests on enough text, and is sure enough, to be acted on."""
    if guess.is_by_script:
        return guess.letters >= _MIN_SCRIPT_LETTERS and guess.confidence >= _SCRIPT_CONFIDENCE
    if guess.letters < _MIN_LETTERS:
        return False
    return guess.confidence >= (
        _SHORT_CONFIDENCE if guess.letters < _SHORT_LETTERS else _CONFIDENCE
    )


def judge_guess(guess: Guess, expected: Language) -> Verdict:
    """Return the verdict on a text whose language was guessed."""
    if not guess.letters:
        return "no_language"
    if guess.is_by_script and guess.script != _script_of(expected):
        return "off_target" if _is_off_by_script(guess, guess.script_share) else "too_short"
    if not is_decided(guess):
        return "too_short"
    if guess.language == expected:
        return "on_target"
    if guess.is_by_script and not _is_off_by_script(guess, guess.confidence):
        return "too_short"
    return "off_target"


def _is_off_by_script(guess: Guess, share: float) -> bool:
    return share >= _SCRIPT_CONFIDENCE_OFF_TARGET and guess.letters >= _min_foreign(guess)


def _min_foreign(guess: Guess) -> int:
    """Letters below which a word may be a name, a symbol or an abbreviation ("OK", "Wi-Fi")."""
    if guess.script == "Latn":
        return _MIN_LATIN_LETTERS
    return 2 * _MIN_SCRIPT_LETTERS if guess.script == "Hani" else _MIN_SCRIPT_LETTERS


def _pair_lines(text: str, countable: str) -> list[tuple[str, str]]:
    """Pair the lines as written with what counts of them."""
    pairs = zip(split_lines(text), countable.split("\n"), strict=False)
    return [(line, counted) for line, counted in pairs if line.strip()]


def languages_in_play(expected: Language, languages: Sequence[Language]) -> list[Language]:
    """Return the languages that a reply is judged among: English is what models fall back to."""
    return _sorted_unique([*languages, expected, LANGUAGES["en"]])


def _sorted_unique(languages: Sequence[Language]) -> list[Language]:
    """Order the languages, so that their order as given does not matter."""
    return sorted(set(languages))
