"""Serves the scripted page as a process of its own, which a test may kill: give it a port."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
    engine = ScriptedEngine()
    engine.word_s = 0.03
    with served_page(load_neuron_set(BUNDLED_NEURON_SET), engine, port=int(sys.argv[1])):
        threading.Event().wait()
