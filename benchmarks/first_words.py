"""How soon the first words come with the guard and without it: `python -m benchmarks.first_words`.

Each question is asked twice as the page asks it, guarded and not, in turn, whichever first by lot.
Timed are the first text on the page, which shows what is not settled too, the first settled text,
which a stream of the API sends, and the first settled words of at least eight letters, without
which nothing can be said of their language; a ratio is of one question. Prints a table and, last,
one JSON line; `first_words_within_1_5` is the share of answers whose first words on the page come
within 1.5 times the time without the guard.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paired import median_ratio
from steering.bundled import BUNDLED_NEURON_SET
from steering.cli.bundled_prompts import held_out_prompts
from steering.conversation import Message
from steering.detection import identify_reply
from steering.engine import Engine
from steering.everyday_prompts import PROMPTS_TO_MEASURE, everyday_prompts
from steering.languages import Language, parse_language
from steering.loading import BUNDLED_MODEL, load_model
from steering.neuron_set_file import load_neuron_set
from steering.ui.asking import Chat, Wish

QUESTIONS, TOKENS = 60, 24
LIMIT_RATIO, WANTED_SHARE = 1.5, 0.95
_WORDS_LETTERS = 8  # what the guard needs of a script that languages share
_MOMENTS = {
    "page": "first text on the page",
    "stream": "first text of a stream",
    "words": "first words of a stream",
    "total": "whole answer",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and the language that the answer should be in."""

    text: str
    target: Language


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer: seconds to each of the moments, and what came of it."""

    seconds: dict[str, float]
    is_forced: bool
    has_given_up: bool


def make_questions(
    languages: Sequence[Language], count: int, *, is_bundled: bool
) -> list[Question]:
    """Return questions in one language for answers in another, all pairs as often as others."""
    if is_bundled:
        made = held_out_prompts(2 * count, seed=31, languages=languages)
        return [Question(one.text, one.target) for one in made if one.target != one.language][
            :count
        ]
    pairs = [(a, b) for a in languages for b in languages if a != b]
    random.Random(0).shuffle(pairs)
    questions = []
    for number in range(count):
        source, target = pairs[number % len(pairs)]
        prompts = everyday_prompts(source)
        place = PROMPTS_TO_MEASURE[number % len(PROMPTS_TO_MEASURE)]
        questions.append(Question(prompts[place], target))
    return questions


def ask(chat: Chat, question: Question, wish: Wish) -> Timed:
    """Answer one question and note when what came."""
    asked = time.perf_counter()
    seconds: dict[str, float] = {}
    for update in chat.answer([Message("user", question.text)], wish):
        now_s, text = time.perf_counter() - asked, update.texts[0]
        is_over = update.finish_reasons[0] is not None
        settled = text if is_over else text[: sum(update.settled)]
        has_words = is_over or sum(map(str.isalpha, settled)) >= _WORDS_LETTERS
        for moment, has_come in (
            ("page", text), ("stream", settled), ("words", has_words), ("total", is_over),
        ):  # fmt: skip
            if has_come:
                seconds.setdefault(moment, now_s)
    found = identify_reply(text, languages=chat.languages).language
    rewrites = update.rewrites[0] if update.rewrites else ()
    return Timed(seconds, found == question.target, any(one.is_kept for one in rewrites))


def measure(chat: Chat, questions: Sequence[Question], method: str) -> dict[bool, list[Timed]]:
    """Ask every question guarded and not; the first one warms up and does not count."""
    timed: dict[bool, list[Timed]] = {True: [], False: []}
    lot = random.Random(0)
    for number, question in enumerate([questions[0], *questions]):
        for has_guard in lot.sample([True, False], 2):
            wish = Wish(question.target, method=method, has_guard=has_guard)
            answer = ask(chat, question, wish)
            if number:
                timed[has_guard].append(answer)
    return timed


def ratios(timed: dict[bool, list[Timed]], moment: str) -> list[float]:
    """Return, per question, the time with the guard over the time without it."""
    pairs = zip(timed[True], timed[False], strict=True)
    return [guarded.seconds[moment] / free.seconds[moment] for guarded, free in pairs]


def share_within(values: Sequence[float]) -> float:
    """Return how many come within the limit."""
    return sum(value <= LIMIT_RATIO for value in values) / len(values)


def print_table(timed: dict[bool, list[Timed]]) -> None:
    """Print what was measured."""
    print("| | without the guard (median) | with it | ratio | within 1.5 times |")
    print("|---|---|---|---|---|")
    for moment, name in _MOMENTS.items():
        guarded, free = ([one.seconds[moment] for one in timed[way]] for way in (True, False))
        wanted = f", at least {WANTED_SHARE:.0%} wanted" if moment == "page" else ""
        print(
            f"| {name} | {statistics.median(free):.2f} s | {statistics.median(guarded):.2f} s | "
            f"{median_ratio(guarded, free).factor()} | "
            f"{share_within(ratios(timed, moment)):.1%}{wanted} |"
        )
    forced, given_up = _count(timed[True])
    print(f"\nanswers: {len(timed[True])}; in the language with the guard {forced}, without "
          f"{_count(timed[False])[0]}; given up {given_up}")  # fmt: skip


def _count(timed: Sequence[Timed]) -> tuple[int, int]:
    return sum(one.is_forced for one in timed), sum(one.has_given_up for one in timed)


def as_json(timed: dict[bool, list[Timed]]) -> dict[str, float]:
    """Return what the last line says."""
    forced, given_up = _count(timed[True])
    numbers: dict[str, float] = {
        "first_words_within_1_5": share_within(ratios(timed, "page")),
        "answers": len(timed[True]),
        "forced_guarded": forced,
        "forced_free": _count(timed[False])[0],
        "given_up": given_up,
    }
    for moment in _MOMENTS:
        values = ratios(timed, moment)
        numbers[f"{moment}_ratio"] = statistics.median(values)
        numbers[f"{moment}_within_1_5"] = share_within(values)
        numbers[f"{moment}_guarded_s_max"] = max(one.seconds[moment] for one in timed[True])
    totals = [sum(one.seconds["total"] for one in timed[way]) for way in (True, False)]
    numbers["total_sum_ratio"] = totals[0] / totals[1]
    return {name: round(value, 4) for name, value in numbers.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.first_words")
    parser.add_argument("--model", default=BUNDLED_MODEL, help="hub id, folder, or `bundled`")
    parser.add_argument("--quantize", choices=("nf4", "int8", "none"))
    parser.add_argument("--neuron-set", type=Path, default=BUNDLED_NEURON_SET)
    parser.add_argument("--method", default="", help="the set's own when omitted")
    parser.add_argument("--languages", help="of questions and answers, with commas; all if omitted")
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="longest answer")
    options = parser.parse_args()
    if min(options.questions, options.tokens) < 1:
        parser.error(f"'{options}': expected numbers from 1 up")
    neurons = load_neuron_set(options.neuron_set)
    codes = options.languages.split(",") if options.languages else []
    languages = [parse_language(code, known=neurons.languages) for code in codes]
    model = load_model(options.model, quantize=options.quantize)
    engine = Engine(lambda: model)
    try:
        questions = make_questions(
            languages or neurons.languages,
            options.questions,
            is_bundled=options.model == BUNDLED_MODEL,
        )
        timed = measure(Chat(engine, neurons, options.tokens), questions, options.method)
    finally:
        engine.close()
    print_table(timed)
    print(json.dumps(as_json(timed)))


if __name__ == "__main__":
    main()
