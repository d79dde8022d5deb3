"""The models that the benchmarks of serving run on, and the people who ask them.

The bundled model with its own neuron set, and a random Llama of 250 million parameters with a set
of the same method; or any model with its set. The benchmarks run them.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.random_model import make_random_model, make_random_set
from steering.bundled import BUNDLED_NEURON_SET
from steering.cli.bundled_prompts import held_out_prompts
from steering.conversation import Message
from steering.everyday_prompts import everyday_prompts
from steering.languages import LANGUAGES, Language
from steering.loading import BUNDLED_MODEL, LoadedModel, load_model
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.steerer import check_set_fits_model
from steering.steering_plan import NO_STEERING, SteeringPlan

PEOPLE = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the set that steers it; its name is part of the names in the JSON line.

    Args:
        name: What it is called.
        model: The model.
        neurons: Its set.
        method: What steers it; the set's default when empty.
        speaks_grammar: Whether it is asked in the bundled model's grammar, or everyday questions.
    """

    name: str
    model: LoadedModel
    neurons: NeuronSet
    method: str = ""
    speaks_grammar: bool = True

    def plan(self, language: Language | None) -> SteeringPlan:
        """Return the plan at normal strength, nothing for no language."""
        return make_plan(self.neurons, SteeringRequest(language, self.method))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who asks one question, in one language for an answer in another."""

    conversation: tuple[Message, ...]
    plan: SteeringPlan


def make_subjects(layers: int) -> Iterator[Subject]:
    """Yield the bundled model, then a random one of so many layers."""
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    yield Subject("bundled", load_model(BUNDLED_MODEL), neurons)
    model = make_random_model(layers)
    yield Subject("random", model, make_random_set(model, neurons))


def load_subject(model: str, neuron_set: Path, method: str) -> Subject:
    """Load any model with its set."""
    loaded, neurons = load_model(model), load_neuron_set(neuron_set)
    check_set_fits_model(neurons, loaded)
    return Subject(Path(model).stem, loaded, neurons, method, speaks_grammar=False)


def make_groups(subject: Subject, count: int) -> list[list[Person]]:
    """Return groups of eight people: one for each of seven languages, and one who forces none.

    Their questions are other ones in each group: held-out ones of the bundled model's grammar, or
    everyday ones in English.
    """
    if not subject.speaks_grammar:
        return _make_everyday_groups(subject, count)
    languages = subject.neurons.languages
    assert len(languages) == PEOPLE - 1
    made = held_out_prompts(4 * PEOPLE * (count + 2), seed=0, languages=languages)
    groups = []
    for _ in range(count):
        group = []
        for language in (*languages, None):
            prompt = next(one for one in made if language in (None, one.target))
            made.remove(prompt)
            plan = NO_STEERING if language is None else subject.plan(language)
            group.append(Person((Message("user", prompt.text),), plan))
        groups.append(group)
    return groups


def _make_everyday_groups(subject: Subject, count: int) -> list[list[Person]]:
    questions = itertools.cycle(everyday_prompts(LANGUAGES["en"]))
    targets = [language for language in subject.neurons.languages if language.code != "en"]
    languages = itertools.cycle(targets)
    groups = []
    for _ in range(count):
        chosen = [*itertools.islice(languages, PEOPLE - 1), None]
        plans = [NO_STEERING if one is None else subject.plan(one) for one in chosen]
        groups.append([Person((Message("user", next(questions)),), plan) for plan in plans])
    return groups
