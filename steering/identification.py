"""Which language a piece of text is in: by its script first, by its letter sequences second.

Most scripts are used by one of the languages in play only, and the script is then the answer.
Where several share it (Latin, Cyrillic, Arabic), an `Identifier` decides.
The one here uses the n-gram profiles of the langdetect package, but adds up *every* n-gram where
langdetect draws some at random: it needs no seed and gives the same answer in any thread.
Knows nothing of replies, lines, code blocks or what was asked for (`detection.py` does).
"""

import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from steering.function_words import FUNCTION_WORDS
from steering.languages import LANGUAGES, Language
from steering.unicode_scripts import count_scripts, is_japanese, script_of


class Identifier(Protocol):
    """Whatever can name the language of a text."""

    def identify(self, text: str) -> tuple[str | None, float]:
        """Return the code of the language, or None, and the confidence 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class Guess:
    """The language of a text and how much speaks for it.

    Args:
        language: None when the text has no letters, or is in none of the languages in play.
        confidence: 0..1; 0 when there is nothing to go by.
        letters: Size of the text in letters; one of Han, kana or hangul counts as two.
        script: ISO 15924 code of most letters; None without letters.
        is_by_script: True when the script alone decided.
        script_share: Of the letters, those of that script.
        shares: Probability of every language that was compared, by code; empty where the script
            decided, or an identifier of one's own.
    """

    language: Language | None
    confidence: float
    letters: int
    script: str | None
    is_by_script: bool
    script_share: float = 1.0
    shares: Mapping[str, float] = field(default_factory=dict, compare=False)


# Signs of Chinese grammar that both ways of writing it have, or Japanese never uses alone.
_CHINESE_SIGNS = frozenset("们這这你您它她他哪么麼沒吗嗎呢吧也很给跟让讓嘛啊")
_HIRAGANA = re.compile(r"[\u3041-\u309f]")
_FEW_HIRAGANA = 1  # "の" alone is ornament in Chinese names
# Languages of the table without a langdetect profile, by letters that their neighbours lack.
_OWN_LETTERS = {"kk": frozenset("әғқңұһ"), "mt": frozenset("ħġċ")}

# Among so many letters of another script, a Latin word with a capital is a name: "使用 React 开发".
_LEAST_OTHERS = 4
_LATIN_NAME = re.compile(r"(?<![A-Za-z])[A-Za-z]*[A-Z][A-Za-z]*")

_SMOOTHING = 5e-5  # langdetect: alpha 0.5 over a base frequency of 10,000
_TEMPERATURE = 0.4  # n-grams of 1, 2 and 3 letters overlap, so their evidence is damped
_WORD_WEIGHT = 8.0  # nats for one function word, before damping; best of 0, 3, 5 and 8
_TEXT_LIMIT = 4000  # characters beyond these are not read, which bounds the time
_WORD = re.compile(r"[^\W\d_]+")
_lock = threading.Lock()


def identify_text(
    text: str,
    *,
    languages: Sequence[Language],
    identifier: Identifier | None = None,
    has_kana_around: bool = False,
) -> Guess:
    """Name the language of a text among those in play.

    Args:
        text: What counts as language only; see `detection.countable_text`.
        languages: The languages in play.
        identifier: Decides where several of them share the script; langdetect's profiles if None.
        has_kana_around: True when the text is a part of one with kana, which makes Han Japanese.
    """
    counts = count_scripts(text)
    if counts["Latn"] and counts.total() - counts["Latn"] >= _LEAST_OTHERS:
        counts = count_scripts(_LATIN_NAME.sub(" ", text))
    letters = counts.total()
    if not letters:
        return Guess(None, 0.0, 0, None, is_by_script=True)
    merged = {**counts, "Hani": counts["Kana"] + counts["Hani"], "Kana": 0}
    script = max(sorted(merged), key=lambda name: merged[name])
    share = merged[script] / letters
    if script == "Hani":
        has_kana = is_japanese(counts)
        language, confidence = _identify_han(
            text, languages=languages, has_kana=has_kana, has_kana_around=has_kana_around
        )
        return Guess(language, share * confidence, letters, script, True, share)
    users = [language for language in languages if language.script == script]
    if len(users) < 2:
        return Guess(users[0] if users else None, share, letters, script, True, share)
    by_code = {language.code: language for language in languages}
    shares: Mapping[str, float] = {}
    if identifier is None:
        own = profile_identifier(tuple(language.code for language in users))
        shares = own.shares(_letters_of(text, script))
        code, confidence = _best_of(shares)
    else:
        code, confidence = identifier.identify(_letters_of(text, script))
    language = by_code.get(code or "")
    return Guess(language, share * confidence, letters, script, False, share, shares)


def _best_of(shares: Mapping[str, float]) -> tuple[str | None, float]:
    return max(shares.items(), key=lambda item: item[1]) if shares else (None, 0.0)


def _letters_of(text: str, script: str) -> str:
    """Blank the letters of all other scripts."""
    kept = text[: 2 * _TEXT_LIMIT]
    others = {ord(c): " " for c in set(kept) if c.isalpha() and script_of(c) != script}
    return kept.translate(others)


def _identify_han(
    text: str, *, languages: Sequence[Language], has_kana: bool, has_kana_around: bool
) -> tuple[Language | None, float]:
    """Tell Chinese from Japanese.

    Kana make it Japanese, unless there are katakana only, which keep a name in Chinese, and signs
    that Chinese alone uses. Without kana those signs decide, or those that Japanese alone uses;
    where there are neither ("大阪府大阪市北区") nobody can tell.
    """
    japanese, chinese = (
        next((language for language in languages if language.code == code), None)
        for code in ("ja", "zh")
    )
    is_chinese = any(_is_chinese(sign) for sign in text)
    if has_kana and (not is_chinese or len(_HIRAGANA.findall(text)) > _FEW_HIRAGANA):
        return japanese, 1.0
    if is_chinese:
        return chinese, 1.0
    if japanese is not None and (has_kana_around or any(map(_is_japanese_alone, text))):
        return japanese, 1.0
    if japanese is None:
        return chinese, 1.0
    return chinese or japanese, 0.6 if chinese else 0.95


@lru_cache(maxsize=8192)
def _is_chinese(sign: str) -> bool:
    """Say whether a sign is one of Chinese alone: of its grammar, or a simplified form."""
    return sign in _CHINESE_SIGNS or (_is_in(sign, "gb2312") and not _is_in(sign, "shift_jis"))


@lru_cache(maxsize=8192)
def _is_japanese_alone(sign: str) -> bool:
    """Say whether a sign is a form that only Japanese has, such as "駅" and "気"."""
    is_chinese = _is_in(sign, "gb2312") or _is_in(sign, "big5")
    return script_of(sign) == "Hani" and _is_in(sign, "shift_jis") and not is_chinese


def _is_in(sign: str, encoding: str) -> bool:
    """Say whether a national standard has a sign: they list what is written in a country."""
    try:
        sign.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class ProfileIdentifier:
    """Naive Bayes over langdetect's n-gram profiles and a list of function words.

    The score of a language is the sum, over all 1- to 3-grams of the text, of the logarithm of the
    n-gram's smoothed frequency in that language, plus a fixed amount for each function word.
    Confidence is the softmax of the scores, damped because n-grams overlap.
    Immutable after construction: one object serves all threads.
    Source: langdetect 1.0.9 (Shuyo 2010), `Detector._detect_block`. Differs: all n-grams instead
    of a random draw, only the languages in play, and the function words.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        """Load the profiles of these languages; codes without a profile go by their letters."""
        profiles = {code: load_profile(code) for code in codes}
        self._codes = [code for code in codes if profiles[code]]
        self._own_letters = {c: _OWN_LETTERS[c] for c in codes if c in _OWN_LETTERS}
        kept = [profiles[code] for code in self._codes]
        self._scores = {
            ngram: [math.log(_SMOOTHING + profile.get(ngram, 0.0)) for profile in kept]
            for ngram in sorted(set().union(*kept))
        }
        own_words = [FUNCTION_WORDS.get(code, frozenset()) for code in self._codes]
        self._function_words = {
            word: [_WORD_WEIGHT * (word in own) for own in own_words]
            for word in sorted(set().union(*own_words))
        }

    def identify(self, text: str) -> tuple[str | None, float]:
        """Return the likeliest code and its probability among the languages in play."""
        return _best_of(self.shares(text))

    def shares(self, text: str) -> Mapping[str, float]:
        """Return the probability of every language in play by code; empty for no letters."""
        text = text[:_TEXT_LIMIT]
        for code, own in self._own_letters.items():
            if sum(letter in own for letter in text.lower()) >= 2:
                return {code: 0.95}
        letters = [letter for letter in text if letter.isalpha()]
        if not letters or not self._codes:
            return {}
        if 2 * sum(map(str.isupper, letters)) > len(letters):
            text = text.lower()  # langdetect skips words in capitals
        totals = self._add_up(text)
        best = max(totals)
        weights = [math.exp((total - best) * _TEMPERATURE) for total in totals]
        return {
            code: weight / sum(weights) for code, weight in zip(self._codes, weights, strict=True)
        }

    def _add_up(self, text: str) -> list[float]:
        """Score each language, in the order of the codes."""
        scores, words = self._scores, self._function_words
        rows = [scores[ngram] for ngram in _ngrams(text) if ngram in scores]
        rows += [words[word] for word in _WORD.findall(text.lower()) if word in words]
        return [sum(column) for column in zip(*rows, strict=True)] or [0.0] * len(self._codes)


