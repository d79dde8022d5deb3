"""Runs a mixture of experts so that the neurons of its experts can be read and edited.

The library's own way of running experts shows nothing between its projections. This one is put in
by its register of such ways; no `forward` is replaced. It computes the same, expert by expert, and
passes every activation through two modules without weights, the sites that `hooks.py` attaches to.
Knows tensors and modules, not languages, neurons or plans.
Shapes: T tokens of a batch, S = T x (experts per token) slots ordered by expert, N neurons of one
expert, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from steering.architectures import (
    EXPERT_GATE_NAME,
    EXPERT_VALUE_NAME,
    Architecture,
    find_architecture,
)
from steering.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_IMPLEMENTATION = "langsteer"
_PLAIN_TYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Routing:
    """Which tokens of a batch went to which experts of one layer, slot by slot.

    Args:
        token: Place of the slot's token in the flattened batch, int64 `(slots,)`.
        expert: The slot's expert, int64 `(slots,)`, ascending.
        experts: How many experts the layer has.
    """

    token: Tensor
    expert: Tensor
    experts: int

    def mark_tokens(self, tokens: int) -> Tensor:
        """Return which tokens went to which experts, bool `(tokens, experts)`."""
        is_routed = torch.zeros(tokens, self.experts, dtype=torch.bool, device=self.token.device)
        is_routed[self.token, self.expert] = True
        return is_routed

    def spread(self, units: Tensor, tokens: int) -> Tensor:
        """Return `(slots, N)` as `(tokens, experts * N)`, 0 where a token did not go."""
        wide = units.new_zeros(tokens, self.experts, units.shape[1])
        wide[self.token, self.expert] = units
        return wide.flatten(1)

    def collect(self, wide: Tensor) -> Tensor:
        """Return the opposite of `spread`; what is said of other experts is dropped."""
        return wide.view(len(wide), self.experts, -1)[self.token, self.expert]


class ExpertSite(nn.Module):
    """A place in a layer's experts: passes activations on, so that hooks can see and edit them."""

    def forward(self, units: Tensor, routing: Routing) -> Tensor:  # noqa: ARG002 - for the hooks
        """Return the activations `(slots, N)` as they are."""
        return units


def prepare_experts(model: PreTrainedModel) -> None:
    """Make the experts of a model readable; a model without experts is left alone.

    Changes *model* for good: its experts run one after the other from then on, and each layer's
    have two more modules, without weights.

    Raises:
        UnsupportedArchitectureError: If the experts' weights are quantised or of an unknown form.
    """
    architecture = find_architecture(model.config)
    if not architecture.experts_name:
        return
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(_IMPLEMENTATION, _run_experts)
    for experts in _find_experts(model, architecture):
        _check_weights(experts, architecture)
        experts.register_module(EXPERT_GATE_NAME, ExpertSite())
        experts.register_module(EXPERT_VALUE_NAME, ExpertSite())
    model.set_experts_implementation(_IMPLEMENTATION)


def check_prepared(model: PreTrainedModel) -> None:
    """Refuse a model whose experts would run past the sites.

    Raises:
        UnsupportedArchitectureError: If it has experts that `prepare_experts` did not prepare.
    """
    has_experts = bool(find_architecture(model.config).experts_name)
    if has_experts and model.get_experts_implementation()[""] != _IMPLEMENTATION:
        raise UnsupportedArchitectureError(
            f"The experts of this '{model.config.model_type}' model run as "
            f"'{model.get_experts_implementation()['']}', where their neurons cannot be reached. "
            "Expected a model that was prepared for it; load it with `load_model`."
        )


def _find_experts(model: PreTrainedModel, architecture: Architecture) -> list[nn.Module]:
    layers = model.get_submodule(architecture.layers_path).children()
    return [layer.get_submodule(architecture.ffn_path) for layer in layers]


def _check_weights(experts: nn.Module, architecture: Architecture) -> None:
    weights = dict(experts.named_parameters(recurse=False))
    names = {"gate_up_proj", "down_proj"}
    if weights.keys() != names or any(
        weight.dtype not in _PLAIN_TYPES for weight in weights.values()
    ):
        found = ", ".join(f"{name} ({w.dtype})" for name, w in weights.items()) or "none"
        raise UnsupportedArchitectureError(
            f"The experts of this '{architecture.model_type}' model have the weights '{found}'. "
            f"Expected {' and '.join(sorted(names))} as plain floats; choose an unquantised "
            "checkpoint."
        )


def _run_experts(
    experts: nn.Module, hidden: Tensor, chosen_experts: Tensor, weights: Tensor
) -> Tensor:
    """Return the weighted sum of every token's experts; called in place of the library's own.

    Args:
        experts: The experts of one layer.
        hidden: `(tokens, hidden)`.
        chosen_experts: int64 `(tokens, experts per token)`.
        weights: Of the same shape.
    """
    into, back = experts.get_parameter("gate_up_proj"), experts.get_parameter("down_proj")
    per_token, count = chosen_experts.shape[1], len(into)
    flat = chosen_experts.flatten()
    slot = flat.argsort(stable=True)  # (S,) places in *flat*, by expert
    routing = Routing(slot // per_token, flat[slot], count)
    sizes = torch.bincount(flat, minlength=count).tolist()

    def project(rows: Tensor, weight: Tensor) -> Tensor:
        parts = enumerate(torch.split(rows, sizes))
        done = [nn.functional.linear(part, weight[e]) for e, part in parts if len(part)]
        return torch.cat(done) if done else rows.new_zeros(0, weight.shape[1])

    gate, up = project(hidden[routing.token], into).chunk(2, dim=-1)
    active = experts.get_submodule("act_fn")(gate)  # (S, N)
    active = experts.get_submodule(EXPERT_GATE_NAME)(active, routing)
    value = experts.get_submodule(EXPERT_VALUE_NAME)(active * up, routing)
    weighted = project(value, back) * weights.flatten()[slot, None]  # (S, H)
    in_order = torch.empty_like(weighted)
    in_order[slot] = weighted
    return in_order.view(len(hidden), per_token, hidden.shape[1]).sum(dim=1).to(hidden.dtype)
