"""Which model is loaded: what a neuron set is compared with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from steering.architectures import Architecture

LOCAL_REVISION = "local"
_HASHED_BYTES = 200_000_000  # hashing more than this would be felt at every start


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What a neuron set must agree with to fit a model; plain values.

    Args:
        model_id: Hub id, folder as it was given, or `bundled`.
        revision: Commit of the hub; for a folder a hash of small weights, `local` for large ones.
        architecture: `model_type` of the family.
        layers: Number of decoder layers.
        neurons_per_layer: FFN intermediate units of a layer.
        hidden_size: Width of the residual stream.
        tokenizer_sha256: Hash of the tokenizer's vocabulary and merges, the same after a save
            and reload.
        experts: How many experts each layer has, whose neurons are counted together; None where
            it has one FFN for every token.
        vocabulary: Number of token ids that it has logits for; None where that is not known.
        norm_weights: From `read_norm_weights`; None where they are not known.
    """

    model_id: str
    revision: str
    architecture: str
    layers: int
    neurons_per_layer: int
    hidden_size: int
    tokenizer_sha256: str
    experts: int | None = None
    vocabulary: int | None = None
    norm_weights: Tensor | None = field(default=None, compare=False, repr=False)


def read_norm_weights(model: nn.Module, architecture: Architecture) -> Tensor | None:
    """Return the weights of the final norm and of the first layer's first norm, `(2, hidden)`.

    They tell models apart in any format: quantisation leaves them in at least 16 bits, and
    transformers undoes what GGUF adds to Gemma's. The final norm also survives AWQ, which rescales
    the norms within layers. None where a model has no such norms or they were never trained.
    """
    import torch
    from accelerate.utils import align_module_device

    first_layer = f"{architecture.layers_path}.0.{architecture.layer_norm_name}"
    weights = []
    for path in (architecture.final_norm_path, first_layer):
        norm = dict(model.named_modules()).get(path)  # some OPT and Falcon models lack one
        if norm is None:
            return None
        with align_module_device(norm, "cpu"):  # it may wait on a disk
            weight = norm.get_parameter("weight").detach()
            weights.append(weight.to(device="cpu", dtype=torch.float32, copy=True))
    stacked = torch.stack(weights)
    is_trained = stacked.isfinite().all() and (stacked != stacked[:, :1]).any(dim=1).all()
    return stacked if is_trained else None


def hash_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of what turns text into ids: the vocabulary and the merges in order.

    Names of special tokens, the chat template and padding do not count: they may change without
    the meaning of a token id changing.
    """
    from transformers import PreTrainedTokenizerFast

    merges: list[str] = []
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        rules = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges", [])
        merges = [rule if isinstance(rule, str) else " ".join(rule) for rule in rules]
    vocabulary = sorted(tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([vocabulary, merges]).encode()).hexdigest()


def folder_revision(folder: Path) -> str:
    """Return `sha256:` and 16 digits of the weights' hash, or `local` where they are large."""
    files = sorted(folder.glob("*.safetensors"))
    if sum(file.stat().st_size for file in files) > _HASHED_BYTES:
        return LOCAL_REVISION
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:16]}"
