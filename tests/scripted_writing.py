"""A model that writes sentences from a list, token by token, and goes back where a guard says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steering.guard import Guard, GuardSpec
from steering.languages import LANGUAGES, Language
from steering.steering_plan import SteeringPlan
from tests.texts import TEXTS

FIFTEEN = tuple(LANGUAGES[code] for code in TEXTS)
_TOKEN = re.compile(r" ?\w{1,4}|\n| ?[^\w\n]")
_ENDS = re.compile(r"[.!?؟।…。！？\n]")

# The sentence's number, the rung of the plan (0: the usual one) -> its tokens, with the white
# space before it; none to end the answer.
NextSentence = Callable[[int, int], str]


@dataclass
class Writing:
    """What was written, and how.

    Args:
        guard: The guard that watched.
        text: The answer.
        written: All tokens, also those that were dropped.
        rungs: The plan of every token written: 0 for the usual one, 1 for the first harder one.
        looks: How often the guard was asked.
        gone_back: Per time, the texts before and after.
        settled: Per look, the text that was to stay.
    """

    guard: Guard
    text: str = ""
    written: int = 0
    rungs: list[int] = field(default_factory=list)
    looks: int = 0
    gone_back: list[tuple[str, str]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)

    def tail(self, start: int) -> str:
        return self.text[start:].lstrip()


def cut(text: str) -> list[str]:
    """Cut a text into tokens; a space belongs to the word behind it."""
    tokens = _TOKEN.findall(text)
    assert "".join(tokens) == text
    return tokens


def from_attempts(sentences: Sequence[Sequence[str]]) -> NextSentence:
    """Per sentence, what the usual plan writes, the first harder one, ...; the last for all."""

    def next_sentence(number: int, rung: int) -> str:
        if number >= len(sentences):
            return ""
        attempts = sentences[number]
        return attempts[min(rung, len(attempts) - 1)]

    return next_sentence


def write(
    next_sentence: NextSentence,
    target: str,
    *,
    languages: Sequence[Language] = FIFTEEN,
    harder: int = 3,
    max_tokens: int = 3000,
    show: Callable[[str], str] = str.strip,
) -> Writing:
    """Write an answer under a guard, as a batch would."""
    plans = [SteeringPlan({}) for _ in range(harder + 1)]
    spec = GuardSpec(LANGUAGES[target], tuple(languages), tuple(plans[1:]))
    made = Writing(Guard(spec, plans[0], frozenset({1})))
    tokens: list[tuple[int, str]] = []  # the number of the sentence, and the token
    waiting: list[str] = []
    while made.written < max_tokens:
        rung = plans.index(made.guard.plan)
        number = tokens[-1][0] if tokens else -1
        if not waiting:
            number += 1
            waiting = cut(next_sentence(number, rung))
        if is_over := not waiting:
            keep = _read(made, tokens, show, is_over=True)
        else:
            tokens.append((number, waiting.pop(0)))
            made.written += 1
            made.rungs.append(rung)
            is_end = _ENDS.search(tokens[-1][1]) is not None
            is_due = made.guard.is_due(int(is_end), len(tokens))
            keep = _read(made, tokens, show, token_id=int(is_end)) if is_due else None
        if keep is not None:
            assert 0 <= keep <= len(tokens)
            before = made.text
            # A mark within a sentence is gone back to as if the sentence began there.
            tokens, waiting = tokens[:keep], []
            made.gone_back.append((before, "".join(token for _, token in tokens).strip()))
        elif is_over:
            return made
    raise AssertionError(f"More than {max_tokens} tokens: {made.guard.rewrites}")


def _read(
    made: Writing,
    tokens: list[tuple[int, str]],
    show: Callable[[str], str],
    *,
    is_over: bool = False,
    token_id: int | None = None,
) -> int | None:
    made.looks += 1
    made.text = "".join(token for _, token in tokens).strip()
    shown = show(made.text)
    keep = made.guard.read(shown, len(tokens), is_over=is_over, token_id=token_id)
    made.settled.append(made.text[: made.guard.settled])
    return keep


def joined(*sentences: str) -> list[str]:
    """Put a space before each but the first, unless it is in a script that has none."""
    return [
        sentence if place == 0 or ord(sentence[-1]) > 0x3000 else f" {sentence}"
        for place, sentence in enumerate(sentences)
    ]
