"""Tests of the selection's benchmark, run small, and so of the memory that the selection needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.selection", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_selection_needs_less_memory_than_half_of_all_probabilities() -> None:
    shape = ("--layers", "64", "--neurons", "8192", "--languages", "32")
    all_gb = 8 * 64 * 8192 * 32 / 1e9

    done = run_benchmark(*shape)

    assert done.returncode == 0, done.stderr
    table, numbers = done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])
    assert table[0] == "| what | measured | limit |"
    assert "| probabilities | 16,777,216 |  |" in table
    assert numbers["added_gb"] < all_gb / 2
    assert numbers["peak_gb"] > all_gb  # the counts alone are that much
    assert numbers["selection_s"] > 0
    assert 0 < numbers["selected"] <= round(0.01 * 64 * 8192)


@pytest.mark.parametrize(
    "arguments", [("--languages", "1"), ("--languages", "33"), ("--layers", "0")], ids=" ".join
)
def test_sizes_that_cannot_be_are_refused_in_words(arguments: tuple[str, str]) -> None:
    done = run_benchmark(*arguments)

    assert done.returncode == 2
    assert f"'{arguments[1]}'" in done.stderr
    assert "Expected at least one, one, and 2 to 32" in done.stderr
