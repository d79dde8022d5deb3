"""Reads the columns of a model's down projections: what each neuron writes into the stream.

A column is what the projection makes of the unit vector of its neuron. So weights that are packed,
quantised or transposed need no special case: the module itself is asked. Knows no languages and no
activations. Dimension key: L layers, N neurons per layer, H hidden size, V tokens that are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from steering.architectures import hidden_size
from steering.errors import UnsupportedArchitectureError
from steering.hooks import find_sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from steering.loading import LoadedModel

_UNIT_ROWS = 1024  # unit vectors at once; changes memory and speed alone


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """What is to be known of every column, float32.

    Args:
        norms: Euclidean, `(layers, neurons)`.
        projections: Column . E[token] for each of the tokens, `(tokens, layers, neurons)`.
        token_ids: Which tokens, in the order of the projections.
    """

    norms: Tensor
    projections: Tensor
    token_ids: tuple[int, ...]

    def projections_of(self, token_ids: Sequence[int]) -> Tensor:
        """Return the projections on these tokens, in this order; tokens may repeat."""
        places = [self.token_ids.index(token) for token in token_ids]
        return self.projections[places]


def read_columns(model: LoadedModel, token_ids: Sequence[int] = ()) -> ColumnTable:
    """Return the norm of every neuron's column, and its products with rows of the output embedding.

    Args:
        model: From `load_model`; left as it was. Quantised columns are those that it computes with.
        token_ids: Whose rows of the output embedding to multiply with; each counts once. The
            table has 4 bytes per token, layer and neuron.

    Raises:
        UnsupportedArchitectureError: If the model has experts, or an output embedding that is
            quantised or of another width than its stream.
    """
    network = model.model
    sites = find_sites(network)
    if sites.experts:
        raise UnsupportedArchitectureError(
            f"Cannot read the columns of '{model.identity.model_id}': its layers have "
            f"'{sites.experts}' experts with a down projection each. Expected one FFN per layer; "
            "choose a model without experts."
        )
    tokens = tuple(dict.fromkeys(token_ids))
    rows_VH = _output_rows(network, tokens)
    norms, projections = [], []
    with torch.inference_mode():
        for down in sites.down_projections:
            columns_NH = _columns(down, sites.neurons_per_layer, network.dtype)
            norms.append(columns_NH.norm(dim=1).cpu())
            if tokens:
                projections.append((rows_VH.to(columns_NH.device) @ columns_NH.T).cpu())
    empty = torch.empty(0, len(norms), sites.neurons_per_layer)
    return ColumnTable(
        torch.stack(norms), torch.stack(projections, dim=1) if tokens else empty, tokens
    )


def _columns(down: nn.Module, neurons: int, dtype: torch.dtype) -> Tensor:
    """Return what a projection makes of every unit vector, less its bias, float32 (N, H)."""
    device = next(down.parameters()).device
    if device.type == "meta":  # it is brought to where it runs when it runs
        device = torch.device("cpu")
    bias_H = down(torch.zeros(1, neurons, dtype=dtype, device=device)).float()
    parts = []
    for start in range(0, neurons, _UNIT_ROWS):
        count = min(_UNIT_ROWS, neurons - start)
        units = torch.zeros(count, neurons, dtype=dtype, device=device)
        units[torch.arange(count), torch.arange(start, start + count)] = 1
        parts.append(down(units).float() - bias_H)
    return torch.cat(parts)


def _output_rows(network: PreTrainedModel, tokens: Sequence[int]) -> Tensor:
    """Return the rows of the output embedding of some tokens, float32 (V, H)."""
    head: nn.Module = network.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight: Tensor = head.get_parameter("weight")
    width = hidden_size(network.config)
    if weight.shape[1:] != (width,) or not weight.is_floating_point():
        raise UnsupportedArchitectureError(
            f"Cannot read the output embedding of this '{network.config.model_type}' model: it is "
            f"'{tuple(weight.shape)}' in {weight.dtype}. Expected (tokens, {width}) in plain "
            "floats; load it without quantisation, or choose another model."
        )
    return weight[list(tokens)].float()
