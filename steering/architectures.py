"""Where each model family keeps its FFN: one table row per family, and how a row is looked up.

Knows names only. It never touches a loaded model (`hooks.py` does), loads no library, and never
guesses: a family without a row is refused with the list of those that have one.
A row is checked by `tests/test_architectures.py` on a tiny random model of its family.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from steering.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

# Where an edit acts in a layer. `gate`: output of the activation function. `value`: what enters
# the down projection. `residual`: the stream after the layer.
Site: TypeAlias = Literal["gate", "value", "residual"]
SITES: tuple[Site, ...] = ("gate", "value", "residual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One model family: where its layers, activation function and down projection are.

    Args:
        model_type: The `model_type` of its configuration.
        layers_path: Dotted path from the causal language model to its list of decoder layers.
        ffn_path: Name of the FFN within a layer; empty when the layer itself holds it.
        activation_name: Name of the activation function within the FFN.
        down_projection_name: Name of the projection back to the hidden size within the FFN.
        is_gated: Whether `act(gate(x)) * up(x)` enters the down projection, not `act(fc(x))`.
        flattens_tokens: Whether the FFN sees `(batch * tokens, units)`.
        width_name: Configuration attribute with the neurons per layer; empty when there is none.
        width_per_hidden: Neurons per hidden unit when that attribute is absent or unset.
        text_config_name: Attribute of the configuration that holds the text model's own one;
            empty when it is the configuration itself.
        experts_name: Configuration attribute with the experts per layer, each with neurons of its
            own; empty when every token goes through the one FFN of the layer.
        final_norm_path: Dotted path from the causal language model to its last normalisation.
        layer_norm_name: Name of the first normalisation within a layer.
    """

    model_type: str
    layers_path: str = "model.layers"
    ffn_path: str = "mlp"
    activation_name: str = "act_fn"
    down_projection_name: str = "down_proj"
    is_gated: bool = True
    flattens_tokens: bool = False
    width_name: str = "intermediate_size"
    width_per_hidden: int | None = None
    text_config_name: str = ""
    experts_name: str = ""
    final_norm_path: str = "model.norm"
    layer_norm_name: str = "input_layernorm"


# How `experts.py` names the two places in a layer's experts where edits attach.
EXPERT_GATE_NAME, EXPERT_VALUE_NAME = "gate_site", "value_site"

