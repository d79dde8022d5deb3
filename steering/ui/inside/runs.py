"""What the tab "Look inside" asks the model: to read an answer, and to answer without some neurons.

Every request carries its own choices, and the model is asked through the engine alone. What goes
wrong while something runs stands in its place. Knows components and words, not hooks or tensors.
"""

import time
import uuid
from collections.abc import Iterator

import gradio as gr

from steering.activity import AnswerReader
from steering.jobs import GenerationRequest
from steering.methods import default_method
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING, SteeringPlan
from steering.ui.asking import Chat, notes_on
from steering.ui.badges import badge_html, name_in
from steering.ui.chat.answers import (
    GivenAnswer,
    HowMade,
    list_answers,
    pick_answer,
    plan_again,
    read_how_made,
)
from steering.ui.chat.layout import Parts
from steering.ui.events import Updates, Values
from steering.ui.inside.layout import InsideParts
from steering.ui.inside.neuron_pictures import answer_html, reading_html, words_html
from steering.ui.inside.shown import chosen_group, set_in_use
from steering.ui.inside.switching_off import switch_off, with_switched_off
from steering.ui.sessions import ONE_AT_A_TIME, OpenSessions, StopSigns
from steering.ui.strings import Told, label, locale_of, say
from steering.ui.wording import Refusal, errors_in_words, tell
from steering.zero_gpu import ZeroGpuEngine


