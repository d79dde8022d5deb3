"""What a server uses while it is under load: memory, threads, and its own gauges, by the clock.

Knows no clients.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from benchmarks.server import Server

EVERY_S = 5.0
_GAUGES = {
    "langsteer_running_requests": "running",
    "langsteer_waiting_requests": "waiting",
    "langsteer_hooks": "hooks",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What is used at one time; None where it cannot be known from here."""

    at_s: float
    memory_mib: float | None
    threads: int | None
    gauges: dict[str, float]


@dataclass(slots=True)
class Watch:
    """The samples of a run, taken by `run` until its task is cancelled."""

    server: Server
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> None:
        """Take a sample every few seconds."""
        while True:
            await self.take()
            await asyncio.sleep(EVERY_S)

    async def take(self) -> None:
        """Take one sample."""
        gauges = await read_gauges(self.server.url)
        self.samples.append(
            Sample(time.monotonic(), self.server.memory_mib(), self.server.threads(), gauges)
        )

    def memory_mib_per_min(self) -> float | None:
        """Return the slope of memory over the last two thirds of the run."""
        late = self.samples[len(self.samples) // 3 :]
        points = [(one.at_s, one.memory_mib) for one in late if one.memory_mib is not None]
        return _slope(points) * 60 if len(points) > 1 else None


def _slope(points: Sequence[tuple[float, float]]) -> float:
    x, y = zip(*points, strict=True)
    return statistics.linear_regression(x, y).slope


async def read_gauges(url: str) -> dict[str, float]:
    """Return how many requests the API says are running and waiting; nothing without metrics."""
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.get(f"{url}metrics")
    if response.status_code != httpx.codes.OK:
        return {}
    rows = (line.split() for line in response.text.splitlines())
    return {_GAUGES[row[0]]: float(row[1]) for row in rows if row and row[0] in _GAUGES}
