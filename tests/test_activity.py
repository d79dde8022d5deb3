"""Tests of what fires while an answer is read, beside loops over a Llama's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from steering import activity
from steering.activity import AnswerReader, AnswerReading, TokenReading, excess_over_usual
from steering.conversation import Message, encode_prompt
from steering.errors import GenerationError, StatsError
from steering.hooks import count_hooks
from steering.languages import Language
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING, SteeringPlan
from tests.oracles import trace_llama
from tests.toy import EN, FR, JA, SW, TH, make_random_plan, make_toy_set, without_neurons

QUESTION = (Message("user", "Where is the cat?"),)
ANSWER = "the cat"


def read(
    model: LoadedModel,
    neurons: NeuronSet,
    *,
    answer: str = ANSWER,
    plan: SteeringPlan = NO_STEERING,
    conversation: Sequence[Message] = QUESTION,
) -> AnswerReading:
    reader = AnswerReader(neurons, conversation, answer, plan=plan, answer_tokens=20)
    reader.prepare(model)
    while not reader.is_done:
        reader.read_on(model)
    return reader.result()


def excess_by_loops(
    gate: Sequence[torch.Tensor], position: int, neurons: NeuronSet, language: Language
) -> float:
    """The definition of the module's docstring, neuron by neuron."""
    k, total, count = neurons.languages.index(language), 0.0, 0
    assert neurons.activation_prob is not None
    for place, (layer, index) in enumerate(zip(neurons.layer, neurons.index, strict=True)):
        if neurons.is_member[k][place]:
            probs = [float(neurons.activation_prob[n][place]) for n in range(5)]
            is_active = gate[int(layer)][position][int(index)] > 0
            total += (1.0 if is_active else 0.0) - sum(probs) / 5
            count += 1
    return total / count


@pytest.mark.parametrize("pass_tokens", [4, 1000])
@pytest.mark.parametrize("is_steered", [False, True])
def test_excess_is_what_loops_over_the_models_own_arithmetic_give(
    load_tiny: Callable[..., LoadedModel],
    toy_set: NeuronSet,
    pass_tokens: int,
    is_steered: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "PASS_TOKENS", pass_tokens)
    model = load_tiny("llama")
    plan = make_random_plan(1, "prompt", "onset", "start", "body") if is_steered else NO_STEERING
    prompt = encode_prompt(model.tokenizer, QUESTION)
    ids = prompt + model.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    onset = len(prompt) - 1
    gate = trace_llama(model.model, ids, plan=plan, onset=onset).gate

    reading = read(model, toy_set, plan=plan)

    shown = [reading.onset, *reading.tokens]
    assert len(shown) == len(ids) - onset
    for place, token in enumerate(shown):
        assert set(token.excess) == {FR, JA, EN}  # Thai and Swahili have no neurons
        for language, excess in token.excess.items():
            expected = excess_by_loops(gate, onset + place, toy_set, language)
            assert excess == pytest.approx(expected, abs=1e-9)


