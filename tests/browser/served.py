"""Serves a page within the test's own process, for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steering.neuron_set import NeuronSet
from steering.ui.asking import Chat
from steering.ui.launching import build_page, close_page, open_page
from tests.started import free_port
from tests.ui.scripted import ScriptedEngine


@contextmanager
def served_page(neurons: NeuronSet, engine: ScriptedEngine | None = None) -> Iterator[str]:
    """Serve the page of the bundled model with an engine that follows a script: its address."""
    chat = Chat(engine or ScriptedEngine(), neurons, 40)  # type: ignore[arg-type]
    page = build_page(chat, model="bundled")
    port = free_port()
    open_page(page, name="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}/"
    close_page(page)
