"""Language forcing: how often the answer comes in the chosen language, and still answers.

Runs the same prompts under several conditions (steering methods and controls). Two numbers each:
language forcing success (LFS), the share of replies that the detector finds in the chosen
language; and content, the share of replies that are in it and answer the question, where somebody
can tell (the grammar of the bundled model can). Knows neither files nor the grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from steering.conversation import Message
from steering.countable_text import split_sentences
from steering.detection import identify_reply
from steering.evaluation.proportions import Proportion, harmonic_mean
from steering.generation import answer_conversations
from steering.guard import GuardSpec, Rewrite
from steering.languages import Language
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# A reply -> whether it answers the question in the target language.
AnswerCheck: TypeAlias = Callable[[str], bool]
# A prompt -> the plan for its row.
PlanMaker: TypeAlias = Callable[["ForcingPrompt"], SteeringPlan]
# A prompt -> what is watched for while its answer is written.
GuardMaker: TypeAlias = Callable[["ForcingPrompt"], GuardSpec | None]


@dataclass(frozen=True, slots=True)
class ForcingPrompt:
    """A prompt, the language its answer should have, and how to tell that it is right.

    Args:
        text: The prompt without any instruction.
        instructed_text: The same with a plain "Answer in X.", for that control.
        language: Of the prompt.
        target: Of the answer.
        is_right: None where nobody can tell.
        source: The benchmark, or the part of one, that it is from; empty elsewhere.
        gold: Right answers in the target language, to count words of; empty where there are none.
    """

    text: str
    instructed_text: str
    language: Language
    target: Language
    is_right: AnswerCheck | None = None
    source: str = ""
    gold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of asking for the language: a plan per prompt, and whether the prompt says it.

    With a guard, passages in another language are written again.
    """

    name: str
    make_plan: PlanMaker
    is_instructed: bool = False
    make_guard: GuardMaker = lambda _: None


@dataclass(frozen=True, slots=True)
class WrittenReply:
    """A reply before it is judged; *number* is the place of its prompt."""

    number: int
    text: str
    tokens: int = 0
    rewrites: tuple[Rewrite, ...] = ()


@dataclass(frozen=True, slots=True)
class ForcingOutcome:
    """What one prompt gave under one condition."""

    prompt: ForcingPrompt
    reply: str
    language: Language | None
    is_forced: bool
    is_right: bool | None
    tokens: int = 0
    rewrites: tuple[Rewrite, ...] = ()


@dataclass(frozen=True, slots=True)
class ForcingResult:
    """All outcomes under one condition.

    `lfs` is language forcing success, `content` the share of all replies that are in the chosen
    language and answer the question.
    """

    condition: str
    outcomes: tuple[ForcingOutcome, ...] = field(repr=False)

    @property
    def lfs(self) -> Proportion:
        """Return how many replies are in the chosen language."""
        return Proportion(sum(o.is_forced for o in self.outcomes), len(self.outcomes))

    @property
    def content(self) -> Proportion | None:
        """Return how many replies are in it and right, or None where nobody can tell."""
        if any(o.is_right is None for o in self.outcomes):
            return None
        right = sum(bool(o.is_right) and o.is_forced for o in self.outcomes)
        return Proportion(right, len(self.outcomes))

    def of_target(self, target: Language) -> ForcingResult:
        """Return the outcomes whose chosen language is *target*."""
        chosen = tuple(o for o in self.outcomes if o.prompt.target == target)
        return ForcingResult(self.condition, chosen)

    def in_own_language(self) -> ForcingResult:
        """Return the outcomes whose chosen language is that of the prompt."""
        own = tuple(o for o in self.outcomes if o.prompt.target == o.prompt.language)
        return ForcingResult(self.condition, own)

    def to_json(self) -> dict[str, object]:
        """Return plain numbers, as `evaluate forcing --json` writes them."""
        content = None if self.content is None else self.content.rate
        targets = sorted({o.prompt.target for o in self.outcomes})
        return {
            "lfs": self.lfs.rate,
            "lfs_interval": list(self.lfs.interval()),
            "content": content,
            "content_interval": self.content and list(self.content.interval()),
            "content_of_forced": (
                None if self.content is None or not self.lfs.successes
                else self.content.successes / self.lfs.successes
            ),
            "harmonic": None if content is None else harmonic_mean(self.lfs.rate, content),
            "n": len(self.outcomes),
            "by_language": {str(t): self.of_target(t)._short_json() for t in targets},
            "own_language": self.in_own_language()._short_json(),
            "rewritten": self._rewritten_json(),
        }  # fmt: skip

    def _rewritten_json(self) -> dict[str, object]:
        """Return what the guard did: passages written again, and the tokens that it cost."""
        again = [r for o in self.outcomes for r in o.rewrites if not r.is_kept]
        kept = [r for o in self.outcomes for r in o.rewrites if r.is_kept]
        sentences = sum(len(split_sentences(o.reply)) for o in self.outcomes)
        return {
            "sentences": sentences,
            "sentences_written_again": len({(id(o), r.start) for o in self.outcomes
                                            for r in o.rewrites if not r.is_kept}),
            "attempts": len(again),
            "given_up": len(kept),
            "tokens": sum(o.tokens for o in self.outcomes),
            "tokens_dropped": sum(r.tokens for r in again),
        }  # fmt: skip

    def _short_json(self) -> dict[str, object]:
        content = None if self.content is None else self.content.rate
        return {"lfs": self.lfs.rate, "content": content, "n": len(self.outcomes)}


