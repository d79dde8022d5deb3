"""Which neurons a person switches off, and the plan that does it. Pure; knows no page."""

from collections.abc import Collection
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.languages import Language
from steering.neuron_plans import deactivate_neurons
from steering.neuron_set import NeuronSet
from steering.steering_plan import SteeringPlan, combine_plans
from steering.ui.wording import Refusal

# own: the language's; all: every language's; random: as many as the language's, in the same layers.
Group: TypeAlias = Literal["own", "all", "other", "random"]


def neurons_of_group(neurons: NeuronSet, group: Group, language: Language) -> tuple[Tensor, Tensor]:
    """Return layer and index of a group's neurons, int64 `(units,)` each.

    Args:
        neurons: The set.
        group: Which.
        language: The language that is looked at, or the other one.

    Raises:
        Refusal: If random ones are wanted of a set that has none.
    """
    if group == "all":
        return neurons.layer, neurons.index
    if group != "random":
        own = neurons.neurons_of(language)
        return neurons.layer[own], neurons.index[own]
    control = neurons.control
    if control is None:
        raise Refusal("no_random_neurons")
    # The control has as many in each layer as all languages together, so at least as many.
    chosen = [
        (control.layer == layer).nonzero().flatten()[:count]
        for layer, count in enumerate(neurons.layer_counts(language))
    ]
    places = torch.cat(chosen)
    return control.layer[places], control.index[places]


def count_by_layer(neurons: NeuronSet, group: Group, language: Language) -> dict[int, int]:
    """Return how many neurons of a group the layers hold that hold any."""
    layer, _ = neurons_of_group(neurons, group, language)
    found, counts = torch.unique(layer, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def switch_off(
    neurons: NeuronSet, group: Group, language: Language, layers: Collection[int]
) -> tuple[SteeringPlan, int]:
    """Return the plan that sets a group's neurons in some layers to zero, and how many these are.

    Raises:
        Refusal: If there is none.
    """
    layer, index = neurons_of_group(neurons, group, language)
    chosen = torch.isin(layer, torch.tensor(sorted(layers), dtype=layer.dtype))
    if not chosen.any():
        raise Refusal("no_neuron_chosen")
    return deactivate_neurons(layer[chosen], index[chosen]), int(chosen.sum())


def with_switched_off(steering: SteeringPlan, off: SteeringPlan) -> SteeringPlan:
    """Return a steering plan with neurons switched off: zero is the last word on each of them.

    At one place two edits are made one after the other, and 0 x (scale x a + shift) + 0 is 0. What
    the plan does to a neuron at the gate site comes to nothing as well, as the value is 0.
    """
    return combine_plans(steering, off)
