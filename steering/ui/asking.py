"""One turn of the chat: from a conversation and what was asked for to updates of the answer.

The steering is an argument of every turn. Knows messages and plans, not components or layout.
"""

import difflib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from steering.conversation import Message
from steering.detection import language_of_prompt
from steering.errors import PlanError
from steering.generation import ReplyUpdate
from steering.guard import GuardSpec, Rewrite, make_guard
from steering.jobs import GenerationRequest
from steering.languages import Language, parse_language
from steering.methods import SteeringRequest, default_method, make_plan, parse_method
from steering.neuron_set import NeuronSet, OtherWeights
from steering.steering_plan import NO_STEERING, SteeringPlan
from steering.token_choice import Sampling
from steering.ui.badges import badge_html, judge_answer, name_in
from steering.ui.making.maker import SetMaker
from steering.ui.strings import Told, enumerate_in, say
from steering.ui.wording import with_lead
from steering.zero_gpu import AnyEngine

Level = Literal["off", "gentle", "normal", "strong"]
LEVELS: tuple[Level, ...] = get_args(Level)
NO_LANGUAGE = "none"  # the code that stands for "no forced language"

_UPDATE_S = 0.1  # more often than this a browser has no use for
_RETRY_TEMPERATURE = 0.7
_TOP_P = 0.95
# Half of what the other languages' neurons say, everywhere: on the bundled model no fewer right
# answers; wholly damped, one in a hundred fewer (docs/log.md).
_DAMPING = "+damp@0.5"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for, for one answer.

    Args:
        language: The answer's; None forces none.
        level: How strongly it is steered.
        method: As `steering.methods` reads it; the set's own when empty.
        is_damped: Whether other languages' neurons are damped as well.
        has_guard: Whether a passage in another language is written again.
        max_new_tokens: Longest answer; as long as any may be when None.
        temperature: 0 takes the likeliest token, always.
        seed: Of what is drawn.
        attempt: Above 0, another answer is drawn to the same question.
    """

    language: Language | None
    level: Level = "normal"
    method: str = ""
    is_damped: bool = False
    has_guard: bool = True
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    attempt: int = 0

    @property
    def stronger(self) -> Level | None:
        """Return the next level; None where there is none, or no language."""
        place = LEVELS.index(self.level) + 1
        return LEVELS[place] if self.language is not None and place < len(LEVELS) else None

    def next_attempt(self) -> "Wish":
        """Return the wish for another answer to the same question."""
        return replace(self, attempt=self.attempt + 1)

    def sampling(self, longest: int) -> Sampling:
        """Return how tokens are chosen, for an answer of at most *longest* tokens."""
        redraws = _RETRY_TEMPERATURE if self.attempt else 0.0
        return Sampling(
            max_new_tokens=min(self.max_new_tokens or longest, longest),
            temperature=self.temperature or redraws,
            top_p=_TOP_P,
            seed=self.seed + self.attempt,
        )


@dataclass(frozen=True, slots=True)
class Chat:
    """What all turns share; nothing in it changes but that a missing set may be made.

    Args:
        engine: Owns the model.
        neurons: Which neurons to steer; None where a set has to be found or made.
        max_new_tokens: Longest answer.
        maker: Finds or makes it.
        time_limit_s: Longest time that an answer may take to be written.
        set_path: Where the set was read from; None where it has to be found or made.
        warnings: Of the set in use; added to by whoever loads the model or finds the set.
    """

    engine: AnyEngine
    neurons: NeuronSet | None
    max_new_tokens: int
    maker: SetMaker | None = None
    time_limit_s: float | None = None
    set_path: Path | None = None
    warnings: Sequence[OtherWeights] = ()

    @property
    def path_in_use(self) -> Path | None:
        """Return where the set lies that turns are steered with; None while there is none."""
        return self.set_path or (self.maker.path if self.maker else None)

    @property
    def set_in_use(self) -> NeuronSet | None:
        """Return the set that turns are steered with; None while there is none."""
        return self.neurons or (self.maker.neurons if self.maker else None)

    @property
    def languages(self) -> tuple[Language, ...]:
        """Return the languages in play: the set's, or those that it would be made for."""
        if self.set_in_use is not None:
            return self.set_in_use.languages
        return self.maker.languages if self.maker else ()

    def read_wish(self, language: str, level: str, rest: Wish | None = None) -> Wish:
        """Check what a person or a program asks for.

        Args:
            language: A code, or none.
            level: How strongly.
            rest: Everything else; the defaults when omitted.

        Raises:
            UnknownLanguageError: If the neuron set does not hold the language.
            PlanError: If there is no such level or method, or no neuron set yet.
            GenerationError: If a number is out of its range.
        """
        if not (isinstance(language, str) and isinstance(level, str)):
            raise PlanError(
                f"Language and steering are '{language}' and '{level}'. Expected two texts, such "
                "as `fr` and `normal`; use `none` for no language."
            )
        target = None
        if language.strip().lower() not in ("", NO_LANGUAGE):
            target = parse_language(language, known=self.languages)
            if self.set_in_use is None:
                raise PlanError(
                    f"Cannot steer to '{target}': this model has no neuron set yet. Expected "
                    f"'{NO_LANGUAGE}' until there is one; it can be made on the page."
                )
        wish = replace(rest or Wish(None), language=target, level=_read_level(level))
        if wish.method:
            parse_method(wish.method)
        wish.sampling(self.max_new_tokens)  # refuses what cannot be
        return wish

    def describe(self, wish: Wish, neurons: NeuronSet | None) -> dict[str, Any]:
        """Return what a file with answers says of how they were asked for.

        Args:
            wish: The choices.
            neurons: What steers; None where nothing does.
        """
        sampling = wish.sampling(self.max_new_tokens)
        return {
            "steering": wish.level,
            "method": (wish.method or default_method(neurons)) if neurons else None,
            "is_damped": wish.is_damped,
            "guard": wish.has_guard,
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
        }

    def answer(
        self,
        conversation: Sequence[Message],
        wish: Wish,
        *,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[ReplyUpdate]:
        """Yield the answer so far, at most ten times a second; the last update is the finished one.

        The model stops within a token when this is closed, or when *is_stopped* says so.

        Raises:
            SteeringError: In words for the person.
        """
        plan, guard = self.plan_and_guard(conversation, wish)
        request = GenerationRequest(
            (tuple(conversation),), (plan,), wish.sampling(self.max_new_tokens), guards=(guard,)
        )
        yield from self.stream(request, is_stopped=is_stopped)

    def stream(
        self, request: GenerationRequest, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> Generator[ReplyUpdate, None, None]:
        """Yield updates of any request, as `answer` does; no answer takes longer than it may."""
        limited = replace(request, time_limit_s=self.time_limit_s)
        stream = self.engine.stream(limited, heartbeat_s=_UPDATE_S, pace_s=_UPDATE_S)
        with closing(stream) as updates:
            for update in updates:
                if is_stopped():
                    reasons = tuple(reason or "stopped" for reason in update.finish_reasons)
                    yield replace(update, finish_reasons=reasons)
                    return
                yield update

    def plan_and_guard(
        self, conversation: Sequence[Message], wish: Wish
    ) -> tuple[SteeringPlan, GuardSpec | None]:
        """Return what steers the answer to a conversation, and what guards it.

        Raises:
            StatsError: If the set lacks what the method needs.
        """
        wanted = self._steering(wish, conversation)
        if wanted is None:
            return NO_STEERING, None
        return make_plan(*wanted), make_guard(*wanted) if wish.has_guard else None

    def line_under(
        self, text: str, wish: Wish, notes: Sequence[str | Told], locale: str = "en"
    ) -> str:
        """Return the line of HTML under a finished answer."""
        badge = judge_answer(text, chosen=wish.language, languages=self.languages, locale=locale)
        return badge_html(badge if text else None, notes, locale)

    def _steering(
        self, wish: Wish, conversation: Sequence[Message]
    ) -> tuple[NeuronSet, SteeringRequest] | None:
        """Return the set and what is asked of it; None for an answer without steering."""
        neurons = self.set_in_use
        if wish.level == "off" or wish.language is None or neurons is None:
            return None
        question = conversation[-1].content if conversation else ""
        source = language_of_prompt(question, languages=neurons.languages)
        return neurons, SteeringRequest(wish.language, method_of(wish, neurons), wish.level, source)


def method_of(wish: Wish, neurons: NeuronSet) -> str:
    """Return what a wish asks of `steering.methods`; empty for the set's own method."""
    if not wish.is_damped:
        return wish.method
    return (wish.method or default_method(neurons)) + _DAMPING


def notes_on(update: ReplyUpdate, row: int, locale: str = "en") -> tuple[Told, ...]:
    """Say what is to be known of a row beside its language."""
    reason, left_out = update.finish_reasons[row], update.notes[row]
    ending = say(f"ended_{reason}", locale) if reason in ("stopped", "length", "time") else ""
    rewrites = update.rewrites[row] if update.rewrites else ()
    notes = (
        Told(ending),
        with_lead("left_out", left_out, locale) if left_out else Told(""),
        Told(_note_on_giving_up(rewrites, locale)),
        Told(_note_on_rewrites(rewrites, locale)),
    )
    return tuple(note for note in notes if note.said)


def _note_on_giving_up(rewrites: Sequence[Rewrite], locale: str) -> str:
    """Say what the model kept writing where the guard gave up."""
    kept = [rewrite.language for rewrite in rewrites if rewrite.is_kept]
    if not kept:
        return ""
    names = {
        name_in(one, locale) if one else say("another_language", locale).lower() for one in kept
    }
    return say("guard_gave_up", locale, languages=enumerate_in(locale, sorted(names)))


def _note_on_rewrites(rewrites: Sequence[Rewrite], locale: str) -> str:
    """Say how many passages were written again, and what they were in."""
    in_vain = {rewrite.start for rewrite in rewrites if rewrite.is_kept}
    mended = [rewrite for rewrite in rewrites if rewrite.start not in in_vain]
    again = {rewrite.start for rewrite in mended}
    if not again:
        return ""
    names = sorted({name_in(rewrite.language, locale) for rewrite in mended})
    key = "rewritten_one" if len(again) == 1 else "rewritten_many"
    return say(key, locale, count=len(again), languages=enumerate_in(locale, names))


def _read_level(text: str) -> Level:
    if text.strip().lower() in LEVELS:
        return cast(Level, text.strip().lower())
    nearest = difflib.get_close_matches(text.lower(), LEVELS, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    raise PlanError(f"Unknown steering '{text}'.{hint} Expected one of: {', '.join(LEVELS)}.")
