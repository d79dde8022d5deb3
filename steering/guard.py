"""Reads an answer as it is written, and has a sentence written again when it drifts.

Knows texts, languages and plans, not the model, its cache or how a plan is made to act: a batch
shows it the text so far and goes back where it says.

The answer is cut into sentences, at tokens that end one. A sentence in the target language is
settled, with what was undecided before it ("Oui."). One in another language is dropped and written
again with a harder plan. What is undecided is judged together with what follows, and at the end of
the answer the whole is judged as the evaluation does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steering.countable_text import countable_text, find_open_fence, is_broken_off, split_lines
from steering.detection import Verdict, judge_guess, languages_in_play
from steering.identification import Guess, identify_text
from steering.languages import Language
from steering.methods import DEFAULT_STRENGTHS, SteeringRequest, make_plan, resolve_strength
from steering.neuron_set import NeuronSet
from steering.steering_plan import SteeringPlan, combine_plans
from steering.unicode_scripts import count_scripts, is_japanese

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Times the set's strongest level, after that level itself: what was calibrated is for the usual
# prompt, and a passage that drifted is not one.
_BEYOND_STRONGEST = (1.5, 2.0)
# What is added to the hardest plan of edits: more than any logit was ahead by (`token_bias.py` has
# the measurements).
_BIAS_NATS = 30.0
# An answer has at most this many times as many attempts as one of its passages.
_MAX_PASSAGES = 3

# The first look is not at a sentence's end but here; a wide letter counts as two.
_PEEK_LETTERS = 20
# A token is rarely longer than this many letters, so a look before would see too few.
_TOKEN_LETTERS = 5
# What has not as many letters after so many tokens is code or numbers.
_PEEK_TOKENS = 32
# A sentence alone misleads n-grams, and half a one more: of 2,136 right sentences of the bundled
# model's grammar in five languages of Latin script, 11 are off target at 0.9 (`detection.py`) and
# one is at this, where 4% of the wrong ones are not yet; these are judged with what follows.
_CERTAIN = 0.995
# What has no end of sentence for so long (Thai) is looked at all the same.
_LOOK_EVERY_TOKENS = 64
# Text that is undecided for so long is mixed; more of it would decide nothing.
_MAX_UNDECIDED_LETTERS = 300
# An answer of fewer letters may be a name; below it n-grams decide nothing (`detection.py`).
_MIN_WHOLE_LETTERS = 6
# Kana so many characters back still makes Han Japanese.
_KANA_REACH = 1000

_FIRST_LOOK_TOKENS = _PEEK_LETTERS // _TOKEN_LETTERS

_END_SIGNS = ".!?؟।…。！？"
_END_TOKEN = re.compile(rf"[{_END_SIGNS}\n\r]")
_ENDS_SENTENCE = re.compile(rf"[{_END_SIGNS}][\"”»)」』）]*$")
_WORD = re.compile(r"[^\W\d_][\w'’-]+")  # of two letters and more: "I" is no name


@dataclass(frozen=True, slots=True, eq=False)
class GuardSpec:
    """What a guard is to watch for; plain data, so that it can go to another process.

    Args:
        target: The language that the answer should be in.
        languages: The languages in play, such as those of the neuron set.
        harder: What to steer with at the first further attempt at a passage, the second, ...;
            as many as there may be.
    """

    target: Language
    languages: tuple[Language, ...]
    harder: tuple[SteeringPlan, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A passage that was dropped and written again, or that was off target to the last.

    Args:
        start: Where it stood in the answer, in characters of the final text.
        text: What was dropped.
        language: What it was in; None if that is none of the languages in play.
        tokens: How many tokens were dropped.
        attempt: 1 for the first time that this passage was dropped.
        is_kept: True for one that stayed, off target as it is, because no attempts were left.
    """

    start: int
    text: str
    language: Language | None
    tokens: int
    attempt: int
    is_kept: bool = False


def make_guard(neurons: NeuronSet, request: SteeringRequest) -> GuardSpec | None:
    """Return the guard of a steering request; None where no language was asked for.

    Harder are the set's strongest level (where the request's own is not as strong), one and a half
    times and twice that, and the last of these with a token bias.

    Raises:
        PlanError: As `make_plan`.
        UnknownLanguageError: As `make_plan`.
        StatsError: As `make_plan`.
    """
    if request.target is None:
        return None
    harder = _harder_plans(neurons, request.target, request)
    return GuardSpec(request.target, neurons.languages, harder)


