"""What the guard costs while a model writes: `python -m benchmarks.guard_cost`.

The same questions are answered with the default plan, with and without the guard, at batch 1 and 8
on the bundled model, reading of prompts included. Rounds in which a passage was written again are
counted apart: they cost what is written twice. Prints a table and, last, one JSON line; where
nothing drifts, `guard_cost_batch1` and `guard_cost_batch8` are to be at most 0.05.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.paired import Ratio, median_ratio, time_in_turn
from benchmarks.subjects import PEOPLE
from steering.bundled import BUNDLED_NEURON_SET
from steering.cli.bundled_prompts import held_out_prompts
from steering.conversation import Message
from steering.detection import language_of_prompt
from steering.evaluation.forcing import ForcingPrompt
from steering.generation import answer_conversations
from steering.guard import make_guard
from steering.loading import BUNDLED_MODEL, LoadedModel, load_model
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.token_choice import Sampling

ROUNDS, TOKENS = 32, 70
BATCHES = (1, PEOPLE)
LIMIT_COST = 0.05
_SEED = 31  # of the prompts


@dataclass(frozen=True, slots=True)
class GuardCost:
    """What was measured at one batch size.

    Args:
        batch: Rows.
        calm: Time with the guard over time without it, of rounds without a rewrite.
        calm_rounds: How many those are.
        rewrites: Passages that were written again in the others.
    """

    batch: int
    calm: Ratio
    calm_rounds: int
    rewrites: int


def measure(model: LoadedModel, neurons: NeuronSet, batch: int, *, rounds: int) -> GuardCost:
    """Answer *rounds* batches of questions both ways; the answers must be the same."""
    prompts = held_out_prompts(batch * rounds, seed=_SEED, languages=neurons.languages)
    groups = [prompts[place : place + batch] for place in range(0, len(prompts), batch)]
    texts: dict[tuple[int, bool], list[str]] = {}
    rewrites = [0] * rounds

    def run(number: int, *, is_guarded: bool) -> float:
        group = groups[max(number, 0)]
        started = time.perf_counter()
        answers = _answer(model, neurons, group, is_guarded=is_guarded)
        took_s = time.perf_counter() - started
        texts[number, is_guarded] = [text for text, _ in answers]
        rewrites[max(number, 0)] += sum(count for _, count in answers)
        return took_s

    times = time_in_turn(
        {
            "guarded": lambda number: run(number, is_guarded=True),
            "free": lambda number: run(number, is_guarded=False),
        },
        rounds=rounds,
    )
    calm = [number for number in range(rounds) if not rewrites[number]]
    assert calm, "a passage was written again in every round"
    assert all(texts[number, True] == texts[number, False] for number in calm)
    guarded, free = ([times[way][number] for number in calm] for way in ("guarded", "free"))
    return GuardCost(batch, median_ratio(guarded, free), len(calm), sum(rewrites))


def _answer(
    model: LoadedModel, neurons: NeuronSet, group: Sequence[ForcingPrompt], *, is_guarded: bool
) -> list[tuple[str, int]]:
    """Return each answer, and how many of its passages were written again."""
    requests = [
        SteeringRequest(
            prompt.target, source=language_of_prompt(prompt.text, languages=neurons.languages)
        )
        for prompt in group
    ]
    views = answer_conversations(
        model,
        [[Message("user", prompt.text)] for prompt in group],
        plans=[make_plan(neurons, request) for request in requests],
        sampling=Sampling(TOKENS),
        guards=[make_guard(neurons, request) for request in requests] if is_guarded else (),
    )
    return [(view.text, len(view.rewrites)) for view in views]


def main() -> None:
    """Measure and print."""
    name = "python -m benchmarks.guard_cost"
    parser = argparse.ArgumentParser(description=__doc__, prog=name)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="batches of each size")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"'{rounds}': expected numbers from 1 up")
    model, neurons = load_model(BUNDLED_MODEL), load_neuron_set(BUNDLED_NEURON_SET)
    costs = [measure(model, neurons, batch, rounds=rounds) for batch in BATCHES]
    print("| batch | rounds without a rewrite | the guard costs | passages written again |")
    print("|---|---|---|---|")
    for cost in costs:
        print(
            f"| {cost.batch} | {cost.calm_rounds} of {rounds} | {cost.calm.overhead()}, at most "
            f"{LIMIT_COST:.0%} is wanted | {cost.rewrites} |"
        )
    numbers = {f"guard_cost_batch{cost.batch}": round(cost.calm.median - 1, 4) for cost in costs}
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
