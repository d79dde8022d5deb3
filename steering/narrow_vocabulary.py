"""Keeps the embedding and the head of a float32 model in the 16 bits of its checkpoint.

With 150,000 tokens the two hold most of the bytes of a small 4-bit model. Results stay those of
float32 weights, because 16 bits widen exactly: the embedding widens the rows that it looks up, and
the head widens its weights block by block, which is also faster than reading them twice as wide.
Dimension key: V vocabulary, H hidden size.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NARROW_DTYPES = (torch.bfloat16, torch.float16)

# Rows of the head that are widened at once: 1.8 MB at H = 896, which stays in a core's cache. Of
# 256 to 4096 the fastest at 1, 8 and 32 rows on a CPU with 1 MB of second-level cache per core.
_BLOCK_ROWS = 512


class NarrowEmbedding(nn.Embedding):
    """An embedding with 16-bit weights and float32 output."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        """Return float32 rows of token ids."""
        return super().forward(input).float()


class NarrowHead(nn.Linear):
    """A linear layer with 16-bit weights that computes in float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class's name
        """Return float32 logits `(..., V)` of hidden states `(..., H)`."""
        rows, width = self.weight.shape
        logits = input.new_empty(*input.shape[:-1], rows)
        block = torch.empty(min(_BLOCK_ROWS, rows), width, dtype=torch.float32)
        for start in range(0, rows, _BLOCK_ROWS):
            narrow = self.weight[start : start + _BLOCK_ROWS]
            wide = block[: len(narrow)].copy_(narrow)
            logits[..., start : start + len(narrow)] = F.linear(input, wide)
        return logits if self.bias is None else logits + self.bias


def widen_all_but_vocabulary(model: PreTrainedModel) -> None:
    """Make a model that was loaded in 16 bits compute in float32, but keep its vocabulary narrow.

    Changes *model*. Quantised weights stay as they are. An embedding that does more than look up,
    such as Gemma's, which scales, is widened too, and so is the head then.
    """
    embedding: nn.Module = model.get_input_embeddings()
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    kept: set[Tensor] = set()
    if type(embedding) is nn.Embedding and type(head) is nn.Linear:
        is_tied = embedding.weight is head.weight
        embedding.weight = _own(embedding.weight)
        head.weight = embedding.weight if is_tied else _own(head.weight)
        kept = {embedding.weight, head.weight}
        model.set_input_embeddings(_narrow_embedding(embedding))
        model.set_output_embeddings(_narrow_head(head))  # type: ignore[no-untyped-call]
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in NARROW_DTYPES and tensor not in kept:
            tensor.data = tensor.data.float()
        if (state := getattr(tensor, "quant_state", None)) is not None:  # of bitsandbytes, 4-bit
            state.dtype = torch.float32
    model.config.dtype = torch.float32


def _own(weight: Tensor) -> nn.Parameter:
    """Return a copy: weights as read are pages of the whole file, which would stay in memory."""
    return nn.Parameter(weight.detach().clone(), requires_grad=False)


def _narrow_embedding(plain: nn.Embedding) -> NarrowEmbedding:
    with torch.device("meta"):
        narrow = NarrowEmbedding(
            plain.num_embeddings,
            plain.embedding_dim,
            padding_idx=plain.padding_idx,
            max_norm=plain.max_norm,
            norm_type=plain.norm_type,
        )
    narrow.weight = plain.weight
    return narrow.train(plain.training)


def _narrow_head(plain: nn.Linear) -> NarrowHead:
    with torch.device("meta"):
        narrow = NarrowHead(plain.in_features, plain.out_features, bias=plain.bias is not None)
    narrow.weight, narrow.bias = plain.weight, plain.bias
    return narrow.train(plain.training)


def return_free_memory() -> None:
    """Give memory that is free back to the system; glibc keeps what loading needed on the way."""
    gc.collect()
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # musl and others have none
        return
