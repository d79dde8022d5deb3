"""How fast a CPU writes in each precision: `python -m benchmarks.cpu_speed MODEL`.

Each precision is loaded in a process of its own, which says how long that takes and how much memory
it leaves in use. Then all of them write the same answers in turn, in one process, at each number of
rows. Tokens/s count from the first token of an answer to its last.
Prints a table and, last, one JSON line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil
import torch

from benchmarks.paired import time_in_turn
from benchmarks.random_model import never_end
from steering import Sampling
from steering.batch import Batch
from steering.conversation import Message
from steering.generation import make_answers
from steering.loading import LoadedModel, load_model
from steering.steering_plan import NO_STEERING

WAYS = ("nf4", "int8", "bfloat16", "float32")
ROWS, TOKENS, ROUNDS = (1, 8), 24, 3
QUESTION = "What should I see in {}?"
CITIES = ("Rome", "Paris", "Tokyo", "Berlin", "Lima", "Cairo", "Delhi", "Oslo")


@dataclass(frozen=True, slots=True)
class Load:
    """What loading takes: seconds, and memory of the whole process afterwards."""

    seconds: float
    memory_gb: float


def load_way(name: str, way: str) -> LoadedModel:
    """Load a model in one precision, on the CPU."""
    if way in ("nf4", "int8"):
        model = load_model(name, quantize="nf4" if way == "nf4" else "int8", device="cpu")
    else:
        model = load_model(name, quantize="none", dtype=getattr(torch, way), device="cpu")
    never_end(model.model)
    return model


def write_s(model: LoadedModel, rows: int, tokens: int) -> float:
    """Answer so many people at once; return the seconds from the first token to the last."""
    questions = [QUESTION.format(CITIES[row % len(CITIES)]) for row in range(rows)]
    answers = make_answers(
        model,
        [(Message("user", question),) for question in questions],
        plans=[NO_STEERING] * rows,
        sampling=Sampling(max_new_tokens=tokens),
    )
    batch = Batch(model)
    batch.add(answers)
    started = time.perf_counter()
    while batch.answers:
        batch.step()
        batch.drop(lambda one: one.is_over)
    took_s = time.perf_counter() - started
    batch.pause()
    assert all(answer.view().tokens == tokens for answer in answers)
    return took_s


def measure_load(name: str, way: str) -> Load:
    """Load in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cpu_speed", name, "--load-alone", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return Load(**json.loads(done.stdout.splitlines()[-1]))


def load_alone(name: str, way: str) -> Load:
    """Load here, write two tokens, and say what that took; what the process holds is included."""
    started = time.perf_counter()
    model = load_way(name, way)
    seconds = time.perf_counter() - started
    write_s(model, 1, 2)
    return Load(seconds, psutil.Process().memory_info().rss / 1e9)


def measure_speed(
    name: str, ways: Sequence[str], rows: Sequence[int], *, tokens: int, rounds: int
) -> dict[tuple[str, int], float]:
    """Return tokens/s, all rows together, of each way at each number of rows."""
    models = {way: load_way(name, way) for way in ways}
    speeds = {}
    for number in rows:
        times = time_in_turn(
            {
                way: lambda _, model=model, number=number: write_s(model, number, tokens)
                for way, model in models.items()
            },
            rounds=rounds,
        )
        for way, seconds in times.items():
            speeds[way, number] = number * (tokens - 1) / statistics.median(seconds)
    return speeds


def print_table(
    loads: dict[str, Load], speeds: dict[tuple[str, int], float], rows: Sequence[int]
) -> None:
    """Print what was measured, a line for each way."""
    heads = ["precision", "loaded after", "memory", *(f"tokens/s, {n} at once" for n in rows)]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for way in dict.fromkeys(way for way, _ in speeds):
        load = loads.get(way)
        cells = [
            way,
            *((f"{load.seconds:.1f} s", f"{load.memory_gb:.2f} GB") if load else ("", "")),
        ]
        cells += [f"{speeds[way, number]:.1f}" for number in rows]
        print("| " + " | ".join(cells) + " |")
    print(f"\nthreads: {torch.get_num_threads()}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.cpu_speed")
    parser.add_argument("model", help="hub id, folder, or GGUF file")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS, help="answers at once")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="per answer")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--without-memory", action="store_true", help="measure the speed alone")
    parser.add_argument("--load-alone", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(*options.rows, options.tokens - 1, options.rounds) < 1:
        parser.error("expected at least one row, two tokens and one round")
    if options.load_alone:
        print(json.dumps(asdict(load_alone(options.model, options.load_alone))))
        return
    measured = () if options.without_memory else options.ways
    loads = {way: measure_load(options.model, way) for way in measured}
    speeds = measure_speed(
        options.model, options.ways, options.rows, tokens=options.tokens, rounds=options.rounds
    )
    print_table(loads, speeds, options.rows)
    numbers = {f"{way}_rows{n}_tokens_per_s": round(speed, 2) for (way, n), speed in speeds.items()}
    numbers |= {f"{way}_memory_gb": round(load.memory_gb, 3) for way, load in loads.items()}
    print(json.dumps(numbers | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