# Read from the modeling files of transformers 5.23. Rows without arguments have Llama's names.
_ROWS = (
    Architecture(
        model_type="bloom",
        layers_path="transformer.h",
        activation_name="gelu_impl",
        down_projection_name="dense_4h_to_h",
        is_gated=False,
        width_name="",
        width_per_hidden=4,
        final_norm_path="transformer.ln_f",
    ),
    Architecture(model_type="cohere"),
    Architecture(model_type="cohere2"),
    Architecture(
        model_type="falcon",
        layers_path="transformer.h",
        activation_name="act",
        down_projection_name="dense_4h_to_h",
        is_gated=False,
        width_name="ffn_hidden_size",
        width_per_hidden=4,
        final_norm_path="transformer.ln_f",
    ),
    Architecture(model_type="gemma"),
    Architecture(model_type="gemma2"),
    Architecture(
        model_type="gemma3",
        layers_path="model.language_model.layers",
        text_config_name="text_config",
        final_norm_path="model.language_model.norm",
    ),
    Architecture(model_type="gemma3_text"),
    Architecture(
        model_type="gpt2",
        layers_path="transformer.h",
        activation_name="act",
        down_projection_name="c_proj",
        is_gated=False,
        width_name="n_inner",
        width_per_hidden=4,
        final_norm_path="transformer.ln_f",
        layer_norm_name="ln_1",
    ),
    Architecture(
        model_type="gpt_neox",
        layers_path="gpt_neox.layers",
        activation_name="act",
        down_projection_name="dense_4h_to_h",
        is_gated=False,
        final_norm_path="gpt_neox.final_layer_norm",
    ),
    Architecture(model_type="granite"),
    Architecture(model_type="llama"),
    Architecture(model_type="mistral"),
    Architecture(
        model_type="mixtral",
        ffn_path="mlp.experts",
        activation_name=EXPERT_GATE_NAME,
        down_projection_name=EXPERT_VALUE_NAME,
        flattens_tokens=True,
        experts_name="num_local_experts",
    ),
    Architecture(model_type="olmo2", layer_norm_name="post_attention_layernorm"),
    Architecture(
        model_type="opt",
        layers_path="model.decoder.layers",
        ffn_path="",
        activation_name="activation_fn",
        down_projection_name="fc2",
        is_gated=False,
        flattens_tokens=True,
        width_name="ffn_dim",
        final_norm_path="model.decoder.final_layer_norm",
        layer_norm_name="self_attn_layer_norm",
    ),
    Architecture(
        model_type="phi",
        activation_name="activation_fn",
        down_projection_name="fc2",
        is_gated=False,
        final_norm_path="model.final_layernorm",
    ),
    Architecture(model_type="phi3", activation_name="activation_fn"),
    Architecture(model_type="qwen2"),
    Architecture(model_type="qwen3"),
    Architecture(
        model_type="qwen3_moe",
        ffn_path="mlp.experts",
        activation_name=EXPERT_GATE_NAME,
        down_projection_name=EXPERT_VALUE_NAME,
        flattens_tokens=True,
        width_name="moe_intermediate_size",
        experts_name="num_experts",
    ),
    Architecture(model_type="smollm3"),
    Architecture(
        model_type="xglm",
        ffn_path="",
        activation_name="activation_fn",
        down_projection_name="fc2",
        is_gated=False,
        width_name="ffn_dim",
        final_norm_path="model.layer_norm",
        layer_norm_name="self_attn_layer_norm",
    ),
)

ARCHITECTURES: dict[str, Architecture] = {row.model_type: row for row in _ROWS}

# Families with experts that have no row: what they do besides (experts that every token goes to,
# other activations, other layers between) is not read.
_EXPERT_TYPES = """
afmoe bailing_hybrid cohere2_moe dbrx deepseek_v2 deepseek_v3 dots1 ernie4_5_moe exaone_moe
flex_olmo glm4_moe glm4_moe_lite gpt_oss granitemoe granitemoehybrid granitemoeshared
hunyuan_v1_moe jamba jetmoe lfm2_moe llama4 llama4_text minimax minimax_m2 olmoe
phimoe qwen2_moe qwen3_5_moe qwen3_next solar_open
"""

MIXTURE_OF_EXPERTS: frozenset[str] = frozenset(_EXPERT_TYPES.split())


def find_architecture(config: PreTrainedConfig, *, is_quantised: bool = False) -> Architecture:
    """Return the row of a model's family.

    Args:
        config: The model's configuration, as `AutoConfig` reads it.
        is_quantised: Whether the weights are to be quantised, or are stored so.

    Raises:
        UnsupportedArchitectureError: If the family has no row, has experts that are quantised, or
            is configured in a way that goes round the modules that the row names.
    """
    architecture = find_family(config.model_type, is_quantised=is_quantised)
    if getattr(config, "slow_but_exact", False) and getattr(config, "pretraining_tp", 1) > 1:
        raise UnsupportedArchitectureError(
            f"Cannot steer a '{config.model_type}' model with 'slow_but_exact': it computes the "
            "FFN around its down projection. Expected 'slow_but_exact' to be false; "
            "set it to false in the model's config.json."
        )
    if architecture.experts_name and (
        getattr(config, "mlp_only_layers", None) or getattr(config, "decoder_sparse_step", 1) != 1
    ):
        raise UnsupportedArchitectureError(
            f"Cannot steer this '{config.model_type}' model: some of its layers have experts and "
            "some have not ('mlp_only_layers', 'decoder_sparse_step'). Expected experts in every "
            "layer; choose another model of this family."
        )
    return architecture