@functools.lru_cache(maxsize=64)
def _harder_plans(
    neurons: NeuronSet, target: Language, request: SteeringRequest
) -> tuple[SteeringPlan, ...]:
    """Make the plans of further attempts once per request, as each takes some milliseconds."""
    usual = resolve_strength(neurons, target, request.strength)
    strongest = max(resolve_strength(neurons, target, level) for level in DEFAULT_STRENGTHS)
    hardest = max(usual, strongest)
    strengths = [hardest] * (hardest > usual) + [hardest * by for by in _BEYOND_STRONGEST]
    plans = [make_plan(neurons, replace(request, strength=strength)) for strength in strengths]
    bias = make_plan(neurons, SteeringRequest(target, f"tokens@{_BIAS_NATS}", 1.0))
    return (*plans, combine_plans(plans[-1], bias))


@functools.lru_cache(maxsize=2)
def sentence_end_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that may end a sentence or a line, looking at each once per tokenizer.

    Where a sign is of several tokens ("。" as three bytes) its last one is among them, although it
    may end other letters too: a look too many does no harm.
    """
    size = max(tokenizer.get_vocab().values()) + 1
    texts = tokenizer.batch_decode([[token] for token in range(size)])
    encoded = tokenizer(list(_END_SIGNS), add_special_tokens=False)["input_ids"]
    ends = {token for token, text in enumerate(texts) if _END_TOKEN.search(text)}
    return frozenset(ends | {ids[-1] for ids in encoded if ids})


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place between two tokens where a sentence begins.

    Args:
        tokens: How many are before it.
        chars: How long the text before it is.
        line: Where its line begins.
        fence: The mark of fenced code that is open where its line begins.
        head: What counts of its line before it.
    """

    tokens: int = 0
    chars: int = 0
    line: int = 0
    fence: str = ""
    head: str = ""


