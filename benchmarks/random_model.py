"""A random Llama, and a neuron set of random means for it, in the place of a model that is large.

The weights say nothing, but every product has the size that it would have. Nothing is downloaded.
Dimension key: see `steering/activation_stats.py`.
"""

import re
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from steering.activation_stats import ActivationStats, PhaseStats, StatsPhase
from steering.architectures import find_architecture
from steering.building import SetOrigin, build_neuron_set
from steering.lape import LapeParameters
from steering.loading import BUNDLED_MODEL, LoadedModel, load_model
from steering.model_identity import ModelIdentity
from steering.neuron_set import NeuronSet

HIDDEN, NEURONS, HEADS, VOCABULARY = 1024, 2816, 16, 32_000
LAYERS_250M = 14  # 245 million parameters, embeddings and head included

# Of the stream and of neurons in such a model: means of this size change what it writes.
_RESIDUAL_SCALE, _NEURON_SCALE = 0.02, 0.05
_TOKENS = 1000  # per language and phase, of which means and counts are made


def make_random_model(layers: int) -> LoadedModel:
    """Return a random Llama on the CPU, float32, always the same; it never ends an answer.

    The tokenizer is the bundled one, with further tokens up to the model's vocabulary, so that
    every token is text that can be compared.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        intermediate_size=NEURONS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(requires_grad=False)
    never_end(model)
    identity = ModelIdentity("random", "local", "llama", layers, NEURONS, HIDDEN, "none")
    return LoadedModel(model, _make_tokenizer(), find_architecture(config), identity)


def never_end(model: LlamaForCausalLM) -> None:
    """Put the token that ends an answer out of reach, so that all answers have the same length."""
    model.generation_config.eos_token_id = model.config.vocab_size


def _make_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = load_model(BUNDLED_MODEL).tokenizer
    tokenizer.add_tokens([f"\u3014{number}\u3015" for number in range(len(tokenizer), VOCABULARY)])
    assert len(tokenizer) == VOCABULARY
    return tokenizer


def make_random_set(model: LoadedModel, like: NeuronSet) -> NeuronSet:
    """Return a set of random means for a model: languages, selection and method of another set.

    Args:
        model: The model that it is for.
        like: The other set; the layers of its method are spread over the model's.
    """
    about = like.metadata
    assert about.prob_quantile
    assert about.select_fraction
    assert about.membership_quantile
    neurons = build_neuron_set(
        model.identity,
        _make_stats(model, like),
        phase="onset",
        parameters=LapeParameters(
            prob_quantile=about.prob_quantile,
            select_fraction=about.select_fraction,
            membership_quantile=about.membership_quantile,
        ),
        origin=SetOrigin(corpus_name="random", corpus_sha256="0" * 64),
    )
    method = spread_layers(about.steering_method, about.layers, model.identity.layers)
    update = {"steering_method": method, "strengths": about.strengths}
    return replace(neurons, metadata=neurons.metadata.model_copy(update=update))


def spread_layers(method: str, layers: int, wanted_layers: int) -> str:
    """Return a method for another depth: `L0-3` of 6 layers is `L0-8` of 14, `L4` is `L9`."""

    def spread(found: re.Match[str]) -> str:
        first = min(round(int(found[1]) * wanted_layers / layers), wanted_layers - 1)
        if found[2] is None:
            return f"L{first}"
        last = round((int(found[2]) + 1) * wanted_layers / layers) - 1
        return f"L{first}-{max(first, last)}"

    return re.sub(r"L(\d+)(?:-(\d+))?", spread, method)


def _make_stats(model: LoadedModel, like: NeuronSet) -> ActivationStats:
    random = torch.Generator().manual_seed(0)
    shape = (model.identity.layers, model.identity.neurons_per_layer)

    def normal(scale: float, *size: int) -> Tensor:
        return torch.randn(*size, generator=random, dtype=torch.float64) * scale * _TOKENS

    phases: dict[StatsPhase, dict] = {
        phase: {
            language: PhaseStats(
                token_count=_TOKENS,
                active_count=torch.randint(_TOKENS, shape, generator=random),
                gate_sum=normal(_NEURON_SCALE, *shape),
                value_sum=normal(_NEURON_SCALE, *shape),
                residual_sum=normal(_RESIDUAL_SCALE, shape[0], HIDDEN),
                token_id_count=torch.randint(20, (VOCABULARY,), generator=random),
            )
            for language in like.languages
        }
        for phase in ("onset", "body")
    }
    return ActivationStats(like.languages, phases)
