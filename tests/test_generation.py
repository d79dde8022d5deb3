"""Tests of generating a batch: against greedy decoding by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from steering.conversation import Message
from steering.errors import GenerationError
from steering.generation import generate, generate_conversations
from steering.jobs import GenerationRequest
from steering.loading import LoadedModel
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, PHASES, Edit, SteeringPlan, TokenBias
from steering.token_bias import read_token_table
from steering.token_choice import Sampling
from tests.asking import ask, decode, greedy_by_hand, running
from tests.conftest import EOS
from tests.toy import FR, make_random_plan

LoadTiny = Callable[..., LoadedModel]

STEER = make_random_plan(1, *PHASES)
OUTSIDE = SteeringPlan(
    {("value", "onset", 99): Edit(torch.tensor([0]), torch.ones(1), torch.ones(1))}
)


@pytest.fixture
def model(load_tiny: LoadTiny) -> LoadedModel:
    return load_tiny("llama")


# The plain functions.


def test_replies_are_those_of_greedy_decoding_by_hand(model: LoadedModel) -> None:
    prompts = ["Hello there", "a", "語"]

    replies = generate(model, prompts, sampling=Sampling(max_new_tokens=12))

    assert replies == [decode(model, greedy_by_hand(model, p, tokens=12)) for p in prompts]
    assert any(replies)


def test_generate_inside_steered_is_steered(model: LoadedModel) -> None:
    prompts, sampling = ["Hello", "Hello"], Sampling(max_new_tokens=8)
    plain = generate(model, prompts, sampling=sampling)

    with steered(model.model, [NO_STEERING, STEER]):
        replies = generate(model, prompts, sampling=sampling)

    assert replies[0] == plain[0] == plain[1]
    assert replies[1] != plain[1]


def test_conversations_are_answered_each_with_its_plan(model: LoadedModel) -> None:
    conversation = [Message("user", "Hello"), Message("assistant", "Yes"), Message("user", "so")]
    sampling = Sampling(max_new_tokens=8)

    plain, steered_reply = generate_conversations(
        model, [conversation] * 2, plans=[NO_STEERING, STEER], sampling=sampling
    )

    assert plain != steered_reply
    with running(lambda: model) as engine:
        request = GenerationRequest((tuple(conversation),) * 2, (NO_STEERING, STEER), sampling)
        assert engine.reply(request).texts == (plain, steered_reply)


def test_plan_biases_the_tokens_of_its_own_row(model: LoadedModel) -> None:
    conversation, sampling = (Message("user", "Hello"),), Sampling(max_new_tokens=8)
    (plain,) = generate_conversations(model, [conversation], plans=[NO_STEERING], sampling=sampling)
    written = model.tokenizer(plain, add_special_tokens=False)["input_ids"]
    log_odds = torch.zeros(len(model.tokenizer))
    log_odds[written] = -math.inf
    biased = SteeringPlan({}, token_bias=TokenBias(FR, 1000.0, log_odds))

    replies = generate_conversations(
        model, [conversation] * 2, plans=[NO_STEERING, biased], sampling=sampling
    )

    spared = read_token_table(model.tokenizer).is_spared
    letters = {model.tokenizer.decode([token]) for token in written if not spared[token]}
    assert letters
    assert replies[0] == plain
    assert not any(letter in replies[1] for letter in letters)
    with running(lambda: model) as engine:
        request = GenerationRequest((conversation,) * 2, (NO_STEERING, biased), sampling)
        assert list(engine.reply(request).texts) == replies


def test_end_token_ends_a_reply_and_is_not_in_it(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third greedy token is made an end token, beside the usual one."""
    ids = greedy_by_hand(model, "Hello", tokens=6)
    assert ids[2] not in ids[:2]
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", [EOS, ids[2]])

    with running(lambda: model) as engine:
        update = engine.reply(ask("Hello"))

    assert update.finish_reasons == ("end",)
    assert update.texts == (decode(model, ids[:2]),)
    assert update.new_tokens == 2


def test_row_that_ends_first_gets_nothing_of_what_the_others_write(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (greedy_by_hand(model, text, tokens=12) for text in ("Hello", "a"))
    stop = next(token for token in first if token not in second)
    monkeypatch.setattr(model.model.generation_config, "eos_token_id", [EOS, stop])

    with running(lambda: model) as engine:
        update = engine.reply(ask("Hello", "a"))

    assert update.finish_reasons == ("end", "length")
    expected = (decode(model, first[: first.index(stop)]), decode(model, second))
    assert update.texts == expected
    assert update.new_tokens == first.index(stop) + len(second)


@pytest.mark.parametrize("prompts", [[""], ["hi", " "]])
def test_empty_prompt_is_refused(prompts: list[str], model: LoadedModel) -> None:
    with pytest.raises(GenerationError, match="it is empty"):
        generate(model, prompts)


def test_no_prompts_are_refused(model: LoadedModel) -> None:
    with pytest.raises(GenerationError, match="Cannot answer '0' conversations"):
        generate(model, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", -3),
        ("temperature", -0.1),
        ("temperature", 5.1),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(name: str, value: float) -> None:
    with pytest.raises(GenerationError, match=f"'{name}' is '{value}'. Expected"):
        replace(Sampling(), **{name: value})  # type: ignore[arg-type]  # numbers of either kind


def test_full_memory_is_said_so(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(model.model, "generate", fail)

    with pytest.raises(GenerationError, match=r"ran out of memory on '2' answers of \d+ tokens"):
        generate(model, ["a", "b"])
