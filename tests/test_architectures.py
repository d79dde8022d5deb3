"""Tests of the table of families, on configurations alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from torch import nn
from transformers import AutoConfig, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from steering.architectures import (
    ARCHITECTURES,
    MIXTURE_OF_EXPERTS,
    expert_count,
    find_architecture,
    find_family,
    hidden_size,
    input_width,
    layer_count,
    neurons_per_layer,
)
from steering.errors import UnsupportedArchitectureError

MakeConfig = Callable[..., PreTrainedConfig]


def test_each_row_is_found_by_its_model_type(family: str, tiny_config: MakeConfig) -> None:
    architecture = find_architecture(tiny_config(family))

    assert architecture is ARCHITECTURES[family]
    assert architecture.model_type == family


def test_sizes_are_read_from_each_configuration(family: str, tiny_config: MakeConfig) -> None:
    config = tiny_config(family)

    assert layer_count(config) == 2
    assert hidden_size(config) == 32
    assert neurons_per_layer(config) == (128 if family == "bloom" else 48)


@pytest.mark.parametrize(("family", "name"), [("gpt2", "n_inner"), ("falcon", "ffn_hidden_size")])
def test_unset_width_is_four_times_the_hidden_size(
    family: str, name: str, tiny_config: MakeConfig
) -> None:
    config = tiny_config(family, **{name: None})

    assert neurons_per_layer(config) == 4 * 32


def test_layers_of_unequal_width_are_refused(tiny_config: MakeConfig) -> None:
    config = tiny_config("llama")
    config.__dict__["intermediate_size"] = [48, 96]

    with pytest.raises(
        UnsupportedArchitectureError, match=r"'intermediate_size'.*one whole number"
    ):
        neurons_per_layer(config)


@pytest.mark.parametrize("model_type", ["t5", "mamba"])
def test_unknown_architecture_is_refused_with_the_list_of_known_ones(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)

    with pytest.raises(UnsupportedArchitectureError) as caught:
        find_architecture(config)

    message = str(caught.value)
    assert f"'{model_type}'" in message
    assert ", ".join(ARCHITECTURES) in message
    assert message.endswith(".")


def test_refusal_of_a_misspelt_family_names_the_nearest() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="The nearest is 'qwen2'"):
        find_family("qwen_2")


def test_mixture_of_experts_without_a_row_is_refused_with_those_that_have_one() -> None:
    config = AutoConfig.for_model("olmoe")

    with pytest.raises(UnsupportedArchitectureError, match=r"'olmoe'.*experts: mixtral, qwen3_moe"):
        find_architecture(config)


def test_quantised_mixture_of_experts_is_refused_with_its_own_reason() -> None:
    config = AutoConfig.for_model("mixtral")

    with pytest.raises(UnsupportedArchitectureError, match="leaves its experts"):
        find_architecture(config, is_quantised=True)


def test_neurons_of_a_layer_are_those_of_all_its_experts(tiny_config: MakeConfig) -> None:
    assert expert_count(tiny_config("mixtral")) == 4
    assert neurons_per_layer(tiny_config("mixtral", intermediate_size=20)) == 80
    assert expert_count(tiny_config("llama")) is None


def test_no_family_is_both_known_and_refused() -> None:
    assert MIXTURE_OF_EXPERTS.isdisjoint(ARCHITECTURES)


def test_bloom_that_computes_around_its_projection_is_refused(tiny_config: MakeConfig) -> None:
    config = tiny_config("bloom", slow_but_exact=True, pretraining_tp=2)

    with pytest.raises(UnsupportedArchitectureError, match="'slow_but_exact'"):
        find_architecture(config)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 5), 3),
        (Conv1D(5, 3), 3),  # type: ignore[no-untyped-call]  # unannotated in transformers
        (nn.ReLU(), None),
    ],
)
def test_input_width_is_what_the_module_takes_in(module: nn.Module, expected: int | None) -> None:
    assert input_width(module) == expected


def test_importing_the_table_loads_no_library() -> None:
    code = (
        "import sys, steering.architectures; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", code], check=False)

    assert result.returncode == 0
