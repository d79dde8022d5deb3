"""Converts plans to a model whose weights were rescaled since their neuron set was made.

AWQ and others multiply the rows of an up projection and divide the columns of the down projection
by the same factors: the model computes the same, but activations at the value site are in other
units, and means that were recorded before no longer fit. What a neuron writes into the stream,
value times column, stays; so the norms of the columns give the factors.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from steering.architectures import expert_count, neurons_per_layer
from steering.ffn_columns import read_column_norms
from steering.steering_plan import Edit, Place, SteeringPlan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steering.neuron_set import ColumnNorms

# In nf4 the norms of the 0.5B's neurons are within 3.4% of those in bfloat16; AWQ goes beyond.
_SAME = 0.2
_MOST_PLANS = 64  # kept per model, as of `make_plan`
_MOST_SETS = 8

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

# layer -> what a neuron's recorded value is times its value in this model, (neurons of a layer,)
_Factors = dict[int, Tensor]


class _Fitted:
    """What is known of one model: factors by set, and plans that were converted."""

    def __init__(self) -> None:
        self._factors: dict[ColumnNorms, _Factors] = {}
        self._plans: dict[SteeringPlan, SteeringPlan] = {}

    def convert(
        self, plan: SteeringPlan, columns: ColumnNorms, model: PreTrainedModel
    ) -> SteeringPlan:
        """Return the plan in the model's units, converted at most once while it is kept."""
        factors = self._factors.get(columns)
        if factors is None:
            factors = _keep(self._factors, columns, _factors(columns, model), most=_MOST_SETS)
        if not factors:
            return plan
        known = self._plans.get(plan)
        return known or _keep(self._plans, plan, _convert(plan, factors), most=_MOST_PLANS)


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value, *, most: int) -> _Value:
    """Keep a value in place of the oldest; several threads may do so at once."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)), None)
    kept[key] = value
    return value


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
    with torch.inference_mode(mode=False), torch.no_grad():  # who meets it next may be in neither
        return fitted.convert(plan, plan.columns, model)


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
        factors[layer] = torch.ones(neurons_per_layer(model.config))
        factors[layer][columns.index[chosen]] = ratio[chosen]
    return factors


def _convert(plan: SteeringPlan, factors: _Factors) -> SteeringPlan:
    once = functools.cache(_convert_rows)  # the phases of a layer share their directions
    edits, pulls = dict(plan.edits), dict(plan.pulls)
    for place, edit in plan.edits.items():
        if place[0] == "value":
            edits[place] = _convert_edit(edit, factors[place[2]])
    for place, pull in plan.pulls.items():
        if place[0] == "value":
            factor = factors[place[2]]
            readers = pull.directions if pull.readers is None else pull.readers
            directions, readers = once(pull.directions, readers, pull.units, factor)
            pulls[place] = replace(pull, directions=directions, readers=readers)
    return replace(plan, edits=edits, pulls=pulls, columns=None)


def _convert_edit(edit: Edit, factors: Tensor) -> Edit:
    return replace(edit, shift=edit.shift / factors[edit.units])


def _convert_rows(
    directions: Tensor, readers: Tensor, units: Tensor | None, factors: Tensor
) -> tuple[Tensor, Tensor]:
    factor = factors if units is None else factors[units]
    return directions / factor, readers * factor