def test_steering_is_seen_and_the_model_is_left_as_it_was(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    model = load_tiny("llama")
    hooks = count_hooks(model.model)

    plain = read(model, toy_set)
    steered = read(model, toy_set, plan=make_random_plan(1, "onset"))

    assert steered != plain
    assert read(model, toy_set) == plain
    assert count_hooks(model.model) == hooks


def test_every_family_reads_the_same_in_small_passes_as_in_one(
    family: str,
    load_tiny: Callable[..., LoadedModel],
    toy_set: NeuronSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_tiny(family)
    plan = make_random_plan(2, "onset", "body", neurons=48)
    whole = read(model, toy_set, plan=plan)
    monkeypatch.setattr(activity, "PASS_TOKENS", 5)

    assert read(model, toy_set, plan=plan) == whole
    assert any(token.strongest for token in whole.tokens)


def test_of_experts_only_those_count_that_the_token_went_to(
    load_tiny: Callable[..., LoadedModel],
) -> None:
    model = load_tiny("mixtral")
    neurons = make_toy_set(model.identity)
    reader = AnswerReader(neurons, QUESTION, ANSWER, answer_tokens=20)
    reader.prepare(model)
    while not reader.is_done:
        reader.read_on(model)

    is_reached = reader._is_reached
    assert 0 < is_reached.double().mean() < 1
    assert not (reader._is_active & ~is_reached).any()
    for position in range(len(is_reached)):  # each token goes to two of four experts of 12 neurons
        for layer in range(2):
            here = neurons.layer == layer
            experts = {int(n) // 12 for n in neurons.index[here & is_reached[position]]}
            assert len(experts) <= 2


def test_what_is_usual_takes_no_part_from_neurons_that_were_not_reached(toy_set: NeuronSet) -> None:
    count = len(toy_set.layer)
    is_active = torch.ones(1, count, dtype=torch.bool)
    is_reached = torch.zeros(1, count, dtype=torch.bool)
    first = int(toy_set.neurons_of(FR)[0])
    is_reached[0, first] = True
    assert toy_set.activation_prob is not None

    excess = excess_over_usual(toy_set, is_active, is_reached)

    usual = float(toy_set.activation_prob[:, first].double().mean())
    assert float(excess[0, 0]) == pytest.approx(1 - usual)
    assert torch.isnan(excess[toy_set.position(TH)]).all()
    assert torch.isnan(excess[toy_set.position(SW)]).all()


def test_a_large_set_does_not_win_by_its_size(toy_set: NeuronSet) -> None:
    """As active as usual, every language has an excess of 0, however many neurons it has."""
    usual = torch.full_like(toy_set.lape_score, 0.5)
    neurons = replace(toy_set, activation_prob=usual.expand(5, -1))
    halves = torch.tensor([[True], [False]]).expand(-1, len(toy_set.layer))

    excess = excess_over_usual(neurons, halves, torch.ones_like(halves))

    assert torch.equal(excess[:3].mean(dim=1), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("excess", "expected"),
    [({FR: 0.2, JA: 0.3}, JA), ({FR: 0.2, JA: 0.2}, FR), ({FR: 0.0, JA: -0.1}, None), ({}, None)],
)
def test_the_language_with_the_highest_excess_above_nothing_fired_most(
    excess: dict[Language, float], expected: Language | None
) -> None:
    assert TokenReading("a", excess).strongest == expected


@pytest.mark.parametrize(
    "text",
    [
        "日本の首都は東京です。",
        "le café était là",
        "हिन्दी में",
        "👩‍💻 works",
        "\n\n the the",
        "القطة",
    ],
)
def test_pieces_make_up_the_answer_and_no_character_is_broken(
    text: str, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = byte_tokenizer(text, add_special_tokens=False)["input_ids"]

    pieces = activity.split_pieces(byte_tokenizer, ids)

    assert "".join(piece for piece, *_ in pieces) == text
    assert "\ufffd" not in "".join(piece for piece, *_ in pieces)
    assert [first for _, first, _ in pieces][1:] == [end for *_, end in pieces][:-1]
    assert pieces[-1][2] == len(ids)


def test_a_character_of_three_bytes_is_one_piece_and_marks_stay_with_their_letter(
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    def split(text: str) -> list[str]:
        ids = byte_tokenizer(text, add_special_tokens=False)["input_ids"]
        return [piece for piece, *_ in activity.split_pieces(byte_tokenizer, ids)]

    assert split("日本") == ["日", "本"]
    assert split("किa") == ["कि", "a"]
    assert split("e\u0301a") == ["e\u0301", "a"]


def test_a_tokenizer_that_drops_a_texts_first_space_keeps_those_between_words() -> None:
    class WordTokenizer:
        def decode(self, ids: list[int], **_: object) -> str:
            return "".join([" le", " chat", " dort"][one] for one in ids).removeprefix(" ")

    pieces = activity.split_pieces(WordTokenizer(), [0, 1, 2])  # type: ignore[arg-type]

    assert [piece for piece, *_ in pieces] == ["le", " chat", " dort"]


def test_a_set_without_neurons_reads_nothing_as_anybodys(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    reading = read(load_tiny("llama"), without_neurons(toy_set))

    assert [token.strongest for token in reading.tokens] == [None] * len(reading.tokens)


def test_a_set_without_probabilities_is_refused(toy_set: NeuronSet) -> None:
    with pytest.raises(StatsError, match="no activation probabilities"):
        AnswerReader(replace(toy_set, activation_prob=None), QUESTION, ANSWER, answer_tokens=20)


def test_an_answer_without_a_token_is_refused(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    with pytest.raises(GenerationError, match="it has no token"):
        read(load_tiny("llama"), toy_set, answer="")


def test_an_answer_longer_than_the_context_is_read_as_far_as_it_goes(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    model = load_tiny("llama", max_position_embeddings=64)

    reading = read(model, toy_set, answer="the " * 60)

    prompt = len(encode_prompt(model.tokenizer, QUESTION))
    assert len(reading.tokens) == 64 - prompt
    assert "tokens were left out" in reading.note


def test_a_character_cut_by_the_end_of_the_context_is_not_shown_broken(
    load_tiny: Callable[..., LoadedModel], toy_set: NeuronSet
) -> None:
    model = load_tiny("llama", max_position_embeddings=64)

    reading = read(model, toy_set, answer="日" * 60)

    assert "\ufffd" not in "".join(token.text for token in reading.tokens)
