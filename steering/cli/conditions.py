"""How a command line names what is compared: controls, methods, and the set's own default."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steering.bundled import BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    add_set_argument,
    check_set,
    choose_neuron_set,
    load_chosen_model,
)
from steering.detection import language_of_prompt
from steering.errors import CorpusError, PlanError, SettingsError, StatsError
from steering.evaluation.forcing import Condition, ForcingPrompt
from steering.guard import make_guard
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.methods import (
    METHODS,
    SteeringRequest,
    default_method,
    make_plan,
    parse_method,
    with_random,
    without_lape,
)
from steering.neuron_set import NeuronSet, StrengthLevel
from steering.neuron_set_file import load_neuron_set
from steering.steering_plan import NO_STEERING, SteeringPlan

CONTROLS = ("none", "instruction")
DEFAULT_CONDITIONS = "none,instruction,random,lape-paper,lape,diffmean,default"
# The set's default with its LAPE neurons taken out, or others in their place.
_ABLATIONS: Mapping[str, Callable[[str], str]] = {
    "default-without-lape": without_lape,
    "default-with-random": with_random,
}
_LEVELS: tuple[StrengthLevel, ...] = ("gentle", "normal", "strong")


@dataclass(frozen=True, slots=True)
class ChosenSets:
    """The set that is steered with, and the one found on plain text, as published."""

    neurons: NeuronSet
    paper: NeuronSet

    def all(self) -> tuple[NeuronSet, ...]:
        """Return both."""
        return self.neurons, self.paper


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--neuron-set` and `--paper-set`."""
    add_set_argument(parser)
    parser.add_argument(
        "--paper-set", type=Path, help="set found on text, for lape-paper (default: --neuron-set)"
    )


def add_measuring_arguments(
    parser: argparse.ArgumentParser, *, conditions: str, count: int | None, of: str, tokens: int
) -> None:
    """Add everything that the commands which compare conditions share, with their defaults."""
    add_model_arguments(parser)
    add_set_arguments(parser)
    parser.add_argument("--count", type=int, default=count, help=f"how many of {of}")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of sampling")
    parser.add_argument(
        "--conditions",
        default=conditions,
        help="none, instruction, default, guarded, default-without-lape, default-with-random, "
        "gentle, strong, or methods such as lape@7, with commas",
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="share of probability to sample from; page: 0.95"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        help="1 for none; when omitted what the model's generation_config.json asks for, which "
        "GGUF files have lost",
    )
    parser.add_argument("--max-new-tokens", type=int, default=tokens)
    parser.add_argument("--batch-size", type=int, default=16, help="answers per batch")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")


def load_model_for(sets: ChosenSets, options: argparse.Namespace) -> LoadedModel:
    """Load the model, and check that the sets are its own."""
    model = load_chosen_model(options)
    for neuron_set in sets.all():
        check_set(neuron_set, model)
    return model


def load_chosen_sets(options: argparse.Namespace) -> ChosenSets:
    """Load the sets that the arguments name, or that ship for the model."""
    neurons = load_neuron_set(choose_neuron_set(options))
    path = options.paper_set
    if path is None and options.model == BUNDLED_MODEL:
        path = BUNDLED_PAPER_SET
    return ChosenSets(neurons, load_neuron_set(path) if path else neurons)


def read_conditions(text: str, sets: ChosenSets) -> list[Condition]:
    """Read conditions with commas between them.

    Each is `none`, `instruction`, `default` (the set's own method and normal strength), `guarded`
    (the same, with passages in another language written again), `default-without-lape` (the same
    method without its LAPE steps), `default-with-random` (with as many random neurons in their
    place), a level of it (`gentle`, `strong`), or a method as `methods.parse_method` reads it, at
    strength 1.

    Raises:
        PlanError: If the set's method has no LAPE step to take out.
        SettingsError: Naming a condition that is none of these.
    """
    conditions = [_read_condition(part.strip(), sets) for part in text.split(",") if part.strip()]
    if not conditions:
        raise SettingsError(
            f"`--conditions` is '{text}'. Expected some, such as none,default; see `--help`."
        )
    return conditions


def _read_condition(text: str, sets: ChosenSets) -> Condition:
    if text in CONTROLS:
        return Condition(text, lambda _: NO_STEERING, is_instructed=text == "instruction")
    level = next((level for level in _LEVELS if text == level), None)
    if text == "default" or level is not None:
        return Condition(
            text,
            lambda prompt: plan_for_prompt(sets.neurons, prompt, "", level or "normal"),
        )
    if text in _ABLATIONS:
        method = _ABLATIONS[text](default_method(sets.neurons))
        return Condition(
            text, lambda prompt: plan_for_prompt(sets.neurons, prompt, method, "normal")
        )
    if text == "guarded":
        return Condition(
            text,
            lambda prompt: plan_for_prompt(sets.neurons, prompt, "", "normal"),
            make_guard=lambda prompt: make_guard(
                sets.neurons, _request(sets.neurons, prompt, "", "normal")
            ),
        )
    try:
        names = {step.name for step in parse_method(text)}
    except PlanError as err:
        known = ", ".join([*CONTROLS, "default", "guarded", *_ABLATIONS, *_LEVELS, *METHODS])
        raise SettingsError(
            f"Unknown condition '{text}': {err} Conditions are: {known}; see `--help`."
        ) from None
    chosen = sets.paper if "lape-paper" in names else sets.neurons
    return Condition(text, lambda prompt: plan_for_prompt(chosen, prompt, text, 1.0))


def split_usable(
    conditions: Sequence[Condition], prompts: Sequence[ForcingPrompt]
) -> tuple[list[Condition], list[str]]:
    """Return the conditions that can be measured, and why each other one cannot.

    A set may have nothing for one: no random neurons, or means of plain text alone.

    Raises:
        CorpusError: If there are no prompts.
        StatsError: If there is no condition that can be measured.
    """
    if not prompts:
        raise CorpusError(
            "There are '0' prompts whose answer's language is in the set. Expected at least one; "
            "ask for more, or name a file with `--prompts`."
        )
    usable, notes = [], []
    for condition in conditions:
        try:
            condition.make_plan(prompts[0])
            usable.append(condition)
        except (PlanError, StatsError) as err:
            notes.append(f"`{condition.name}` was left out: {err}")
    if not usable:
        raise StatsError(" ".join(notes))
    return usable, notes


def plan_for_prompt(
    neurons: NeuronSet, prompt: ForcingPrompt, method: str, strength: StrengthLevel | float
) -> SteeringPlan:
    """Return the plan of a prompt whose language is not told but detected, as on the page."""
    return make_plan(neurons, _request(neurons, prompt, method, strength))


def _request(
    neurons: NeuronSet, prompt: ForcingPrompt, method: str, strength: StrengthLevel | float
) -> SteeringRequest:
    source = language_of_prompt(prompt.text, languages=neurons.languages)
    return SteeringRequest(prompt.target, method, strength, source)
