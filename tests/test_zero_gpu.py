"""Tests of answering on a lent GPU, in a process that forks as a Space does (`lent_gpu.py`)."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steering.engine import Engine
from steering.guard import GuardSpec
from steering.zero_gpu import ZeroGpuEngine, is_zero_gpu, lent_s
from tests.asking import ask
from tests.toy import FR

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(),
    reason="ZeroGPU forks; this system cannot",
)
def test_a_space_gets_the_replies_and_errors_of_the_usual_engine(
    save_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_tiny_model(tmp_path / "tiny", "llama")
    run = subprocess.run(
        [sys.executable, "-m", "tests.lent_gpu", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])

    lent, usual = seen["replies"]
    assert lent == usual
    assert "('length', 'length')" in lent
    assert "it is empty" in seen["error"]
    assert "('time',)" in seen["timed_out"]
    assert seen["running"] == [1, 0]
    assert seen["exit_codes"] == [0] * 4
    guarded = replace(ask("Hello", tokens=12), guards=(GuardSpec(FR, (FR,), ()),))
    assert seen["seconds_asked_for"][0] == lent_s(guarded)
    assert "ZeroGPU" in seen["call"]
    assert "closed" in seen["closed"]


def test_time_that_is_asked_for_follows_the_longest_answer() -> None:
    short, long = (lent_s(ask("a", tokens=tokens)) for tokens in (20, 200))

    assert 10 < short < long < 30
    assert lent_s(ask("a", tokens=100_000)) == 130
    assert lent_s(replace(ask("a", tokens=100_000), time_limit_s=20)) == 30
    guarded = replace(ask("a", tokens=200), guards=(GuardSpec(FR, (FR,), ()),))
    assert lent_s(guarded) == 30


def test_has_the_methods_of_the_usual_engine() -> None:
    def public(one: type) -> set[str]:
        return {name for name in vars(one) if not name.startswith("_")}

    assert public(Engine) == public(ZeroGpuEngine)


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("1", True), ("", False), ("false", False)]
)
def test_a_space_says_what_it_is(
    value: str, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", value)

    assert is_zero_gpu() is expected
