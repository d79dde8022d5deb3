"""4-bit weights on a CUDA GPU: the same steering identities as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from steering.loading import load_model
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, PHASES
from tests.toy import make_random_plan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]


def test_row_without_plan_is_bitwise_unchanged_and_the_other_is_steered(
    tiny_model_dir: Callable[..., Path],
) -> None:
    folder = tiny_model_dir("llama", hidden_size=64, intermediate_size=128)
    loaded = load_model(str(folder), quantize="nf4", device="cuda")
    ids = torch.arange(20, device="cuda").view(2, 10)

    with torch.inference_mode():
        plain = loaded.model(input_ids=ids).logits
        with steered(loaded.model, [NO_STEERING, make_random_plan(0, *PHASES)]):
            mixed = loaded.model(input_ids=ids).logits
        after = loaded.model(input_ids=ids).logits

    assert torch.equal(mixed[0], plain[0])
    assert not torch.equal(mixed[1], plain[1])
    assert torch.equal(after, plain)
