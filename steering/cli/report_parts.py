"""Which parts a report has, and everything that each of them depends on."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from steering.cli.compare_sets import condition_of_set
from steering.cli.conditions import ChosenSets, read_conditions, split_usable
from steering.cli.evaluate_forcing import choose_prompts, hash_prompts
from steering.cli.held_out_text import (
    PackText,
    choose_text,
    hash_rows,
    name_text,
    pack_all,
    uncounted_tokens,
)
from steering.cli.provenance import (
    describe_machine,
    describe_versions,
    hash_program,
)
from steering.cli.sharing import hash_questions, read_questions
from steering.evaluation.forcing import Condition, ForcingPrompt
from steering.evaluation.parallel_prompts import ParallelPrompts
from steering.evaluation.sharing_accuracy import AccuracyOptions
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set
from steering.set_comparison import compare_sets
from steering.steering_plan import NO_STEERING
from steering.study.measuring import (
    ForcingTask,
    PerplexityTask,
    measure_forcing,
    measure_perplexity,
    measure_shared,
    perplexity_steps,
    sharing_changes,
)
from steering.study.parts import Finding, Part, Progress
from steering.study.sets import compare_with, describe_sets

_TEXT_HEADING = "Perplexity change"
_SHARING_HEADING = "Neurons that languages share"


@dataclass(frozen=True, slots=True)
class Sets:
    """The sets of a report, each once.

    Args:
        by_name: All of them.
        own: Name of the report's own.
        paper: Name of the one whose neurons are switched off; found on text, as published.
        others: Names of those that the report's own is compared with.
    """

    by_name: Mapping[str, NeuronSet]
    own: str
    paper: str
    others: Sequence[str]

    @property
    def chosen(self) -> ChosenSets:
        """Return the report's own and the one found on text."""
        return ChosenSets(self.by_name[self.own], self.by_name[self.paper])

    @property
    def compared(self) -> dict[str, NeuronSet]:
        """Return the report's own and those that it is compared with."""
        return {name: self.by_name[name] for name in (self.own, *self.others)}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that is read before a model is loaded.

    Args:
        sets: The sets.
        prompts: Of language forcing.
        packs: Per name of a set, what packs text of its languages; empty without text.
        questions: Parallel prompts; None without.
        hashes: Of prompts and questions, by what they are.
    """

    sets: Sets
    prompts: Sequence[ForcingPrompt]
    packs: Mapping[str, PackText]
    questions: ParallelPrompts | None
    hashes: Mapping[str, str] = field(default_factory=dict)


def read_inputs(options: argparse.Namespace, sets: Sets) -> Inputs:
    """Read prompts, text and questions.

    Raises:
        SteeringError: If one of them cannot be read.
    """
    has_text = options.text is not None or options.model == BUNDLED_MODEL
    has_questions = options.questions is not None or options.model == BUNDLED_MODEL
    prompts = choose_prompts(options, sets.chosen.neurons.languages)
    questions = _read_questions(options) if has_questions else None
    hashes = {"prompts sha256": hash_prompts(prompts)}
    if questions is not None:
        hashes["questions sha256"] = hash_questions(questions)
    return Inputs(
        sets=sets,
        prompts=prompts,
        packs={name: choose_text(options, one) for name, one in sets.by_name.items()}
        if has_text
        else {},
        questions=questions,
        hashes=hashes,
    )


def make_parts(
    options: argparse.Namespace, inputs: Inputs, model: LoadedModel
) -> tuple[list[Part], dict[str, str]]:
    """Return the parts in the order of the report, and why others were left out."""
    common = _common_settings(options, inputs, model)
    perplexity = _perplexity_task(options, inputs, model)
    parts = [_sets_part(inputs, common), _forcing_part(options, inputs, model, common)]
    left_out = {}
    if perplexity is None:
        left_out[_TEXT_HEADING] = (
            "No held-out text was given; name a folder of it with `--text`. Only the bundled model "
            "has some of its own."
        )
    else:
        parts.append(_perplexity_part(inputs, model, perplexity, common))
    if inputs.questions is None:
        left_out[_SHARING_HEADING] = (
            "No parallel prompts were given; name a file of them with `--questions`. Only the "
            "bundled model has some of its own."
        )
    else:
        parts.append(_sharing_part(options, inputs.questions, model, common, inputs.hashes))
    if options.compare:
        parts.append(_comparison_part(options, inputs, model, perplexity, common))
    return parts, left_out


def _common_settings(
    options: argparse.Namespace, inputs: Inputs, model: LoadedModel
) -> dict[str, str]:
    identity = model.identity
    return {
        "program": hash_program(),
        **describe_versions(),
        **describe_machine(model),
        "model": f"{identity.model_id} {identity.revision} {identity.tokenizer_sha256}",
        "loaded": f"quantize {options.quantize}, dtype {options.dtype}, {model.model.dtype}",
        "set": hash_neuron_set(inputs.sets.chosen.neurons),
        "seed": str(options.seed),
    }


def _sets_part(inputs: Inputs, common: Mapping[str, str]) -> Part:
    return Part(
        name="sets",
        heading="The set" if len(inputs.sets.by_name) == 1 else "The sets",
        settings={**common, **_hash_sets(inputs.sets.by_name)},
        steps=len(inputs.sets.by_name),
        measure=partial(describe_sets, sets=inputs.sets.by_name),
    )


def _forcing_part(
    options: argparse.Namespace, inputs: Inputs, model: LoadedModel, common: Mapping[str, str]
) -> Part:
    task = _forcing_task(options, inputs, read_conditions(options.conditions, inputs.sets.chosen))
    paper = hash_neuron_set(inputs.sets.chosen.paper)
    return Part(
        name="forcing",
        heading="Language forcing",
        settings={
            **common,
            **inputs.hashes,
            "conditions": options.conditions,
            "paper set": paper,
        },
        steps=len(task.prompts) * len(task.conditions),
        measure=partial(measure_forcing, task=task, model=model),
    )


def _perplexity_part(
    inputs: Inputs, model: LoadedModel, task: PerplexityTask, common: Mapping[str, str]
) -> Part:
    neurons = inputs.sets.chosen.paper
    text = hash_rows(task.rows, task.uncounted)
    return Part(
        name="perplexity",
        heading=_TEXT_HEADING,
        settings={
            **common,
            "paper set": hash_neuron_set(neurons),
            "text": text,
        },
        steps=perplexity_steps(neurons),
        measure=partial(
            measure_perplexity, task=task, named=(inputs.sets.paper, neurons), model=model
        ),
    )


def _sharing_part(
    options: argparse.Namespace,
    questions: ParallelPrompts,
    model: LoadedModel,
    common: Mapping[str, str],
    hashes: Mapping[str, str],
) -> Part:
    how = AccuracyOptions(batch_rows=4 * options.batch_size, seed=options.seed)
    answers = len(questions.prompts) * len(questions.languages)
    changes = len(sharing_changes()) if questions.has_answers else 0
    return Part(
        name="sharing",
        heading=_SHARING_HEADING,
        settings={**common, "questions": hashes["questions sha256"]},
        steps=len(questions.prompts) + changes * answers,
        measure=partial(measure_shared, read=questions, model=model, options=how),
    )


def _comparison_part(
    options: argparse.Namespace,
    inputs: Inputs,
    model: LoadedModel,
    perplexity: PerplexityTask | None,
    common: Mapping[str, str],
) -> Part:
    sets = inputs.sets.compared
    languages = compare_sets(sets).languages
    conditions = [Condition("none", lambda _: NO_STEERING)]
    conditions += [condition_of_set(name, one) for name, one in sets.items()]
    prompts = [one for one in inputs.prompts if one.target in languages]
    forcing = _forcing_task(options, replace(inputs, prompts=prompts), conditions)
    steps = len(forcing.prompts) * len(forcing.conditions)
    text = "none" if perplexity is None else hash_rows(perplexity.rows, perplexity.uncounted)

    def measure(_: Path, progress: Progress) -> Finding:
        return compare_with(
            progress, sets=sets, model=model, forcing=forcing, perplexity=perplexity
        )

    return Part(
        name="comparison",
        heading="Other sets",
        settings={
            **common,
            **inputs.hashes,
            **_hash_sets(sets),
            "text": text,
        },
        steps=steps + sum(perplexity_steps(one) for one in sets.values()) * bool(perplexity),
        measure=measure,
    )


def _forcing_task(
    options: argparse.Namespace, inputs: Inputs, conditions: Sequence[Condition]
) -> ForcingTask:
    """Return the task without conditions that a set has nothing for, such as random neurons."""
    usable, notes = split_usable(conditions, inputs.prompts)
    return ForcingTask(
        inputs.prompts, usable, inputs.sets.chosen.neurons.languages, options.batch_size, notes
    )


def _perplexity_task(
    options: argparse.Namespace, inputs: Inputs, model: LoadedModel
) -> PerplexityTask | None:
    if not inputs.packs:
        return None
    rows = pack_all(model, inputs.packs, inputs.sets.by_name, row_tokens=options.row_tokens)
    text = name_text(options)
    text = text if options.text is None else f"`{text}`"
    return PerplexityTask(rows, text, uncounted_tokens(options, model), options.seed)


def _read_questions(options: argparse.Namespace) -> ParallelPrompts:
    asked = argparse.Namespace(
        prompts=options.questions,
        model=options.model,
        count=options.sharing_count,
        groups_only=True,  # without answers there is less to say, and the report says so
    )
    return read_questions(asked)


def _hash_sets(sets: Mapping[str, NeuronSet]) -> dict[str, str]:
    return {f"set {name}": hash_neuron_set(one) for name, one in sets.items()}
