"""A recording that is killed, stopped or shared by processes ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steering.chunks import Chunk
from steering.cli.main import main
from steering.neuron_set_file import load_neuron_set
from steering.recording import ChunkRecorder
from tests.started import ROOT, clean_environment, free_port

WAIT_S = 120  # far above what a process needs: other work may hold the processor


@pytest.fixture
def command(tiny_model_dir: Callable[..., Path], tmp_path: Path) -> list[str]:
    """Return `build-set` over text and dialogues that take some hundred forward passes."""
    model = tiny_model_dir("llama", max_position_embeddings=64)
    words = random.Random(1)
    for folder in ("text", "dialogues"):
        (tmp_path / folder).mkdir()
    for code, letters in {
        "en": "etaoin shrdlu",
        "fr": "esait nrulo",
        "ja": "いのし かとて",
    }.items():
        lines = ["".join(words.choices(letters, k=60)) for _ in range(70)]
        (tmp_path / "text" / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
        rows = [f'{{"prompt": "{line[:9]}?", "answer": "{line[9:30]}"}}' for line in lines[:30]]
        (tmp_path / "dialogues" / f"{code}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return [
        *("build-set", "--model", str(model), "--quantize", "none", "--languages", "en,fr,ja"),
        *("--text", str(tmp_path / "text"), "--dialogues", str(tmp_path / "dialogues")),
        *("--select-fraction", "0.3", "--prob-quantile", "0.3", "--membership-quantile", "0.3"),
        *("--batch-size", "1", "--checkpoint-tokens", "150", "--any-language"),  # letters at random
    ]


@pytest.fixture
def whole(command: list[str], tmp_path: Path) -> bytes:
    out = tmp_path / "whole.safetensors"
    assert main([*command, "--out", str(out)]) == 0
    assert not out.with_name("whole.safetensors.partial").exists()
    return out.read_bytes()


def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    environment = clean_environment(OMP_NUM_THREADS="1", **settings)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def saved_states(out: Path) -> set[tuple[str, int]]:
    folder = out.with_name(f"{out.name}.partial")
    return {(p.name, p.stat().st_mtime_ns) for p in folder.glob("*.safetensors") if p.exists()}


def wait_for_savings(process: subprocess.Popen[str], out: Path, more: int) -> None:
    """Wait until the process has saved so many times, or has ended."""
    seen = before = saved_states(out)
    started = time.monotonic()
    while len(seen - before) < more and process.poll() is None:
        assert time.monotonic() - started < WAIT_S
        seen = seen | saved_states(out)
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_bytes(
    command: list[str], whole: bytes, tmp_path: Path
) -> None:
    out, moments = tmp_path / "killed.safetensors", random.Random(2)

    kills = 0
    for _ in range(10):
        process = start("-m", "steering", *command, "--out", str(out))
        wait_for_savings(process, out, moments.randrange(1, 5))
        time.sleep(moments.uniform(0, 0.02))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills == 10
    assert saved_states(out)
    assert not out.exists()

    assert main([*command, "--out", str(out)]) == 0
    assert out.read_bytes() == whole
    assert not saved_states(out)


@pytest.mark.slow
def test_ctrl_c_says_where_it_stopped_and_the_same_command_goes_on(
    command: list[str], whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "stopped.safetensors"
    process = start("-m", "steering", *command, "--out", str(out))
    wait_for_savings(process, out, 2)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130
    assert "Stopped in English text" in errors
    assert "Run the same command again to go on from there" in errors
    assert "Traceback" not in errors
    assert main([*command, "--out", str(out)]) == 0
    assert out.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(
    command: list[str], whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "two.safetensors"
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    port = ["--main_process_port", str(free_port()), "--num_machines", "1"]
    more = ["--mixed_precision", "no", "--dynamo_backend", "no"]

    process = start(*launch, *port, *more, "-m", "steering", *command, "--out", str(out))
    output, errors = process.communicate(timeout=WAIT_S)

    assert process.returncode == 0, errors
    assert output.count("Wrote") == 1
    assert out.read_bytes() == whole
    assert not saved_states(out)


class PassError(Exception):
    """Stands for a machine that goes away."""


@pytest.fixture
def failing_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let recording fail at a forward pass."""
    run = ChunkRecorder.run
    with monkeypatch.context() as patch:

        def arm(passes: int) -> None:
            left = iter(range(passes))

            def fail(self: ChunkRecorder, chunk: Chunk) -> None:
                if next(left, None) is None:
                    raise PassError
                run(self, chunk)

            patch.setattr(ChunkRecorder, "run", fail)

        yield arm


