"""Steering methods on neurons: pure functions from a neuron set to a steering plan.

Adding a method is adding one function and one line of `METHODS`. Knows no model and no text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

from steering.errors import PlanError
from steering.languages import Language
from steering.neuron_set import NeuronSet, StrengthLevel
from steering.steering_plan import (
    EVERY_POSITION,
    NO_STEERING,
    SteeringPlan,
    plan_from_neurons,
)

# (set, target language, strength) -> plan
Method: TypeAlias = Callable[[NeuronSet, Language, float], SteeringPlan]


@dataclass(frozen=True, slots=True)
class SteeringRequest:
    """What a surface asks for, for one reply.

    Args:
        target: The answer's language; None leaves the model alone.
        method: A key of `METHODS`; the set's own when empty.
        strength: A level of the set, or a number; 0 leaves the model alone.
    """

    target: Language | None
    method: str = ""
    strength: StrengthLevel | float = "normal"


def plan_as_published(neurons: NeuronSet, target: Language, strength: float) -> SteeringPlan:
    """Switch the other languages' neurons off and add the target's mean to its own.

    At the gate site and every position. A neuron that the target shares is not switched off.

    Source: Tang et al. 2024, section 4.4, as far as the paper says; its code was not published.
    """
    row = neurons.position(target)
    is_own = neurons.is_member[row]
    own_mean = _text_means(neurons)[row]
    return plan_from_neurons(
        site="gate",
        phases=EVERY_POSITION,
        layer=neurons.layer,
        index=neurons.index,
        scale=is_own.float(),
        shift=torch.where(is_own, strength * own_mean, 0.0),
    )


def plan_own_at_onset(neurons: NeuronSet, target: Language, strength: float) -> SteeringPlan:
    """Add the target's mean to its own neurons, at the value site, at the onset alone."""
    own = neurons.neurons_of(target)
    mean = neurons.means("value", "onset")[neurons.position(target), own]
    return plan_from_neurons(
        site="value",
        phases=("onset",),
        layer=neurons.layer[own],
        index=neurons.index[own],
        scale=torch.ones(len(own)),
        shift=strength * mean,
    )


def plan_union_at_onset(neurons: NeuronSet, target: Language, strength: float) -> SteeringPlan:
    """Move every language-specific neuron from its mean over languages towards the target's.

    At the value site, at the onset alone; shift = strength x (mean in target - mean over all).
    """
    means_KU = neurons.means("value", "onset")
    difference = means_KU[neurons.position(target)] - means_KU.mean(dim=0)
    return plan_from_neurons(
        site="value",
        phases=("onset",),
        layer=neurons.layer,
        index=neurons.index,
        scale=torch.ones(len(neurons.layer)),
        shift=strength * difference,
    )


def deactivate(neurons: NeuronSet, language: Language) -> SteeringPlan:
    """Set a language's neurons to zero at the value site, at every position.

    Source: Tang et al. 2024, section 3.2; zero at the gate makes the product zero as well.
    """
    own = neurons.neurons_of(language)
    return deactivate_neurons(neurons.layer[own], neurons.index[own])


def deactivate_neurons(layer: torch.Tensor, index: torch.Tensor) -> SteeringPlan:
    """Set the given neurons, int64 `(units,)` each, to zero at every position."""
    zeros = torch.zeros(len(layer))
    return plan_from_neurons(
        site="value", phases=EVERY_POSITION, layer=layer, index=index, scale=zeros, shift=zeros
    )


METHODS: Mapping[str, Method] = {
    "lape": plan_union_at_onset,
    "lape-own": plan_own_at_onset,
    "lape-paper": plan_as_published,
}
DEFAULT_METHOD = "lape"
DEFAULT_STRENGTHS: Mapping[StrengthLevel, float] = {"gentle": 2.0, "normal": 4.0, "strong": 6.0}


def make_plan(neurons: NeuronSet, request: SteeringRequest) -> SteeringPlan:
    """Return the plan that a request asks for.

    Raises:
        PlanError: If the method is unknown or the strength is not a number of at least 0.
        UnknownLanguageError: If the set does not hold the target.
    """
    if request.target is None:
        return NO_STEERING
    name = request.method or neurons.metadata.steering_method or DEFAULT_METHOD
    if name not in METHODS:
        raise PlanError(
            f"Unknown steering method '{name}'. Expected one of: {', '.join(METHODS)}; "
            "leave it out for the set's own."
        )
    strength = resolve_strength(neurons, request.strength)
    return METHODS[name](neurons, request.target, strength) if strength else NO_STEERING


def resolve_strength(neurons: NeuronSet, strength: StrengthLevel | float) -> float:
    """Return the number behind a strength level of a set.

    Raises:
        PlanError: If it is neither a level nor a finite number of at least 0.
    """
    if isinstance(strength, str):
        levels = {**DEFAULT_STRENGTHS, **neurons.metadata.strengths}
        if strength in levels:
            return levels[strength]
    elif 0 <= strength < float("inf"):
        return float(strength)
    raise PlanError(
        f"Strength is '{strength}'. Expected gentle, normal, strong, or a number from 0 up; "
        "choose one of these."
    )


def _text_means(neurons: NeuronSet) -> torch.Tensor:
    """Return gate means over text, or over answers where no text was recorded."""
    return neurons.means("gate", "text" if "text" in neurons.gate_means else "body")
