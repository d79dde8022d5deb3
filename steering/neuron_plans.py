"""Steering by neurons: pure functions from a neuron set to a steering plan.

Each edits some of the set's neurons at a site and in phases, with means of those same phases.
`methods.py` gives them their names. Knows no model and no text. Dimension key: see
`activation_stats.py`.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.errors import PlanError
from steering.language_subspace import LanguageSubspace
from steering.languages import Language
from steering.neuron_set import NeuronSet, difference_from_others
from steering.steering_plan import (
    EVERY_POSITION,
    Phase,
    Place,
    SteeringPlan,
    SubspacePull,
    Where,
    combine_plans,
    layers_of,
    plan_from_neurons,
)

# Means of the neurons, float32 (languages, neurons) -> scale and shift of each, (neurons,).
EditRule: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]

# Which recorded phase's means stand for the positions of a phase, best first.
_MEANS_OF: dict[Phase, tuple[StatsPhase, ...]] = {
    "prompt": ("text", "body"),
    "onset": ("onset",),
    "start": ("body", "text"),
    "body": ("body", "text"),
}
# As published: means over plain text at every position.
_PUBLISHED_MEANS: tuple[StatsPhase, ...] = ("text", "body")


def shift_union(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Move every language-specific neuron from its mean over languages towards the target's.

    In words: scale 1, shift = strength x (mean in target - mean over all languages).

    Source: ours (decision 0001); difference of means after Gurgurov et al. 2025,
    arXiv 2507.22608, but for every language's neurons.
    """
    row = neurons.position(target)

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(means_KU.shape[1]), strength * (means_KU[row] - means_KU.mean(dim=0))

    return _edit(neurons, _all(neurons), where, rule)


