"""Connects the page: which listener runs when, and the endpoint `/chat` for programs."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.events import Dependency, api

from steering.conversation import Message
from steering.ui.chat import Chat
from steering.ui.layout import Parts
from steering.ui.set_listeners import SetListeners
from steering.ui.turns import OpenSessions, Turns, errors_in_words

# Turns that may run or wait in the engine at once; later ones wait in gradio's queue. All share
# one limit, and each holds a thread of gradio's while it waits (`open_page` says how many).
_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 64}
_QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# A check has no outputs: gradio lays an error over the outputs of what fails. Queued, as an error
# outside of the queue is a failed request to the browser.
_CANCEL_S = 3.0  # by then a request that was cancelled has ended
_CHECK: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
}


def connect(page: gr.Blocks, parts: Parts, chat: Chat) -> None:
    """Add all listeners and the endpoint; call it inside *page*."""
    turns = Turns(parts, chat)
    shown = [parts.chat, parts.twin]
    state = [*shown, parts.send, parts.stop, parts.turn, parts.wish]
    asked = [*shown, parts.language, parts.level, parts.compare, parts.guard]
    message = [parts.box, parts.turn]
    picked = parts.chat.example_select(turns.pick_example, None, parts.box, **_QUICK)
    for sent in (parts.send.click, parts.box.submit, picked.success):
        checked = sent(turns.check_message, message, None, **_CHECK)
        begun = checked.success(turns.begin, [parts.box, *asked], [parts.box, *state], **_QUICK)
        begun.failure(turns.give_up, None, None, **_QUICK)
        _finish_turn(parts, turns, begun)
    checked = parts.retry.click(turns.check_question, [parts.chat, parts.turn], None, **_CHECK)
    begun = checked.success(turns.begin_again, [*asked, parts.wish], state, **_QUICK)
    begun.failure(turns.give_up, None, None, **_QUICK)
    _finish_turn(parts, turns, begun)
    parts.stop.click(turns.stop, parts.turn, parts.stop, **_QUICK)
    parts.new_chat.click(
        turns.begin_anew, parts.turn, [parts.box, *shown, parts.wish, parts.stop], **_QUICK
    )
    _watch_choices(page, parts, turns)
    if chat.maker is not None and parts.panel is not None:
        _offer_set(page, parts, SetListeners(parts, parts.panel, chat.maker))
    api(make_endpoint(chat), api_name="chat", **_MODEL)


def _finish_turn(parts: Parts, turns: Turns, begun: Dependency) -> None:
    """Write the answer to a turn that has begun, then make ready for the next."""
    shown = [parts.chat, parts.twin]
    written = begun.success(
        turns.write,
        [*shown, parts.wish, parts.turn],
        shown,
        show_progress="hidden",
        api_visibility="private",
        **_MODEL,
    )
    for ended in (written.success, written.failure):  # a failure is such as a full queue
        ended(turns.settle, parts.turn, [parts.send, parts.stop, parts.turn], **_QUICK)


def make_endpoint(chat: Chat) -> Callable[..., Iterator[str]]:
    """Return what `/chat` calls; its signature and docstring are the API's documentation."""
    sessions = OpenSessions()

    def answer(
        message: str,
        language: str = "none",
        steering: str = "normal",
        guard: bool = True,
        request: gr.Request | None = None,
    ) -> Iterator[str]:
        """Answer a message in a chosen language; streams the answer so far.

        One request per session at a time.

        Args:
            message: The message, in any language.
            language: Code of the answer's language, such as `fr`; `none` forces none.
            steering: off, gentle, normal or strong.
            guard: Whether a passage in another language is written again.
            request: Who asks; filled in by gradio.
        """
        with errors_in_words(is_page=False):
            sessions.enter(request, wait_s=_CANCEL_S)
            try:
                wish = chat.read_wish(language, steering, has_guard=guard)
                for update in chat.answer([Message("user", message)], wish):
                    yield update.texts[0]
            finally:
                sessions.leave(request)

    return answer


def _watch_choices(page: gr.Blocks, parts: Parts, turns: Turns) -> None:
    """Show the twin's column when it is wanted, and Send when the model is there."""
    parts.compare.change(
        lambda is_wanted: gr.Column(visible=is_wanted), parts.compare, parts.twin_column, **_QUICK
    )
    news = [parts.status, parts.send, parts.timer]
    page.load(turns.look_at_model, None, news, **_QUICK)
    parts.timer.tick(turns.look_at_model, None, news, **_QUICK)


def _offer_set(page: gr.Blocks, parts: Parts, offer: SetListeners) -> None:
    """Offer to make a missing set, show how it goes, and open the choices once it is there."""
    panel = offer.panel
    shown = [panel.column, panel.words, panel.make, panel.stop, panel.timer, panel.seen]
    outputs = [*shown, parts.language, parts.level, parts.compare, parts.guard]
    page.load(offer.look, panel.seen, outputs, **_QUICK)
    panel.timer.tick(offer.look, panel.seen, outputs, **_QUICK)
    panel.make.click(offer.start, panel.seen, outputs, **_QUICK)
    panel.stop.click(offer.stop, panel.seen, outputs, **_QUICK)
