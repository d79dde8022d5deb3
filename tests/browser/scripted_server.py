"""Serves the scripted page as a process of its own: give it a port.

A test may kill it, or terminate it: then it closes the page in good order, as `app.py` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx

from steering.bundled import BUNDLED_NEURON_SET
from steering.neuron_set_file import load_neuron_set
from tests.browser.served import served_page
from tests.started import ROOT, clean_environment, wait_for
from tests.ui.scripted import ScriptedEngine


@contextmanager
def scripted_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process, and end it if nobody has."""
    command = [sys.executable, "-m", "tests.browser.scripted_server", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(PYTHONPATH="."), stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    engine = ScriptedEngine()
    engine.word_s = 0.03
    page = served_page(load_neuron_set(BUNDLED_NEURON_SET), engine, port=int(sys.argv[1]))
    with suppress(KeyboardInterrupt), page:
        threading.Event().wait()
    os._exit(0)  # threads may wait for answers without end
