"""Parameter variation: how much tuning on a language changed each neuron's own parameters.

A neuron's parameters are its row of every projection into the FFN, its column of the projection
out of it, and its biases. Which these are is seen by their shape, so that no family needs a table.
Knows modules of two models, neither languages nor how neurons are chosen.
Source: Tang et al. 2024, baseline PV; differs: see docs/sources.md#ways-to-choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from steering.errors import NeuronSetMismatchError, StatsError
from steering.hooks import find_sites

if TYPE_CHECKING:
    from steering.loading import LoadedModel
    from steering.model_identity import ModelIdentity

_LEAST_LENGTH = 1e-12  # of parameters before tuning, so that a neuron of zeros divides nothing


def parameter_variation(base: LoadedModel, tuned: LoadedModel) -> Tensor:
    """Return the relative change of each neuron's parameters, float64 `(layers, neurons)`.

    In words: length (L2) of the parameters after less before, over their length before.

    Args:
        base: The model before tuning; unquantised, without experts.
        tuned: The same model after tuning on text of one language.

    Raises:
        NeuronSetMismatchError: If they are not of the same family and shape.
        StatsError: If parameters cannot be read neuron by neuron.
    """
    check_is_tuned(base.identity, tuned.identity)
    pairs = zip(_ffn_modules(base), _ffn_modules(tuned), strict=True)
    width = base.identity.neurons_per_layer
    return torch.stack(
        [
            _vary(_by_neuron(before, base.identity), _by_neuron(after, tuned.identity), width)
            for before, after in pairs
        ]
    )


def check_is_tuned(base: ModelIdentity, tuned: ModelIdentity) -> None:
    """Refuse a checkpoint that cannot have come of tuning the base model.

    Raises:
        NeuronSetMismatchError: If they are not of the same family and shape.
    """
    shapes = [(i.architecture, i.layers, i.neurons_per_layer, i.hidden_size) for i in (base, tuned)]
    if shapes[0] != shapes[1]:
        raise NeuronSetMismatchError(
            f"'{tuned.model_id}' ({shapes[1]}) is not a tuned '{base.model_id}' ({shapes[0]}): "
            "family, layers, neurons or hidden size differ. Expected the same model before and "
            "after; give another checkpoint to `--tuned`."
        )


def check_can_vary(model: LoadedModel) -> None:
    """Refuse a model whose parameters cannot be read neuron by neuron; looks at its first layer.

    Raises:
        StatsError: If it is quantised, has experts, or the neurons' axis cannot be told.
    """
    for _ in _by_neuron(_ffn_modules(model)[0], model.identity):
        pass


def _vary(before: Iterator[Tensor], after: Iterator[Tensor], width: int) -> Tensor:
    change, length = torch.zeros(width).double(), torch.zeros(width).double()
    for old, new in zip(before, after, strict=True):
        change += (new - old).square().sum(dim=1)
        length += old.square().sum(dim=1)
    return change.sqrt() / length.sqrt().clamp(min=_LEAST_LENGTH)


def _ffn_modules(model: LoadedModel) -> list[nn.Module]:
    architecture = model.architecture
    sites = find_sites(model.model)
    if sites.experts is not None:
        raise StatsError(
            f"The parameters of '{model.identity.model_id}' lie in experts. Expected a model with "
            "one FFN per layer; choose neurons in another way."
        )
    return [layer.get_submodule(architecture.ffn_path) for layer in sites.layers]


def _by_neuron(ffn: nn.Module, identity: ModelIdentity) -> Iterator[Tensor]:
    """Yield an FFN's parameters with the neurons first, float64 `(neurons, others)`.

    An axis of twice the width is a gate and an up projection in one, gate first.
    """
    found, width = 0, identity.neurons_per_layer
    for name, parameter in ffn.named_parameters():
        if not parameter.is_floating_point():
            raise StatsError(
                f"'{name}' of '{identity.model_id}' is quantised ({parameter.dtype}), so its "
                "parameters cannot be compared neuron by neuron. Expected unquantised weights; "
                "use `--quantize none`, and checkpoints that are stored unquantised."
            )
        axes = [axis for axis, size in enumerate(parameter.shape) if size in (width, 2 * width)]
        if len(axes) > 1:
            raise StatsError(
                f"'{name}' is {tuple(parameter.shape)}: which axis the {width} neurons are on "
                "cannot be told. Expected a hidden size that differs; choose in another way."
            )
        if axes:
            found += 1
            first = parameter.detach().double().cpu().movedim(axes[0], 0)
            rows = first.reshape(len(first), -1)
            yield from rows.view(-1, width, rows.shape[1])
    if not found:
        raise StatsError(
            f"No parameters of '{width}' neurons were found in the FFN. Expected projections of "
            "that width; choose neurons in another way."
        )