def _ngrams(text: str) -> list[str]:
    """Cut a text into the 1- to 3-grams that langdetect's profiles count."""
    found: list[str] = []
    for word in "".join(map(_normalize, text)).split():
        if len(word) > 1 and word.isupper():
            continue
        padded = f" {word} "
        found.extend(word)
        found.extend(padded[at : at + 2] for at in range(len(padded) - 1))
        found.extend(padded[at : at + 3] for at in range(len(padded) - 2))
    return found


@lru_cache(maxsize=4096)
def _normalize(letter: str) -> str:
    """Fold a character as the profiles do (one letter for all of Vietnamese's second block)."""
    from langdetect.utils.ngram import NGram

    return str(NGram.normalize(letter))


def load_profile(code: str) -> dict[str, float]:
    """Return the frequency of each n-gram in a language; empty if langdetect has no profile."""
    import json
    from pathlib import Path

    from langdetect.detector_factory import PROFILES_DIRECTORY

    path = Path(PROFILES_DIRECTORY) / code
    if code not in LANGUAGES or not path.is_file():
        return {}
    profile = json.loads(path.read_text(encoding="utf-8"))
    sizes: list[int] = profile["n_words"]
    counts: dict[str, int] = profile["freq"]
    return {ngram: n / sizes[len(ngram) - 1] for ngram, n in counts.items() if len(ngram) <= 3}


@lru_cache(maxsize=32)
def _make_identifier(codes: tuple[str, ...]) -> ProfileIdentifier:
    return ProfileIdentifier(codes)


def profile_identifier(codes: tuple[str, ...]) -> ProfileIdentifier:
    """Return the identifier of these languages, made once and shared by all threads."""
    with _lock:
        return _make_identifier(codes)
