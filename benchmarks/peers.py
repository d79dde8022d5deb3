"""The same edit by other libraries: a vector is added to the stream after a layer, everywhere.

Each is used as its own page says for generation, over transformers' `generate`. How to install
them: benchmarks/README.md. Knows nothing of our steering, and nothing is imported before it is
asked for.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

# (token ids and attention mask, tokens to write) -> ids of prompts and answers
Generate: TypeAlias = Callable[[dict[str, Tensor], int], Tensor]
# (model, tokenizer, layer, vector) -> how to generate with the vector
Prepare: TypeAlias = Callable[[PreTrainedModel, PreTrainedTokenizerBase, int, Tensor], Generate]


def generate_plainly(model: PreTrainedModel, inputs: dict[str, Tensor], tokens: int) -> Tensor:
    """Generate greedily by transformers alone."""
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return cast(Tensor, ids)


def prepare_repeng(
    model: PreTrainedModel, _tokenizer: PreTrainedTokenizerBase, layer: int, vector: Tensor
) -> Generate:
    """Wrap the layer for each answer and unwrap it: the other ways run the bare model."""
    from repeng import ControlModel, ControlVector

    control = ControlVector(model.config.model_type, {layer: vector.numpy()})

    def generate(inputs: dict[str, Tensor], tokens: int) -> Tensor:
        controlled = ControlModel(model, [layer])
        try:
            controlled.set_control(control)
            return generate_plainly(controlled, inputs, tokens)
        finally:
            controlled.unwrap()

    return generate


def prepare_steering_vectors(
    model: PreTrainedModel, _tokenizer: PreTrainedTokenizerBase, layer: int, vector: Tensor
) -> Generate:
    """Apply the vector around each answer."""
    from steering_vectors import SteeringVector

    steering_vector = SteeringVector({layer: vector})

    def generate(inputs: dict[str, Tensor], tokens: int) -> Tensor:
        with steering_vector.apply(model):
            return generate_plainly(model, inputs, tokens)

    return generate


def prepare_nnsight(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, layer: int, vector: Tensor
) -> Generate:
    """Wrap a copy of the modules, as wrapping cannot be undone; the weights are shared."""
    from nnsight import TransformersModel

    shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
    wrapped: Any = TransformersModel(copy.deepcopy(model, shared), tokenizer=tokenizer)

    def generate(inputs: dict[str, Tensor], tokens: int) -> Tensor:
        options = {"max_new_tokens": tokens, "do_sample": False}
        with torch.inference_mode(), wrapped.generate(inputs, **options) as tracer:
            for _ in tracer.iter[:tokens]:
                wrapped.model.layers[layer].output[:] += vector
            ids = tracer.result.save()
        return cast(Tensor, ids)

    return generate


PEERS: dict[str, Prepare] = {
    "repeng": prepare_repeng,
    "steering-vectors": prepare_steering_vectors,
    "nnsight": prepare_nnsight,
}
