"""Asks an engine in tests, and decodes greedily by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from steering.conversation import Message
from steering.engine import Engine
from steering.jobs import GenerationRequest
from steering.loading import LoadedModel
from steering.steering_plan import NO_STEERING, SteeringPlan
from steering.token_choice import Sampling
from tests.conftest import EOS

WAIT_S = 20  # far more than anything here takes; a test that hangs must fail


def ask(
    *texts: str, plans: tuple[SteeringPlan, ...] = (), tokens: int = 12, **sampling: float
) -> GenerationRequest:
    return GenerationRequest(
        conversations=tuple((Message("user", text),) for text in texts),
        plans=plans or (NO_STEERING,) * len(texts),
        sampling=Sampling(max_new_tokens=tokens, **sampling),  # type: ignore[arg-type]  # numbers
    )


@contextlib.contextmanager
def running(load: Callable[[], LoadedModel], **options: int) -> Iterator[Engine]:
    engine = Engine(load, **options)
    try:
        yield engine
    finally:
        engine.close(timeout_s=WAIT_S)


@torch.no_grad()
def greedy_by_hand(model: LoadedModel, text: str, *, tokens: int) -> list[int]:
    """Greedy decoding of one prompt, without cache, batch or `generate`."""
    rows = [{"role": "user", "content": text}]
    ids = list(
        model.tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    )
    new: list[int] = []
    while len(new) < tokens:
        logits: Tensor = model.model(input_ids=torch.tensor([ids + new]), use_cache=False).logits
        token = int(logits[0, -1].argmax())
        if token == EOS:
            break
        new.append(token)
    return new


def decode(model: LoadedModel, ids: list[int]) -> str:
    """The text of whole letters: what is left of a letter at the end is not shown."""
    text = str(model.tokenizer.decode(ids, skip_special_tokens=True))
    return text.strip().rstrip("\ufffd")
