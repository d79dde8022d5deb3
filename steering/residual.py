"""Steering in the residual stream: pure functions from a neuron set's means to a plan.

These are the controls that neurons have to measure up to. Knows no model and no text. Dimension
key: see `activation_stats.py`.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.errors import PlanError
from steering.language_subspace import LanguageSubspace
from steering.languages import Language
from steering.neuron_set import NeuronSet, difference_from_others
from steering.steering_plan import (
    Edit,
    Phase,
    Place,
    SteeringPlan,
    SubspacePull,
    Where,
    layers_of,
)

# The published code overwrites 400 of Llama-2-7B's 4,096 dimensions (arXiv 2510.07213).
DIMENSION_FRACTION = 0.1
# How much of the push starts at the prompt's own language. With 1 a prompt in the target's language
# is left alone, and answers in English where the model is off target; with 0 it is pushed as if it
# were in any other, and loses right answers (docs/log.md).
SOURCE_SHARE = 0.7
# Without calibration one layer three quarters up, which did best on Qwen2.5-Coder 0.5B and 1.5B
# (docs/log.md); layer 20 of 32 was best for Llama 3.1 in CLaS-Bench (arXiv 2601.08331).
_USUAL_DEPTHS = (0.75, 0.75)

# Which recorded phase's means stand for the positions of a phase, best first.
_MEANS_OF: dict[Phase, tuple[StatsPhase, ...]] = {
    "prompt": ("text", "body"),
    "onset": ("onset",),
    "start": ("body", "text"),
    "body": ("body", "text"),
}


def difference_of_means(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Add strength x (mean in target - mean in the others) to the stream after a layer.

    Source: DiffMean as in CLaS-Bench, arXiv 2601.08331. Differs: means of the phase that is
    edited, see docs/sources.md#diffmean.
    """

    def rule(means_KH: Tensor) -> Edit:
        hidden = means_KH.shape[1]
        shift = strength * difference_from_others(means_KH, neurons.position(target))
        return Edit(torch.arange(hidden), torch.ones(hidden), shift)

    return _edit(neurons, where, rule)


def difference_from_source(
    neurons: NeuronSet, target: Language, strength: float, where: Where, source: Language
) -> SteeringPlan:
    """Move the stream after a layer from where the prompt's language puts it towards the target.

    In words: shift = strength x (mean in target - (0.7 x mean in the prompt's language + 0.3 x mean
    in the languages that are not the target)). A prompt that is in the target gets a small push.

    Source: ours.
    """

    def rule(means_KH: Tensor) -> Edit:
        hidden, row = means_KH.shape[1], neurons.position(target)
        from_source = means_KH[row] - means_KH[neurons.position(source)]
        away = SOURCE_SHARE * from_source + (1 - SOURCE_SHARE) * difference_from_others(
            means_KH, row
        )
        return Edit(torch.arange(hidden), torch.ones(hidden), strength * away)

    return _edit(neurons, where, rule)


def pull_in_subspace(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Pull the stream to the target's mean within the span of the languages' means.

    The formula is `LanguageSubspace.pull_to`; whatever the prompt's language, it leads to the same
    point.

    Source: ours; a subspace from the languages' means is in arXiv 2401.05792. Differs: see
    docs/sources.md#subspace.
    """
    row = neurons.position(target)
    pulls: dict[Place, SubspacePull] = {}
    for phase, layer in itertools.product(where.phases, _chosen_layers(neurons, where)):
        space = _language_subspace(neurons, _MEANS_OF[phase], layer)
        pulls["residual", phase, layer] = space.pull_to(row, strength)
    return SteeringPlan({}, pulls)


@functools.lru_cache(maxsize=512)
def _language_subspace(
    neurons: NeuronSet, phases: tuple[StatsPhase, ...], layer: int
) -> LanguageSubspace:
    """Return the subspace; the same object for every target, so that rows of a batch share it."""
    return LanguageSubspace.spanned_by(_means(neurons, phases)[:, layer])


def specific_dimensions(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Move the dimensions that tell the target from the others to their mean in the target.

    In words: of the tenth of the dimensions with the largest |mean in target - mean in the
    others|, scale 1 - strength, shift = strength x mean in target.

    Source: language-specific dimensions, arXiv 2510.07213. Differs: see docs/sources.md#dimensions.
    """

    def rule(means_KH: Tensor) -> Edit:
        row = neurons.position(target)
        count = max(1, round(means_KH.shape[1] * DIMENSION_FRACTION))
        units = difference_from_others(means_KH, row).abs().topk(count).indices.sort().values
        return Edit(units, torch.full((count,), 1 - strength), strength * means_KH[row, units])

    return _edit(neurons, where, rule)


def _means(neurons: NeuronSet, phases: tuple[StatsPhase, ...]) -> Tensor:
    """Return the means of the first recorded phase, `(languages, layers, hidden)`."""
    recorded = (phase for phase in phases if phase in neurons.residual_means)
    return neurons.residual_mean(next(recorded, phases[0]))


def _edit(neurons: NeuronSet, where: Where, rule: Callable[[Tensor], Edit]) -> SteeringPlan:
    """Make the edit that the rule says of the means `(languages, hidden)` of every place."""
    layers = _chosen_layers(neurons, where)
    return SteeringPlan(
        {
            ("residual", phase, layer): rule(_means(neurons, _MEANS_OF[phase])[:, layer])
            for phase in where.phases
            for layer in layers
        }
    )


def _chosen_layers(neurons: NeuronSet, where: Where) -> tuple[int, ...]:
    """Return the layers that a method edits; refuse another site, and layers there are not."""
    if where.site != "residual":
        raise PlanError(
            f"A method that edits the residual was given the site '{where.site}'. Expected "
            "residual; leave the site out, or use a method that edits neurons."
        )
    layers = neurons.metadata.layers
    return layers_of(where, layers) or layers_of(replace(where, depths=_USUAL_DEPTHS), layers)
