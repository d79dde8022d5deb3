"""An engine without a model: says English or French word by word, as its plans ask."""

import itertools
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from steering.engine import EngineLoad
from steering.generation import ReplyUpdate
from steering.guard import GuardSpec, Rewrite
from steering.jobs import GenerationRequest
from steering.loading import LoadedModel

ENGLISH = "The cat is sleeping on the sofa. It likes the sun and it does not want to move."
FRENCH = "Le chat dort sur le canapé. Il aime le soleil et il ne veut pas bouger de là."


class ScriptedEngine:
    """Answers in French where a plan edits anything, else in English.

    A message that holds `forever` is answered without end, `short` with one word, `echo` with
    itself, `fail` with an error that the program did not expect, `cut off` without a last word.
    """

    def __init__(self, *, is_ready: bool = True, error: Exception | None = None) -> None:
        self.requests: list[GenerationRequest] = []
        self.paces: list[float] = []
        self.running = 0
        self.error = error
        self.word_s = 0.01
        self.steered = FRENCH  # what it says where a plan edits anything
        self.rewrites: tuple[Rewrite, ...] = ()  # that every answer tells of at its end
        self.loaded: LoadedModel | None = None  # what `call` gives to functions
        self.calls = 0
        self._is_ready = threading.Event()
        if is_ready:
            self.finish_loading()

    def finish_loading(self) -> None:
        self._is_ready.set()

    @property
    def is_ready(self) -> bool:
        return self._is_ready.is_set()

    def load(self) -> EngineLoad:
        count = self.running
        return EngineLoad(count, count, 0) if self.is_ready else EngineLoad(0, 0, count)

    def model(self, *, timeout_s: float | None = None) -> None:
        assert self._is_ready.wait(timeout_s)
        if self.error is not None:
            raise self.error

    def call(self, function: Callable[[Any], Any]) -> Any:
        self.calls += 1
        time.sleep(self.word_s)
        return function(self.loaded)

    def stream(
        self,
        request: GenerationRequest,
        *,
        heartbeat_s: float | None = None,
        pace_s: float = 0.0,
    ) -> Generator[ReplyUpdate, None, None]:
        self.requests.append(request)
        self.paces.append(pace_s)
        self.running += 1
        rows = len(request.plans)
        try:
            while not self._is_ready.wait(heartbeat_s):
                yield ReplyUpdate(("",) * rows, (None,) * rows, ("",) * rows, 0)
            self.model()
            yield from self._say(request)
        finally:
            self.running -= 1

    def _say(self, request: GenerationRequest) -> Generator[ReplyUpdate, None, None]:
        rows = len(request.plans)
        message = request.conversations[0][-1].content
        if "fail" in message:
            raise RuntimeError("a secret of the program")
        scripts = [self.steered if plan.edits or plan.pulls else ENGLISH for plan in request.plans]
        if "echo" in message:
            scripts = [message] * rows
        words = [script.split()[: 1 if "short" in message else None] for script in scripts]
        repeats = itertools.count(1) if "forever" in message else [1]
        note = ("The conversation is too long: 2 messages were left out.",) * rows
        said: list[list[str]] = [[] for _ in words]
        guards = request.guards or (None,) * rows
        for _ in repeats:
            for place in range(max(map(len, words))):
                for row, own in enumerate(words):
                    said[row] += own[place : place + 1]
                time.sleep(self.word_s)
                texts = tuple(map(" ".join, said))
                yield ReplyUpdate(
                    texts,
                    (None,) * rows,
                    ("",) * rows,
                    sum(map(len, said)),
                    prompt_tokens=(5,) * rows,
                    row_tokens=tuple(map(len, said)),
                    settled=tuple(map(self._settled, texts, guards)),
                )
        if "cut off" in message:
            return
        notes = note if "long" in message else ("",) * rows
        yield ReplyUpdate(
            texts,
            ("end",) * rows,
            notes,
            sum(map(len, said)),
            prompt_tokens=(5,) * rows,
            row_tokens=tuple(map(len, said)),
            rewrites=(self.rewrites,) * rows,
        )

    def _settled(self, text: str, guard: GuardSpec | None) -> int:
        """Under a guard, text is settled sentence by sentence."""
        return len(text) if guard is None else text.rfind(".") + 1