class InsideRuns:
    """The listeners that run the model; holds the components of one page, and what is to stop."""

    def __init__(self, parts: Parts, inside: InsideParts, chat: Chat) -> None:
        self._parts, self._inside, self._chat = parts, inside, chat
        self._stops = StopSigns()
        self._sessions = OpenSessions()

    def check_reading(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse what cannot be read, before anything begins."""
        with errors_in_words("failed_reading", locale_of(request)):
            if isinstance(self._chat.engine, ZeroGpuEngine):
                raise Refusal("inside_zero_gpu")
            self._check(values)
            self._sessions.enter(request)

    def check_again(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse to switch nothing off, before anything begins."""
        with errors_in_words("failed_ask", locale_of(request)):
            answer, made = self._check(values)
            self._plan_without(values, answer, made)
            self._sessions.enter(request)

    def begin(self) -> Updates:
        """Note that something runs; both Stop buttons mean the same."""
        inside = self._inside
        return {
            inside.turn: uuid.uuid4().hex,
            inside.look: gr.Button(visible=False),
            inside.again: gr.Button(visible=False),
            inside.look_stop: gr.Button(visible=True),
            inside.again_stop: gr.Button(visible=True),
        }

    def stop(self, turn: str) -> Updates:
        """Ask what runs to stop."""
        if not turn:
            return {}
        self._stops.ask(turn)
        stops = (self._inside.look_stop, self._inside.again_stop)
        return {stop: gr.Button(label("stopping"), interactive=False) for stop in stops}

    def give_up(self, request: gr.Request | None = None) -> None:
        """Let the session ask again where something could not even begin."""
        self._sessions.leave(request)

    def settle(self, turn: str, request: gr.Request | None = None) -> Updates:
        """Make ready for the next, whether the last ended well or not."""
        self._stops.take_down(turn)
        self._sessions.leave(request)
        inside = self._inside
        stops = (inside.look_stop, inside.again_stop)
        return {
            inside.turn: "",
            inside.look: gr.Button(visible=True),
            inside.again: gr.Button(visible=True),
            **{stop: gr.Button(label("stop"), visible=False, interactive=True) for stop in stops},
        }

    def read(self, values: Values, request: gr.Request | None = None) -> Iterator[Updates]:
        """Read the chosen answer, and show what fired."""
        shown, locale = self._inside.reading, locale_of(request)
        try:
            for html in self._read(values, locale):
                yield {shown: html}
        except Exception as err:
            yield {shown: words_html(tell("failed_reading", err, locale), locale)}

    def answer_again(self, values: Values, request: gr.Request | None = None) -> Iterator[Updates]:
        """Write the chosen answer with neurons switched off, beside how it was."""
        inside, locale = self._inside, locale_of(request)
        try:
            answer, made = self._chosen(values)
            again = [say("inside_rewritten", locale)] if made.has_rewrites else []
            line = self._chat.line_under(answer.text, made.wish, again, locale)
            title = say("inside_before", locale)
            writing = words_html(say("writing", locale), locale)
            yield {
                inside.before: answer_html(title, answer.text, line, locale),
                inside.after: writing,
            }
            for html in self._answer_again(values, answer, made, locale):
                yield {inside.after: html}
        except Exception as err:
            yield {inside.after: words_html(tell("failed_answer", err, locale), locale)}

    def _check(self, values: Values) -> tuple[GivenAnswer, HowMade]:
        """Return the chosen answer, if something can be done with it.

        Raises:
            SteeringError: In words for the person.
        """
        if values[self._inside.turn]:
            raise Refusal(ONE_AT_A_TIME)
        if not self._chat.engine.is_ready:
            raise Refusal("still_loading")
        set_in_use(self._chat)
        return self._chosen(values)

    def _chosen(self, values: Values) -> tuple[GivenAnswer, HowMade]:
        parts = self._parts
        answers = list_answers(values[parts.chat] or (), values[parts.records] or ())
        answer = pick_answer(answers, values[self._inside.answer])
        return answer, read_how_made(answer, self._chat)

    def _read(self, values: Values, locale: str) -> Iterator[str]:
        """Yield how far it is, then what fired."""
        neurons = set_in_use(self._chat)
        answer, made = self._chosen(values)
        is_steered = made.is_steered and values[self._inside.how] != "plain"
        reader = AnswerReader(
            neurons,
            answer.conversation,
            answer.text,
            plan=plan_again(answer, made, self._chat) if is_steered else NO_STEERING,
            answer_tokens=made.sampling.max_new_tokens,
        )
        yield from self._read_on(reader, values[self._inside.turn], locale)
        if reader.is_done:
            note = _note_on_reading(neurons, made, is_steered=is_steered, locale=locale)
            yield reading_html(reader.result(), neurons.languages, note=note, locale=locale)

    def _read_on(self, reader: AnswerReader, turn: str, locale: str) -> Iterator[str]:
        """Read to the end, or to where the person stops it or the time is over."""
        call, ends_at = self._chat.engine.call, time.monotonic() + self._longest_s
        yield words_html(say("inside_reading_begins", locale), locale)
        call(reader.prepare)
        while not reader.is_done:
            is_stopped = self._stops.is_asked(turn)
            if is_stopped or time.monotonic() > ends_at:
                reason = say("ended_stopped" if is_stopped else "ended_time", locale)
                yield words_html(reason, locale)
                return
            call(reader.read_on)
            words = say("inside_reading", locale, done=reader.read_tokens, all=reader.tokens)
            yield words_html(words, locale)

    @property
    def _longest_s(self) -> float:
        return self._chat.time_limit_s or float("inf")

    def _answer_again(
        self, values: Values, answer: GivenAnswer, made: HowMade, locale: str
    ) -> Iterator[str]:
        plan, count = self._plan_without(values, answer, made)
        title = say("inside_after", locale, count=f"{count:,}")
        is_plain = values[self._inside.is_unsteered] or not made.is_steered
        how = say("inside_after_plain" if is_plain else "inside_after_steered", locale)
        request = GenerationRequest((answer.conversation,), (plan,), made.sampling)
        turn = values[self._inside.turn]
        for update in self._chat.stream(request, is_stopped=lambda: self._stops.is_asked(turn)):
            text = update.texts[0]
            if update.finish_reasons[0] is not None:
                notes = [Told(how), *notes_on(update, 0, locale)]
                line = self._chat.line_under(text, made.wish, notes, locale)
            elif update.place:
                line = badge_html(None, [say("waiting", locale, place=update.place)], locale)
            else:
                line = badge_html(None, [say("writing", locale)], locale)
            yield answer_html(title, text, line, locale)

    def _plan_without(
        self, values: Values, answer: GivenAnswer, made: HowMade
    ) -> tuple[SteeringPlan, int]:
        """Return the plan with the chosen neurons switched off, and how many these are.

        Raises:
            SteeringError: In words for the person.
        """
        inside, neurons = self._inside, set_in_use(self._chat)
        group, language = chosen_group(inside, neurons, values)
        layers = [int(layer) for layer in values[inside.layers] or ()]
        off, count = switch_off(neurons, group, language, layers)
        is_plain = values[inside.is_unsteered]
        steering = NO_STEERING if is_plain else plan_again(answer, made, self._chat)
        return with_switched_off(steering, off), count


def _note_on_reading(neurons: NeuronSet, made: HowMade, *, is_steered: bool, locale: str) -> str:
    """Say how an answer was read, what is not repeated, and where the set's neurons say most."""
    notes = [say("inside_read_plain" if made.is_steered else "inside_read_unsteered", locale)]
    if is_steered:
        values = {
            "language": name_in(made.wish.language, locale),
            "level": say(f"level_{made.wish.level}", locale),
            "method": made.wish.method or default_method(neurons),
        }
        notes = [say("inside_read_steered", locale, **values)]
        notes += [say("inside_rewritten", locale)] if made.has_rewrites else []
    about = neurons.metadata
    if (about.activation_prob_phase or about.selection_phase) == "onset":
        notes.append(say("inside_onset_set", locale))
    return " ".join(notes)