def run_forcing(
    model: LoadedModel,
    prompts: Sequence[ForcingPrompt],
    condition: Condition,
    *,
    languages: Sequence[Language],
    sampling: Sampling | None = None,
    batch_rows: int = 16,
    progress: Callable[[int], object] | None = None,
) -> ForcingResult:
    """Answer every prompt under one condition, each row with its own plan, and judge the replies.

    Args:
        model: From `load_model`; left as it was.
        prompts: What to ask.
        condition: How the language is asked for.
        languages: Those the detector chooses from.
        sampling: Greedy, 120 tokens, when omitted. Its seed is the first prompt's, the next
            number the second's, and so on.
        batch_rows: Prompts per batch; changes speed alone.
        progress: Called with the number of prompts answered since the last call.
    """
    written: list[WrittenReply] = []
    for batch in write_replies(model, prompts, condition, sampling=sampling, batch_rows=batch_rows):
        written += batch
        if progress is not None:
            progress(len(batch))
    return judge_replies(condition.name, prompts, written, languages=languages)


def write_replies(
    model: LoadedModel,
    prompts: Sequence[ForcingPrompt],
    condition: Condition,
    *,
    sampling: Sampling | None = None,
    batch_rows: int = 16,
    skip: Collection[int] = (),
) -> Iterator[list[WrittenReply]]:
    """Answer every prompt under one condition and yield the replies batch by batch.

    Args:
        model: From `load_model`; left as it was.
        prompts: What to ask; short ones come first.
        condition: How the language is asked for.
        sampling: As for `run_forcing`.
        batch_rows: Prompts per batch.
        skip: Places of prompts that have their reply.
    """
    chosen = sampling or Sampling()
    order = sorted(
        (number for number in range(len(prompts)) if number not in skip),
        key=lambda number: len(prompts[number].text),
    )
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        asked = [prompts[number] for number in batch]
        texts = [p.instructed_text if condition.is_instructed else p.text for p in asked]
        views = answer_conversations(
            model,
            [(Message("user", text),) for text in texts],
            plans=[condition.make_plan(prompt) for prompt in asked],
            sampling=[replace(chosen, seed=chosen.seed + number) for number in batch],
            guards=[condition.make_guard(prompt) for prompt in asked],
        )
        yield [
            WrittenReply(number, view.text, view.tokens, view.rewrites)
            for number, view in zip(batch, views, strict=True)
        ]


def judge_replies(
    condition: str,
    prompts: Sequence[ForcingPrompt],
    written: Iterable[WrittenReply],
    *,
    languages: Sequence[Language],
) -> ForcingResult:
    """Judge the replies under a condition, in the order of their prompts."""
    outcomes = [
        replace(
            judge_reply(prompts[one.number], one.text, languages=languages),
            tokens=one.tokens,
            rewrites=one.rewrites,
        )
        for one in sorted(written, key=lambda one: one.number)
    ]
    return ForcingResult(condition, tuple(outcomes))


def judge_reply(
    prompt: ForcingPrompt, reply: str, *, languages: Sequence[Language]
) -> ForcingOutcome:
    """Say in which language a reply is and whether it is right."""
    found = identify_reply(reply, languages=languages).language
    return ForcingOutcome(
        prompt=prompt,
        reply=reply,
        language=found,
        is_forced=found == prompt.target,
        is_right=None if prompt.is_right is None else prompt.is_right(reply),
    )