class Guard:
    """Watches one answer. Not for several threads at once.

    Args:
        spec: What to watch for.
        plan: What the answer is steered with at first, and again behind a passage that drifted.
        end_ids: From `sentence_end_ids`.
    """

    def __init__(self, spec: GuardSpec, plan: SteeringPlan, end_ids: frozenset[int]) -> None:
        self._spec = spec
        self._usual_plan = self._plan = plan
        self._end_ids = end_ids
        self._languages = languages_in_play(spec.target, spec.languages)
        self._script = "Hani" if spec.target.script == "Jpan" else spec.target.script
        self._rewrites: list[Rewrite] = []
        self._marks = [_Mark()]
        self._settled = 0  # index of the mark up to which nothing is looked at again
        self._clear = 0  # index of the mark up to which it was on target, without any doubt
        self._attempts: dict[int, int] = {}  # tokens of a mark -> times that it was gone back to
        self._is_peeking = True
        self._is_clear = True  # nothing settled was anything but on target
        self._look_at = _FIRST_LOOK_TOKENS

    @property
    def plan(self) -> SteeringPlan:
        """Return what the next token is to be steered with."""
        return self._plan

    @property
    def settled(self) -> int:
        """Return how many characters of the answer stay, whatever comes."""
        return self._marks[self._clear].chars

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """Return what was written again so far, in the order in which it happened."""
        return tuple(self._rewrites)

    def is_due(self, token_id: int, tokens: int) -> bool:
        """Whether `read` may have something to decide after this token.

        Args:
            token_id: The token that was written last.
            tokens: How many the answer has with it.
        """
        return token_id in self._end_ids or tokens >= self._look_at

    def read(self, text: str, tokens: int, *, is_over: bool) -> int | None:
        """Judge the answer so far; to be called when `is_due` says so, and at the end.

        Args:
            text: The decoded answer, all of it.
            tokens: How many tokens it is of.
            is_over: Whether nothing is to follow.

        Returns:
            None to go on with `plan`, which may have changed. Else how many tokens to keep: the
            others are to be dropped, and the answer is to be written on from there with `plan`.
            After so many attempts it is always None, whatever is shown.
        """
        text = text.rstrip("\ufffd").rstrip()
        if is_over:
            return self._finish(text, tokens)
        # Due before the next look: the token ends something, if only a line.
        is_end = tokens < self._look_at or _ENDS_SENTENCE.search(text) is not None
        self._look_at = tokens + (_FIRST_LOOK_TOKENS if self._is_peeking else _LOOK_EVERY_TOKENS)
        may_peek = self._is_peeking and tokens - self._marks[-1].tokens <= _PEEK_TOKENS
        if may_peek and not is_end:
            return self._peek(text, tokens)
        return self._check(text, tokens, is_over=False)

    def _peek(self, text: str, tokens: int) -> int | None:
        """Look at the first words, which may break off anywhere; settles nothing."""
        piece, guess = self._guess(text, self._marks[-1])
        if (missing := _PEEK_LETTERS - guess.letters) > 0:
            written = max(1, tokens - self._marks[-1].tokens)
            letters_per_token = guess.letters / written or _TOKEN_LETTERS
            self._look_at = tokens + min(math.ceil(missing / letters_per_token), _LOOK_EVERY_TOKENS)
            return None
        self._is_peeking = False
        self._look_at = tokens + _LOOK_EVERY_TOKENS
        is_off = {self._verdict(guess), self._verdict_without_names(piece)} == {"off_target"}
        if not is_off or is_broken_off(text):
            return None
        if not self._has_attempts(self._marks[-1]):  # given up where the sentence ends
            return None
        return self._drop(len(self._marks) - 1, text, tokens, guess.language)

    def _check(self, text: str, tokens: int, *, is_over: bool) -> int | None:
        """Judge the newest sentence, and where that is undecided all since the last settled."""
        newest, first = len(self._marks) - 1, self._settled
        if not is_over and is_broken_off(text[self._marks[newest].line :]):
            return None
        verdict, guess = self._judge(text, self._marks[newest])
        culprit = newest
        if verdict == "too_short" and newest > first:
            verdict, guess = self._judge(text, self._marks[first])
            culprit = first
        if verdict == "off_target":
            return self._drop(culprit, text, tokens, guess.language)
        self._marks.append(self._mark(text, tokens))
        if verdict == "on_target" or guess.letters > _MAX_UNDECIDED_LETTERS:
            self._settle(
                is_clear=verdict == "on_target" and self._is_on_target(text, first, newest)
            )
        elif verdict == "no_language" and newest == first:
            self._settle(is_clear=True)
        return None

    def _is_on_target(self, text: str, first: int, newest: int) -> bool:
        """Whether a sentence that is on target is so with the undecided ones before it, too."""
        if newest == first:
            return True
        guess = self._guess(text, self._marks[first])[1]
        return guess.language == self._spec.target

    def _finish(self, text: str, tokens: int) -> int | None:
        """Judge the last sentence, then the whole; what was given up explains an off verdict."""
        keep = self._check(text, tokens, is_over=True)
        is_certain = self._is_clear and self._settled == len(self._marks) - 1
        if keep is not None or any(rewrite.is_kept for rewrite in self._rewrites):
            return keep
        if not text and self._attempts:  # nothing is no answer, although it drifts nowhere
            return self._drop(0, text, tokens, None)
        if is_certain:
            return None
        piece, whole = self._guess(text, _Mark())
        if whole.language == self._spec.target or whole.letters < _MIN_WHOLE_LETTERS:
            return None
        if self._verdict_without_names(piece) == "on_target":
            return None
        return self._drop_foreign(text, tokens)

    def _drop_foreign(self, text: str, tokens: int) -> int | None:
        """Go back to the longest sentence that is more likely in another language.

        Of those behind `settled`, as what is before may have been shown already.
        """
        ends = [mark.chars for mark in self._marks[1:]]
        guesses = [self._guess(text[:end], self._marks[n])[1] for n, end in enumerate(ends)]
        foreign = [
            n
            for n, guess in enumerate(guesses)
            if n >= self._clear and guess.letters and guess.language != self._spec.target
        ]
        if not foreign:
            return None
        index = max(foreign, key=lambda n: guesses[n].letters)
        return self._drop(index, text, tokens, guesses[index].language)

    def _drop(self, index: int, text: str, tokens: int, language: Language | None) -> int | None:
        """Go back to a mark and steer harder, or give up on what is behind it."""
        mark = self._marks[index]
        attempt = self._attempts.get(mark.tokens, 0) + 1
        dropped = text[mark.chars :].strip()
        rewrite = Rewrite(mark.chars, dropped, language, tokens - mark.tokens, attempt)
        if not self._has_attempts(mark):
            self._rewrites.append(replace(rewrite, is_kept=True))
            self._marks.append(self._mark(text, tokens))
            self._settle(is_clear=False)
            return None
        self._rewrites = [*_move_back(self._rewrites, mark.chars), rewrite]
        self._attempts = {t: times for t, times in self._attempts.items() if t < mark.tokens}
        self._attempts[mark.tokens] = attempt
        del self._marks[index + 1 :]
        self._settled = min(self._settled, index)
        self._plan = self._spec.harder[attempt - 1]
        self._is_peeking = True
        self._look_at = mark.tokens + _FIRST_LOOK_TOKENS
        return mark.tokens

    def _has_attempts(self, mark: _Mark) -> bool:
        harder = len(self._spec.harder)
        done = sum(not rewrite.is_kept for rewrite in self._rewrites)
        return self._attempts.get(mark.tokens, 0) < harder and done < _MAX_PASSAGES * harder

    def _settle(self, *, is_clear: bool) -> None:
        """Leave all up to the newest mark alone from here on."""
        self._settled = len(self._marks) - 1
        self._is_clear = self._is_clear and is_clear
        if self._is_clear:
            self._clear = self._settled
        self._is_peeking = False
        self._look_at = self._marks[-1].tokens + _LOOK_EVERY_TOKENS
        self._plan = self._usual_plan

    def _mark(self, text: str, tokens: int) -> _Mark:
        """Make a mark at the end of the text."""
        last = self._marks[-1]
        line = len(text) - len(split_lines(text)[-1]) if text else 0
        fence = find_open_fence(text[last.line : line], before=last.fence)
        head = countable_text(text[line:], open_fence=fence)
        return _Mark(tokens, len(text), line, fence, head)

    def _judge(self, text: str, mark: _Mark) -> tuple[Verdict, Guess]:
        """Judge what is behind a mark; names alone put nothing off target."""
        piece, guess = self._guess(text, mark)
        verdict = self._verdict(guess)
        if verdict == "off_target" and self._verdict_without_names(piece) == "on_target":
            verdict = "on_target"
            self._is_clear = False
        return verdict, guess

    def _guess(self, text: str, mark: _Mark) -> tuple[str, Guess]:
        """Return what counts of the text behind a mark, and the language of that."""
        counted = countable_text(text[mark.line :], open_fence=mark.fence)
        if counted.startswith(mark.head):
            piece = counted[len(mark.head) :]
        else:  # what follows made the line read otherwise, such as "example." and "com"
            piece = countable_text(text[mark.chars :])
        guess = identify_text(piece, languages=self._languages)
        if guess.script == "Hani" and is_japanese(count_scripts(text[-_KANA_REACH:])):
            guess = identify_text(piece, languages=self._languages, has_kana_around=True)
        return piece, guess

    def _verdict(self, guess: Guess) -> Verdict:
        verdict = judge_guess(guess, self._spec.target)
        is_by_script = guess.is_by_script or guess.script != self._script
        is_certain = is_by_script or guess.confidence >= _CERTAIN
        return verdict if verdict != "off_target" or is_certain else "too_short"

    def _verdict_without_names(self, piece: str) -> Verdict:
        """Judge the words that are not capitalised; "Star Wars" says nothing of the rest."""
        rest = _WORD.sub(lambda word: " " if word[0][0].isupper() else word[0], piece)
        return self._verdict(identify_text(rest, languages=self._languages))


def _move_back(rewrites: Iterable[Rewrite], start: int) -> list[Rewrite]:
    """Move what stood behind a place to that place, as all behind it is dropped."""
    return [replace(rewrite, start=min(rewrite.start, start)) for rewrite in rewrites]
