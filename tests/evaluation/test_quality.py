"""The likelihood of a reply is that of a plain forward pass, whatever else is in its batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from steering.conversation import Message, encode_prompt
from steering.evaluation.forcing import ForcingOutcome, ForcingPrompt, ForcingResult
from steering.evaluation.quality import instructed_nll_nats, iter_reply_nll, reply_nll_nats
from steering.languages import LANGUAGES
from steering.loading import LoadedModel

EN, FR = LANGUAGES["en"], LANGUAGES["fr"]
REPLIES = ["Bonjour.", "Je ne sais pas, mais il fait beau aujourd'hui.", "", "Oui"]


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama")


def outcome(reply: str) -> ForcingOutcome:
    prompt = ForcingPrompt("Hello?", "Hello? Answer in French.", EN, FR)
    return ForcingOutcome(prompt, reply, FR, is_forced=True, is_right=None)


def loss_alone(model: LoadedModel, reply: str) -> float:
    prompt = encode_prompt(model.tokenizer, [Message("user", "Hello? Answer in French.")])
    ids = model.tokenizer(reply, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([prompt + ids])).logits[0]
    log_probs = logits.log_softmax(dim=-1)
    steps = range(len(prompt), len(prompt) + len(ids))
    return -sum(float(log_probs[t - 1, (prompt + ids)[t]]) for t in steps) / len(ids)


def test_each_reply_costs_what_it_costs_alone(model: LoadedModel) -> None:
    losses = reply_nll_nats(model, [outcome(reply) for reply in REPLIES])

    for reply, loss in zip(REPLIES, losses, strict=True):
        # Padding adds exact zeros, but attention sums in another order: float32 rounding.
        assert (
            loss is None if not reply else loss == pytest.approx(loss_alone(model, reply), abs=1e-4)
        )


def test_the_mean_leaves_empty_replies_out(model: LoadedModel) -> None:
    result = ForcingResult("x", tuple(outcome(reply) for reply in REPLIES))

    expected = sum(loss_alone(model, reply) for reply in REPLIES if reply) / 3
    assert instructed_nll_nats(model, result) == pytest.approx(expected, abs=1e-4)
    assert instructed_nll_nats(model, ForcingResult("x", (outcome(""),))) is None


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("budget_bytes", [1, 40_000, 2**28])
def test_the_memory_for_logits_changes_no_loss(
    load_tiny: Callable[..., LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    budget_bytes: int,
) -> None:
    model = load_tiny(family)
    monkeypatch.setattr("steering.evaluation.quality._LOGIT_BYTES", budget_bytes)
    shapes: list[tuple[int, ...]] = []
    handle = model.model.register_forward_hook(lambda *a: shapes.append(a[2].logits.shape))

    losses = reply_nll_nats(model, [outcome(reply) for reply in REPLIES])

    handle.remove()
    assert all(shape[0] == 1 or 4 * math.prod(shape) <= budget_bytes for shape in shapes)
    assert len(shapes) == {1: 3, 40_000: 2, 2**28: 1}[budget_bytes]
    for reply, loss in zip(REPLIES, losses, strict=True):
        assert loss == (pytest.approx(loss_alone(model, reply), abs=1e-4) if reply else None)


def test_known_losses_are_not_measured_again(model: LoadedModel) -> None:
    outcomes = [outcome(reply) for reply in REPLIES]

    found = [place for batch in iter_reply_nll(model, outcomes, skip={0, 3}) for place in batch]

    assert found == [1]
