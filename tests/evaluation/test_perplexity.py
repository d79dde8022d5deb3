"""The perplexity change agrees with a slow computation, and switches off what it says."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch

from steering.corpus_rows import Dialogue
from steering.errors import CorpusError
from steering.evaluation.perplexity import (
    PerplexityChange,
    mean_nll_nats,
    pack_dialogues,
    pack_rows,
    perplexity_change,
    template_marks,
)
from steering.loading import LoadedModel
from steering.neuron_plans import deactivate
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING
from tests.toy import EN, FR, LAYERS, NEURONS, WITH_NEURONS, make_toy_set

LoadTiny = Callable[..., LoadedModel]
Place = tuple[int, int]  # layer, index


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


@contextmanager
def zeroed_columns(model: LoadedModel, places: Iterable[Place]) -> Iterator[None]:
    """Hold neurons' columns of a llama's down projections at zero."""
    downs = [layer.mlp.down_proj.weight for layer in model.model.model.layers]
    kept = [weight.clone() for weight in downs]
    try:
        for layer, index in places:
            downs[layer][:, index] = 0
        yield
    finally:
        for down, weight in zip(downs, kept, strict=True):
            down.copy_(weight)


def places_of(neurons: NeuronSet, row: int) -> list[Place]:
    """Neurons of the language in a row, by loops."""
    return [
        (int(neurons.layer[u]), int(neurons.index[u]))
        for u in range(len(neurons.layer))
        if neurons.is_member[row, u]
    ]


def draw_places(count: int, generator: torch.Generator) -> list[Place]:
    drawn = torch.randperm(LAYERS * NEURONS, generator=generator)[:count].tolist()
    return [divmod(one, NEURONS) for one in drawn]


def nll_without(
    model: LoadedModel, places: Iterable[Place], rows: torch.Tensor, *, uncounted: Collection[int]
) -> float:
    """Mean over the tokens that count, with columns zeroed by hand."""
    losses = []
    with zeroed_columns(model, places), torch.inference_mode():
        for row in rows:
            probs = model.model(input_ids=row[None]).logits[0].double().softmax(-1)
            losses += [
                -math.log(float(probs[place - 1, token]))
                for place, token in enumerate(row.tolist())
                if place and token not in uncounted
            ]
    return sum(losses) / len(losses)


def test_deactivating_equals_zeroing_the_columns_by_hand(
    load_tiny: LoadTiny, rows: torch.Tensor
) -> None:
    model = load_tiny("llama")
    neurons = make_toy_set(model.identity)

    steered_nll = mean_nll_nats(model, rows, deactivate(neurons, WITH_NEURONS[0]))

    with zeroed_columns(model, places_of(neurons, 0)):
        by_hand = mean_nll_nats(model, rows, NO_STEERING)
    assert steered_nll == pytest.approx(by_hand, abs=1e-5)
    assert steered_nll != mean_nll_nats(model, rows, NO_STEERING)


def test_every_cell_is_the_language_s_own_text_less_its_loss_with_nothing_off(
    load_tiny: LoadTiny,
) -> None:
    """Texts of all languages differ, so that a cell measured on another's would show."""
    model, seed, out = load_tiny("llama"), 3, [7, 11]
    neurons = make_toy_set(model.identity)
    random = torch.Generator().manual_seed(1)
    texts = [torch.randint(0, 250, (2, 9 + k), generator=random) for k in range(5)]
    for text in texts:
        text[:, 4] = torch.tensor(out)

    change = perplexity_change(
        model, neurons, dict(zip(neurons.languages, texts, strict=True)), seed=seed, uncounted=out
    )

    assert change.languages == neurons.languages
    base = [nll_without(model, [], text, uncounted=out) for text in texts]
    assert change.base_nll_nats == pytest.approx(base, abs=1e-5)
    draws = torch.Generator().manual_seed(seed)
    cells = []
    for i in range(len(neurons.languages)):
        own = places_of(neurons, i)
        assert change.neuron_counts[i] == len(own)
        for places, found in (
            (own, change.change_nats[i]),
            (draw_places(len(own), draws), change.random_change_nats[i]),
        ):
            losses = [nll_without(model, places, text, uncounted=out) for text in texts]
            expected = [loss - start for loss, start in zip(losses, base, strict=True)]
            assert found == pytest.approx(expected, abs=1e-5)
            cells += expected if own else []
    assert min(map(abs, cells)) > 1e-3, "a cell near 0 would be right with the other sign"
    gaps = [abs(a - b) for place, a in enumerate(cells) for b in cells[:place]]
    assert min(gaps) > 2e-5, "two cells are too alike to tell one from the other"


def test_table_shows_changes_with_ratios_beside_the_random_control() -> None:
    change = PerplexityChange(
        languages=(EN, FR),
        base_nll_nats=(1.0, 2.0),
        change_nats=((0.5, -0.25), (0.1, 1.0)),
        random_change_nats=((0.01, 0.02), (0.3, 0.04)),
        neuron_counts=(3, 4),
    )

    found = change.to_json()

    assert change.to_markdown().splitlines() == [
        "| off | neurons | en | fr | own, random neurons | most, random neurons |",
        "|---|---|---|---|---|---|",
        "| en | 3 | **+0.500 (x1.65)** | -0.250 (x0.78) | +0.010 (x1.01) | fr +0.020 (x1.02) |",
        "| fr | 4 | +0.100 (x1.11) | **+1.000 (x2.72)** | +0.040 (x1.04) | en +0.300 (x1.35) |",
    ]
    for name, rows in (("lape", change.change_nats), ("random", change.random_change_nats)):
        table = found[name]
        assert isinstance(table, dict)
        assert table["change_nats"] == [list(row) for row in rows]
        assert table["ratio"] == [pytest.approx([math.exp(x) for x in row]) for row in rows]


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
