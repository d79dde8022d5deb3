"""What batching gives eight people who ask at once: `python -m benchmarks.serving`.

Eight people, seven with another answer language each and one who forces none, ask one engine at
the same moment: one after another, and all at once, in turn. On the bundled model answers end of
themselves; on a random Llama of 250M parameters all have the same length. Prints a table and,
last, one JSON line; `speedup_8` is the smaller of the two models' speedups.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from benchmarks.paired import Ratio, median_ratio
from benchmarks.random_model import LAYERS_250M
from benchmarks.subjects import Person, Subject, make_groups, make_subjects
from steering import Sampling
from steering.engine import Engine
from steering.jobs import GenerationRequest

ROUNDS, TOKENS = 9, 48
NATURAL_TOKENS = 120  # what the page allows an answer of the bundled model
LIMIT_SPEEDUP = 3.0


@dataclass(frozen=True, slots=True)
class Round:
    """What a group got: answers in the order of people, seconds from everybody's asking."""

    texts: tuple[str, ...]
    first_s: tuple[float, ...]
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured of one model; the rounds of both ways are of the same groups."""

    in_turn: tuple[Round, ...]
    at_once: tuple[Round, ...]

    @property
    def speedup(self) -> Ratio:
        """Return the ratio of tokens/s."""
        return median_ratio(*([r.tokens / r.seconds for r in rounds]
                              for rounds in (self.at_once, self.in_turn)))  # fmt: skip

    @property
    def same_answers(self) -> bool:
        """Say whether everybody got the same answer both ways."""
        return [r.texts for r in self.in_turn] == [r.texts for r in self.at_once]


def ask(engine: Engine, request: GenerationRequest, asked: float) -> tuple[str, float, int]:
    """Return an answer, the seconds to its first token, and its tokens."""
    first_s = 0.0
    for update in engine.stream(request):
        if update.new_tokens and not first_s:
            first_s = time.perf_counter() - asked
    return update.texts[0], first_s, update.new_tokens


def ask_in_turn(engine: Engine, requests: list[GenerationRequest]) -> Round:
    """Answer one request after another; all were asked at the beginning."""
    asked = time.perf_counter()
    return _gather([ask(engine, request, asked) for request in requests], asked)


def ask_at_once(engine: Engine, requests: list[GenerationRequest]) -> Round:
    """Answer all requests together, each read in a thread of its own."""
    ready = threading.Barrier(len(requests) + 1)

    def ask_when_ready(request: GenerationRequest) -> tuple[str, float, int]:
        ready.wait()
        return ask(engine, request, time.perf_counter())

    with ThreadPoolExecutor(len(requests)) as threads:
        answers = [threads.submit(ask_when_ready, request) for request in requests]
        asked = time.perf_counter()
        ready.wait()
        return _gather([answer.result() for answer in answers], asked)


def _gather(answers: list[tuple[str, float, int]], asked: float) -> Round:
    seconds = time.perf_counter() - asked
    texts, first_s, tokens = zip(*answers, strict=True)
    return Round(texts, first_s, sum(tokens), seconds)


def measure(subject: Subject, *, tokens: int, rounds: int) -> Found:
    """Ask both ways, in turn, with another group of people in each round."""
    ways: list[Callable[[Engine, list[GenerationRequest]], Round]] = [ask_in_turn, ask_at_once]
    found: dict[str, list[Round]] = {way.__name__: [] for way in ways}
    engine = Engine(lambda: subject.model)
    try:
        for number, group in enumerate(make_groups(subject, rounds + 1)):
            requests = [_request(person, tokens) for person in group]
            for way in ways if number % 2 else reversed(ways):
                found[way.__name__].append(way(engine, requests))
    finally:
        engine.close()
    in_turn, at_once = (tuple(rounds[1:]) for rounds in found.values())  # the first warms up
    return Found(in_turn, at_once)


def _request(person: Person, tokens: int) -> GenerationRequest:
    return GenerationRequest((person.conversation,), (person.plan,), Sampling(tokens))


def print_table(found: dict[str, Found]) -> None:
    """Print what was measured of each model."""
    print("| model | eight people | tokens/s | first token after (median) |\n|---|---|---|---|")
    for name, one in found.items():
        for way, rounds in (("one after another", one.in_turn), ("at once", one.at_once)):
            speed, first_s = _speed(rounds), _first_s(rounds)
            print(f"| {name} | {way} | {speed:.0f} | {first_s:.2f} s |")
        words = "the same answers" if one.same_answers else "OTHER ANSWERS"
        limit = f"at least {LIMIT_SPEEDUP:g}"
        print(f"| {name} | speedup ({limit}) | {one.speedup.factor()} | {words} |")
    print(f"\nthreads: {torch.get_num_threads()}")


def _speed(rounds: tuple[Round, ...]) -> float:
    return statistics.median(one.tokens / one.seconds for one in rounds)


def _first_s(rounds: tuple[Round, ...]) -> float:
    return statistics.median(seconds for one in rounds for seconds in one.first_s)


def as_json(found: dict[str, Found]) -> dict[str, float | bool | list[float]]:
    """Return what the last line says."""
    numbers: dict[str, float | bool | list[float]] = {
        "speedup_8": min(one.speedup.median for one in found.values()),
        "same_answers": all(one.same_answers for one in found.values()),
    }
    for name, one in found.items():
        speedup = one.speedup
        numbers |= {
            f"{name}_speedup_8": speedup.median,
            f"{name}_speedup_8_interval": [round(speedup.low, 4), round(speedup.high, 4)],
            f"{name}_tokens_per_s_in_turn": _speed(one.in_turn),
            f"{name}_tokens_per_s_at_once": _speed(one.at_once),
            f"{name}_first_token_s_in_turn": _first_s(one.in_turn),
            f"{name}_first_token_s_at_once": _first_s(one.at_once),
        }
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.serving")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="per answer of the random model")
    parser.add_argument("--layers", type=int, default=LAYERS_250M, help="of the random model")
    options = parser.parse_args()
    if min(vars(options).values()) < 1:
        parser.error(f"'{vars(options)}': expected numbers from 1 up")
    found = {}
    for subject in make_subjects(options.layers):
        tokens = NATURAL_TOKENS if subject.name == "bundled" else options.tokens
        found[subject.name] = measure(subject, tokens=tokens, rounds=options.rounds)
    print_table(found)
    print(json.dumps(as_json(found)))


if __name__ == "__main__":
    main()
