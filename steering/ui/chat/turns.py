"""What the page does with a turn: begin, write, stop, settle, ask again, begin anew.

Errors become words here: those that a person can cause as they are, all others as one sentence,
with the traceback in the log. Knows no steering method.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import gradio as gr

from steering.detection import detect
from steering.generation import ReplyUpdate
from steering.languages import Language
from steering.ui.asking import LEVELS, Chat, Wish, notes_on
from steering.ui.badges import name_in
from steering.ui.chat.layout import Parts
from steering.ui.chat.messages import (
    ShownMessage,
    Stray,
    answerable,
    before_question,
    is_being_written,
    show_answer,
    show_question,
    show_rewrites,
    show_written,
    to_plain,
    up_to_question,
)
from steering.ui.chat.transcript import Record, keep, make_record, next_draw, records_of, restore
from steering.ui.events import Updates, Values
from steering.ui.head import status_html
from steering.ui.sessions import ONE_AT_A_TIME, OpenSessions, StopSigns
from steering.ui.strings import Told, label, locale_of, say
from steering.ui.wording import Refusal, errors_in_words, failure_html, tell

# More than any model's context holds, and so little that no browser or detector is slow with it.
MAX_LETTERS = 20_000


History: TypeAlias = list[ShownMessage]
# Which message, and its new words.
Edited: TypeAlias = tuple[int, str]


class Turns:
    """The listeners of one page's chat; holds its components, and which turns are to stop."""

    def __init__(self, parts: Parts, chat: Chat, model: str) -> None:
        self._parts, self._chat, self._model = parts, chat, model
        self._stops = StopSigns()
        self._sessions = OpenSessions()

    def check_message(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse what cannot be asked: no text or too much, a setting that there is not."""
        with errors_in_words("failed_ask", locale_of(request)):
            _refuse_if_running(values[self._parts.turn])
            check_text(values[self._parts.box])
            self._read_wish(values)
            self._sessions.enter(request)

    def check_question(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse to ask again where nothing was asked, or while an answer is being written."""
        with errors_in_words("failed_ask", locale_of(request)):
            _refuse_if_running(values[self._parts.turn])
            if not up_to_question(values[self._parts.chat]):
                raise Refusal("no_question")
            self._read_wish(values)
            self._sessions.enter(request)

    def check_edit(
        self, values: Values, event: gr.EditData, request: gr.Request | None = None
    ) -> Edited:
        """Refuse other words that cannot be asked; else return them, and which question's."""
        with errors_in_words("failed_ask", locale_of(request)):
            _refuse_if_running(values[self._parts.turn])
            check_text(str(event.value))
            self._read_wish(values)
            self._sessions.enter(request)
            place = event.index[0] if isinstance(event.index, (list, tuple)) else event.index
            return place, str(event.value)

    def begin(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Show the question and remember what was asked for; the message is checked already."""
        parts = self._parts
        with errors_in_words("failed_ask", locale_of(request)):
            wish = self._read_wish(values)
            history = values[parts.chat]
            return {parts.box: "", **self._start(values, history, values[parts.box], wish)}

    def begin_again(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Ask the last question again, as the choices are by this time.

        If they are the same as before, another answer is drawn: the first would only come again.
        What they were is in the answer's record, which the browser keeps across reloads.
        """
        parts = self._parts
        with errors_in_words("failed_ask", locale_of(request)):
            history = values[parts.chat]
            earlier = before_question(history)
            question = to_plain(up_to_question(history))[-1].content
            wish, records = self._read_wish(values), values[parts.records]
            if last := records[len(records_of(earlier, records)) :]:
                wish = next_draw(self._chat, wish, last[0])
            return self._start(values, earlier, question, wish)

    def begin_edited(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Ask an earlier question in other words; what followed it is forgotten."""
        parts = self._parts
        with errors_in_words("failed_ask", locale_of(request)):
            place, message = values[parts.edited]
            return self._start(values, values[parts.chat][:place], message, self._read_wish(values))

    def pick_example(self, event: gr.SelectData) -> str:
        """Put an example's question where a message is written."""
        return str(event.value["text"])

    def choose_stronger(self, event: gr.SelectData) -> Updates:
        """Set the level that the offer under an answer names."""
        level = event.value["value"] if isinstance(event.value, Mapping) else event.value
        return {self._parts.choices.level: level if level in LEVELS else gr.skip()}

    def undo(self, history: History, records: list[Record], turn: str) -> Updates:
        """Take the last question and its answer back; the question may be written anew."""
        parts = self._parts
        if turn or not up_to_question(history):
            return {parts.box: gr.skip()}
        shorter = before_question(history)
        left = records_of(shorter, records)
        question = to_plain(up_to_question(history))[-1].content
        return {
            parts.box: question,
            parts.chat: shorter,
            parts.records: left,
            parts.wish: None,
            parts.kept: keep(shorter, left),
        }

    def begin_anew(self, turn: str) -> Updates:
        """Forget the conversation; a turn that is running is stopped first."""
        parts = self._parts
        updates: Updates = {
            parts.box: "",
            parts.chat: [],
            parts.records: [],
            parts.wish: None,
            parts.kept: keep([], []),
        }
        if not turn:
            return updates
        self._stops.ask(turn, is_to_forget=True)
        return {**updates, parts.stop: _stopping()}

    def stop(self, turn: str) -> Updates:
        """Ask the running turn to stop; it marks the answer itself."""
        if not turn:
            return {self._parts.stop: gr.Button(visible=False)}
        self._stops.ask(turn)
        return {self._parts.stop: _stopping()}

    def write(
        self,
        history: History,
        records: list[Record],
        wish: Wish,
        turn: str,
        request: gr.Request | None = None,
    ) -> Iterator[Updates]:
        """Stream the answer under the question.

        What goes wrong stands where the answer would: an error raised here would pass by.
        """
        parts, locale = self._parts, locale_of(request)
        conversation = answerable(to_plain(history))
        latest = ""
        try:
            for update in self._chat.answer(
                conversation, wish, is_stopped=lambda: self._stops.is_asked(turn)
            ):
                latest = update.texts[0]
                if update.finish_reasons[0] is None:
                    yield {parts.chat: [*history, self._show(update, locale)]}
                    continue
                record = make_record(self._chat, self._model, wish, update)
                yield {
                    parts.chat: [*history, *self._show_finished(update, wish, locale)],
                    parts.records: [*records, record],
                }
        except Exception as err:
            told = tell("failed_answer", err, locale)
            failure = show_answer(latest, failure_html(told, locale))
            yield {parts.chat: [*history, failure], parts.records: [*records, {}]}
        finally:
            is_to_forget = self._stops.take_down(turn)
        if is_to_forget:
            yield {parts.chat: [], parts.records: []}

    def give_up(self, request: gr.Request | None = None) -> None:
        """Let the session ask again where a turn could not even begin."""
        self._sessions.leave(request)

    def settle(
        self,
        history: History,
        records: list[Record],
        turn: str,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make ready for the next message, whether the turn ended well or not."""
        if self._stops.take_down(turn):  # "New chat", after the turn's last word
            history, records = [], []
        self._sessions.leave(request)
        parts = self._parts
        history, records = close_last(history, records, locale_of(request))
        return {
            parts.chat: history,
            parts.records: records,
            parts.send: gr.Button(visible=True),
            parts.stop: gr.Button(label("stop"), visible=False, interactive=True),
            parts.turn: "",
            parts.kept: keep(history, records),
        }

    def restore(self, kept: object, request: gr.Request | None = None) -> Updates:
        """Show the chat that the browser has kept."""
        parts = self._parts
        history, records = close_last(*restore(kept), locale_of(request))
        return {parts.chat: history, parts.records: records} if history else {parts.wish: None}

    def look_at_model(self, request: gr.Request | None = None) -> Updates:
        """Say whether the model is there; once its set is known too, the timer ends."""
        parts, locale = self._parts, locale_of(request)
        if not self._chat.engine.is_ready:
            return {
                parts.head.status: status_html(say("loading", locale)),
                parts.send: gr.Button(label("loading_model"), interactive=False),
            }
        try:
            self._chat.engine.model()
        except Exception as err:
            state, is_settled = tell("failed_load", err, locale), True
        else:
            maker = self._chat.maker
            state, is_settled = self._ready(locale), maker is None or not maker.is_looking
        return {
            parts.head.status: status_html(state),
            parts.send: gr.Button(label("send"), interactive=True),
            parts.head.timer: gr.Timer(active=not is_settled),
        }

    def _ready(self, locale: str) -> Told:
        """Say that the model is ready, and what is to be known of the set."""
        warnings = [
            say("other_weights", locale, made_for=one.made_for) for one in self._chat.warnings
        ]
        return Told(" ".join([say("ready", locale), *warnings]))

    def _read_wish(self, values: Values) -> Wish:
        choices = self._parts.choices
        return choices.read([values[component] for component in choices.all()], self._chat)

    def _start(self, values: Values, earlier: History, message: str, wish: Wish) -> Updates:
        parts = self._parts
        history = [*earlier, show_question(message)]
        records = records_of(earlier, values[parts.records])
        return {
            parts.chat: history,
            parts.records: records,
            parts.send: gr.Button(visible=False),
            parts.stop: gr.Button(visible=True),
            parts.wish: wish,
            parts.turn: uuid.uuid4().hex,
            parts.kept: keep(history, records),
        }

    def _show(self, update: ReplyUpdate, locale: str) -> ShownMessage:
        """Show an answer that is being written."""
        waits = say("writing" if self._chat.engine.is_ready else "loading", locale)
        settled = update.settled[0] if update.settled else None
        if update.place:
            waits = say("waiting", locale, place=update.place)
        elif settled is not None and _is_written_again(update, settled):
            waits = say("writing_again", locale)
        return show_written(update.texts[0], waits, locale, settled=settled)

    def _show_finished(
        self, update: ReplyUpdate, wish: Wish, locale: str
    ) -> Iterator[ShownMessage]:
        """Show what was written again, to be unfolded, and the finished answer with its badge."""
        text, notes = update.texts[0], notes_on(update, 0, locale)
        rewritten = [
            Stray(one.text, name_in(one.language, locale))
            for one in (update.rewrites[0] if update.rewrites else ())
            if not one.is_kept
        ]
        if rewritten:
            yield show_rewrites(say("show_rewritten", locale), rewritten)
        strays = find_strays(text, wish.language, self._chat.languages, locale)
        line = self._chat.line_under(text, wish, notes, locale)
        shown = show_answer(text, line, strays)
        if strays and wish.stronger is not None:
            shown["options"] = [{"value": wish.stronger, "label": say("try_stronger", locale)}]
        yield shown


def close_last(
    history: History, records: list[Record], locale: str
) -> tuple[History, list[Record]]:
    """Say of the last answer that it never came or was broken off, where it was.

    As where a connection broke or the server ended: nobody was left to say so.
    """
    text, earlier = "", list(history)
    if earlier and is_being_written(earlier[-1]):
        text = "".join(message.content for message in to_plain([earlier.pop()]))
    elif not earlier or earlier[-1]["role"] != "user":
        return history, records
    told = Told(say("broken_off" if text else "ended_early", locale))
    ended = show_answer(text, failure_html(told, locale, is_broken_off=True))
    return [*earlier, ended], [*records_of(earlier, records), {}]


def find_strays(
    text: str, chosen: Language | None, languages: Sequence[Language], locale: str = "en"
) -> list[Stray]:
    """Return the sentences of an answer that are in another language than the chosen one."""
    if chosen is None:
        return []
    verdict = detect(text, expected=chosen, languages=languages)
    return [
        Stray(one.text, name_in(one.language, locale))
        for one in verdict.sentences
        if one.verdict == "off_target"
    ]


def check_text(message: str) -> None:
    """Refuse a message that is empty, or longer than any that can be read.

    Raises:
        Refusal: If it is.
    """
    if not message.strip():
        raise Refusal("message_empty")
    if len(message) > MAX_LETTERS:
        raise Refusal("message_long", count=f"{len(message):,}", most=f"{MAX_LETTERS:,}")


def _is_written_again(update: ReplyUpdate, settled: int) -> bool:
    """Say whether what is not settled stands where a passage was dropped."""
    rewrites = update.rewrites[0] if update.rewrites else ()
    return bool(rewrites) and not rewrites[-1].is_kept and settled <= rewrites[-1].start


def _stopping() -> gr.Button:
    return gr.Button(label("stopping"), interactive=False)


def _refuse_if_running(turn: str) -> None:
    if turn:
        raise Refusal(ONE_AT_A_TIME)
