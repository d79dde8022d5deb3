"""What the API counts, for Prometheus: requests, tokens, times, queue, and how answers came out.

Knows updates of a reply, not routes. Every application has a registry of its own.
"""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from steering.engine import EngineLoad
from steering.generation import ReplyUpdate

_PREFIX = "langsteer"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)  # to the usual limit of time


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._load: Callable[[], EngineLoad] | None = None
        self.requests = Counter(
            "requests", "Chat completions by status; 499: the client left before the end.",
            ["status"], namespace=_PREFIX, registry=self._registry,
        )  # fmt: skip
        self.tokens = self._counter("generated_tokens", "Tokens generated.")
        self.off_target = self._counter(
            "off_target_replies", "Answers in another language than was asked for."
        )
        self.rewrites = self._counter("rewrites", "Passages that the guard had written again.")
        self.seconds = self._histogram("request_seconds", "From a request to its answer's end.")
        self.first_token = self._histogram(
            "first_token_seconds", "From a request to its answer's first token."
        )
        self._running = self._gauge(
            "running_requests", "Requests that are being answered, the page's included."
        )
        self._waiting = self._gauge(
            "waiting_requests", "Requests that wait for their turn, the page's included."
        )
        self._hooks = self._gauge("hooks", "Hooks on the model; none while nothing runs.")

    def watch(self, load: Callable[[], EngineLoad]) -> None:
        """Show what an engine has to do, at the moment when somebody looks."""
        self._load = load

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        if self._load is not None:
            load = self._load()
            self._running.set(load.running_requests)
            self._waiting.set(load.waiting)
            self._hooks.set(load.hooks)
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(name, words, namespace=_PREFIX, registry=self._registry)

    def _histogram(self, name: str, words: str) -> Histogram:
        return Histogram(name, words, namespace=_PREFIX, registry=self._registry, buckets=_SECONDS)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(name, words, namespace=_PREFIX, registry=self._registry)


class RequestClock:
    """Counts one request as its updates come."""

    def __init__(self, metrics: Metrics) -> None:
        """Begin; call `stop` in the end, whatever happens."""
        self._metrics = metrics
        self._began_s = time.monotonic()
        self._has_tokens = False
        self._last: ReplyUpdate | None = None

    def note(self, update: ReplyUpdate) -> None:
        """Take note of what came."""
        self._last = update
        if update.new_tokens and not self._has_tokens:
            self._has_tokens = True
            self._metrics.first_token.observe(time.monotonic() - self._began_s)

    def stop(self) -> None:
        """Count what it came to, with what the guard dropped."""
        self._metrics.seconds.observe(time.monotonic() - self._began_s)
        if self._last is not None:
            again = [one for row in self._last.rewrites for one in row if not one.is_kept]
            self._metrics.rewrites.inc(len(again))
            self._metrics.tokens.inc(self._last.new_tokens + sum(one.tokens for one in again))