def find_family(model_type: str, *, is_quantised: bool = False) -> Architecture:
    """Return the row with this model type, as `find_architecture` does from a configuration.

    Raises:
        UnsupportedArchitectureError: If the family has no row, or has experts that are quantised.
    """
    if model_type in ARCHITECTURES:
        if is_quantised and ARCHITECTURES[model_type].experts_name:
            raise UnsupportedArchitectureError(
                f"Cannot load a mixture-of-experts model of type '{model_type}' quantised: "
                "bitsandbytes leaves its experts, nearly all of the weights, as they are, and "
                "experts that are stored quantised cannot be steered. Expected unquantised "
                "weights; use `quantize` 'none', with `device` 'auto' where one GPU is too small."
            )
        return ARCHITECTURES[model_type]
    known = ", ".join(ARCHITECTURES)
    if model_type in MIXTURE_OF_EXPERTS:
        with_experts = ", ".join(row.model_type for row in _ROWS if row.experts_name)
        raise UnsupportedArchitectureError(
            f"Cannot steer a mixture-of-experts model of type '{model_type}': its experts are not "
            f"in the table. Known here: {known}; with experts: {with_experts}. Choose a "
            "model of one of these, or add a row to `steering/architectures.py`."
        )
    nearest = difflib.get_close_matches(model_type, ARCHITECTURES, n=1)
    hint = f" The nearest is '{nearest[0]}'." if nearest else ""
    raise UnsupportedArchitectureError(
        f"Unknown model architecture '{model_type}'.{hint} Known here: {known}. "
        "Choose a model of one of these, or add a row to `steering/architectures.py`."
    )


def layer_count(config: PreTrainedConfig) -> int:
    """Return the number of decoder layers."""
    return _read_size(_text_config(config), "num_hidden_layers")


def hidden_size(config: PreTrainedConfig) -> int:
    """Return the width of the residual stream."""
    return _read_size(_text_config(config), "hidden_size")


def vocabulary_size(config: PreTrainedConfig) -> int:
    """Return the number of token ids that the model has logits for."""
    return _read_size(_text_config(config), "vocab_size")


def neurons_per_layer(config: PreTrainedConfig) -> int:
    """Return the number of FFN intermediate units of each layer, those of all experts together."""
    architecture = find_architecture(config)
    width = getattr(_text_config(config), architecture.width_name or "-", None)
    if width is None and architecture.width_per_hidden is not None:
        return architecture.width_per_hidden * hidden_size(config)
    width = _read_size(_text_config(config), architecture.width_name)
    return width * (expert_count(config) or 1)


def expert_count(config: PreTrainedConfig) -> int | None:
    """Return how many experts each layer has; None where there is one FFN for every token.

    Neuron i of expert e has the index e x (neurons of an expert) + i in its layer.
    """
    name = find_architecture(config).experts_name
    return _read_size(_text_config(config), name) if name else None


def input_width(projection: nn.Module) -> int | None:
    """Return how many units a projection takes in; None when the module does not say.

    `weight.shape` is no answer: 4-bit weights are packed, and GPT-2's `Conv1D` is transposed.
    """
    width = getattr(projection, "in_features", getattr(projection, "nx", None))
    return width if isinstance(width, int) else None


def activation_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the type of a model's activations; its embedding may be stored in a narrower one."""
    embedding = model.get_input_embeddings().get_parameter("weight")
    others = (
        weight.dtype
        for weight in model.parameters()
        if weight.is_floating_point() and weight is not embedding
    )
    return next(others, embedding.dtype)


def _text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    name = find_architecture(config).text_config_name
    text_config: PreTrainedConfig = getattr(config, name) if name else config
    return text_config


def _read_size(config: PreTrainedConfig, name: str) -> int:
    """Read a count, refusing the lists that some families use for layers of unequal width."""
    size = getattr(config, name, None)
    if isinstance(size, int):
        return size
    raise UnsupportedArchitectureError(
        f"Cannot read '{name}' of a '{config.model_type}' model: it is '{size}'. "
        "Expected one whole number for all layers; choose another model of this family."
    )
