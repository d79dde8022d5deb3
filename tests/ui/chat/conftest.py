"""Fixtures of the chat: its components, and what it does with a turn."""

from __future__ import annotations

import gradio as gr
import pytest

from steering.ui.asking import Chat
from steering.ui.chat.layout import Parts, lay_out_chat
from steering.ui.chat.turns import Turns
from steering.ui.choices import lay_out_choices
from steering.ui.head import lay_out_head


@pytest.fixture
def parts(chat: Chat) -> Parts:
    with gr.Blocks():
        head = lay_out_head("bundled", has_set=True)
        return lay_out_chat(head, lay_out_choices(chat, has_set=True), "bundled")


@pytest.fixture
def turns(parts: Parts, chat: Chat) -> Turns:
    return Turns(parts, chat, "bundled")
