"""Many people at once on the real server, some of whom leave midway: `python -m benchmarks.load`.

Starts `app.py` with the bundled model (or takes `--url`), hears the answer to each question alone,
then lets 32 clients ask without a pause for three minutes, half over the page's API and half over
the OpenAI API, a third of the requests cancelled midway. Every answer must be the one heard alone;
memory and threads must not grow. Prints a table and, last, one JSON line. Needs Linux.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.cancelling import measure_cancelling
from benchmarks.load_checks import FAULTS, Fault, find_faults
from benchmarks.load_clients import Asker, Heard, Question, Way, has_api, make_asker
from benchmarks.load_watch import Watch
from benchmarks.server import Server, started_server
from benchmarks.subjects import Subject, make_groups
from steering.bundled import BUNDLED_NEURON_SET
from steering.cli.bundled_prompts import held_out_prompts
from steering.loading import BUNDLED_MODEL, load_model
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set

CLIENTS, SECONDS, QUESTIONS = 32, 180, 70
CANCELLED_SHARE = 1 / 3
_CANCEL_ROUNDS = 15


@dataclass(slots=True)
class Load:
    """What all clients share.

    Args:
        questions: What is asked.
        alone: What came to each from the idle server.
        ends_at: When no more is asked.
        asked: The language that each client asks for at the moment.
        heard: All answers, each with the languages that others asked for when it ended.
    """

    questions: Sequence[Question]
    alone: dict[Question, Heard] = field(default_factory=dict)
    ends_at: float = 0.0
    asked: dict[int, str] = field(default_factory=dict)
    heard: list[tuple[Heard, frozenset[str]]] = field(default_factory=list)

    async def hear_alone(self, askers: dict[Way, Asker]) -> None:
        """Ask each question of the idle server."""
        for question in self.questions:
            heard = await askers[question.way].ask(question)
            if heard.error:
                raise SystemExit(f"error: alone, '{question.text}' got '{heard.error}'.")
            self.alone[question] = heard

    async def ask_on(self, number: int, asker: Asker, way: Way) -> None:
        """Be one client: ask one question after another."""
        draw = random.Random(number)
        questions = [question for question in self.questions if question.way == way]
        while time.monotonic() < self.ends_at:
            question = draw.choice(questions)
            leaves = draw.random() < CANCELLED_SHARE
            leave_after_s = draw.uniform(0.1, 0.9) * self.usual_s() if leaves else None
            self.asked[number] = question.language
            heard = await asker.ask(question, leave_after_s=leave_after_s)
            others = frozenset(code for who, code in self.asked.items() if who != number)
            self.heard.append((heard, others))

    def usual_s(self) -> float:
        """Return how long an answer takes at the moment."""
        times = [one.total_s for one, _ in self.heard[-50:] if not one.has_left and not one.error]
        return statistics.median(times or [one.total_s * 4 for one in self.alone.values()])


def make_questions(count: int, neurons: NeuronSet, ways: Sequence[Way]) -> list[Question]:
    """Return held-out questions of the grammar, which go round the ways and the languages."""
    made = held_out_prompts(2 * count, seed=0, languages=neurons.languages)[:count]
    return [
        Question(prompt.text, str(prompt.target), ways[number % len(ways)])
        for number, prompt in enumerate(made)
    ]


async def put_under_load(
    server: Server, load: Load, ways: Sequence[Way], *, clients: int, seconds: float
) -> Watch:
    """Hear everything alone, then let all clients ask; return what was used meanwhile."""
    chosen = [ways[number % len(ways)] for number in range(clients)]
    askers = [await asyncio.to_thread(make_asker, server.url, way) for way in chosen]
    await load.hear_alone(dict(zip(chosen, askers, strict=True)))
    watch = Watch(server)
    await watch.take()  # also when the run is shorter than what lies between two samples
    load.ends_at = time.monotonic() + seconds
    watching = asyncio.create_task(watch.run())
    await asyncio.gather(*(load.ask_on(n, askers[n], way) for n, way in enumerate(chosen)))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    await watch.take()
    return watch


@contextmanager
def server_at(url: str | None) -> Iterator[Server]:
    """Use a server that runs, or start one."""
    if url is not None:
        yield Server(url.rstrip("/") + "/")
        return
    with started_server() as server:
        yield server


def count_faults(load: Load, neurons: NeuronSet) -> Counter[Fault]:
    """Return how many answers have which fault; print the first of each."""
    faults: Counter[Fault] = Counter()
    for heard, others in load.heard:
        for fault in find_faults(
            heard, alone=load.alone, others=others, languages=neurons.languages
        ):
            if not faults[fault]:
                alone = load.alone[heard.question].text
                print(f"first '{fault}': {heard.question}\n  heard {heard.text!r} {heard.error}")
                print(f"  alone {alone!r}\n")
            faults[fault] += 1
    return faults


def count_off_target_alone(load: Load, neurons: NeuronSet) -> int:
    """Return how many questions the idle server answers in another language than was asked for."""
    return sum(
        "wrong_language"
        in find_faults(one, alone=load.alone, others=(), languages=neurons.languages)
        for one in load.alone.values()
    )


def as_json(load: Load, watch: Watch, seconds: float) -> dict[str, object]:
    """Return what was counted and measured, faults and cancelling apart."""
    finished = [one for one, _ in load.heard if not one.has_left and not one.error]
    first_s = [one.first_s for one in finished if one.first_s is not None]
    total_s = [one.total_s for one in finished]
    first, last = watch.samples[0], watch.samples[-1]
    encode = load_model(BUNDLED_MODEL).tokenizer.encode
    tokens = sum(len(encode(one.text, add_special_tokens=False)) for one, _ in load.heard)
    return {
        "requests": len(load.heard),
        "finished": len(finished),
        "cancelled": sum(one.has_left for one, _ in load.heard),
        "questions": len(load.alone),
        "tokens_per_s": tokens / seconds,
        "first_s_p50": _percentile(first_s, 50),
        "first_s_p95": _percentile(first_s, 95),
        "total_s_p50": _percentile(total_s, 50),
        "total_s_p95": _percentile(total_s, 95),
        "rss_mib_first": first.memory_mib,
        "rss_mib_last": last.memory_mib,
        "rss_mib_per_min": watch.memory_mib_per_min(),
        "threads_first": first.threads,
        "threads_last": last.threads,
        "threads_most": max((one.threads for one in watch.samples if one.threads), default=None),
        "running_last": last.gauges.get("running"),
        "waiting_last": last.gauges.get("waiting"),
        "hooks_first": first.gauges.get("hooks"),
        "hooks_most": max((one.gauges.get("hooks", 0) for one in watch.samples), default=None),
        "hooks_last": last.gauges.get("hooks"),
    }


def _percentile(values: Sequence[float], percent: int) -> float | None:
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def print_table(numbers: dict[str, object]) -> None:
    """Print every number in a row of its own."""
    print("| what | measured |\n|---|---|")
    for name, value in numbers.items():
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        print(f"| {name.replace('_', ' ')} | {'not known' if value is None else shown} |")


def run(url: str | None, *, clients: int, seconds: float, questions: int) -> dict[str, object]:
    """Put the server under load, then measure cancelling in this process; return all numbers."""
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    with server_at(url) as server:
        ways: tuple[Way, ...] = ("page", "api") if has_api(server.url) else ("page",)
        load = Load(make_questions(questions, neurons, ways))
        watch = asyncio.run(put_under_load(server, load, ways, clients=clients, seconds=seconds))
    taken_s = watch.samples[-1].at_s - watch.samples[0].at_s
    faults = count_faults(load, neurons)
    subject = Subject("bundled", load_model(BUNDLED_MODEL), neurons)
    kept_tokens = measure_cancelling(
        subject.model, make_groups(subject, 1)[0], rounds=_CANCEL_ROUNDS
    )
    return {
        "clients": clients,
        "ways": "+".join(ways),
        **as_json(load, watch, taken_s),
        **{fault: faults[fault] for fault in FAULTS},
        "questions_off_target_alone": count_off_target_alone(load, neurons),
        "cancel_tokens": statistics.median(kept_tokens),
        "cancel_tokens_most": max(kept_tokens),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.load")
    parser.add_argument("--url", help="of a server that runs; one is started when omitted")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--questions", type=int, default=QUESTIONS, help="different ones")
    options = parser.parse_args()
    if min(options.clients, options.seconds) <= 0 or options.questions < 2:
        parser.error(
            f"'{options.clients}' clients, '{options.seconds:g}' s, '{options.questions}' "
            "questions. Expected numbers above 0, and at least two questions."
        )
    numbers = run(
        options.url,
        clients=options.clients,
        seconds=options.seconds,
        questions=options.questions,
    )
    print_table(numbers)
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
