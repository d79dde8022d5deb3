"""The load test names what is wrong with an answer, and runs, small, on the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load_checks import Fault, find_faults
from benchmarks.load_clients import Heard, Question
from benchmarks.load_watch import Sample, Watch
from benchmarks.server import Server
from steering.languages import LANGUAGES

ROOT = Path(__file__).resolve().parents[2]
SEVEN = [LANGUAGES[code] for code in ("en", "zh", "fr", "es", "vi", "id", "ja")]
FRENCH, SPANISH = (Question("Where is the cat?", code, "page") for code in ("fr", "es"))
ANSWERS = {
    FRENCH: "Le chat est dans le jardin, sous le grand arbre.",
    SPANISH: "El gato está en el jardín, debajo del árbol grande.",
}
ENGLISH_ANSWER = "The cat is in the garden, under the large tree."


def hear(question: Question, *texts: str, ends: int = 1, has_left: bool = False) -> Heard:
    return Heard(question, list(texts), 0 if has_left else ends, has_left)


ALONE = {question: hear(question, text[:7], text) for question, text in ANSWERS.items()}


def faults_of(heard: Heard, *, others: tuple[str, ...] = ("es",)) -> list[Fault]:
    return find_faults(heard, alone=ALONE, others=others, languages=SEVEN)


@pytest.mark.parametrize(
    ("texts", "faults"),
    [
        (("", "Le", ANSWERS[FRENCH]), []),
        ((ANSWERS[FRENCH][:20],), ["lost"]),
        ((), ["lost"]),
        ((ANSWERS[FRENCH][:20] + ANSWERS[FRENCH][10:],), ["duplicated"]),
        (("Le chat est", "Le", ANSWERS[FRENCH]), ["duplicated"]),
        ((ANSWERS[SPANISH],), ["mixed", "wrong_language"]),
        (("El perro está en la casa, delante de la puerta.",), ["mixed", "wrong_language"]),
        ((ENGLISH_ANSWER,), ["different", "wrong_language"]),
        (("Le chien est dans la maison, devant la porte.",), ["different"]),
    ],
)
def test_fault_of_a_finished_answer_is_named(texts: tuple[str, ...], faults: list[Fault]) -> None:
    assert faults_of(hear(FRENCH, *texts)) == faults


@pytest.mark.parametrize(("ends", "fault"), [(0, "lost"), (2, "duplicated")])
def test_stream_has_one_end(ends: int, fault: Fault) -> None:
    assert faults_of(hear(FRENCH, ANSWERS[FRENCH], ends=ends)) == [fault]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", []),
        ("Le chat est dans", []),
        (ANSWERS[SPANISH], ["mixed"]),
        ("Le chien", ["different"]),
    ],
)
def test_part_of_a_cancelled_answer_is_the_beginning_of_the_whole(
    text: str, faults: list[Fault]
) -> None:
    assert faults_of(hear(FRENCH, text, has_left=True)) == faults


def test_error_is_a_fault_of_its_own() -> None:
    heard = hear(FRENCH, "Le")
    heard.error = "the queue is full"

    assert faults_of(heard) == ["error"]


def test_language_that_nobody_else_asked_for_is_not_mixed() -> None:
    heard = hear(FRENCH, "El perro está en la casa, delante de la puerta.")

    assert faults_of(heard, others=("ja",)) == ["different", "wrong_language"]


def test_growth_is_of_the_last_two_thirds() -> None:
    watch = Watch(Server("http://127.0.0.1/"))
    for number, memory_mib in enumerate([100.0, 300.0, 500.0, 501.0, 502.0, 503.0, 504.0]):
        watch.samples.append(Sample(10.0 * number, memory_mib, 9, {}))

    assert watch.memory_mib_per_min() == pytest.approx(6.0)


def test_url_without_a_server_is_refused_in_words() -> None:
    done = run_load("--url", "http://127.0.0.1:9")

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "'http://127.0.0.1:9/'" in done.stderr


@pytest.mark.slow
def test_few_clients_get_what_they_get_alone() -> None:
    done = run_load("--clients", "4", "--seconds", "4", "--questions", "6")

    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout.splitlines()[-1])
    assert numbers["finished"] > 0
    assert numbers["requests"] == numbers["finished"] + numbers["cancelled"]
    for fault in ("error", "lost", "duplicated", "mixed", "different"):
        assert numbers[fault] == 0, done.stdout
    assert numbers["rss_mib_last"] > 0


def run_load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.load", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
