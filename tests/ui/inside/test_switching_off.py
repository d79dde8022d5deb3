"""Tests of which neurons are switched off, and that zero is the last word on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from steering.languages import Language
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.steerer import steered
from steering.steering_plan import EVERY_POSITION
from steering.ui.inside.switching_off import (
    count_by_layer,
    neurons_of_group,
    switch_off,
    with_switched_off,
)
from steering.ui.wording import Refusal
from tests.toy import FR, JA, SW, make_random_plan


def test_random_neurons_are_as_many_in_each_layer_and_none_of_them_selected(
    toy_set: NeuronSet,
) -> None:
    layer, index = neurons_of_group(toy_set, "random", FR)

    assert torch.bincount(layer, minlength=2).tolist() == toy_set.layer_counts(FR)
    selected = set(zip(toy_set.layer.tolist(), toy_set.index.tolist(), strict=True))
    chosen = list(zip(layer.tolist(), index.tolist(), strict=True))
    assert len(set(chosen)) == len(chosen) == len(toy_set.neurons_of(FR))
    assert not selected & set(chosen)


def test_all_are_those_of_every_language(toy_set: NeuronSet) -> None:
    counts = count_by_layer(toy_set, "all", FR)

    assert sum(counts.values()) == len(toy_set.layer)


def test_only_the_chosen_layers_are_switched_off(toy_set: NeuronSet) -> None:
    plan, count = switch_off(toy_set, "own", JA, [1])

    assert {place[2] for place in plan.edits} == {1}
    assert {place[1] for place in plan.edits} == set(EVERY_POSITION)
    assert count == toy_set.layer_counts(JA)[1]


@pytest.mark.parametrize(("language", "layers"), [(FR, []), (FR, [7]), (SW, [0, 1])])
def test_switching_nothing_off_is_refused(
    toy_set: NeuronSet, language: Language, layers: list[int]
) -> None:
    with pytest.raises(Refusal, match="No neuron is chosen"):
        switch_off(toy_set, "own", language, layers)


def test_a_set_without_random_neurons_is_refused_in_words(toy_set: NeuronSet) -> None:
    with pytest.raises(Refusal, match="holds no random neurons"):
        neurons_of_group(replace(toy_set, control=None), "random", FR)


def test_a_switched_off_neuron_is_zero_whatever_the_steering_does_to_it(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    model = load_tiny("llama")
    steering = make_random_plan(3, *EVERY_POSITION, neurons=48)
    off, _ = switch_off(toy_set, "all", FR, [0, 1])
    seen: dict[int, torch.Tensor] = {}

    def watch(layer: int) -> Callable[..., None]:
        def note(_module: object, args: tuple[torch.Tensor, ...]) -> None:
            seen[layer] = args[0]

        return note

    with torch.no_grad(), steered(model.model, [with_switched_off(steering, off)]):
        handles = [
            block.mlp.down_proj.register_forward_pre_hook(watch(layer))
            for layer, block in enumerate(model.model.model.layers)
        ]
        model.model(input_ids=torch.tensor([[1, 2, 3, 4]]))
    for handle in handles:
        handle.remove()

    for layer, index in zip(toy_set.layer.tolist(), toy_set.index.tolist(), strict=True):
        assert torch.equal(seen[layer][0, :, index], torch.zeros(4))
    assert seen[0].abs().sum() > 0
