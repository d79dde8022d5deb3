"""Converts plans to a model whose weights were rescaled since their neuron set was made.

AWQ and others multiply the rows of an up projection and divide the columns of the down projection
by the same factors: the model computes the same, but activations at the value site are in other
units, and means that were recorded before no longer fit. What a neuron writes into the stream,
value times column, stays; so the norms of the columns give the factors.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.architectures import expert_count
from steering.ffn_columns import read_column_norms
from steering.steering_plan import Edit, Place, SteeringPlan, SubspacePull

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steering.neuron_set import ColumnNorms

# Norms differ by up to 4% between a model in bfloat16 and in 4 bits; AWQ's factors are beyond.
_SAME = 0.2
_MOST_PLANS = 512  # kept per model

# layer -> what a neuron's recorded value is times its value in this model, (neurons of a layer,)
_Factors = dict[int, Tensor]


class _Fitted:
    """What is known of one model: factors by set, and plans that were converted."""

    def __init__(self) -> None:
        self.factors: dict[ColumnNorms, _Factors] = {}
        self.plans: dict[SteeringPlan, SteeringPlan] = {}


_known: weakref.WeakKeyDictionary[PreTrainedModel, _Fitted] = weakref.WeakKeyDictionary()


def fit_values(plan: SteeringPlan, model: PreTrainedModel) -> SteeringPlan:
    """Return a plan in the units of a model; the same plan where these are those of its set.

    Args:
        plan: From `methods.make_plan`.
        model: To be steered, quantised or not; of a mixture of experts plans stay as they are.
    """
    if plan.columns is None or not any(site == "value" for site, _, _ in _places(plan)):
        return plan
    fitted = _known.setdefault(model, _Fitted())
    if plan.columns not in fitted.factors:
        fitted.factors[plan.columns] = _factors(plan.columns, model)
    factors = fitted.factors[plan.columns]
    if not factors:
        return plan
    if plan not in fitted.plans:
        if len(fitted.plans) >= _MOST_PLANS:
            fitted.plans.clear()
        fitted.plans[plan] = _convert(plan, factors)
    return fitted.plans[plan]


def _places(plan: SteeringPlan) -> list[Place]:
    return [*plan.edits, *plan.pulls]


def _factors(columns: ColumnNorms, model: PreTrainedModel) -> _Factors:
    """Return how much longer the model's columns are than the set's; empty if they are the same."""
    if expert_count(model.config) is not None or not len(columns.layer):
        return {}
    ratio = read_column_norms(model, columns.layer, columns.index) / columns.norm
    # A column of zeros writes nothing, whatever its neuron's value.
    ratio = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0)
    if ((ratio - 1).abs() <= _SAME).all():
        return {}
    factors: _Factors = {}
    for layer in torch.unique(columns.layer).tolist():
        chosen = columns.layer == layer
        factors[layer] = torch.ones(int(columns.index.max()) + 1)
        factors[layer][columns.index[chosen]] = ratio[chosen]
    return factors


def _convert(plan: SteeringPlan, factors: _Factors) -> SteeringPlan:
    edits, pulls = dict(plan.edits), dict(plan.pulls)
    for place, edit in plan.edits.items():
        if place[0] == "value":
            edits[place] = _convert_edit(edit, factors[place[2]])
    for place, pull in plan.pulls.items():
        if place[0] == "value":
            pulls[place] = _convert_pull(pull, factors[place[2]])
    return replace(plan, edits=edits, pulls=pulls, columns=None)


def _convert_edit(edit: Edit, factors: Tensor) -> Edit:
    return replace(edit, shift=edit.shift / factors[edit.units])


def _convert_pull(pull: SubspacePull, factors: Tensor) -> SubspacePull:
    factor = factors if pull.units is None else factors[pull.units]
    readers = pull.directions if pull.readers is None else pull.readers
    return replace(pull, directions=pull.directions / factor, readers=readers * factor)
