"""The benchmarks of serving run, small: both models, one JSON line, and the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.random_model import spread_layers

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--rounds", "1", "--layers", "1")


def run_benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_people_get_the_same_answers_at_once_as_one_after_another() -> None:
    done = run_benchmark("serving", *SMALL, "--tokens", "4")

    assert done.returncode == 0, done.stderr
    table, numbers = done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])
    assert table[0] == "| model | eight people | tokens/s | first token after (median) |"
    assert numbers["same_answers"] is True
    speedups = [numbers["bundled_speedup_8"], numbers["random_speedup_8"]]
    assert numbers["speedup_8"] == min(speedups) > 0


@pytest.mark.slow
def test_overhead_is_the_larger_of_both_models() -> None:
    done = run_benchmark("steering_overhead", *SMALL, "--tokens", "12")

    assert done.returncode == 0, done.stderr
    table, numbers = done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])
    assert table[0] == "| model | way | batch | tokens/s | costs |"
    for batch in (1, 8):
        overheads = [
            numbers[f"{name}_default_plan_batch{batch}_overhead"][0]
            for name in ("bundled", "random")
        ]
        assert numbers[f"overhead_batch{batch}"] == max(overheads)
    assert all(value for key, value in numbers.items() if key.endswith("same_answers"))


@pytest.mark.slow
def test_the_guards_cost_is_of_rounds_in_which_nothing_drifts() -> None:
    done = run_benchmark("guard_cost", "--rounds", "2")

    assert done.returncode == 0, done.stderr
    table, numbers = done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])
    assert table[0].startswith("| batch | rounds without a rewrite |")
    assert list(numbers) == ["guard_cost_batch1", "guard_cost_batch8"]


@pytest.mark.parametrize("name", ["serving", "steering_overhead", "guard_cost"])
def test_numbers_that_cannot_be_are_refused_in_words(name: str) -> None:
    done = run_benchmark(name, "--rounds", "0")

    assert done.returncode == 2
    assert "expected numbers from 1 up" in done.stderr


@pytest.mark.parametrize(
    ("method", "layers", "spread"),
    [
        ("lape@1+subspace/L0-3@1", 14, "lape@1+subspace/L0-8@1"),
        ("subspace/L1-4/body@0.8+tokens@5", 12, "subspace/L2-9/body@0.8+tokens@5"),
        ("subspace/L4-5@2", 6, "subspace/L4-5@2"),
        ("subspace/L0-3@1", 1, "subspace/L0-0@1"),
    ],
)
def test_layers_of_a_method_are_spread_over_another_depth(
    method: str, layers: int, spread: str
) -> None:
    assert spread_layers(method, 6, layers) == spread
