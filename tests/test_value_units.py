"""Plans of a set steer a model whose weights were rescaled since as they steer the original."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from steering.bundled import BUNDLED_NEURON_SET
from steering.conversation import Message
from steering.ffn_columns import read_column_norms, with_column_norms
from steering.generation import answer_conversations
from steering.languages import LANGUAGES
from steering.loading import LoadedModel, load_model
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling
from steering.value_units import fit_values

QUESTIONS = ("Where is the cat?", "What is the capital of Spain?", "I like apples.")
EDITS, PULLS = "lape/answer@2", "lape-pull/answer@1.5"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("bundled")


@pytest.fixture(scope="module")
def neurons(model: LoadedModel) -> NeuronSet:
    return with_column_norms(load_neuron_set(BUNDLED_NEURON_SET), model)


@pytest.fixture(scope="module")
def rescaled(model: LoadedModel) -> LoadedModel:
    """The same model, with rows of up projections times factors and columns of down by them."""
    network = copy.deepcopy(model.model)
    random = torch.Generator().manual_seed(0)
    for layer in network.get_submodule(model.architecture.layers_path).children():
        up, down = layer.get_parameter("mlp.up_proj.weight"), layer.mlp.down_proj.weight
        factors = torch.exp(torch.rand(len(up), generator=random) * 4 - 2)
        with torch.no_grad():
            up *= factors[:, None]
            down /= factors
    return replace(model, model=network)


def plan_of(neurons: NeuronSet, method: str, code: str = "ja") -> SteeringPlan:
    return make_plan(neurons, SteeringRequest(LANGUAGES[code], method, 1.0))


def answers(model: LoadedModel, plan: SteeringPlan) -> list[str]:
    views = answer_conversations(
        model,
        [(Message("user", question),) for question in QUESTIONS],
        plans=[plan] * len(QUESTIONS),
        sampling=[Sampling(24)] * len(QUESTIONS),
    )
    return [view.text for view in views]


@pytest.mark.parametrize("method", [EDITS, PULLS, f"{PULLS}+subspace/D0.75/answer@0.5"])
def test_a_rescaled_model_answers_as_the_original(
    method: str, model: LoadedModel, rescaled: LoadedModel, neurons: NeuronSet
) -> None:
    plan = plan_of(neurons, method)
    expected = answers(model, plan)

    assert expected != answers(model, SteeringPlan({}))  # there is something to keep
    assert answers(rescaled, plan) == expected
    assert answers(rescaled, replace(plan, columns=None)) != expected


def test_the_control_is_converted_as_well(
    model: LoadedModel, rescaled: LoadedModel, neurons: NeuronSet
) -> None:
    plan = plan_of(neurons, "random-pull/answer@2")

    assert answers(rescaled, plan) == answers(model, plan)
    assert fit_values(plan, rescaled.model) is not plan


def test_plans_stay_as_they_are_on_the_model_that_was_recorded(
    model: LoadedModel, neurons: NeuronSet
) -> None:
    for method in (EDITS, PULLS, "lape-pull/gate/answer@1"):
        plan = plan_of(neurons, method)

        assert fit_values(plan, model.model) is plan


def test_plans_that_leave_values_alone_stay_as_they_are(
    rescaled: LoadedModel, neurons: NeuronSet
) -> None:
    plan = plan_of(neurons, "lape-pull/gate/answer@1+subspace/D0.75/answer@1")

    assert fit_values(plan, rescaled.model) is plan


def test_a_converted_plan_can_be_used_with_gradients(
    rescaled: LoadedModel, neurons: NeuronSet
) -> None:
    with torch.inference_mode():
        plan = fit_values(plan_of(neurons, PULLS, "fr"), rescaled.model)

    assert not any(pull.directions.is_inference() for pull in plan.pulls.values())


def test_converted_phases_share_their_directions(rescaled: LoadedModel, neurons: NeuronSet) -> None:
    plan = fit_values(plan_of(neurons, PULLS), rescaled.model)

    rows = {(layer, id(pull.directions)) for (_, phase, layer), pull in plan.pulls.items()
            if phase in ("start", "body")}  # fmt: skip
    assert len(rows) == len({layer for layer, _ in rows})


class Buffered(nn.Module):
    """A down projection as AWQ's and GPTQ's layers are: buffers, no parameters."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("packed", weight.detach().clone())
        self.in_features = weight.shape[1]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values @ self.packed.T


def test_columns_of_layers_without_parameters_are_read(
    model: LoadedModel, neurons: NeuronSet
) -> None:
    network = copy.deepcopy(model.model)
    for layer in network.get_submodule(model.architecture.layers_path).children():
        layer.mlp.down_proj = Buffered(layer.mlp.down_proj.weight)

    norms = read_column_norms(network, neurons.layer, neurons.index)

    assert torch.allclose(norms, neurons.column_norm, rtol=1e-4)


def test_a_steerers_hooks_do_not_touch_what_is_read(model: LoadedModel, neurons: NeuronSet) -> None:
    network = copy.deepcopy(model.model)
    for layer in network.get_submodule(model.architecture.layers_path).children():
        layer.mlp.down_proj = Buffered(layer.mlp.down_proj.weight)
        layer.mlp.down_proj.register_forward_pre_hook(lambda _module, args: (args[0] * 7,))

    norms = read_column_norms(network, neurons.layer, neurons.index)

    assert torch.allclose(norms, neurons.column_norm, rtol=1e-4)


def test_a_plan_is_converted_once(rescaled: LoadedModel, neurons: NeuronSet) -> None:
    plan = plan_of(neurons, PULLS)

    assert fit_values(plan, rescaled.model) is fit_values(plan, rescaled.model)


def test_a_set_without_norms_steers_as_it_did(rescaled: LoadedModel) -> None:
    plan = plan_of(load_neuron_set(BUNDLED_NEURON_SET), PULLS)

    assert plan.columns is None
    assert fit_values(plan, rescaled.model) is plan
