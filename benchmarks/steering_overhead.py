"""What steering costs while a model writes: `python -m benchmarks.steering_overhead`.

The same questions are answered with and without the default plan, at batch 1 and 8, on the bundled
model and on a random Llama of 250M parameters, from the first token to the last of answers of the
same length. Then one vector, added everywhere after one layer, by us and by
repeng, steering-vectors and nnsight where they are installed, each beside its own unsteered way.
`--model`, `--neuron-set` and `--method` measure a model of one's own instead.
Prints a table and, last, one JSON line; `overhead_batch1` and `overhead_batch8` are the larger of
the models' overheads with the default plan.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.paired import Ratio, median_ratio, time_in_turn
from benchmarks.peers import PEERS, Generate, generate_plainly
from benchmarks.random_model import LAYERS_250M, never_end
from benchmarks.subjects import PEOPLE, Person, Subject, load_subject, make_groups, make_subjects
from steering import Sampling
from steering.batch import Batch
from steering.conversation import encode_prompt
from steering.generation import generate_conversations, make_answers
from steering.loading import LoadedModel
from steering.neuron_set import difference_from_others
from steering.steering_plan import NO_STEERING, PHASES, Edit, SteeringPlan

ROUNDS, TOKENS = 15, 100
BATCHES = (1, PEOPLE)
LIMIT_OVERHEAD = 0.03
_VECTOR_SIZE = 2.0  # times the size of the stream's mean


@dataclass(frozen=True, slots=True)
class Cost:
    """One way at one batch size.

    Args:
        way: Its name.
        batch: Rows.
        tokens_per_s: All rows together.
        overhead: Its time over that of the unsteered way beside it; None for an unsteered one.
        is_same_edit: Whether its answers are those of our own steering; None where that is no
            question.
    """

    way: str
    batch: int
    tokens_per_s: float
    overhead: Ratio | None = None
    is_same_edit: bool | None = None


@dataclass(slots=True)
class Found:
    """What was measured on one model, and why a peer was not."""

    default: list[Cost] = field(default_factory=list)
    peers: list[Cost] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def answer(
    model: LoadedModel, people: Sequence[Person], tokens: int, *plans: SteeringPlan
) -> list[str]:
    """Answer people as our own batches do: with the given plans, or each with their own."""
    return generate_conversations(
        model,
        [person.conversation for person in people],
        plans=plans * len(people) if plans else [person.plan for person in people],
        sampling=Sampling(max_new_tokens=tokens),
    )


def decode_s(
    model: LoadedModel, people: Sequence[Person], tokens: int, *plans: SteeringPlan
) -> float:
    """Answer as `answer` does; return the seconds from the first token to the last."""
    answers = make_answers(
        model,
        [person.conversation for person in people],
        plans=plans * len(people) if plans else [person.plan for person in people],
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
    return took_s


def measure_default(subject: Subject, batch: int, *, tokens: int, rounds: int) -> list[Cost]:
    """Measure the default plan, and twice no plan, which shows what the machine's noise is."""
    groups = [_people(group, batch, number) for number, group in enumerate(make_groups(subject, 7))]

    def run(number: int, *plans: SteeringPlan) -> float:
        return decode_s(subject.model, groups[number % len(groups)], tokens, *plans)

    _check_length(subject.model, lambda: answer(subject.model, groups[0], tokens), tokens)
    times = time_in_turn(
        {
            "not steered": lambda number: run(number, NO_STEERING),
            "not steered, again": lambda number: run(number, NO_STEERING),
            "default plan": run,
        },
        rounds=rounds,
    )
    return _costs(times, batch, tokens, over={
        "not steered, again": "not steered", "default plan": "not steered",
    })  # fmt: skip


