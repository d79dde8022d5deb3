"""Plays a Space that lends a GPU, in a process of its own: `python -m tests.lent_gpu FOLDER`.

What lends a GPU cannot run here, so a generator function is forked as it is there. In a process of
its own, because torch does not survive a fork once its threads have run. Prints JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from steering import zero_gpu
from steering.engine import Engine
from steering.errors import EngineClosedError, GenerationError
from steering.guard import GuardSpec
from steering.jobs import GenerationRequest
from steering.loading import load_model
from steering.steering_plan import PHASES
from tests.asking import ask
from tests.toy import FR, JA, make_random_plan


class ForkingGpu:
    """Runs a generator function in a forked process and stops it there when it is closed here."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.exit_codes: list[int | None] = []

    def __call__(self, *, duration: Callable[..., float]) -> Callable[..., Callable[..., Any]]:
        context = multiprocessing.get_context("fork")

        def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def run(request: GenerationRequest) -> Iterator[Any]:
                self.seconds.append(duration(request))
                asked, told = context.SimpleQueue(), context.SimpleQueue()
                stop = context.Event()

                def work() -> None:
                    results = task(asked.get())
                    for result in results:
                        told.put((result,))
                        if stop.is_set():
                            results.close()  # type: ignore[attr-defined]  # a generator
                            break
                    told.put(None)

                process = context.Process(target=work, daemon=True)
                process.start()
                asked.put(request)
                try:
                    while (result := told.get()) is not None:
                        yield result[0]
                finally:
                    stop.set()
                    process.join(20)
                    self.exit_codes.append(process.exitcode)

            return run

        return decorate


def main(folder: str) -> dict[str, object]:
    """Ask in all the ways that a Space does; return what came."""
    steer = make_random_plan(1, *PHASES)
    request = replace(
        ask("Hello", "a", plans=(steer, steer), tokens=12),
        guards=(GuardSpec(FR, (FR, JA), (steer,)), None),
    )
    gpu = ForkingGpu()
    engine = zero_gpu.ZeroGpuEngine(lambda: load_model(folder, quantize="none"), gpu=gpu)
    seen: dict[str, object] = {}
    reply = engine.reply(request)
    seen["seconds_asked_for"] = gpu.seconds
    try:
        engine.reply(ask("a", ""))
    except GenerationError as err:
        seen["error"] = str(err)
    seen["timed_out"] = engine.reply(replace(ask("Hello", tokens=900), time_limit_s=0.05))
    zero_gpu._PACE_S = 0.0
    stream = engine.stream(ask("Hello", tokens=900))
    next(stream)
    running = engine.load().running_requests
    stream.close()
    seen["running"] = [running, engine.load().running_requests]
    seen["exit_codes"] = gpu.exit_codes
    try:
        engine.call(lambda model: model)
    except GenerationError as err:
        seen["call"] = str(err)
    engine.close()
    try:
        engine.reply(ask("a"))
    except EngineClosedError as err:
        seen["closed"] = str(err)
    usual = Engine(lambda: engine.model())
    seen["replies"] = [reply, usual.reply(request)]
    usual.close()
    return seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1]), default=repr))
