"""Tests of parameter variation: known changes of known neurons, in every family."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from steering.architectures import ARCHITECTURES
from steering.errors import NeuronSetMismatchError, StatsError
from steering.hooks import find_sites
from steering.loading import LoadedModel
from steering.parameter_variation import parameter_variation

WITHOUT_EXPERTS = sorted(name for name, row in ARCHITECTURES.items() if not row.experts_name)


def copy_of(model: LoadedModel) -> LoadedModel:
    return replace(model, model=copy.deepcopy(model.model))


def test_a_llama_neuron_varies_by_its_two_rows_and_its_column(
    load_tiny: Callable[..., LoadedModel],
) -> None:
    base = load_tiny("llama")
    tuned = copy_of(base)
    ffn = tuned.model.model.layers[1].mlp
    ffn.gate_proj.weight[3] += 0.5
    ffn.up_proj.weight[3] -= 0.25
    ffn.down_proj.weight[:, 7] *= 2

    found = parameter_variation(base, tuned)

    expected = torch.zeros(2, 48, dtype=torch.float64)
    for neuron in (3, 7):
        before, after = (
            [
                *side.gate_proj.weight[neuron].tolist(),
                *side.up_proj.weight[neuron].tolist(),
                *side.down_proj.weight[:, neuron].tolist(),
            ]
            for side in (base.model.model.layers[1].mlp, ffn)
        )
        change = sum((b - a) ** 2 for a, b in zip(before, after, strict=True)) ** 0.5
        expected[1, neuron] = change / sum(a**2 for a in before) ** 0.5
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", WITHOUT_EXPERTS)
def test_only_neurons_whose_column_changed_vary_in_every_family(
    family: str, load_tiny: Callable[..., LoadedModel]
) -> None:
    base = load_tiny(family)
    tuned = copy_of(base)
    down = find_sites(tuned.model).down_projections[1]
    weight = down.get_parameter("weight")
    columns = weight if hasattr(down, "nx") else weight.T  # GPT-2's projection lies the other way
    columns[[5, 9]] += 1

    found = parameter_variation(base, tuned)

    assert found.nonzero().tolist() == [[1, 5], [1, 9]]


def test_a_projection_that_holds_gate_and_up_is_read_by_halves(
    load_tiny: Callable[..., LoadedModel],
) -> None:
    base = load_tiny("phi3")
    tuned = copy_of(base)
    width = base.identity.neurons_per_layer
    tuned.model.model.layers[0].mlp.gate_up_proj.weight[[4, width + 6]] += 1

    assert parameter_variation(base, tuned).nonzero().tolist() == [[0, 4], [0, 6]]


def test_biases_count(load_tiny: Callable[..., LoadedModel]) -> None:
    base = load_tiny("opt")
    tuned = copy_of(base)
    tuned.model.model.decoder.layers[0].fc1.bias[2] += 1

    assert parameter_variation(base, tuned).nonzero().tolist() == [[0, 2]]


def test_a_neuron_of_zeros_gives_a_finite_number(load_tiny: Callable[..., LoadedModel]) -> None:
    base = copy_of(load_tiny("llama"))
    ffn = base.model.model.layers[0].mlp
    for rows in (ffn.gate_proj.weight, ffn.up_proj.weight, ffn.down_proj.weight.T):
        rows[0] = 0

    found = parameter_variation(base, load_tiny("llama"))

    assert found.isfinite().all()
    assert found[0, 0] == found.max()


def test_another_model_is_refused_by_name(load_tiny: Callable[..., LoadedModel]) -> None:
    with pytest.raises(NeuronSetMismatchError, match=r"'tiny-opt'.*is not a tuned 'tiny-llama'"):
        parameter_variation(load_tiny("llama"), load_tiny("opt"))


def test_experts_are_refused(load_tiny: Callable[..., LoadedModel]) -> None:
    with pytest.raises(StatsError, match="lie in experts"):
        parameter_variation(load_tiny("mixtral"), load_tiny("mixtral"))


def test_quantised_weights_are_refused(load_tiny: Callable[..., LoadedModel]) -> None:
    base = copy_of(load_tiny("llama"))
    down = base.model.model.layers[0].mlp.down_proj
    down.weight = torch.nn.Parameter(down.weight.to(torch.uint8), requires_grad=False)

    with pytest.raises(StatsError, match="is quantised"):
        parameter_variation(base, load_tiny("llama"))


def test_a_width_that_cannot_be_told_from_the_hidden_size_is_refused(
    load_tiny: Callable[..., LoadedModel],
) -> None:
    square = load_tiny("llama", intermediate_size=32)

    with pytest.raises(StatsError, match="cannot be told"):
        parameter_variation(square, square)