def measure_peers(
    subject: Subject, batch: int, prepared: dict[str, Generate], *, tokens: int, rounds: int
) -> list[Cost]:
    """Measure one added vector, ours and the peers', each over its own unsteered way."""
    model = subject.model
    people = make_groups(subject, 1)[0][:batch]
    inputs = _encode(model, people)
    vector = add_everywhere(*make_vector(subject))
    steered = answer(model, people, tokens, vector)
    assert steered != answer(model, people, tokens, NO_STEERING), "the vector changes nothing"
    _check_length(model, lambda: generate_plainly(model.model, inputs, tokens), tokens)
    ways: dict[str, Callable[[], object]] = {
        "ours, not steered": lambda: answer(model, people, tokens, NO_STEERING),
        "ours": lambda: answer(model, people, tokens, vector),
        "transformers, not steered": lambda: generate_plainly(model.model, inputs, tokens),
    }
    for name, generate in prepared.items():
        ways[name] = lambda generate=generate: generate(inputs, tokens)
    times = time_in_turn(
        {name: lambda _, run=run: _seconds(run) for name, run in ways.items()}, rounds=rounds
    )
    over = dict.fromkeys(prepared, "transformers, not steered") | {"ours": "ours, not steered"}
    same = {
        name: _decode(model, generate(inputs, tokens), inputs) == steered
        for name, generate in prepared.items()
    }
    return _costs(times, batch, tokens, over=over, same=same)


def make_vector(subject: Subject) -> tuple[int, Tensor]:
    """Return the middle layer, and a vector from the other languages to the last one.

    It is larger than what steers, so that every answer is another one within few tokens.
    """
    layer, last = subject.model.identity.layers // 2, len(subject.neurons.languages) - 1
    means = subject.neurons.residual_mean("body")[:, layer]
    direction = difference_from_others(means, last)
    return layer, direction / direction.norm() * means.norm(dim=1).mean() * _VECTOR_SIZE


def add_everywhere(layer: int, vector: Tensor) -> SteeringPlan:
    """Return the plan that adds a vector after a layer at every position."""
    edit = Edit(torch.arange(len(vector)), torch.ones(len(vector)), vector)
    return SteeringPlan({("residual", phase, layer): edit for phase in PHASES})


def prepare_peers(subject: Subject) -> tuple[dict[str, Generate], dict[str, str]]:
    """Return how to generate with each peer that can be imported, and why others cannot."""
    prepared, missing = {}, {}
    for name, prepare in PEERS.items():
        try:
            prepared[name] = prepare(
                subject.model.model, subject.model.tokenizer, *make_vector(subject)
            )
        except ModuleNotFoundError:
            missing[name] = "not installed"
        except (ImportError, AttributeError) as err:  # made for other versions of what it needs
            missing[name] = f"cannot be imported: {err}"
    return prepared, missing


def measure(
    subjects: Sequence[Subject], *, tokens: int, rounds: int, has_peers: bool
) -> dict[str, Found]:
    """Measure models; the peers come last, as one of them changes Python's `object`."""
    found = {subject.name: Found() for subject in subjects}
    for subject in subjects:
        never_end(subject.model.model)
        for batch in BATCHES:
            costs = measure_default(subject, batch, tokens=tokens, rounds=rounds)
            found[subject.name].default += costs
    for subject in subjects if has_peers else ():
        one = found[subject.name]
        prepared, one.missing = prepare_peers(subject)
        for batch in BATCHES:
            one.peers += measure_peers(subject, batch, prepared, tokens=tokens, rounds=rounds)
    return found


def _people(group: list[Person], batch: int, number: int) -> list[Person]:
    """Return a batch in which everybody is steered: the one who forces no language asks in fr.

    Alone is another of the seven languages in each group.
    """
    steered = [*group[:-1], Person(group[-1].conversation, group[2].plan)]
    return steered if batch > 1 else [steered[number % (PEOPLE - 1)]]


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _check_length(model: LoadedModel, run: Callable[[], object], tokens: int) -> None:
    """Make sure that as many tokens are written as are counted: one pass each."""
    passes: list[None] = []
    embeddings = model.model.get_input_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda *_: passes.append(None))
    try:
        run()
    finally:
        handle.remove()
    assert len(passes) == tokens, f"{len(passes)} passes for {tokens} tokens"


