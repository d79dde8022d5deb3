"""The answers of a chat, and how each was made: to read one again, or to write it otherwise.

What an answer was made with comes back from the browser, so it is checked like anything else that
comes from there. Knows messages and records, not components.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from steering.conversation import Message
from steering.neuron_set_file import hash_neuron_set
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling
from steering.ui.asking import NO_LANGUAGE, Chat, Wish
from steering.ui.chat.messages import ShownMessage, answerable, is_answer, to_plain
from steering.ui.chat.transcript import Record
from steering.ui.wording import Refusal

_SHOWN_LETTERS = 48  # of a question or an answer, in a list


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One answer of the chat.

    Args:
        conversation: Up to its question.
        text: What was answered.
        record: What it was made with.
    """

    conversation: tuple[Message, ...]
    text: str
    record: Record

    @property
    def title(self) -> str:
        """Return question and answer, cut to fit in a list."""
        return f"{_cut(self.conversation[-1].content)} → {_cut(self.text)}"


class _MadeWith(BaseModel):
    """What of a record is needed to make an answer again."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    language: str | None = None
    steering: str = "normal"
    method: str | None = None
    is_damped: bool = False
    neuron_set_sha256: str | None = None
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    rewritten: list[object] = []


@dataclass(frozen=True, slots=True)
class HowMade:
    """How an answer was made.

    Args:
        wish: What was asked for, without the guard.
        sampling: How its tokens were chosen.
        has_rewrites: Whether the guard had passages of it written again.
    """

    wish: Wish
    sampling: Sampling
    has_rewrites: bool
    neuron_set_sha256: str | None

    @property
    def is_steered(self) -> bool:
        """Say whether it was steered at all."""
        return self.wish.language is not None and self.wish.level != "off"


def list_answers(history: Sequence[ShownMessage], records: Sequence[Record]) -> list[GivenAnswer]:
    """Return the answers of a chat; those that failed, and have no record, are left out."""
    answers = []
    left = iter(records)
    for place, shown in enumerate(history):
        if not is_answer(shown):
            continue
        record, said = next(left, None), to_plain([shown])
        conversation = tuple(answerable(to_plain(history[:place])))
        if record and said and conversation and conversation[-1].role == "user":
            answers.append(GivenAnswer(conversation, said[0].content, record))
    return answers


def pick_answer(answers: Sequence[GivenAnswer], place: object) -> GivenAnswer:
    """Return the answer that was chosen.

    Raises:
        Refusal: If none was, or it is not there any more.
    """
    if isinstance(place, int) and 0 <= place < len(answers):
        return answers[place]
    raise Refusal("no_answer_chosen")


def read_how_made(answer: GivenAnswer, chat: Chat) -> HowMade:
    """Return how an answer was made.

    Raises:
        SteeringError: If its record makes no sense, or names what is not there any more.
    """
    try:
        made = _MadeWith.model_validate(answer.record)
    except ValidationError as err:
        name = ".".join(map(str, err.errors()[0]["loc"]))
        raise Refusal("record_broken", name=name) from err
    rest = Wish(None, method=made.method or "", is_damped=made.is_damped, has_guard=False)
    sampling = Sampling(
        max_new_tokens=min(made.max_new_tokens, chat.max_new_tokens),
        temperature=made.temperature,
        top_p=made.top_p,
        seed=made.seed,
    )
    wish = chat.read_wish(made.language or NO_LANGUAGE, made.steering, rest)
    return HowMade(wish, sampling, bool(made.rewritten), made.neuron_set_sha256)


def plan_again(answer: GivenAnswer, made: HowMade, chat: Chat) -> SteeringPlan:
    """Return the plan that steered an answer.

    Raises:
        Refusal: If it was steered by another set than the one in use.
    """
    neurons = chat.set_in_use
    if made.is_steered and (neurons is None or made.neuron_set_sha256 != hash_neuron_set(neurons)):
        raise Refusal("other_set")
    plan, _ = chat.plan_and_guard(answer.conversation, made.wish)
    return plan


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_LETTERS else line[: _SHOWN_LETTERS - 1] + "…"
