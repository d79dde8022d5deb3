"""Runs prompts through the engine, unsteered and steered side by side, and judges the answers.

A few rows at a time, so that others are answered in between; ends within a token when it is to
stop. Knows no component and no files.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from steering.answer import FinishReason
from steering.bundled import BUNDLED_CHECKS
from steering.conversation import Message
from steering.detection import Verdict, detect
from steering.evaluation.everyday import everyday_forcing_prompts
from steering.evaluation.forcing import ForcingPrompt
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.languages import LANGUAGES, Language
from steering.loading import BUNDLED_MODEL
from steering.ui.asking import Chat, Wish
from steering.ui.wording import Refusal

CHECKS = 8  # prompts that are offered
_PROMPTS_AT_ONCE = 2  # four rows of the sixteen that an engine usually has: others go on


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer, and the verdict on its language."""

    reply: str
    verdict: Verdict
    language: Language | None
    ending: FinishReason | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and its two answers."""

    prompt: ForcingPrompt
    unsteered: Judged
    steered: Judged


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands.

    Args:
        total: How many prompts there are.
        answered: Those that are finished.
        begun: How much of the ones that are being answered is written at most, 0..1.
        place: In the engine's queue; 0 while answers are written.
        is_over: Whether nothing more comes.
    """

    total: int
    answered: tuple[Answered, ...] = field(default=(), repr=False)
    begun: float = 0.0
    place: int = 0
    is_over: bool = False

    @property
    def fraction(self) -> float:
        """Return how much is done, 0..1."""
        now = min(_PROMPTS_AT_ONCE, self.total - len(self.answered))
        return (len(self.answered) + now * self.begun) / self.total if self.total else 1.0


def prompts_to_check(model: str, languages: Sequence[Language]) -> list[ForcingPrompt]:
    """Return eight prompts that each ask for another language than their own; fewer if need be.

    The bundled model's are of its grammar: it knows no others.

    Args:
        model: Its name.
        languages: Those that can be chosen.
    """
    if model == BUNDLED_MODEL:
        return _bundled_prompts(languages)
    made = everyday_forcing_prompts(languages, count=2 * (CHECKS + len(languages)))
    return [prompt for prompt in made if prompt.language != prompt.target][:CHECKS]


def check_can_run(chat: Chat, wish: Wish, prompts: Sequence[ForcingPrompt]) -> None:
    """Refuse a run that could show nothing.

    Raises:
        Refusal: If nothing would be steered, or there are no prompts.
    """
    if chat.set_in_use is None:
        raise Refusal("live_no_set")
    if wish.level == "off":
        raise Refusal("live_off")
    if not prompts:
        raise Refusal("live_no_prompts")


def run_check(
    chat: Chat,
    prompts: Sequence[ForcingPrompt],
    wish: Wish,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Standing]:
    """Yield where the run stands, at most ten times a second; the last is over.

    What is being answered when it is stopped is not judged.

    Args:
        chat: Answers.
        prompts: To be answered.
        wish: How they are steered; the language is each prompt's own.
        is_stopped: Asked all the time.

    Raises:
        SteeringError: In words for the person.
    """
    standing = Standing(len(prompts))
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        batch = prompts[start : start + _PROMPTS_AT_ONCE]
        for update in chat.stream(_request(chat, batch, wish), is_stopped=is_stopped):
            if is_stopped():
                break
            yield replace(standing, begun=_begun(update, chat, wish), place=update.place)
        if is_stopped():
            break
        judged = _judge(chat, batch, update)
        standing = replace(standing, answered=(*standing.answered, *judged))
        yield standing
    yield replace(standing, is_over=True)


def _bundled_prompts(languages: Sequence[Language]) -> list[ForcingPrompt]:
    """Return the grammar's questions; targets go round the languages that can be chosen."""
    made = []
    for place, (code, text) in enumerate(BUNDLED_CHECKS):
        turns = [languages[(place + step) % len(languages)] for step in range(len(languages))]
        target = next((one for one in turns if one.code != code), None)
        if target is not None:
            instructed = f"{text} Answer in {target.english_name}."
            made.append(ForcingPrompt(text, instructed, LANGUAGES[code], target))
    return made


def _request(chat: Chat, batch: Sequence[ForcingPrompt], wish: Wish) -> GenerationRequest:
    """Return a request of two rows for each prompt: unsteered, then steered."""
    conversations = [(Message("user", prompt.text),) for prompt in batch for _ in range(2)]
    wishes = [
        replace(wish, language=prompt.target, level=level)
        for prompt in batch
        for level in ("off", wish.level)
    ]
    steering = [
        chat.plan_and_guard(conversation, one)
        for conversation, one in zip(conversations, wishes, strict=True)
    ]
    return GenerationRequest(
        tuple(conversations),
        tuple(plan for plan, _ in steering),
        wish.sampling(chat.max_new_tokens),
        guards=tuple(guard for _, guard in steering),
    )


def _begun(update: ReplyUpdate, chat: Chat, wish: Wish) -> float:
    longest = wish.sampling(chat.max_new_tokens).max_new_tokens * len(update.texts)
    return min(1.0, update.new_tokens / longest)


def _judge(chat: Chat, batch: Sequence[ForcingPrompt], update: ReplyUpdate) -> Iterator[Answered]:
    for place, prompt in enumerate(batch):
        judged = []
        for row in (2 * place, 2 * place + 1):
            text = update.texts[row]
            found = detect(text, expected=prompt.target, languages=chat.languages)
            judged.append(Judged(text, found.verdict, found.language, update.finish_reasons[row]))
        yield Answered(prompt, *judged)
