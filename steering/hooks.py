"""Lets a function read or replace the activations of a loaded model, and puts nothing else there.

Knows modules and tensors, not languages, neurons or plans: what an edit does is the caller's
matter. Modules and their `forward` are never replaced; whatever is attached here is removed here.
A model must not be compiled: hooks attached after compilation are silently ignored (torch 2.13).
Shapes: B rows, T tokens, N neurons per layer, H hidden size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn

from steering.architectures import (
    SITES,
    Site,
    expert_count,
    find_architecture,
    input_width,
    layer_count,
    neurons_per_layer,
)
from steering.errors import PlanError, UnsupportedArchitectureError
from steering.experts import Routing, check_prepared

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

# (layer, activation) -> what replaces the activation, or None to leave it as it is. The activation
# is shaped (batch, tokens, units) and must not be changed in place; a replacement has its shape,
# dtype and device.
TensorEdit: TypeAlias = Callable[[int, Tensor], Tensor | None]

# (layer, which experts each token goes to: bool, (batch, tokens, experts))
RoutingNote: TypeAlias = Callable[[int, Tensor], None]


@dataclass(frozen=True, slots=True)
class FfnSites:
    """The modules of a loaded model that edits attach to, one of each kind per layer.

    Where a layer has experts, edits see the neurons of all of them side by side; those of experts
    that a token does not go to are 0 there, and a replacement of them changes nothing.

    Args:
        layers: Decoder layers; their output is the residual site, (batch, tokens, hidden).
        activations: Activation functions; their output is the gate site.
        down_projections: Projections back to the hidden size; their input is the value site.
        neurons_per_layer: Units at the gate and value sites.
        is_flattened: Whether the FFN sees `(batch * tokens, units)`; edits never do.
        experts: How many experts each layer has; None where it has one FFN for every token.
    """

    layers: tuple[nn.Module, ...]
    activations: tuple[nn.Module, ...]
    down_projections: tuple[nn.Module, ...]
    neurons_per_layer: int
    is_flattened: bool
    experts: int | None = None


def find_sites(model: PreTrainedModel) -> FfnSites:
    """Find the modules of every layer, and check them against the model's configuration.

    Args:
        model: A causal language model, quantised or not; it is not changed.

    Raises:
        UnsupportedArchitectureError: If the family is unknown, the model is compiled, or its
            modules are not where and as wide as the family's row says.
    """
    _refuse_compiled(model)
    architecture = find_architecture(model.config)
    check_prepared(model)
    try:
        layers = tuple(model.get_submodule(architecture.layers_path).children())
        ffns = [layer.get_submodule(architecture.ffn_path) for layer in layers]
        activations = tuple(ffn.get_submodule(architecture.activation_name) for ffn in ffns)
        downs = tuple(ffn.get_submodule(architecture.down_projection_name) for ffn in ffns)
    except AttributeError as err:
        raise UnsupportedArchitectureError(
            f"Cannot find the FFN of this '{architecture.model_type}' model: {err}. Expected the "
            "module names of its row in `steering/architectures.py`; load the model with "
            "`load_model`, without wrappers."
        ) from err
    experts = expert_count(model.config)
    if experts is None:
        _check_modules(model, activations, downs)
    return FfnSites(
        layers=layers,
        activations=activations,
        down_projections=downs,
        neurons_per_layer=neurons_per_layer(model.config),
        is_flattened=architecture.flattens_tokens,
        experts=experts,
    )


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where token ids belong: with the embeddings, whose weights may be elsewhere for now.

    Weights that were loaded with `device` 'auto' and did not fit are on no device until their
    module runs, which then brings its input to where it runs.
    """
    device = model.get_input_embeddings().get_parameter("weight").device
    return torch.device("cpu") if device.type == "meta" else device


