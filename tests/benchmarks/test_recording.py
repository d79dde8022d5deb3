"""The benchmark of recording runs, small: three ways, ratios of one round, one JSON line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_benchmark_prints_a_table_and_one_json_line() -> None:
    small = ["--layers", "1", "--tokens", "16", "--rounds", "3"]
    command = [sys.executable, "-m", "benchmarks.recording", *small]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    table, numbers = done.stdout.splitlines()[:-1], json.loads(done.stdout.splitlines()[-1])
    assert table[0] == "| way | beside the bare forward pass |"
    assert numbers.keys() == {"bare_s", "recording_overhead", "published_overhead"}
    assert numbers["bare_s"] > 0
