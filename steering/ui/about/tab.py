"""The tab "About & API": what this is, where it comes from, and how a program asks the same.

Knows components and choices; what stands there is made in `texts.py` and `snippets.py`.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from steering.bundled import BUNDLED_QUESTIONS
from steering.errors import SteeringError
from steering.loading import BUNDLED_MODEL
from steering.ui.about.snippets import (
    Call,
    as_curl,
    base_url_of,
    with_gradio_client,
    with_openai,
    with_steering,
)
from steering.ui.about.texts import about_html, api_html, find_set_file, origin_html
from steering.ui.asking import Chat, Wish, method_of
from steering.ui.choices import Choices
from steering.ui.events import QUICK
from steering.ui.strings import locale_of
from steering.ui.wording import tell

_QUESTION = "Why is the sky blue?"  # of a model that may know

# What each block of code is called, how it is coloured, and what writes it.
_SNIPPETS: tuple[tuple[str, Any, Callable[[Call], str]], ...] = (
    ("curl", "shell", as_curl),
    ("Python: openai", "python", with_openai),
    ("Python: gradio_client", "python", with_gradio_client),
    ("Python: steering", "python", with_steering),
)


def add_about_tab(tab: gr.Tab, chat: Chat, choices: Choices, model: str) -> None:
    """Add what is on the tab and its listeners; call it inside of *tab*.

    Args:
        tab: Filled when it is opened, as what it says is in the reader's language.
        chat: Says which set is in use, and the limits.
        choices: What the programs are to ask with.
        model: Name to show.
    """
    about = gr.HTML(about_html(model, chat.languages), padding=False)
    api = gr.HTML(api_html(), padding=False)
    codes = [
        gr.Code(
            label=name,
            language=language,
            interactive=False,
            wrap_lines=True,
            show_line_numbers=False,
            lines=1,
            buttons=["copy"],
            elem_classes="snippet",
        )
        for name, language, _ in _SNIPPETS
    ]
    origin = gr.HTML(padding=False)

    def describe(request: gr.Request) -> list[str]:
        locale = locale_of(request)
        return [
            about_html(model, chat.languages, locale), origin_html(chat.set_in_use, locale),
        ]  # fmt: skip

    def write(request: gr.Request, *values: Any) -> list[Any]:
        locale = locale_of(request)
        try:
            wish = choices.read(values, chat)
        except SteeringError as err:
            return [
                api_html(tell("failed_settings", err, locale), locale),
                *(gr.skip() for _ in codes),
            ]
        call = make_call(chat, model, wish, base_url_of(request.headers))
        return [api_html(None, locale), *(snippet(call) for _, _, snippet in _SNIPPETS)]

    tab.select(describe, None, [about, origin], **QUICK)
    gr.on(
        [tab.select, *choices.changes()], write, choices.all(), [api, *codes],
        trigger_mode="always_last", **QUICK,
    )  # fmt: skip


def make_call(chat: Chat, model: str, wish: Wish, base_url: str) -> Call:
    """Return the call that asks what a wish does, on the page and in the programs shown."""
    neurons = chat.set_in_use
    return Call(
        base_url=base_url,
        question=BUNDLED_QUESTIONS[0] if model == BUNDLED_MODEL else _QUESTION,
        model=model,
        set_file=None if neurons is None else find_set_file(neurons),
        wish=wish,
        method=wish.method if neurons is None else method_of(wish, neurons),
        sampling=wish.sampling(chat.max_new_tokens),
        longest=chat.max_new_tokens,
    )
