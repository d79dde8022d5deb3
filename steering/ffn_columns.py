"""Reads the columns of a model's down projections: what each neuron writes into the stream.

A column is what the projection makes of the unit vector of its neuron. So weights that are packed,
quantised or transposed need no special case: the module itself is asked. Knows no languages and no
activations. Dimension key: L layers, N neurons per layer, H hidden size, V tokens that are asked.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
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
    from steering.neuron_set import NeuronSet

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


def read_column_norms(network: PreTrainedModel, layer: Tensor, index: Tensor) -> Tensor:
    """Return the norms of some neurons' columns, float32 `(neurons,)`.

    Args:
        network: Left as it was; hooks of its modules, such as a steerer's, don't run.
        layer: int64 `(neurons,)`.
        index: int64 `(neurons,)`.
    """
    sites = find_sites(network)
    norms = torch.zeros(len(layer))
    with torch.inference_mode():
        for one in torch.unique(layer).tolist():
            chosen = layer == one
            down = sites.down_projections[one]
            columns = _plain_columns(down, index[chosen])
            if columns is None:
                columns = _columns(down, sites.neurons_per_layer, network.dtype, index[chosen])
            norms[chosen] = columns.float().norm(dim=1).cpu()
    return norms


def _plain_columns(down: nn.Module, index: Tensor) -> Tensor | None:
    """Return columns (N, H) of plain weights, which needs no product; None for other modules."""
    if type(down) is not nn.Linear or down.weight.is_meta:
        return None
    return down.weight[:, index.to(down.weight.device)].T


def with_column_norms(neurons: NeuronSet, model: LoadedModel) -> NeuronSet:
    """Return a set that knows how long its neurons' columns are in the model it was made on.

    A mixture of experts, where a neuron has no single down projection, leaves it as it is.
    """
    if neurons.metadata.experts is not None:
        return neurons
    control = neurons.control
    if control is not None:
        norm = read_column_norms(model.model, control.layer, control.index)
        control = replace(control, column_norm=norm)
    norm = read_column_norms(model.model, neurons.layer, neurons.index)
    return replace(neurons, control=control, column_norm=norm)


def _columns(
    down: nn.Module, neurons: int, dtype: torch.dtype, index: Tensor | None = None
) -> Tensor:
    """Return what a projection makes of unit vectors, all of them or some, less its bias.

    The result is float32 (N, H). The module's hooks are passed over: a steerer's would edit what
    is asked.
    """
    chosen = torch.arange(neurons) if index is None else index
    held = next(itertools.chain(down.parameters(), down.buffers()), None)  # AWQ's are buffers
    device = torch.device("cpu") if held is None else held.device
    if device.type == "meta":  # it is brought to where it runs when it runs
        device = torch.device("cpu")
    bias_H = down.forward(torch.zeros(1, neurons, dtype=dtype, device=device)).float()
    parts = []
    for rows in torch.split(chosen, _UNIT_ROWS):
        units = torch.zeros(len(rows), neurons, dtype=dtype, device=device)
        units[torch.arange(len(rows)), rows] = 1
        parts.append(down.forward(units).float() - bias_H)
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
