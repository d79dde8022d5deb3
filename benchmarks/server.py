"""Starts the real server for a benchmark, as a person would, and reads what it uses.

Knows no requests: what is asked of the server is the benchmark's matter. Needs Linux.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at an address, which ends in a slash.

    Args:
        url: The address.
        pid: Its process; None where somebody else started it.
        page_s: Seconds from its start until the page answered.
    """

    url: str
    pid: int | None = None
    page_s: float = 0.0

    def memory_mib(self) -> float | None:
        """Return the resident memory of the process, None where it is not known."""
        return None if self.pid is None else psutil.Process(self.pid).memory_info().rss / 2**20

    def threads(self) -> int | None:
        """Return its number of threads, None where it is not known."""
        return None if self.pid is None else psutil.Process(self.pid).num_threads()


@contextmanager
def started_server() -> Iterator[Server]:
    """Start `python app.py` on a free port, wait until the page answers, and end it on exit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    url = f"http://127.0.0.1:{port}/"
    started = time.perf_counter()
    app = subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(url)
        yield Server(url, app.pid, time.perf_counter() - started)
    finally:
        app.terminate()
        app.wait(20)


def _wait_for(url: str) -> None:
    end = time.perf_counter() + LIMIT_S
    while time.perf_counter() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own page
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"error: the page did not answer within {LIMIT_S:g} s.")
