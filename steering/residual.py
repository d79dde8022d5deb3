"""Steering in the residual stream: pure functions from a neuron set's means to a plan.

These are the controls that neurons have to measure up to. Knows no model and no text. Dimension
key: see `activation_stats.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.errors import PlanError
from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.steering_plan import Edit, Phase, SteeringPlan, Where

# The published code overwrites 400 of Llama-2-7B's 4,096 dimensions (arXiv 2510.07213).
DIMENSION_FRACTION = 0.1
# Without calibration a layer two thirds up: layer 20 of 32 was best for Llama 3.1 in CLaS-Bench
# (arXiv 2601.08331).
_USUAL_DEPTH = 2 / 3

_MEANS_OF: dict[Phase, StatsPhase] = {
    "prompt": "text", "onset": "onset", "start": "body", "body": "body",
}  # fmt: skip


def difference_of_means(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Add strength x (mean in target - mean in the others) to the stream after a layer.

    Source: DiffMean as in CLaS-Bench, arXiv 2601.08331. Differs: means of the phase that is
    edited, see docs/sources.md#diffmean.
    """

    def rule(means_KH: Tensor) -> Edit:
        hidden = means_KH.shape[1]
        shift = strength * _difference(means_KH, neurons.position(target))
        return Edit(torch.arange(hidden), torch.ones(hidden), shift)

    return _edit(neurons, where, rule)


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
        units = _difference(means_KH, row).abs().topk(count).indices.sort().values
        return Edit(units, torch.full((count,), 1 - strength), strength * means_KH[row, units])

    return _edit(neurons, where, rule)


def _difference(means_KH: Tensor, row: int) -> Tensor:
    others = (means_KH.sum(dim=0) - means_KH[row]) / max(1, means_KH.shape[0] - 1)
    return means_KH[row] - others


def _edit(neurons: NeuronSet, where: Where, rule: Callable[[Tensor], Edit]) -> SteeringPlan:
    if where.site != "residual":
        raise PlanError(
            f"A method that edits the residual was given the site '{where.site}'. Expected "
            "residual; leave the site out, or use a method that edits neurons."
        )
    layers = neurons.metadata.layers
    chosen = where.layers or (min(layers - 1, round(layers * _USUAL_DEPTH)),)
    if outside := [layer for layer in chosen if not 0 <= layer < layers]:
        raise PlanError(
            f"Cannot edit after layer '{outside[0]}': the model has {layers} layers. "
            f"Expected 0 to {layers - 1}; choose another."
        )
    return SteeringPlan(
        {
            ("residual", phase, layer): rule(neurons.residual_mean(_MEANS_OF[phase])[:, layer])
            for phase in where.phases
            for layer in chosen
        }
    )
