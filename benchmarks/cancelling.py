"""How soon a cancelled answer makes room for the next one, in tokens.

An engine with room for one answer writes one and lets another wait; the first is cancelled, and
the time until the other's first token, less what that takes on an idle engine, is the time for
which the place was still taken.
"""

import threading
import time

from benchmarks.subjects import Person
from steering import Sampling
from steering.engine import Engine
from steering.jobs import GenerationRequest
from steering.loading import LoadedModel

_TOKENS = 60
_BEFORE_CANCEL = 10  # tokens of the answer that is cancelled


def measure_cancelling(model: LoadedModel, people: list[Person], *, rounds: int) -> list[float]:
    """Return for how many tokens' time each cancelled answer keeps its place.

    Args:
        model: The bundled one.
        people: Two, with questions that have answers of more than ten tokens.
        rounds: How many cancellations.
    """
    first, second = (_request(person) for person in people[:2])
    engine = Engine(lambda: model, max_rows=1)
    try:
        _first_token_s(engine, second)  # warms up
        return [_kept_tokens(engine, first, second) for _ in range(rounds)]
    finally:
        engine.close()


def _kept_tokens(engine: Engine, first: GenerationRequest, second: GenerationRequest) -> float:
    """Measure one cancellation beside an idle start and an answer alone."""
    idle_s, token_s = _first_token_s(engine, second), _token_s(engine, first)
    return (_after_cancel_s(engine, first, second) - idle_s) / token_s


def _request(person: Person) -> GenerationRequest:
    return GenerationRequest((person.conversation,), (person.plan,), Sampling(_TOKENS))


def _first_token_s(engine: Engine, request: GenerationRequest) -> float:
    started = time.perf_counter()
    updates = engine.stream(request)
    next(update for update in updates if update.new_tokens)
    seconds = time.perf_counter() - started
    updates.close()
    return seconds


def _token_s(engine: Engine, request: GenerationRequest) -> float:
    started = time.perf_counter()
    tokens = engine.reply(request).new_tokens
    return (time.perf_counter() - started) / tokens


def _after_cancel_s(engine: Engine, first: GenerationRequest, second: GenerationRequest) -> float:
    """Cancel the first while the second waits; return the seconds to the second's first token."""
    begun: list[float] = []

    def wait_for_second() -> None:
        updates = engine.stream(second)
        next(update for update in updates if update.new_tokens)
        begun.append(time.perf_counter())
        updates.close()

    updates = engine.stream(first)
    next(update for update in updates if update.new_tokens)
    waiting = threading.Thread(target=wait_for_second)
    waiting.start()
    next(update for update in updates if update.new_tokens >= _BEFORE_CANCEL)
    assert engine.has_waiting()
    cancelled = time.perf_counter()
    updates.close()
    waiting.join()
    return begun[0] - cancelled