@pytest.mark.parametrize("passes", [1, 7, 120, 250])
def test_failing_anywhere_loses_nothing_that_was_saved(
    passes: int,
    command: list[str],
    whole: bytes,
    tmp_path: Path,
    failing_after: Callable[[int], None],
) -> None:
    out = tmp_path / "failed.safetensors"
    failing_after(passes)
    with pytest.raises(PassError):
        main([*command, "--out", str(out)])
    failing_after(10**6)

    assert main([*command, "--out", str(out)]) == 0

    assert out.read_bytes() == whole


def test_partial_results_of_other_text_are_refused(
    command: list[str],
    tmp_path: Path,
    failing_after: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "failed.safetensors"
    failing_after(20)
    with pytest.raises(PassError):
        main([*command, "--out", str(out)])
    failing_after(10**6)
    with (tmp_path / "text" / "en.txt").open("a") as file:
        file.write("\none line more")
    capsys.readouterr()

    assert main([*command, "--out", str(out)]) == 1

    assert "holds partial results of another command, of other text" in capsys.readouterr().err


def test_a_language_that_is_left_out_later_costs_nothing_of_the_others(
    command: list[str],
    tmp_path: Path,
    failing_after: Callable[[int], None],
) -> None:
    out, fewer = tmp_path / "failed.safetensors", [*command]
    failing_after(100)  # in the second language
    with pytest.raises(PassError):
        main([*command, "--out", str(out)])
    fewer[fewer.index("en,fr,ja")] = "en,fr"

    failing_after(150)  # less than a whole recording of both takes
    assert main([*fewer, "--out", str(out)]) == 0

    failing_after(10**6)
    alone = tmp_path / "alone.safetensors"
    assert main([*fewer, "--out", str(alone)]) == 0
    assert out.read_bytes() == alone.read_bytes()


def test_another_number_of_processes_is_refused(
    command: list[str],
    tmp_path: Path,
    failing_after: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "failed.safetensors"
    failing_after(20)
    with pytest.raises(PassError):
        main([*command, "--out", str(out)])
    failing_after(10**6)
    folder = tmp_path / "failed.safetensors.partial"
    (folder / "text-en-0-of-1.safetensors").rename(folder / "text-en-0-of-4.safetensors")
    capsys.readouterr()

    assert main([*command, "--out", str(out)]) == 1

    assert "was begun by 4 processes, and these are 1" in capsys.readouterr().err


def test_last_language_is_looked_at_before_the_first_is_recorded(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bad.safetensors"
    (tmp_path / "dialogues" / "ja.jsonl").write_text("{}\n" * 3, encoding="utf-8")

    assert main([*command, "--out", str(out)]) == 1

    assert "'ja.jsonl' has no usable row for Japanese" in capsys.readouterr().err
    assert not saved_states(out)


def test_full_disk_is_said_and_leaves_what_was_saved(
    command: list[str],
    whole: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, saved = tmp_path / "full.safetensors", 0
    replace = os.replace

    def fill_up(source: str, target: str) -> None:
        nonlocal saved
        saved += 1
        if saved > 5:
            raise OSError(28, os.strerror(28))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("steering.whole_files.os.replace", fill_up)
        assert main([*command, "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "run the same command again" in said
    assert len(saved_states(out)) == 1

    assert main([*command, "--out", str(out)]) == 0
    assert out.read_bytes() == whole


def test_language_that_ends_early_is_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "short.safetensors"
    (tmp_path / "text" / "fr.txt").write_text("peu de texte", encoding="utf-8")

    assert main([*command, "--tokens", "1k", "--out", str(out)]) == 0

    said = capsys.readouterr().err
    assert "warning: French ended after" in said
    assert "of the 1000 that were asked for" in said
    counts = load_neuron_set(out).metadata.token_counts["text"]
    assert counts["fr"] < 100 < counts["en"] <= 1000
