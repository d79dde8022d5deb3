"""Reads an answer as it is written, and has a sentence written again when it drifts.

Knows texts, languages and plans, not the model, its cache or how a plan is made to act: a batch
shows it the text so far and goes back where it says.

The answer is cut into sentences, at tokens that end one. A sentence in the target language is
settled, with what was undecided before it ("Oui."). One in another language is dropped and written
again with a harder plan. What is undecided is judged together with what follows, and at the end of
the answer the whole is judged as the evaluation does.

Words are released before their sentence ends, as soon as they are clearly in the target language:
a stream may send them. From then on only what follows them can be dropped. A guard that fails on a
passage gives up, and the rest of the answer flows as if there were none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steering.countable_text import (
    countable_text,
    find_open_fence,
    is_broken_off,
    split_lines,
    without_names,
)
from steering.detection import Verdict, judge_piece, languages_in_play
from steering.identification import Guess, identify_text
from steering.languages import Language
from steering.methods import DEFAULT_STRENGTHS, SteeringRequest, make_plan, resolve_strength
from steering.neuron_set import NeuronSet
from steering.steering_plan import SteeringPlan, combine_plans
from steering.unicode_scripts import count_scripts, is_japanese

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Times the set's strongest level, after that level itself: what was calibrated is for the usual
# prompt, and a passage that drifted is not one. Beyond it real models loop, and a passage
# that resists this resists any: on Qwen2.5-Coder-0.5B a pull that gets 6 of 12
# answers gets 12 at 1.4 times its strength, and 12 worse ones at twice that.
_BEYOND_STRONGEST = 1.5
# What is added to the hardest plan of edits: more than any logit was ahead by (`token_bias.py` has
# the measurements). Alone it moves a real model little: 7 of those 12 instead of 6.
_BIAS_NATS = 30.0
# An answer has at most this many times as many attempts as one of its passages.
_MAX_PASSAGES = 3
# So many passages may fail where the answer has begun in the target language; one where it has not.
_MAX_FAILED = 2

# The first words are not dropped before there are so many letters; a wide letter counts as two.
_PEEK_LETTERS = 16
# What has not as many letters after so many tokens is code or numbers.
_PEEK_TOKENS = 32
# Words are released from here on if their language is all but certain: of the beginnings of 540
# everyday prompts in nine languages of Latin script 46% are at 8 letters and 87% at 20, and none
# is in another language than the one found; at 6 letters three are.
_RELEASE_LETTERS = 8
# Where the script decides; Han alone is not certain (`identification.py`).
_RELEASE_LETTERS_BY_SCRIPT = 2
_RELEASE_CONFIDENCE = 0.9
_HAN_CONFIDENCE = 0.5
# Of first words that were long enough to be dropped; none of the 540 is wrong, and 91% are there.
_RELEASE_LIKELY, _LIKELY_LETTERS = 0.97, 20
# A sentence alone misleads n-grams, and half a one more: of 2,136 right sentences of the bundled
# model's grammar in five languages of Latin script, 11 are off target at 0.9 (`detection.py`) and
# one is at this, where 4% of the wrong ones are not yet; these are judged with what follows.
_CERTAIN = 0.995
# What has no end of sentence for so long (Thai) is cut here all the same.
_CUT_EVERY_TOKENS = 64
# How often a long sentence is looked at for words to release, and where there were none.
_LOOK_EVERY_TOKENS = 16
_LOOK_SOON_TOKENS = 4
# Text that is undecided for so long is mixed; more of it would decide nothing.
_MAX_UNDECIDED_LETTERS = 300
# An answer of fewer letters may be a name; below it n-grams decide nothing (`detection.py`).
_MIN_WHOLE_LETTERS = 6
# Kana so many characters back still makes Han Japanese.
_KANA_REACH = 1000

_END_SIGNS = ".!?؟।…。！？"
_END_TOKEN = re.compile(rf"[{_END_SIGNS}\n\r]")
_HAS_SENTENCE = re.compile(rf"[{_END_SIGNS}](?:\s|$)")
_ENDS_SENTENCE = re.compile(rf"[{_END_SIGNS}][\"”»)」』）]*$")


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

    Where the guard gave up for good, what stays was still to be written: it is not in `text`.

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

    Two are harder: the set's strongest level, then one and a half times that with a token bias.
    Where the request is as strong as that already, the first is the second without the bias.

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
    beyond = hardest * _BEYOND_STRONGEST
    first, last = (
        make_plan(neurons, replace(request, strength=strength))
        for strength in (hardest if hardest > usual else beyond, beyond)
    )
    bias = make_plan(neurons, SteeringRequest(target, f"tokens@{_BIAS_NATS}", 1.0))
    return first, combine_plans(last, bias)


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
        self._rewrites: list[Rewrite] = []
        self._marks = [_Mark()]
        self._settled = 0  # index of the mark up to which nothing is looked at again
        self._released = _Mark()  # what is before it stays, and may have been shown already
        self._failed = 0  # passages that stayed off target
        self._has_given_up = False
        self._attempts: dict[int, int] = {}  # tokens of a mark -> times that it was gone back to
        self._is_peeking = True
        self._is_clear = True  # nothing settled was anything but on target
        self._look_at = 1

    @property
    def plan(self) -> SteeringPlan:
        """Return what the next token is to be steered with."""
        return self._plan

    @property
    def settled(self) -> int:
        """Return how many characters of the answer stay, whatever comes."""
        return self._released.chars

    @property
    def has_given_up(self) -> bool:
        """Whether nothing is judged or dropped any more: the whole answer stays as it comes."""
        return self._has_given_up

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
        if self._has_given_up:
            return False
        return token_id in self._end_ids or tokens >= self._look_at

    def read(
        self, text: str, tokens: int, *, is_over: bool, token_id: int | None = None
    ) -> int | None:
        """Judge the answer so far; to be called when `is_due` says so, and at the end.

        Args:
            text: The decoded answer, all of it.
            tokens: How many tokens it is of.
            is_over: Whether nothing is to follow.
            token_id: The last of them, where it is known.

        Returns:
            None to go on with `plan`, which may have changed. Else how many tokens to keep: the
            others are to be dropped, and the answer is to be written on from there with `plan`.
            Once it has given up it is always None.
        """
        if self._has_given_up:
            return None
        text = text.rstrip("\ufffd").rstrip()
        if is_over:
            return self._finish(text, tokens)
        # A token may complete a line without changing the visible text.
        is_end = token_id in self._end_ids or _ENDS_SENTENCE.search(text) is not None
        written = tokens - self._marks[-1].tokens
        self._is_peeking = self._is_peeking and written <= _PEEK_TOKENS
        self._look_at = tokens + (1 if self._is_peeking else _LOOK_EVERY_TOKENS)
        if is_end or written >= _CUT_EVERY_TOKENS:
            return self._check(text, tokens, is_over=False)
        if self._release(text, tokens):
            self._end_peeking(tokens, _LOOK_EVERY_TOKENS)
        elif self._is_peeking:
            return self._peek(text, tokens)
        else:
            self._look_at = tokens + _LOOK_SOON_TOKENS
        return None

    def _release(self, text: str, tokens: int) -> bool:
        """Let go of what is clearly in the target language; say whether it is."""
        if tokens <= self._released.tokens or is_broken_off(text):
            return False
        guess = self._guess(text, self._released)[1]
        if guess.language != self._spec.target:
            return False
        if guess.is_by_script:
            # So many Han signs in a row without kana are hardly ever Japanese.
            is_han = guess.script == "Hani" and guess.letters >= _PEEK_LETTERS
            letters = _RELEASE_LETTERS_BY_SCRIPT
            confidence = _HAN_CONFIDENCE if is_han else _RELEASE_CONFIDENCE
        else:
            is_long = guess.letters >= _LIKELY_LETTERS
            letters, confidence = _RELEASE_LETTERS, _RELEASE_LIKELY if is_long else _CERTAIN
        if guess.letters < letters or guess.confidence < confidence:
            return False
        self._released = self._mark(text, tokens)
        return True

    def _peek(self, text: str, tokens: int) -> int | None:
        """Drop the first words where they are clearly off target; settles nothing."""
        start = self._later(self._marks[-1])
        piece, guess = self._guess(text, start)
        if guess.letters < _PEEK_LETTERS:
            return None
        if is_broken_off(text):  # a title, which says nothing where it ends either
            self._end_peeking(tokens, _LOOK_SOON_TOKENS)
            return None
        self._look_at = tokens + (1 if guess.is_by_script else _LOOK_SOON_TOKENS)
        if self._verdict(piece, guess) != "off_target":
            return None
        if not self._has_attempts(start) and not self._is_hopeless:
            return None  # only this passage is given up, where its sentence ends
        return self._drop(len(self._marks) - 1, text, tokens, guess.language)

    def _end_peeking(self, tokens: int, look_after: int) -> None:
        self._is_peeking = False
        self._look_at = tokens + look_after

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
            self._release(text, tokens)
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
        if not text and self._attempts:  # an empty answer isn't off target, but it isn't an answer
            return self._drop(0, text, tokens, None)
        if is_certain:
            return None
        piece, whole = self._guess(text, _Mark())
        if whole.language == self._spec.target or whole.letters < _MIN_WHOLE_LETTERS:
            return None
        if whole.is_by_script and self._verdict(piece, whole) != "off_target":
            return None  # Han that may be either language
        nameless = identify_text(without_names(piece), languages=self._languages)
        if nameless.letters < _MIN_WHOLE_LETTERS and not _HAS_SENTENCE.search(text):
            return None  # a list of names
        if self._verdict_without_names(piece) == "on_target":
            return None
        return self._drop_foreign(text, tokens)

    def _drop_foreign(self, text: str, tokens: int) -> int | None:
        """Go back to the longest sentence that is more likely in another language.

        What was released stays, as it may have been shown already.
        """
        ends = [mark.chars for mark in self._marks[1:]]
        guesses = [self._guess(text[:end], self._marks[n])[1] for n, end in enumerate(ends)]
        foreign = [
            n
            for n, guess in enumerate(guesses)
            if ends[n] > self.settled and guess.letters and guess.language != self._spec.target
        ]
        if not foreign:
            return None
        index = max(foreign, key=lambda n: guesses[n].letters)
        return self._drop(index, text, tokens, guesses[index].language)

    def _drop(self, index: int, text: str, tokens: int, language: Language | None) -> int | None:
        """Go back to a mark, or behind it to what was released, and steer harder; or give up."""
        mark = self._later(self._marks[index])
        attempt = self._attempts.get(mark.tokens, 0) + 1
        dropped = text[mark.chars :].strip()
        rewrite = Rewrite(mark.chars, dropped, language, tokens - mark.tokens, attempt)
        if not self._has_attempts(mark):
            return self._give_up(rewrite, text, tokens)
        self._rewrites = [*_move_back(self._rewrites, mark.chars), rewrite]
        self._attempts = {t: times for t, times in self._attempts.items() if t < mark.tokens}
        self._attempts[mark.tokens] = attempt
        del self._marks[index + 1 :]
        self._settled = min(self._settled, index)
        self._plan = self._spec.harder[attempt - 1]
        self._is_peeking = True
        self._look_at = mark.tokens + 1
        return mark.tokens

    def _give_up(self, rewrite: Rewrite, text: str, tokens: int) -> int | None:
        """Leave a passage as it is; for good, go back to write it as if there were no guard.

        What was pushed least is the best text in the other language.
        """
        self._has_given_up = self._is_hopeless
        self._failed += 1
        if self._has_given_up and rewrite.attempt > 1:
            kept = Rewrite(rewrite.start, "", rewrite.language, 0, rewrite.attempt + 1, True)
            self._rewrites += [rewrite, kept]
            self._plan = self._usual_plan
            return tokens - rewrite.tokens
        self._rewrites.append(replace(rewrite, is_kept=True))
        self._marks.append(self._mark(text, tokens))
        self._settle(is_clear=False)
        return None

    def _later(self, mark: _Mark) -> _Mark:
        """Return the mark, or where the released text ends if that is behind it."""
        return self._released if self._released.tokens > mark.tokens else mark

    @property
    def _is_hopeless(self) -> bool:
        """Whether one more passage that fails ends the guard's work."""
        return not self._released.tokens or self._failed + 1 >= _MAX_FAILED

    def _has_attempts(self, mark: _Mark) -> bool:
        harder = len(self._spec.harder)
        done = sum(not rewrite.is_kept for rewrite in self._rewrites)
        return self._attempts.get(mark.tokens, 0) < harder and done < _MAX_PASSAGES * harder

    def _settle(self, *, is_clear: bool) -> None:
        """Leave all up to the newest mark alone from here on."""
        self._settled = len(self._marks) - 1
        self._is_clear = self._is_clear and is_clear
        if self._is_clear:
            self._released = self._marks[-1]
        self._end_peeking(self._marks[-1].tokens, _LOOK_EVERY_TOKENS)
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
        verdict = self._verdict(piece, guess)
        if verdict != "on_target" and self._verdict_without_names(piece) == "on_target":
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

    def _verdict(self, piece: str, guess: Guess) -> Verdict:
        return judge_piece(
            piece,
            guess,
            expected=self._spec.target,
            identify=functools.partial(identify_text, languages=self._languages),
        )

    def _verdict_without_names(self, piece: str) -> Verdict:
        """Judge the words that are not capitalised; "Star Wars" says nothing of the rest."""
        rest = without_names(piece)
        return self._verdict(rest, identify_text(rest, languages=self._languages))


def note_on_giving_up(rewrites: Iterable[Rewrite]) -> str:
    """Say in English that the guard gave up; empty where it did not."""
    kept = [rewrite.language for rewrite in rewrites if rewrite.is_kept]
    if not kept:
        return ""
    names = sorted({one.english_name if one else "another language" for one in kept})
    return f"The guard gave up: the model kept writing {' and '.join(names)}."


def _move_back(rewrites: Iterable[Rewrite], start: int) -> list[Rewrite]:
    """Move what stood behind a place to that place, as all behind it is dropped."""
    return [replace(rewrite, start=min(rewrite.start, start)) for rewrite in rewrites]
