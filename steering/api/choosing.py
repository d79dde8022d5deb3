"""Which models there are by name, and what steers the answer that a request asks for.

A language is asked for by the field `steering`, or by the model's name: `langsteer:fr`.
Knows names, sets and plans, not the engine.
"""

from collections.abc import Callable
from dataclasses import dataclass

from steering.api.asked import ChatCompletionRequest, SteeringFields
from steering.api.refusals import Refusal
from steering.detection import language_of_prompt
from steering.errors import PlanError, SteeringError, UnknownLanguageError
from steering.guard import GuardSpec, make_guard
from steering.languages import Language, parse_language
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING, SteeringPlan

ALIAS = "langsteer"  # the name of whichever model is served


@dataclass(frozen=True, slots=True)
class Choice:
    """What steers one answer.

    Args:
        language: The answer's; None forces none.
        plan: What to steer with.
        guard: What watches the answer; None where nothing does.
        languages: The languages in play.
    """

    language: Language | None
    plan: SteeringPlan
    guard: GuardSpec | None
    languages: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that is served, under all its names.

    Args:
        model_id: Its own name.
        neuron_set: Returns the set that it is steered with, None while there is none.
    """

    model_id: str
    neuron_set: Callable[[], NeuronSet | None]

    def names(self) -> list[str]:
        """Return the names that a client may choose from: one for each language as well."""
        neurons = self.neuron_set()
        codes = [language.code for language in neurons.languages] if neurons else []
        return [self.model_id, ALIAS, *(f"{ALIAS}:{code}" for code in codes)]

    def language_of(self, name: str) -> Language | None:
        """Return the language that a model's name asks for, None if it asks for none.

        Raises:
            Refusal: If no model has this name.
        """
        if name in (self.model_id, ALIAS):
            return None
        model, _, code = name.rpartition(":")
        neurons = self.neuron_set()
        if model in (self.model_id, ALIAS) and neurons is not None:
            try:
                return parse_language(code, known=neurons.languages)
            except UnknownLanguageError as err:
                raise _no_such_model(f"No model '{name}'. {err}") from err
        if model in (self.model_id, ALIAS):
            raise _no_such_model(f"No model '{name}'. {_no_set(code)}")
        raise _no_such_model(
            f"No model '{name}'. Expected '{self.model_id}', or '{ALIAS}' for whichever is served, "
            f"with a language such as '{ALIAS}:fr' if you like; GET /v1/models lists them."
        )

    def choose(self, asked: ChatCompletionRequest) -> Choice:
        """Return what steers the answer to a request.

        Raises:
            Refusal: If the model or its steering cannot be had.
        """
        by_name = self.language_of(asked.model)
        fields = asked.steering or SteeringFields()
        neurons = self.neuron_set()
        language = by_name or self._read_language(fields, neurons)
        if by_name and fields.language and self._read_language(fields, neurons) != by_name:
            raise Refusal(
                400,
                f"The model '{asked.model}' asks for '{by_name}', 'steering.language' for "
                f"'{fields.language}'. Expected one language; leave one of the two out.",
                param="steering.language",
            )
        if language is None and fields.model_fields_set:
            raise Refusal(
                400,
                f"'steering' has no language, but {', '.join(sorted(fields.model_fields_set))}. "
                "Expected a language such as 'fr'; add it, or leave 'steering' out.",
                param="steering.language",
            )
        if language is None or neurons is None:
            return Choice(None, NO_STEERING, None, neurons.languages if neurons else ())
        request = SteeringRequest(
            language,
            fields.method,
            fields.strength,
            language_of_prompt(asked.messages[-1].content, languages=neurons.languages),
        )
        try:
            plan = make_plan(neurons, request)
            guard = make_guard(neurons, request) if fields.guard else None
        except SteeringError as err:
            raise Refusal(400, str(err), param="steering") from err
        return Choice(language, plan, guard, neurons.languages)

    def _read_language(self, fields: SteeringFields, neurons: NeuronSet | None) -> Language | None:
        if fields.language is None:
            return None
        try:
            if neurons is None:
                raise PlanError(_no_set(fields.language))
            return parse_language(fields.language, known=neurons.languages)
        except SteeringError as err:
            raise Refusal(400, str(err), param="steering.language") from err


def _no_set(language: str) -> str:
    return (
        f"Cannot steer to '{language}': this model has no neuron set yet. Expected no language "
        "until there is one; it can be made on the page."
    )


def _no_such_model(message: str) -> Refusal:
    return Refusal(404, message, param="model", code="model_not_found")