def pull_in_subspace(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Pull the language-specific neurons to their means in the target, within the means' span.

    The formula is `LanguageSubspace.pull_to`, layer by layer. Up to strength 1 it can't overshoot,
    unlike a shift: a neuron pattern that is already the target's doesn't change, and neither does
    anything that languages have in common.

    Raises:
        PlanError: If the model is a mixture of experts: the neurons of experts that a token
            doesn't go to are 0 there, which a pull would take for a pattern to make up for.

    Source: ours.
    """
    if neurons.metadata.experts is not None:
        raise PlanError(
            "`lape-pull` can't steer a mixture of experts, where only some neurons run for each "
            "token. Use `lape` or `subspace`."
        )
    site, chosen = _ffn_site(where), _in_layers(neurons, _all(neurons), where)
    row = neurons.position(target)
    pulls: dict[Place, SubspacePull] = {}
    for layer in torch.unique(neurons.layer[chosen]).tolist():
        for phase in where.phases:
            space, units = _neuron_subspace(neurons, site, _MEANS_OF[phase], layer)
            pulls[site, phase, layer] = space.pull_to(row, strength, units=units)
    return SteeringPlan({}, pulls)


@functools.lru_cache(maxsize=512)
def _neuron_subspace(
    neurons: NeuronSet,
    site: Literal["gate", "value"],
    phases: tuple[StatsPhase, ...],
    layer: int,
) -> tuple[LanguageSubspace, Tensor]:
    """Return the subspace of a layer's neurons and their indices; the same for every target."""
    units, order = neurons.index[neurons.layer == layer].sort()
    means_KU = _means(neurons, site, phases)[:, neurons.layer == layer][:, order]
    return LanguageSubspace.spanned_by(means_KU), units


def shift_own(neurons: NeuronSet, target: Language, strength: float, where: Where) -> SteeringPlan:
    """Add strength x mean in the target to the target's own neurons."""
    row = neurons.position(target)

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(means_KU.shape[1]), strength * means_KU[row]

    return _edit(neurons, neurons.is_member[row], where, rule)


def shift_own_by_difference(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Add strength x (mean in target - mean in the others) to the target's own neurons.

    Source: Gurgurov et al. 2025, arXiv 2507.22608.
    """
    row = neurons.position(target)

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(means_KU.shape[1]), strength * difference_from_others(means_KU, row)

    return _edit(neurons, neurons.is_member[row], where, rule)


def replace_union(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Replace every language-specific neuron by its mean in the target, in part.

    In words: scale 1 - strength, shift = strength x mean in target; 1 replaces it wholly.
    """
    row = neurons.position(target)

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((means_KU.shape[1],), 1 - strength), strength * means_KU[row]

    return _edit(neurons, _all(neurons), where, rule)


def fix_own(neurons: NeuronSet, target: Language, strength: float, where: Where) -> SteeringPlan:
    """Fix the target's own neurons to strength x their mean in the target.

    Source: Kojima et al. 2024, arXiv 2404.02431, which fixes neurons chosen by average precision
    to their median. Differs: see docs/sources.md#kojima.
    """
    row = neurons.position(target)

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(means_KU.shape[1]), strength * means_KU[row]

    return _edit(neurons, neurons.is_member[row], where, rule)


def amplify_own(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Multiply the target's own neurons by 1 + strength; needs no means."""
    own = neurons.is_member[neurons.position(target)]
    return _scale(neurons, own, where, 1 + strength)


def damp_others(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Multiply the neurons that are not the target's by 1 - strength, at least by 0.

    Needs no means.
    """
    others = ~neurons.is_member[neurons.position(target)]
    return _scale(neurons, others, where, max(0.0, 1 - strength))


def steer_as_published(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Switch the other languages' neurons off and add the target's mean to its own.

    A neuron that the target shares is not switched off. The means are those over text.

    Source: Tang et al. 2024, section 4.4, as far as the paper says; its code was not published.
    """
    row = neurons.position(target)
    is_own = neurons.is_member[row]

    def rule(means_KU: Tensor) -> tuple[Tensor, Tensor]:
        return is_own.float(), torch.where(is_own, strength * means_KU[row], 0.0)

    return _edit(neurons, _all(neurons), where, rule, sources=_PUBLISHED_MEANS)


def shift_random(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Do what `shift_union` does to as many random neurons of the same layers: the control.

    Raises:
        PlanError: If the set holds no random neurons.
    """
    return shift_union(_with_random_neurons(neurons), target, strength, where)


def pull_random(
    neurons: NeuronSet, target: Language, strength: float, where: Where
) -> SteeringPlan:
    """Do what `pull_in_subspace` does to as many random neurons of the same layers: its control.

    Raises:
        PlanError: If the set holds no random neurons.
    """
    return pull_in_subspace(_with_random_neurons(neurons), target, strength, where)


@functools.lru_cache(maxsize=8)  # the same object each time, so that plans share what is cached
def _with_random_neurons(neurons: NeuronSet) -> NeuronSet:
    """Return the set with its random neurons in place of the selected ones."""
    control = neurons.control
    if control is None:
        raise PlanError(
            "This neuron set holds no random neurons, which `random` and `random-pull` need. "
            "Build it with `python -m steering build-set`, or give an imported one to "
            "`build-set --complete`."
        )
    count = len(control.layer)
    shape = (len(neurons.languages), count)
    return replace(
        neurons,
        layer=control.layer,
        index=control.index,
        lape_score=torch.zeros(count),
        is_member=torch.ones(shape, dtype=torch.bool),
        activation_prob=torch.zeros(shape),
        gate_means=control.gate_means,
        value_means=control.value_means,
        column_norm=control.column_norm,
        control=None,
    )


def deactivate(neurons: NeuronSet, language: Language) -> SteeringPlan:
    """Set a language's neurons to zero at the value site, at every position.

    Source: Tang et al. 2024, section 3.2; zero at the gate makes the product zero as well.
    """
    own = neurons.neurons_of(language)
    return deactivate_neurons(neurons.layer[own], neurons.index[own])


def deactivate_neurons(layer: Tensor, index: Tensor) -> SteeringPlan:
    """Set the given neurons, int64 `(units,)` each, to zero at every position."""
    zeros = torch.zeros(len(layer))
    return plan_from_neurons(
        site="value", phases=EVERY_POSITION, layer=layer, index=index, scale=zeros, shift=zeros
    )


def _all(neurons: NeuronSet) -> Tensor:
    return torch.ones(len(neurons.layer), dtype=torch.bool)


def _edit(
    neurons: NeuronSet,
    chosen: Tensor,
    where: Where,
    rule: EditRule,
    *,
    sources: tuple[StatsPhase, ...] | None = None,
) -> SteeringPlan:
    """Make the rule's edit of the chosen neurons, bool `(selected,)`, wherever and whenever."""
    site, chosen = _ffn_site(where), _in_layers(neurons, chosen, where)
    plan = SteeringPlan({})
    for phase in where.phases:
        scale, shift = rule(_means(neurons, site, sources or _MEANS_OF[phase]))
        part = plan_from_neurons(
            site=site,
            phases=(phase,),
            layer=neurons.layer[chosen],
            index=neurons.index[chosen],
            scale=scale[chosen],
            shift=shift[chosen],
        )
        plan = combine_plans(plan, part)
    return plan


def _scale(neurons: NeuronSet, chosen: Tensor, where: Where, factor: float) -> SteeringPlan:
    """Multiply the chosen neurons, bool `(selected,)`; an edit that needs no means."""
    site, chosen = _ffn_site(where), _in_layers(neurons, chosen, where)
    count = int(chosen.sum())
    return plan_from_neurons(
        site=site,
        phases=where.phases,
        layer=neurons.layer[chosen],
        index=neurons.index[chosen],
        scale=torch.full((count,), factor),
        shift=torch.zeros(count),
    )


def _in_layers(neurons: NeuronSet, chosen: Tensor, where: Where) -> Tensor:
    """Return those of the chosen neurons that lie where the method acts."""
    layers = layers_of(where, neurons.metadata.layers)
    return chosen & torch.isin(neurons.layer, torch.tensor(layers)) if layers else chosen


def _ffn_site(where: Where) -> Literal["gate", "value"]:
    if where.site == "residual":
        raise PlanError(
            "A method that edits neurons was given the site 'residual'. Expected gate or value, "
            "where neurons are; use `diffmean` or `dimensions` for the residual."
        )
    return where.site


def _means(
    neurons: NeuronSet, site: Literal["gate", "value"], sources: tuple[StatsPhase, ...]
) -> Tensor:
    """Return the means of the first recorded phase; what is missing is said of the best one."""
    recorded = neurons.gate_means if site == "gate" else neurons.value_means
    return neurons.means(site, next((s for s in sources if s in recorded), sources[0]))
