"""Connects the chat: which listener runs when."""

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency, api

from steering.ui.asking import Chat
from steering.ui.chat.endpoint import make_endpoint
from steering.ui.chat.layout import Parts, invitation
from steering.ui.chat.transcript import to_json, to_markdown
from steering.ui.chat.turns import Turns
from steering.ui.choices import open_with
from steering.ui.downloading import copy_plainly, download_on_click
from steering.ui.events import CHECK, ON_MODEL, QUICK, Updates
from steering.ui.head import head_html
from steering.ui.links import keep_js, read_wishes
from steering.ui.making.listeners import SetListeners
from steering.ui.strings import in_locale, locale_of


def connect(page: gr.Blocks, parts: Parts, chat: Chat, model: str) -> None:
    """Add all listeners of the chat and the endpoint; call it inside *page*."""
    turns = Turns(parts, chat, model)
    _connect_asking(parts, turns)
    parts.stop.click(turns.stop, parts.turn, parts.stop, **QUICK)
    forgotten = [parts.box, parts.chat, parts.records, parts.wish, parts.kept]
    parts.new_chat.click(turns.begin_anew, parts.turn, [*forgotten, parts.stop], **QUICK)
    parts.chat.undo(turns.undo, [parts.chat, parts.records, parts.turn], forgotten, **QUICK)
    copy_plainly(parts.chat)
    shown = [parts.chat, parts.records]
    download_on_click(parts.as_json, to_json, shown, name="langsteer-chat.json")
    download_on_click(parts.as_markdown, to_markdown, shown, name="langsteer-chat.md")
    _begin_page(page, parts, turns, chat, model)
    if chat.maker is not None and parts.head.panel is not None:
        _offer_set(
            page,
            SetListeners(parts.choices, parts.head.panel, chat, chat.maker),
            parts.kept_choices,
        )
    api(make_endpoint(chat), api_name="chat", **ON_MODEL)


def _connect_asking(parts: Parts, turns: Turns) -> None:
    """Connect every way to ask: a message, an example, again, stronger, in other words."""
    asked: set[Block] = {parts.box, parts.chat, parts.turn, *parts.choices.all()}
    values: set[Block] = {*asked, parts.records, parts.edited}
    state = [
        parts.chat, parts.records, parts.send, parts.stop, parts.turn, parts.wish, parts.kept,
    ]  # fmt: skip
    picked = parts.chat.example_select(turns.pick_example, None, parts.box, **QUICK)
    for sent in (parts.send.click, parts.box.submit, picked.success):
        checked = sent(turns.check_message, asked, None, **CHECK)
        begun = checked.success(turns.begin, values, [parts.box, *state], **QUICK)
        _finish_turn(parts, turns, begun)
    stronger = parts.chat.option_select(turns.choose_stronger, None, parts.choices.level, **QUICK)
    _keep_choices(parts, stronger)
    for again in (parts.chat.retry, stronger.success):
        checked = again(turns.check_question, asked, None, **CHECK)
        begun = checked.success(turns.begin_again, values, state, **QUICK)
        _finish_turn(parts, turns, begun)
    checked = parts.chat.edit(turns.check_edit, asked, parts.edited, **CHECK)
    # The page shows the new words already: where they are refused, the chat is as it was.
    checked.failure(turns.restore, parts.kept, [parts.chat, parts.records, parts.wish], **QUICK)
    _finish_turn(parts, turns, checked.success(turns.begin_edited, values, state, **QUICK))


def _keep_choices(parts: Parts, stronger: Dependency) -> None:
    """Let the browser keep what a person chooses, or takes up; what a link says it does not."""
    events, kept = parts.choices.chosen(), parts.kept_choices
    in_browser = {"show_progress": "hidden", "api_visibility": "private"}
    for name, component in parts.choices.named():
        for chosen in events[name]:
            chosen(None, [component, kept], kept, js=keep_js(name), **in_browser)
    level = parts.choices.level
    stronger.success(None, [level, kept], kept, js=keep_js("level"), **in_browser)


def _finish_turn(parts: Parts, turns: Turns, begun: Dependency) -> None:
    """Write the answer to a turn that has begun, then make ready for the next."""
    begun.failure(turns.give_up, None, None, **QUICK)
    written = begun.success(
        turns.write,
        [parts.chat, parts.records, parts.wish, parts.turn],
        [parts.chat, parts.records],
        show_progress="hidden",
        api_visibility="private",
        **ON_MODEL,
    )
    for ended in (written.success, written.failure):  # a failure is such as a full queue
        ended(
            turns.settle,
            [parts.chat, parts.records, parts.turn],
            [parts.chat, parts.records, parts.send, parts.stop, parts.turn, parts.kept],
            **QUICK,
        )


def _begin_page(page: gr.Blocks, parts: Parts, turns: Turns, chat: Chat, model: str) -> None:
    """Show what the link and the browser's own memory say, and open what can be chosen.

    In one answer of the server: until it is there the choices and the message are closed, as what
    somebody chose meanwhile would be lost in it.
    """
    is_closed = set() if chat.neurons is not None else set(parts.choices.steering())
    named = {name: one for name, one in parts.choices.named() if one not in is_closed}
    head = parts.head

    def greet(request: gr.Request) -> Updates:
        locale = locale_of(request)
        words = head_html(model, has_set=chat.set_in_use is not None, locale=locale)
        return {head.words: words, parts.chat: gr.Chatbot(placeholder=invitation(model, locale))}

    def begin(kept_choices: object, request: gr.Request) -> Updates:
        wished, _ = read_wishes(request, chat, kept_choices)
        return {
            parts.box: gr.Textbox(interactive=True),
            **{one: open_with(wished, name) for name, one in named.items()},
            **turns.look_at_model(request),
        }

    def warn(request: gr.Request) -> None:
        for problem in read_wishes(request, chat)[1]:
            gr.Warning(in_locale(problem.html, locale_of(request)))

    news = [head.status, parts.send, head.timer]
    page.load(greet, None, [head.words, parts.chat], **QUICK)
    # By itself: a chat that gradio of today refuses is not to keep the page closed.
    page.load(turns.restore, parts.kept, [parts.chat, parts.records, parts.wish], **QUICK)
    page.load(begin, parts.kept_choices, [parts.box, *named.values(), *news], **QUICK)
    page.load(warn, None, None, **CHECK)  # outside of the queue, a warning reaches nobody
    head.timer.tick(turns.look_at_model, None, news, **QUICK)


def _offer_set(page: gr.Blocks, offer: SetListeners, kept: gr.BrowserState) -> None:
    """Offer to make a missing set, show how it goes, and open the choices once it is there."""
    panel = offer.panel
    shown = [panel.column, panel.words, panel.make, panel.stop, panel.timer, panel.seen]
    asked = [panel.seen, kept]
    outputs = [*shown, *offer.choices.steering()]
    page.load(offer.look, asked, outputs, **QUICK)
    panel.timer.tick(offer.look, asked, outputs, **QUICK)
    panel.make.click(offer.start, asked, outputs, **QUICK)
    panel.stop.click(offer.stop, asked, outputs, **QUICK)
