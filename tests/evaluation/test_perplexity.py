"""The perplexity change agrees with a slow computation, and switches off what it says."""

from collections.abc import Callable

import pytest
import torch

from steering.corpus_rows import Dialogue
from steering.errors import CorpusError
from steering.evaluation.perplexity import (
    mean_nll_nats,
    pack_dialogues,
    pack_rows,
    perplexity_change,
    template_marks,
)
from steering.loading import LoadedModel
from steering.neuron_plans import deactivate
from steering.steering_plan import NO_STEERING
from tests.toy import WITH_NEURONS, make_toy_set

LoadTiny = Callable[..., LoadedModel]


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randint(0, 250, (3, 12), generator=torch.Generator().manual_seed(0))


def slow_nll(model: LoadedModel, rows: torch.Tensor) -> float:
    """One token after the other, probabilities by softmax."""
    total, count = 0.0, 0
    for row in rows:
        for position in range(1, len(row)):
            with torch.inference_mode():
                logits = model.model(input_ids=row[None, :position]).logits[0, -1].double()
            total -= float(torch.log(torch.softmax(logits, 0)[row[position]]))
            count += 1
    return total / count


def test_mean_nll_is_that_of_one_token_after_the_other(
    load_tiny: LoadTiny, rows: torch.Tensor
) -> None:
    model = load_tiny("llama")

    assert mean_nll_nats(model, rows, NO_STEERING) == pytest.approx(slow_nll(model, rows), abs=1e-4)


def test_deactivating_equals_zeroing_the_columns_by_hand(
    load_tiny: LoadTiny, rows: torch.Tensor
) -> None:
    model = load_tiny("llama")
    neurons = make_toy_set(model.identity)
    language = WITH_NEURONS[0]
    steered_nll = mean_nll_nats(model, rows, deactivate(neurons, language))
    own = neurons.neurons_of(language)
    layers = model.model.model.layers
    kept = [layer.mlp.down_proj.weight.clone() for layer in layers]

    try:
        for layer, index in zip(neurons.layer[own], neurons.index[own], strict=True):
            layers[int(layer)].mlp.down_proj.weight[:, int(index)] = 0
        by_hand = mean_nll_nats(model, rows, NO_STEERING)
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.mlp.down_proj.weight.copy_(weight)

    assert steered_nll == pytest.approx(by_hand, abs=1e-5)
    assert steered_nll != mean_nll_nats(model, rows, NO_STEERING)


def test_matrix_has_a_row_per_language_and_zero_where_nothing_is_off(
    load_tiny: LoadTiny, rows: torch.Tensor
) -> None:
    model = load_tiny("llama")
    neurons = make_toy_set(model.identity)

    change = perplexity_change(model, neurons, {lang: rows for lang in neurons.languages})

    size = len(neurons.languages)
    assert [len(row) for row in change.change_nats] == [size] * size
    for i, count in enumerate(change.neuron_counts):
        assert count == len(neurons.neurons_of(neurons.languages[i]))
        if count == 0:
            assert change.change_nats[i] == change.random_change_nats[i] == (0.0,) * size
    assert change.to_json()["lape"]
    assert change.to_markdown().count("\n") == size + 1


def test_short_text_gives_one_short_row(load_tiny: LoadTiny) -> None:
    packed = pack_rows(load_tiny("llama"), ["abc"], row_tokens=64, rows=4)

    assert packed.shape[0] == 1
    assert packed.shape[1] <= 64


def test_dialogues_fill_every_row_with_a_chat_from_its_beginning(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    dialogues = [Dialogue(f"Who is {n}?", f"{n} is here.") for n in range(30)]

    packed = pack_dialogues(model, dialogues, row_tokens=40, rows=3)

    shown = model.tokenizer.batch_decode(packed)
    turns = [f"<|user|>Who is {n}?</s><|assistant|>{n} is here.</s>" for n in range(3)]
    assert packed.shape == (3, 40)
    assert f"<s>{''.join(turns)}".startswith(shown[0])
    assert len(shown[0]) > len(f"<s>{turns[0]}")
    assert all(row.startswith("<s><|user|>Who is ") for row in shown)
    assert len({row[:20] for row in shown}) == 3


def test_too_few_dialogues_give_fewer_rows_and_none_at_all_are_refused(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    dialogues = [Dialogue("Who?", "I am.")] * 5

    assert pack_dialogues(model, dialogues, row_tokens=30, rows=9).shape[0] < 5
    with pytest.raises(CorpusError, match=r"do not fill one row of '500' tokens"):
        pack_dialogues(model, dialogues, row_tokens=500, rows=9)


def test_uncounted_tokens_are_read_and_not_predicted(
    load_tiny: LoadTiny, rows: torch.Tensor
) -> None:
    model = load_tiny("llama")
    out = [int(rows[0, 3]), int(rows[2, 5]), int(rows[1, 0])]
    with torch.inference_mode():
        probs = model.model(input_ids=rows).logits.double().softmax(-1)
    counted = [
        -float(torch.log(probs[row, place - 1, token]))
        for row, ids in enumerate(rows.tolist())
        for place, token in enumerate(ids)
        if place and token not in out
    ]

    nll = mean_nll_nats(model, rows, NO_STEERING, uncounted=out)

    assert len(counted) < rows[:, 1:].numel()
    assert nll == pytest.approx(sum(counted) / len(counted), abs=1e-4)


def test_marks_of_the_template_are_its_special_tokens(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")

    marks = model.tokenizer.convert_ids_to_tokens(template_marks(model))

    assert {"<s>", "</s>", "<|user|>", "<|assistant|>"} <= set(marks)
    assert "the" not in marks
