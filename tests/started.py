"""Starts `python app.py` for tests, as a person would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_S = 60  # far above the 15 s that a page may take: other work may hold the processor


def clean_environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSTEER_", "GRADIO_"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **changes}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started_app(output: Path, **settings: str) -> Iterator[str]:
    """Start the page on a free port and give its address; everything it prints is in *output*."""
    with app_process(output, **settings) as (_, url):
        yield url


@contextmanager
def app_process(output: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start it as `started_app` does, and give its process as well."""
    port = free_port()
    environment = clean_environment(GRADIO_SERVER_PORT=str(port), **settings)
    with output.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=stream, stderr=stream
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_for(lambda: f"127.0.0.1:{port}" in output.read_text() or process.poll() is not None)
        assert process.poll() is None, output.read_text()
        yield process, url
    finally:
        process.terminate()
        process.wait(10)


def wait_for(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def run_app(**settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
