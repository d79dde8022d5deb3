"""One turn of the chat: from a conversation and what was asked for to updates of the answer.

The steering is an argument of every turn. Knows messages and plans, not components or layout.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from steering.conversation import Message
from steering.detection import language_of_prompt
from steering.errors import PlanError
from steering.generation import ReplyUpdate
from steering.guard import Rewrite, make_guard
from steering.jobs import GenerationRequest
from steering.languages import Language, parse_language
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING
from steering.token_choice import Sampling
from steering.ui.badges import badge_html, judge_answer
from steering.ui.making import SetMaker
from steering.zero_gpu import AnyEngine

Level = Literal["off", "gentle", "normal", "strong"]
NO_LANGUAGE = "none"  # the code that stands for "no forced language"

_UPDATE_S = 0.1  # more often than this a browser has no use for
_RETRY_TEMPERATURE = 0.7


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for, for one answer.

    Args:
        language: The answer's; None forces none.
        level: How strongly it is steered.
        has_twin: Whether the answer without steering is wanted as well.
        has_guard: Whether a passage in another language is written again.
        attempt: 0 is greedy; a higher one draws another answer to the same question.
    """

    language: Language | None
    level: Level
    has_twin: bool = False
    has_guard: bool = True
    attempt: int = 0

    def next_attempt(self) -> "Wish":
        """Return the wish for another answer to the same question."""
        return replace(self, attempt=self.attempt + 1)


@dataclass(frozen=True, slots=True)
class Chat:
    """What all turns share; nothing in it changes but that a missing set may be made.

    Args:
        engine: Owns the model.
        neurons: Which neurons to steer; None where a set has to be found or made.
        max_new_tokens: Longest answer.
        maker: Finds or makes it.
        time_limit_s: Longest time that an answer may take to be written.
    """

    engine: AnyEngine
    neurons: NeuronSet | None
    max_new_tokens: int
    maker: SetMaker | None = None
    time_limit_s: float | None = None

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

    def read_wish(
        self, language: str, level: str, *, has_twin: bool = False, has_guard: bool = True
    ) -> Wish:
        """Check what a person or a program asks for.

        Raises:
            UnknownLanguageError: If the neuron set does not hold the language.
            PlanError: If there is no such level, or no neuron set yet.
        """
        target = None
        if language.strip().lower() not in ("", NO_LANGUAGE):
            target = parse_language(language, known=self.languages)
            if self.set_in_use is None:
                raise PlanError(
                    f"Cannot steer to '{target}': this model has no neuron set yet. Expected "
                    f"'{NO_LANGUAGE}' until there is one; it can be made on the page."
                )
        return Wish(target, _read_level(level), has_twin, has_guard)

    def answer(
        self,
        conversation: Sequence[Message],
        wish: Wish,
        *,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[ReplyUpdate]:
        """Yield the answer so far, at most ten times a second; the last update is the finished one.

        Row 0 is the steered answer, row 1 its twin where one is wanted. The model stops within a
        token when this is closed, or when *is_stopped* says so.

        Raises:
            SteeringError: In words for the person.
        """
        wanted = self._steering(wish, conversation)
        plan = NO_STEERING if wanted is None else make_plan(*wanted)
        guard = make_guard(*wanted) if wanted is not None and wish.has_guard else None
        rows = 1 + wish.has_twin
        request = GenerationRequest(
            (tuple(conversation),) * rows,
            (plan, NO_STEERING)[:rows],
            Sampling(
                max_new_tokens=self.max_new_tokens,
                temperature=_RETRY_TEMPERATURE if wish.attempt else 0.0,
                top_p=0.95,
                seed=wish.attempt,
            ),
            guards=(guard, None)[:rows],
            time_limit_s=self.time_limit_s,
        )
        stream = self.engine.stream(request, heartbeat_s=_UPDATE_S, pace_s=_UPDATE_S)
        with closing(stream) as updates:
            for update in updates:
                if is_stopped():
                    reasons = tuple(reason or "stopped" for reason in update.finish_reasons)
                    yield replace(update, finish_reasons=reasons)
                    return
                yield update

    def line_under(self, text: str, wish: Wish, notes: Sequence[str]) -> str:
        """Return the line of HTML under a finished answer."""
        badge = judge_answer(text, chosen=wish.language, languages=self.languages)
        return badge_html(badge if text else None, notes)

    def _steering(
        self, wish: Wish, conversation: Sequence[Message]
    ) -> tuple[NeuronSet, SteeringRequest] | None:
        """Return the set and what is asked of it; None for an answer without steering."""
        neurons = self.set_in_use
        if wish.level == "off" or wish.language is None or neurons is None:
            return None
        question = conversation[-1].content if conversation else ""
        source = language_of_prompt(question, languages=neurons.languages)
        return neurons, SteeringRequest(wish.language, strength=wish.level, source=source)


def notes_on(update: ReplyUpdate, row: int) -> tuple[str, ...]:
    """Say what is to be known of a row beside its language."""
    endings = {
        "stopped": "(stopped)",
        "length": "(cut off: as long as an answer may be)",
        "time": "(cut off: it took as long as an answer may take)",
    }
    reason = update.finish_reasons[row]
    rewrites = update.rewrites[row] if update.rewrites else ()
    notes = (endings.get(reason or ""), update.notes[row], _note_on_rewrites(rewrites))
    return tuple(filter(None, notes))


def _note_on_rewrites(rewrites: Sequence[Rewrite]) -> str:
    """Say how many passages were written again, and what they were in."""
    again = {rewrite.start for rewrite in rewrites if not rewrite.is_kept}
    if not again:
        return ""
    names = {r.language.english_name if r.language else "another language" for r in rewrites}
    passages = "1 passage was" if len(again) == 1 else f"{len(again)} passages were"
    return f"({passages} written again; before it was in {' and '.join(sorted(names))})"


def _read_level(text: str) -> Level:
    levels = get_args(Level)
    if text.strip().lower() in levels:
        return cast(Level, text.strip().lower())
    nearest = difflib.get_close_matches(text.lower(), levels, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    raise PlanError(f"Unknown steering '{text}'.{hint} Expected one of: {', '.join(levels)}.")
