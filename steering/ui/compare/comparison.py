"""One question answered three ways, in one batch: steered, told to in words, and left alone.

The three have the same seed and the same settings. Knows requests and updates, not components or
how answers are shown.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, get_args

from steering.conversation import Message
from steering.detection import detect
from steering.everyday_prompts import instruction
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.languages import Language
from steering.steering_plan import NO_STEERING
from steering.ui.asking import Chat, Wish, notes_on
from steering.ui.chat.turns import check_text
from steering.ui.compare.colouring import SentenceReader
from steering.ui.wording import Refusal

Way = Literal["steered", "instructed", "plain"]
WAYS: tuple[Way, ...] = get_args(Way)  # the order of the rows of a batch


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how its first answer is steered.

    Args:
        message: The person's.
        wish: As chosen above the tabs.
        language: The wish's, which there has to be.
    """

    message: str
    wish: Wish
    language: Language

    @property
    def instruction(self) -> str:
        """Return what the second way adds: the words of the control of `evaluate forcing`."""
        return instruction(self.language, in_english=True)

    def asked(self, way: Way) -> str:
        """Return the message as the model gets it."""
        return f"{self.message} {self.instruction}" if way == "instructed" else self.message


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far the three answers are.

    Args:
        question: What they answer.
        update: Of three rows, in the order of `WAYS`.
        seconds: Since the question's turn came, its prompts being read; waiting does not count.
        row_seconds: The same per row, up to its end.
        first_token_s: From the same moment to the first token; None before there is one.
    """

    question: Question
    update: ReplyUpdate
    seconds: float
    row_seconds: tuple[float, ...]
    first_token_s: float | None

    @property
    def is_finished(self) -> bool:
        """Say whether all three have ended."""
        return None not in self.update.finish_reasons

    @property
    def rate(self) -> float:
        """Return how many tokens a second all three together are written at."""
        return _rate(self.update.new_tokens, self.seconds)

    def tokens(self, row: int) -> int:
        """Return how many tokens an answer has."""
        return self.update.row_tokens[row] if self.update.row_tokens else 0

    def row_rate(self, row: int) -> float:
        """Return how many tokens a second one answer is written at."""
        return _rate(self.tokens(row), self.row_seconds[row])


class Stopwatch:
    """Notes when the turn of a comparison came, when its first token did, and when each row ended.

    As exact as updates come, which is at once for the first token and for the end of the last row.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun_at = clock()
        self._first_at: float | None = None
        self._ended_at: dict[int, float] = {}

    def read(self, question: Question, update: ReplyUpdate) -> Comparison:
        """Return how far the answers are at this moment."""
        moment = self._clock()
        if not update.prompt_tokens:  # it waits
            self._begun_at = moment
        if update.new_tokens and self._first_at is None:
            self._first_at = moment
        for row, reason in enumerate(update.finish_reasons):
            if reason is not None:
                self._ended_at.setdefault(row, moment)
        ends = [self._ended_at.get(row, moment) for row in range(len(update.texts))]
        return Comparison(
            question,
            update,
            seconds=moment - self._begun_at,
            row_seconds=tuple(end - self._begun_at for end in ends),
            first_token_s=None if self._first_at is None else self._first_at - self._begun_at,
        )


def read_question(message: str, wish: Wish) -> Question:
    """Check what a person or a program asks for.

    Raises:
        Refusal: If the message is empty or endless, or no language is chosen.
    """
    check_text(message)
    if wish.language is None:
        raise Refusal("compare_no_language")
    return Question(message, wish, wish.language)


def compare(
    chat: Chat, question: Question, *, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[Comparison]:
    """Yield how far the three answers are, at most ten times a second; the last is the finished.

    The model stops within a token when this is closed, or when *is_stopped* says so.

    Raises:
        SteeringError: In words for the person.
    """
    stopwatch = Stopwatch()
    with closing(chat.stream(make_request(chat, question), is_stopped=is_stopped)) as updates:
        for update in updates:
            yield stopwatch.read(question, update)


def make_request(chat: Chat, question: Question) -> GenerationRequest:
    """Return the batch of three rows: one is steered and guarded, two are left alone."""
    conversations = tuple((Message("user", question.asked(way)),) for way in WAYS)
    plan, guard = chat.plan_and_guard(conversations[WAYS.index("steered")], question.wish)
    return GenerationRequest(
        conversations,
        tuple(plan if way == "steered" else NO_STEERING for way in WAYS),
        question.wish.sampling(chat.max_new_tokens),
        guards=tuple(guard if way == "steered" else None for way in WAYS),
    )


def make_readers(chat: Chat, question: Question) -> tuple[SentenceReader, ...]:
    """Return who names the languages of the sentences, one per row."""
    return tuple(SentenceReader(question.language, chat.languages) for _ in WAYS)


def to_json(
    comparison: Comparison, chat: Chat, readers: tuple[SentenceReader, ...]
) -> dict[str, Any]:
    """Return a comparison as the endpoint `/compare` gives it (docs/api.md)."""
    update, question = comparison.update, comparison.question
    return {
        "language": question.language.code,
        "is_finished": comparison.is_finished,
        "seed": question.wish.seed,
        "tokens": update.new_tokens,
        "seconds": comparison.seconds,
        "tokens_per_s": comparison.rate,
        "first_token_s": comparison.first_token_s,
        "answers": {
            way: _answer_json(comparison, row, chat, readers[row]) for row, way in enumerate(WAYS)
        },
    }


def _answer_json(
    comparison: Comparison, row: int, chat: Chat, reader: SentenceReader
) -> dict[str, Any]:
    update, question = comparison.update, comparison.question
    text = update.texts[row]
    judged = detect(text, expected=question.language, languages=chat.languages)
    return {
        "asked": question.asked(WAYS[row]),
        "text": text,
        "verdict": judged.verdict,
        "detected": judged.language.code if judged.language else None,
        "sentences": [
            {
                "text": sentence.text.strip(),
                "kind": sentence.kind,
                "language": sentence.language.code if sentence.language else None,
            }
            for paragraph in reader.read(text)
            for sentence in paragraph.sentences
        ],
        "tokens": comparison.tokens(row),
        "tokens_per_s": comparison.row_rate(row),
        "ended": update.finish_reasons[row],
        "notes": [str(note) for note in notes_on(update, row)],
    }


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0
