"""Serves a page within the test's own process, for a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from steering.neuron_set import NeuronSet
from steering.ui.asking import Chat
from steering.ui.launching import build_page, close_page, open_page
from tests.started import free_port
from tests.ui.scripted import ScriptedEngine


@contextmanager
def served_page(
    neurons: NeuronSet,
    engine: ScriptedEngine | None = None,
    *,
    neuron_set: Path | None = None,
    port: int | None = None,
) -> Iterator[str]:
    """Serve the page of the bundled model with an engine that follows a script: its address.

    Args:
        neurons: The set.
        engine: The script; one of its own when omitted.
        neuron_set: Where the set is said to lie; what was measured with it lies beside it.
        port: A free one when omitted.
    """
    chat = Chat(engine or ScriptedEngine(), neurons, 40, set_path=neuron_set)  # type: ignore[arg-type]
    page = build_page(chat, model="bundled")
    port = port or free_port()
    open_page(page, name="127.0.0.1", port=port, routes=[Route("/healthz", _say_ready)])
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        close_page(page)


async def _say_ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ready"})