def _encode(model: LoadedModel, people: Sequence[Person]) -> dict[str, Tensor]:
    """Return the left-padded batch that transformers' `generate` takes."""
    prompts = [encode_prompt(model.tokenizer, person.conversation) for person in people]
    batch = model.tokenizer.pad({"input_ids": prompts}, return_tensors="pt", padding_side="left")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def _decode(model: LoadedModel, ids: Tensor, inputs: dict[str, Tensor]) -> list[str]:
    answers = ids[:, inputs["input_ids"].shape[1] :].tolist()
    texts = model.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [text.strip().rstrip("\ufffd") for text in texts]


def _costs(
    times: dict[str, list[float]],
    batch: int,
    tokens: int,
    *,
    over: dict[str, str],
    same: dict[str, bool] | None = None,
) -> list[Cost]:
    return [
        Cost(
            way,
            batch,
            batch * tokens / statistics.median(seconds),
            median_ratio(seconds, times[over[way]]) if way in over else None,
            (same or {}).get(way),
        )
        for way, seconds in times.items()
    ]


def print_table(found: dict[str, Found]) -> None:
    """Print what was measured on each model."""
    print("| model | way | batch | tokens/s | costs |\n|---|---|---|---|---|")
    for name, one in found.items():
        for cost in (*one.default, *one.peers):
            words = "" if cost.overhead is None else cost.overhead.overhead()
            if cost.way == "default plan":
                words += f", at most {LIMIT_OVERHEAD:.0%} is wanted"
            if cost.is_same_edit is not None:
                words += ", our answers" if cost.is_same_edit else ", OTHER ANSWERS"
            print(f"| {name} | {cost.way} | {cost.batch} | {cost.tokens_per_s:.1f} | {words} |")
        for peer, reason in one.missing.items():
            print(f"| {name} | {peer} | | | {reason} |")
    print(f"\nthreads: {torch.get_num_threads()}")


def as_json(found: dict[str, Found]) -> dict[str, object]:
    """Return what the last line says."""
    numbers: dict[str, object] = {}
    for batch in BATCHES:
        numbers[f"overhead_batch{batch}"] = max(
            round(cost.overhead.median - 1, 4)
            for one in found.values()
            for cost in one.default
            if cost.overhead and (cost.way, cost.batch) == ("default plan", batch)
        )
    for name, one in found.items():
        for cost in (*one.default, *one.peers):
            key = f"{name}_{cost.way}_batch{cost.batch}".replace(",", "").replace(" ", "_")
            numbers[f"{key}_tokens_per_s"] = round(cost.tokens_per_s, 2)
            if cost.overhead is not None:
                ends = (cost.overhead.median, cost.overhead.low, cost.overhead.high)
                numbers[f"{key}_overhead"] = [round(end - 1, 4) for end in ends]
            if cost.is_same_edit is not None:
                numbers[f"{key}_same_answers"] = cost.is_same_edit
    return numbers


def main() -> None:
    """Measure and print."""
    name = "python -m benchmarks.steering_overhead"
    parser = argparse.ArgumentParser(description=__doc__, prog=name)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="per answer")
    parser.add_argument("--layers", type=int, default=LAYERS_250M, help="of the random model")
    parser.add_argument("--bundled-alone", action="store_true", help="no random model")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--model", help="this one in place of the two")
    parser.add_argument("--neuron-set", type=Path, help="its set")
    parser.add_argument("--method", default="", help="what steers it (default: as its set says)")
    options = parser.parse_args()
    if (options.model is None) != (options.neuron_set is None):
        parser.error("expected `--model` and `--neuron-set`, or neither")
    if min(options.rounds, options.tokens, options.layers) < 1:
        parser.error(f"'{vars(options)}': expected numbers from 1 up")
    if options.model is not None:
        subjects = [load_subject(options.model, options.neuron_set, options.method)]
    else:
        made = make_subjects(options.layers)
        subjects = list(itertools.islice(made, 1 if options.bundled_alone else None))
    found = measure(
        subjects,
        tokens=options.tokens,
        rounds=options.rounds,
        has_peers=not options.without_peers,
    )
    print_table(found)
    print(json.dumps(as_json(found)))


if __name__ == "__main__":
    main()
