"""Builds the page and opens it at an address.

Knows components and Gradio's server, not what is behind the chat (`serving.py`).
"""

import logging
from collections.abc import Sequence

import gradio as gr
from starlette.routing import BaseRoute

from steering.ui.about.tab import add_about_tab
from steering.ui.asking import Chat
from steering.ui.chat.layout import lay_out_chat
from steering.ui.chat.listeners import connect
from steering.ui.choices import lay_out_choices
from steering.ui.compare.tab import add_compare_tab
from steering.ui.head import lay_out_head
from steering.ui.inside.tab import add_inside_tab
from steering.ui.results.style import RESULTS_CSS
from steering.ui.results.tab import add_results_tab
from steering.ui.scripts import scripts_html
from steering.ui.strings import label, make_i18n
from steering.ui.style import CSS, HEAD, make_theme

# People who may wait for a turn, beyond those in the engine; more are told that it is full.
_MAX_WAITING = 64
_THREADS = 100  # one for each who waits for an answer, and some
_GOODBYE_S = 1  # that the server has for connections which do not end when it closes


def build_page(chat: Chat, *, model: str) -> gr.Blocks:
    """Return the page, not yet opened.

    Args:
        chat: The engine, the neuron set or who makes it, and the limits.
        model: Name to show.
    """
    page = gr.Blocks(title="Langsteer", analytics_enabled=False)
    has_set = chat.neurons is not None
    with page:
        head = lay_out_head(model, has_set=has_set)
        choices = lay_out_choices(chat, has_set=has_set)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab(label("tab_chat"), id="chat"):
                parts = lay_out_chat(head, choices, model)
                connect(page, parts, chat, model)
            with gr.Tab(label("tab_compare"), id="compare"):
                add_compare_tab(page, choices, chat, model=model)
            with gr.Tab(label("tab_results"), id="results") as results:
                add_results_tab(page, results, choices, chat, model=model)
            with gr.Tab(label("tab_inside"), id="inside") as inside:
                add_inside_tab(inside, parts, chat)
            with gr.Tab(label("tab_about"), id="about") as about:
                add_about_tab(about, chat, choices, model)
    return page


def open_page(page: gr.Blocks, *, name: str, port: int, routes: Sequence[BaseRoute] = ()) -> None:
    """Serve a page at an address, in threads of its own, until it is closed.

    Args:
        page: From `build_page`.
        name: Address to listen on.
        port: The same.
        routes: Come before the page's own. Gradio's `launch` serves them, not a server of ours
            with the page in it: on a Space with ZeroGPU nothing else may.
    """
    page.queue(max_size=_MAX_WAITING)
    page.launch(
        server_name=name,
        server_port=port,
        prevent_thread_lock=True,
        max_threads=_THREADS,
        theme=make_theme(),
        css=CSS + RESULTS_CSS,
        head=HEAD + scripts_html(),
        i18n=make_i18n(),
        footer_links=["api"],
        ssr_mode=False,
        run_history=False,
        app_kwargs={"routes": list(routes)},
    )
    # Else it would wait for as long as a client keeps its connection, and the program with it.
    page.server.config.timeout_graceful_shutdown = _GOODBYE_S


def close_page(page: gr.Blocks) -> None:
    """Close the server, if there is one, within seconds.

    Connections that browsers keep open are cut, of which the server would print tracebacks.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    page.close(verbose=False)