def count_hooks(model: PreTrainedModel) -> int:
    """Return how many hooks there are on a model and its modules, whoever attached them."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


@contextmanager
def attached(
    sites: FfnSites,
    edits: Mapping[Site, TensorEdit],
    *,
    layers: Collection[int] | None = None,
) -> Iterator[None]:
    """Call an edit on every forward pass at each of the given sites, until exit.

    Changes the model that *sites* belongs to: every thread that runs it meets the edits. All of
    them are removed on exit, on an exception inside, and when attaching fails half way.
    Where two are attached to one place, the later one sees the replacement of the earlier one.

    Args:
        sites: From `find_sites`.
        edits: One function per site; it is called once per layer and forward pass.
        layers: The layers to attach to, 0-based; all when omitted.

    Raises:
        PlanError: If a site or a layer does not exist; nothing is attached then.
    """
    chosen = range(len(sites.layers)) if layers is None else sorted(set(layers))
    _check_places(sites, edits, chosen)
    with ExitStack() as handles:
        for layer in chosen:
            batch = _BatchSize()
            if sites.is_flattened and edits.keys() & {"gate", "value"}:
                handles.callback(_note_batch_size(sites.layers[layer], batch).remove)
            for site, edit in edits.items():
                handles.callback(_ATTACH[site](sites, layer, edit, batch).remove)
        yield


@contextmanager
def noting_routing(sites: FfnSites, note: RoutingNote) -> Iterator[None]:
    """Tell which experts each token of a forward pass goes to, layer by layer, until exit.

    Of a model without experts there is nothing to tell.
    """
    with ExitStack() as handles:
        for layer in range(len(sites.layers) if sites.experts else 0):
            batch = _BatchSize()
            handles.callback(_note_batch_size(sites.layers[layer], batch).remove)
            handles.callback(_attach_note(sites, layer, note, batch).remove)
        yield


def _attach_note(
    sites: FfnSites, layer: int, note: RoutingNote, batch: _BatchSize
) -> RemovableHandle:
    def before_gate(_module: nn.Module, args: tuple[Tensor, Routing]) -> None:
        is_routed = args[1].mark_tokens(batch.rows * batch.tokens)
        note(layer, is_routed.view(batch.rows, batch.tokens, -1))

    return sites.activations[layer].register_forward_pre_hook(before_gate)


class _BatchSize(threading.local):
    """Rows and columns of the batch that this thread is running through one layer."""

    rows = 1
    tokens = 1


def _note_batch_size(layer: nn.Module, batch: _BatchSize) -> RemovableHandle:
    def note(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]  # (B, T, H)
        batch.rows, batch.tokens = hidden.shape[:2]

    return layer.register_forward_pre_hook(note, with_kwargs=True)


def _attach_gate(
    sites: FfnSites, layer: int, edit: TensorEdit, batch: _BatchSize
) -> RemovableHandle:
    def after_activation(
        _module: nn.Module, args: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        routing = _routing(sites, args)
        shape = batch if sites.is_flattened else None
        return _edit_units(edit, layer, output, batch=shape, routing=routing)

    return sites.activations[layer].register_forward_hook(after_activation)


def _attach_value(
    sites: FfnSites, layer: int, edit: TensorEdit, batch: _BatchSize
) -> RemovableHandle:
    def before_down_projection(
        _module: nn.Module, args: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        routing = _routing(sites, args)
        shape = batch if sites.is_flattened else None
        edited = _edit_units(edit, layer, args[0], batch=shape, routing=routing)
        return None if edited is None else (edited, *args[1:])

    return sites.down_projections[layer].register_forward_pre_hook(before_down_projection)


def _attach_residual(
    sites: FfnSites, layer: int, edit: TensorEdit, _batch: _BatchSize
) -> RemovableHandle:
    def after_layer(
        _module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...] | None:
        if isinstance(output, Tensor):
            return edit(layer, output)
        edited = edit(layer, output[0])
        return None if edited is None else (edited, *output[1:])

    return sites.layers[layer].register_forward_hook(after_layer)


_ATTACH: dict[Site, Callable[[FfnSites, int, TensorEdit, _BatchSize], RemovableHandle]] = {
    "gate": _attach_gate,
    "value": _attach_value,
    "residual": _attach_residual,
}


def _routing(sites: FfnSites, args: tuple[object, ...]) -> Routing | None:
    """Return what an `ExpertSite` is called with beside the activations."""
    return cast("Routing", args[1]) if sites.experts else None


def _edit_units(
    edit: TensorEdit,
    layer: int,
    units: Tensor,
    *,
    batch: _BatchSize | None,
    routing: Routing | None,
) -> Tensor | None:
    """Run an edit; *batch* is given when *units* is flat, (B * T, N), or of experts, (S, N)."""
    if batch is None:
        return edit(layer, units)
    flat = units if routing is None else routing.spread(units, batch.rows * batch.tokens)
    edited = edit(layer, flat.view(batch.rows, batch.tokens, -1))  # (B, T, N)
    if edited is None:
        return None
    flat = edited.flatten(0, 1)
    return flat if routing is None else routing.collect(flat)


def _refuse_compiled(model: PreTrainedModel) -> None:
    is_compiled = model._compiled_call_impl is not None or any(
        name == "_orig_mod" for name, _ in model.named_children()
    )
    if is_compiled:
        raise UnsupportedArchitectureError(
            f"Cannot steer a compiled '{model.config.model_type}' model: activations would not be "
            "adjusted, without a word. Expected a model that `torch.compile` has not touched; "
            "load it with `load_model`."
        )


def _check_modules(
    model: PreTrainedModel, activations: tuple[nn.Module, ...], downs: tuple[nn.Module, ...]
) -> None:
    """Refuse a model whose modules contradict its configuration or are shared by layers."""
    expected = (layer_count(model.config), neurons_per_layer(model.config))
    widths = {input_width(down) for down in downs}
    if (len(downs), *widths) != expected:
        found = " or ".join(str(width) for width in widths)
        raise UnsupportedArchitectureError(
            f"This '{model.config.model_type}' model has '{len(downs)} layers x {found}' neurons, "
            f"but its configuration says {expected[0]} x {expected[1]}. Expected them to be the "
            "same; load the model with `load_model`, without pruning or wrappers."
        )
    if len(set(activations)) < len(activations):
        raise UnsupportedArchitectureError(
            f"The layers of this '{model.config.model_type}' model share one activation module "
            f"'{type(activations[0]).__name__}', so they cannot be told apart. "
            "Expected one per layer; load the model with `load_model`."
        )


def _check_places(
    sites: FfnSites, edits: Mapping[Site, TensorEdit], layers: Collection[int]
) -> None:
    if unknown := [site for site in edits if site not in SITES]:
        raise PlanError(
            f"Unknown site '{unknown[0]}'. Expected one of {', '.join(SITES)}; use one of these."
        )
    count = len(sites.layers)
    if outside := [layer for layer in layers if not 0 <= layer < count]:
        raise PlanError(
            f"Cannot attach to layer '{outside[0]}': the model has {count} layers. "
            f"Expected 0 to {count - 1}; use a plan that was made for this model."
        )
