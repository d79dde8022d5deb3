"""The API on a real server in a thread, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import uvicorn

from steering.api.answering import Service
from steering.api.application import make_api
from steering.api.choosing import ServedModel
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.neuron_set import NeuronSet
from tests.started import free_port, wait_for
from tests.ui.scripted import ScriptedEngine


def make_service(engine: object, neurons: NeuronSet | None) -> Service:
    return Service(
        engine=engine,  # type: ignore[arg-type]  # all that the API needs of one
        served=ServedModel("org/toy", lambda: neurons),
        max_new_tokens=40,
        time_limit_s=60,
    )


@contextmanager
def served(service: Service, *, key: str = "") -> Iterator[str]:
    """Serve an API on a free port and give its address."""
    port = free_port()
    config = uvicorn.Config(make_api(service, key=key), port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


class FailingEngine(ScriptedEngine):
    """Raises an error after some updates: none are those of a request that is refused at once."""

    def __init__(self, failure: Exception, *, after: int = 0) -> None:
        super().__init__()
        self._failure, self._after = failure, after

    def stream(
        self,
        request: GenerationRequest,
        *,
        heartbeat_s: float | None = None,
        pace_s: float = 0.0,
    ) -> Generator[ReplyUpdate, None, None]:
        updates = super().stream(request, heartbeat_s=heartbeat_s, pace_s=pace_s)
        for _ in range(self._after):
            yield next(updates)
        updates.close()
        raise self._failure


def is_free_soon(engine: ScriptedEngine) -> bool:
    """Whether nothing runs any more within a second."""
    end = time.monotonic() + 1
    while engine.running and time.monotonic() < end:
        time.sleep(0.01)
    return not engine.running
