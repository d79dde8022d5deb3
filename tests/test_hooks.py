"""Tests of attaching to models, by arithmetic on tiny random models of every family."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from steering.architectures import ARCHITECTURES
from steering.errors import PlanError, UnsupportedArchitectureError
from steering.hooks import SITES, FfnSites, Site, attached, count_hooks, find_sites

MakeModel = Callable[..., PreTrainedModel]

IDS = torch.arange(10, 20).view(2, 5)


class Recorder:
    """An edit that notes what it sees and leaves it alone."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Tensor]] = []

    def __call__(self, layer: int, activation: Tensor) -> None:
        self.seen.append((layer, activation.clone()))


def run(model: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


def zero_neurons(*indices: int, at_layer: int) -> Callable[[int, Tensor], Tensor | None]:
    def edit(layer: int, activation: Tensor) -> Tensor | None:
        if layer != at_layer:
            return None
        edited = activation.clone()
        edited[..., list(indices)] = 0
        return edited

    return edit


def leave_alone(_layer: int, _activation: Tensor) -> None:
    return None


def double(_layer: int, activation: Tensor) -> Tensor:
    return activation * 2


@pytest.mark.parametrize("site", SITES)
def test_edit_is_called_once_per_layer_per_forward_with_the_whole_batch(
    tiny_model: PreTrainedModel, site: Site
) -> None:
    sites = find_sites(tiny_model)
    width = 32 if site == "residual" else sites.neurons_per_layer
    record = Recorder()

    with attached(sites, {site: record}):
        run(tiny_model)
        run(tiny_model, IDS[:1, :1])

    assert [layer for layer, _ in record.seen] == [0, 1, 0, 1]
    assert [tuple(seen.shape) for _, seen in record.seen] == [(2, 5, width)] * 2 + [
        (1, 1, width)
    ] * 2


def column_of(model: PreTrainedModel, index: int) -> Tensor:
    """Return what a neuron of the last layer is multiplied with, to be changed in place."""
    sites = find_sites(model)
    if sites.experts:
        experts = model.get_submodule("model.layers.1.mlp.experts")
        width = sites.neurons_per_layer // sites.experts
        return experts.get_parameter("down_proj")[index // width, :, index % width]
    down = sites.down_projections[1]
    weight = down.get_parameter("weight")
    return weight[index] if isinstance(down, Conv1D) else weight[:, index]


@pytest.mark.parametrize("index", [0, 7, 47])
def test_zeroing_a_neuron_equals_zeroing_its_column_of_the_down_projection(
    tiny_model: PreTrainedModel, index: int
) -> None:
    pruned = copy.deepcopy(tiny_model)
    with torch.no_grad():
        column_of(pruned, index).zero_()

    with attached(find_sites(tiny_model), {"value": zero_neurons(index, at_layer=1)}):
        steered = run(tiny_model)

    assert torch.equal(steered, run(pruned))


def test_zeroing_neurons_of_one_layer_changes_the_logits(tiny_model: PreTrainedModel) -> None:
    edit = zero_neurons(*range(24), at_layer=1)

    with attached(find_sites(tiny_model), {"value": edit}):
        steered = run(tiny_model)

    assert not torch.equal(steered, run(tiny_model))


def test_gate_is_the_output_of_the_activation_function(
    family: str, tiny_model: PreTrainedModel
) -> None:
    gate, value = Recorder(), Recorder()

    with attached(find_sites(tiny_model), {"gate": gate, "value": value}):
        run(tiny_model)

    is_same = all(torch.equal(a, b) for (_, a), (_, b) in zip(gate.seen, value.seen, strict=True))
    assert is_same is not ARCHITECTURES[family].is_gated


def test_value_is_gate_times_up_in_a_gated_family(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    gate, value, up = Recorder(), Recorder(), list[Tensor]()
    ffn = model.get_submodule("model.layers.0.mlp.up_proj")
    handle = ffn.register_forward_hook(lambda _module, _args, output: up.append(output))

    with attached(find_sites(model), {"gate": gate, "value": value}, layers=[0]):
        run(model)
    handle.remove()

    assert torch.equal(value.seen[0][1], gate.seen[0][1] * up[0])


def test_edited_gate_arrives_at_the_value_site(tiny_model: PreTrainedModel) -> None:
    sites, before, after = find_sites(tiny_model), Recorder(), Recorder()

    with attached(sites, {"value": before}, layers=[0]):
        run(tiny_model)
    with attached(sites, {"gate": double, "value": after}, layers=[0]):
        run(tiny_model)

    assert torch.equal(after.seen[0][1], before.seen[0][1] * 2)


def test_edited_residual_is_what_the_next_layer_gets(tiny_model: PreTrainedModel) -> None:
    sites, outputs, inputs = find_sites(tiny_model), Recorder(), Recorder()

    def note_input(_module: nn.Module, args: tuple[Tensor], kwargs: dict[str, Tensor]) -> None:
        inputs(1, args[0] if args else kwargs["hidden_states"])

    handle = sites.layers[1].register_forward_pre_hook(note_input, with_kwargs=True)
    with (
        attached(sites, {"residual": double}, layers=[0]),
        attached(sites, {"residual": outputs}, layers=[0]),
    ):
        run(tiny_model)
    handle.remove()

    assert torch.equal(inputs.seen[0][1], outputs.seen[0][1])
    assert not torch.equal(outputs.seen[0][1], torch.zeros_like(outputs.seen[0][1]))


def test_residual_of_a_layer_that_returns_a_tuple_is_replaced_within_it() -> None:
    class TupleLayer(nn.Module):
        def forward(self, hidden: Tensor) -> tuple[Tensor, str]:
            return hidden, "cache"

    layer = TupleLayer()
    sites = FfnSites((layer,), (nn.ReLU(),), (nn.Linear(1, 1),), 1, is_flattened=False)
    with attached(sites, {"residual": double}):
        changed = layer(torch.ones(1, 1, 1))
    with attached(sites, {"residual": leave_alone}):
        same = layer(torch.ones(1, 1, 1))

    assert changed == (torch.full((1, 1, 1), 2.0), "cache")
    assert same == (torch.ones(1, 1, 1), "cache")


def test_edits_that_return_none_leave_logits_bitwise_unchanged(
    tiny_model: PreTrainedModel,
) -> None:
    base = run(tiny_model)

    with attached(find_sites(tiny_model), dict.fromkeys(SITES, leave_alone)):
        logits = run(tiny_model)

    assert torch.equal(logits, base)


def test_edits_reach_only_the_chosen_layers(make_tiny_model: MakeModel) -> None:
    model, record = make_tiny_model("opt"), Recorder()

    with attached(find_sites(model), {"gate": record}, layers=[1, 1]):
        run(model)

    assert [layer for layer, _ in record.seen] == [1]


def test_row_of_a_flattening_family_is_edited_alone(make_tiny_model: MakeModel) -> None:
    """In OPT the FFN sees (batch * tokens, units); row 0 must not get what was meant for row 1."""
    model = make_tiny_model("opt")

    def zero_second_row(_layer: int, activation: Tensor) -> Tensor:
        edited = activation.clone()
        edited[1] = 0
        return edited

    base = run(model)
    with attached(find_sites(model), {"value": zero_second_row}):
        steered = run(model)

    assert torch.equal(steered[0], base[0])
    assert not torch.equal(steered[1], base[1])


def test_two_threads_may_run_batches_of_different_size(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("opt")
    shapes: list[tuple[int, ...]] = []
    both_inside = threading.Barrier(2)

    def meet(layer: int, activation: Tensor) -> None:
        if layer == 0:
            both_inside.wait(timeout=20)
        shapes.append(tuple(activation.shape))

    with attached(find_sites(model), {"gate": meet, "value": meet}):
        threads = [threading.Thread(target=run, args=(model, IDS[:rows])) for rows in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)

    assert sorted(shapes) == [(1, 5, 48)] * 4 + [(2, 5, 48)] * 4


def test_no_hooks_are_left_after_exit(tiny_model: PreTrainedModel) -> None:
    base = run(tiny_model)

    with attached(find_sites(tiny_model), dict.fromkeys(SITES, double)):
        steered = run(tiny_model)

    assert count_hooks(tiny_model) == 0
    assert torch.equal(run(tiny_model), base)
    assert not torch.equal(steered, base)


def test_no_hooks_are_left_after_an_exception_inside(tiny_model: PreTrainedModel) -> None:
    base = run(tiny_model)

    def fail(_layer: int, _activation: Tensor) -> Tensor:
        raise RuntimeError("from the edit")

    with (
        pytest.raises(RuntimeError, match="from the edit"),
        attached(find_sites(tiny_model), dict.fromkeys(SITES, fail)),
    ):
        run(tiny_model)

    assert count_hooks(tiny_model) == 0
    assert torch.equal(run(tiny_model), base)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_no_hooks_are_left_after_attaching_failed_half_way(
    family: str, make_tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model(family)
    sites, base = find_sites(model), run(model)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise MemoryError("no room for a hook")

    monkeypatch.setattr(sites.layers[1], "register_forward_hook", fail)
    with (
        pytest.raises(MemoryError, match="no room"),
        attached(sites, dict.fromkeys(SITES, double)),
    ):
        pytest.fail("the body must not run")

    assert count_hooks(model) == 0
    assert torch.equal(run(model), base)


def test_hooks_of_others_are_left_in_place(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    sites = find_sites(model)
    handle = sites.layers[0].register_forward_hook(lambda *_args: None)

    with attached(sites, {"residual": double}):
        pass
    left = count_hooks(model)
    handle.remove()

    assert left == 1


@pytest.mark.parametrize("layer", [-1, 2])
def test_layer_that_does_not_exist_is_refused(layer: int, make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")

    with (
        pytest.raises(PlanError, match=f"layer '{layer}'.*has 2 layers"),
        attached(find_sites(model), {"value": double}, layers=[0, layer]),
    ):
        pytest.fail("the body must not run")

    assert count_hooks(model) == 0


def test_site_that_does_not_exist_is_refused(make_tiny_model: MakeModel) -> None:
    edits = {"attention": double}

    with (
        pytest.raises(PlanError, match=r"'attention'.*gate, value, residual"),
        attached(find_sites(make_tiny_model("llama")), edits),  # type: ignore[arg-type]  # wrong
    ):
        pytest.fail("the body must not run")


def test_sites_are_listed_as_they_are_typed() -> None:
    assert get_args(Site) == SITES


def test_compiled_model_is_refused(make_tiny_model: MakeModel) -> None:
    model = copy.deepcopy(make_tiny_model("llama"))
    wrapped = torch.compile(model, backend="eager")
    model.compile(backend="eager")

    for compiled in (wrapped, model):
        with pytest.raises(UnsupportedArchitectureError, match="compiled 'llama'"):
            find_sites(compiled)  # type: ignore[arg-type]  # what a caller may do wrong


def test_model_without_the_named_modules_is_refused(make_tiny_model: MakeModel) -> None:
    model = copy.deepcopy(make_tiny_model("llama"))
    del model.get_submodule("model.layers.1.mlp").down_proj

    with pytest.raises(UnsupportedArchitectureError, match=r"Cannot find the FFN.*down_proj"):
        find_sites(model)


def test_model_narrower_than_its_configuration_is_refused(make_tiny_model: MakeModel) -> None:
    model = copy.deepcopy(make_tiny_model("llama"))
    model.get_submodule("model.layers.1.mlp").down_proj = nn.Linear(40, 32)

    with pytest.raises(UnsupportedArchitectureError, match="configuration says 2 x 48"):
        find_sites(model)


def test_layers_that_share_an_activation_module_are_refused(make_tiny_model: MakeModel) -> None:
    model = copy.deepcopy(make_tiny_model("llama"))
    shared = model.get_submodule("model.layers.0.mlp.act_fn")
    model.get_submodule("model.layers.1.mlp").act_fn = shared

    with pytest.raises(UnsupportedArchitectureError, match="share one activation module"):
        find_sites(model)
