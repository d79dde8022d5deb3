"""Tests of steering: identities to the bit, parity with loops, and rows that do not meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from steering.architectures import expert_count
from steering.errors import (
    NeuronSetMismatchError,
    PlanError,
    UnknownLanguageError,
)
from steering.hooks import count_hooks
from steering.languages import LANGUAGES
from steering.loading import LoadedModel, load_model
from steering.methods import METHODS, SteeringRequest, make_plan
from steering.steerer import PositionClock, Steerer, check_set_fits_model, steered
from steering.steering_plan import NO_STEERING, PHASES, Edit, Phase, SteeringPlan
from tests.conftest import PAD
from tests.oracles import trace_llama
from tests.toy import FR, NEURONS, make_random_plan, make_toy_set, without_neurons

LoadTiny = Callable[..., LoadedModel]
MakeModel = Callable[..., PreTrainedModel]

IDS = torch.arange(10, 20).view(2, 5)
PROMPTS = [[72, 101, 108, 108, 111, 33, 63], [65, 66, 67]]
EMPTY = Edit(torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0))
NOTHING = SteeringPlan({(site, "onset", 0): EMPTY for site in ("gate", "value", "residual")})


def are_close(one: Tensor, other: Tensor) -> bool:
    """Compare logits, all below 10; float32 sums in other blocks differ by under 2e-5 here."""
    return torch.allclose(one, other, rtol=0, atol=1e-4)


def run(model: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


def width_of(model: PreTrainedModel) -> int:
    return 128 if model.config.model_type == "bloom" else NEURONS


def plan_for(model: PreTrainedModel, seed: int, *phases: Phase) -> SteeringPlan:
    return make_random_plan(seed, *phases, neurons=width_of(model))


@torch.no_grad()
def answer(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    plans: Sequence[SteeringPlan],
    *,
    new_tokens: int = 5,
) -> tuple[Tensor, Tensor]:
    """Greedy ids `(B, new)` and logits `(B, new, vocab)`, left-padded and with a cache."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    with steered(model, plans):
        output = model.generate(  # type: ignore[operator]  # transformers mixes it in untyped
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=PAD,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return output.sequences[:, width:], torch.stack(output.logits, dim=1)


# Identity.


@pytest.mark.parametrize("plans", [[NO_STEERING], [NO_STEERING] * 2, [NOTHING], [NOTHING] * 2])
def test_plans_that_do_nothing_change_no_bit(
    plans: list[SteeringPlan], tiny_model: PreTrainedModel
) -> None:
    base = run(tiny_model)

    with steered(tiny_model, plans):
        steered_logits = run(tiny_model)

    assert torch.equal(steered_logits, base)


def test_no_steering_attaches_nothing(tiny_model: PreTrainedModel) -> None:
    with steered(tiny_model, [NO_STEERING] * 2):
        assert count_hooks(tiny_model) == 0


def test_row_without_steering_beside_a_steered_one_is_bitwise_unchanged(
    tiny_model: PreTrainedModel,
) -> None:
    base = run(tiny_model)

    with steered(tiny_model, [plan_for(tiny_model, 1, *PHASES), NO_STEERING]) as clock:
        clock.start_at(2)
        logits = run(tiny_model)

    if expert_count(tiny_model.config) is None:
        assert torch.equal(logits[1], base[1])
    else:  # rows share the products of an expert, whose last bits depend on how many go there
        assert are_close(logits[1], base[1])
    assert not are_close(logits[0], base[0])


def test_positions_before_the_first_edit_are_bitwise_unchanged(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    base = run(model)

    with steered(model, [plan_for(model, 1, "onset")]):
        logits = run(model)

    assert torch.equal(logits[:, :-1], base[:, :-1])
    assert not are_close(logits[:, -1], base[:, -1])


def test_model_is_as_before_after_exit(tiny_model: PreTrainedModel) -> None:
    base = run(tiny_model)

    with steered(tiny_model, [plan_for(tiny_model, 1, *PHASES)]):
        inside = run(tiny_model)

    assert not torch.equal(inside, base)
    assert count_hooks(tiny_model) == 0
    assert torch.equal(run(tiny_model), base)


def test_model_is_as_before_after_an_exception_inside(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    base = run(model)

    def interrupt() -> None:
        with steered(model, [plan_for(model, 1, *PHASES)]):
            assert count_hooks(model) > 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()

    assert count_hooks(model) == 0
    assert torch.equal(run(model), base)


def test_model_is_as_before_after_a_failed_attach(
    make_tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tiny_model("llama")
    base = run(model)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(model.model.layers[1], "register_forward_hook", fail)
    with pytest.raises(RuntimeError, match="no room"), steered(model, [plan_for(model, 1, "body")]):
        pytest.fail("it was attached")

    assert count_hooks(model) == 0
    assert torch.equal(run(model), base)


# What steering computes.


@pytest.mark.parametrize("onset", [0, 3, 6])
@pytest.mark.parametrize("phases", [*[(phase,) for phase in PHASES], PHASES], ids=[*PHASES, "all"])
def test_logits_are_those_of_layers_run_by_hand(
    phases: tuple[Phase, ...], onset: int, make_tiny_model: MakeModel
) -> None:
    model, ids = make_tiny_model("llama"), [10, 20, 30, 40, 50, 60, 70]
    plan = plan_for(model, 3, *phases)
    expected = trace_llama(model, ids, plan=plan, onset=onset).logits
    plain = trace_llama(model, ids).logits

    with steered(model, [plan]) as clock:
        clock.start_at(onset)
        logits = run(model, torch.tensor([ids]))[0]

    assert are_close(logits, expected)
    is_effective = not are_close(expected, plain)
    is_vacant = (phases, onset) in ((("prompt",), 0), (("start",), 6), (("body",), 6))
    assert is_effective == (not is_vacant)


@pytest.mark.parametrize("phases", [(phase,) for phase in PHASES], ids=lambda p: p[0])
def test_prefill_and_decode_of_a_mixed_batch_are_each_row_alone_without_cache(
    phases: tuple[Phase, ...], tiny_model: PreTrainedModel
) -> None:
    """One row is padded on the left; the plans differ; the other side has neither pad nor cache."""
    plans = [plan_for(tiny_model, row, *phases) for row in (1, 2)]

    tokens, logits = answer(tiny_model, PROMPTS, plans)

    plain_logits = answer(tiny_model, PROMPTS, [NO_STEERING])[1]
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([[*prompt, *tokens[row].tolist()]])
        with steered(tiny_model, [plans[row]]) as clock, torch.no_grad():
            clock.start_at(len(prompt) - 1)
            alone = tiny_model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        assert are_close(logits[row], alone)
        assert not are_close(logits[row], plain_logits[row])


def test_mixed_batch_writes_the_tokens_of_each_row_alone(tiny_model: PreTrainedModel) -> None:
    plans = [plan_for(tiny_model, 1, *PHASES), NO_STEERING, plan_for(tiny_model, 2, "onset")]
    prompts = [*PROMPTS, [99, 98, 97, 96, 95]]

    tokens, logits = answer(tiny_model, prompts, plans)

    for row, (prompt, plan) in enumerate(zip(prompts, plans, strict=True)):
        alone_tokens, alone_logits = answer(tiny_model, [prompt], [plan])
        assert torch.equal(tokens[row], alone_tokens[0])
        assert are_close(logits[row], alone_logits[0])


@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom", "gpt2", "opt"])
@pytest.mark.parametrize("chunks", [[4, 3], [1, 6], [6, 1], [2, 2, 2, 1], [7]], ids=str)
def test_prefill_in_chunks_is_prefill_at_once(
    family: str, chunks: list[int], make_tiny_model: MakeModel
) -> None:
    model = make_tiny_model(family)
    ids = torch.tensor([PROMPTS[0]])
    plan = plan_for(model, 5, *PHASES)
    with steered(model, [plan]):
        at_once = run(model, ids)

    cache, parts = DynamicCache(config=model.config), []
    with steered(model, [plan]) as clock, torch.no_grad():
        clock.start_at(6)
        for chunk in torch.split(ids, chunks, dim=1):
            parts.append(model(input_ids=chunk, past_key_values=cache, use_cache=True).logits)

    assert are_close(torch.cat(parts, dim=1), at_once)


def test_embeddings_may_be_given_in_place_of_ids(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    plans = [plan_for(model, 1, *PHASES), NO_STEERING]

    with steered(model, plans), torch.no_grad():
        expected = run(model)
        logits = model(inputs_embeds=model.get_input_embeddings()(IDS)).logits

    assert torch.equal(logits, expected)


def test_new_answer_in_the_same_block_starts_with_an_onset_again(
    make_tiny_model: MakeModel,
) -> None:
    model = make_tiny_model("llama")
    plan = plan_for(model, 1, "onset")
    expected = answer(model, PROMPTS[:1], [plan])[1]

    with steered(model, [plan]):
        answer(model, PROMPTS[1:], [NO_STEERING])
        again = answer(model, PROMPTS[:1], [NO_STEERING])[1]

    assert torch.equal(again, expected)


def test_one_plan_serves_a_batch_of_any_size(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    plan = plan_for(model, 1, *PHASES)

    with steered(model, [plan]):
        one = run(model)
    with steered(model, [plan, plan]):
        two = run(model)

    assert torch.equal(one, two)


def test_nested_blocks_act_one_after_the_other(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    units = torch.tensor([3])
    double = SteeringPlan({("value", "onset", 0): Edit(units, torch.tensor([2.0]), torch.zeros(1))})
    add = SteeringPlan({("value", "onset", 0): Edit(units, torch.ones(1), torch.tensor([5.0]))})
    both = SteeringPlan(
        {("value", "onset", 0): Edit(units, torch.tensor([2.0]), torch.tensor([5.0]))}
    )

    with steered(model, [double]), steered(model, [add]):
        nested = run(model)
    with steered(model, [both]):
        expected = run(model)

    assert are_close(nested, expected)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("tokens", "penalty")])
def test_plans_of_every_method_run_and_matter(method: str, load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    plan = make_plan(make_toy_set(model.identity), SteeringRequest(FR, method, 1.0))

    with steered(model.model, [plan]):
        logits = run(model.model)

    expected = trace_llama(model.model, IDS[0].tolist(), plan=plan, onset=4).logits
    assert are_close(logits[0], expected)
    assert not are_close(logits, run(model.model))


def test_half_precision_is_kept_and_its_row_without_steering_unchanged(
    tiny_model_dir: Callable[..., Path],
) -> None:
    folder = str(tiny_model_dir("llama"))
    model = load_model(folder, quantize="none", device="cpu", dtype=torch.bfloat16).model
    base = run(model)

    with steered(model, [plan_for(model, 1, *PHASES), NO_STEERING]):
        logits = run(model)

    assert logits.dtype == torch.bfloat16
    assert torch.equal(logits[1], base[1])
    assert not torch.equal(logits[0], base[0])


def test_four_bit_model_is_steered_row_by_row(tiny_model_dir: Callable[..., Path]) -> None:
    """On the CPU through bitsandbytes, whose blocks need hidden 64 and 128 neurons."""
    folder = tiny_model_dir("llama", hidden_size=64, intermediate_size=128)
    model = load_model(str(folder), quantize="nf4", device="cpu").model
    plan = make_random_plan(1, *PHASES, neurons=128, hidden=64)
    base = run(model)
    expected = trace_llama(model, IDS[0].tolist(), plan=plan, onset=4).logits

    with steered(model, [plan, NO_STEERING]):
        logits = run(model)
    with steered(model, [NO_STEERING] * 2):
        left_alone = run(model)

    assert torch.equal(left_alone, base)
    assert torch.equal(logits[1], base[1])
    # Sums of 128 products of 4-bit weights; the batch of two takes another kernel than one row.
    assert torch.allclose(logits[0], expected, rtol=1e-3, atol=1e-2)
    assert not torch.allclose(logits[0], base[0], rtol=1e-3, atol=1e-2)
    tokens, _ = answer(model, PROMPTS, [plan, NO_STEERING])
    assert torch.equal(tokens[1], answer(model, PROMPTS, [NO_STEERING])[0][1])


# Refusals.


def make_place_plan(site: str, phase: str, layer: int, *units: int) -> SteeringPlan:
    count = len(units)
    edit = Edit(torch.tensor(units, dtype=torch.int64), torch.ones(count), torch.ones(count))
    return SteeringPlan({(site, phase, layer): edit})  # type: ignore[dict-item]  # may be wrong


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (make_place_plan("value", "onset", 2, 1), r"layer '2', at|layer '2' at"),
        (make_place_plan("value", "onset", 2), r"layer '2' at the value site.*layers 0\.\.1"),
        (make_place_plan("gate", "body", -1, 1), r"layer '-1' at the gate"),
        (make_place_plan("gate", "body", 0, 3, 48), r"unit '48' at the gate.*units 0\.\.47"),
        (make_place_plan("value", "body", 0, -1), r"unit '-1' at the value"),
        (make_place_plan("residual", "body", 0, 32), r"unit '32' at the residual.*units 0\.\.31"),
        (make_place_plan("query", "body", 0, 3), r"site 'query' in phase 'body'.*gate, value"),
        (make_place_plan("value", "end", 0, 3), r"phase 'end'. .*prompt, onset, start, body"),
    ],
)
def test_plan_of_what_the_model_does_not_have_is_refused(
    plan: SteeringPlan, message: str, make_tiny_model: MakeModel
) -> None:
    model = make_tiny_model("llama")

    with pytest.raises(PlanError, match=message), steered(model, [NO_STEERING, plan]):
        pytest.fail("it was attached")

    assert count_hooks(model) == 0


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_batch_with_another_number_of_rows_than_plans_is_refused(
    rows: int, make_tiny_model: MakeModel
) -> None:
    model = make_tiny_model("llama")
    plans = [plan_for(model, 1, "onset")] * (rows - 1) + [NO_STEERING] * 2

    with (
        steered(model, plans),
        pytest.raises(PlanError, match=f"has '{rows}' rows, but there are {rows + 1} steering"),
    ):
        run(model, torch.arange(rows * 3).view(rows, 3))


def test_layer_that_is_run_without_its_decoder_is_refused(make_tiny_model: MakeModel) -> None:
    """Which position is the onset would not be known, and no edit at all would be made."""
    model = make_tiny_model("llama")
    hidden = torch.zeros(1, 3, 32)

    with (
        steered(model, [plan_for(model, 1, "onset")]),
        pytest.raises(PlanError, match="Cannot steer '3' positions"),
    ):
        model.model.layers[0].mlp(hidden)


def test_no_plans_are_refused(make_tiny_model: MakeModel) -> None:
    with (
        pytest.raises(PlanError, match="There are '0' steering plans"),
        steered(make_tiny_model("llama"), []),
    ):
        pytest.fail("it was attached")


# The clock.


def spans(clock: PositionClock) -> list[slice | None]:
    return [clock.spans.get(phase) for phase in PHASES]


def test_clock_takes_the_last_column_of_a_prefill_for_the_onset() -> None:
    clock = PositionClock()

    clock.note_forward(0, 4)
    prefill = spans(clock)
    clock.note_forward(4, 1)

    assert prefill == [slice(0, 3), slice(3, 4), None, None]
    assert spans(clock) == [None, None, slice(0, 1), None]


@pytest.mark.parametrize("onset", range(6))
@pytest.mark.parametrize("past", range(5))
@pytest.mark.parametrize("new", [1, 2, 5])
def test_clock_puts_every_column_into_its_phase(onset: int, past: int, new: int) -> None:
    clock = PositionClock()
    clock.start_at(onset)
    clock.note_forward(past, new)

    columns = ["" for _ in range(new)]
    for phase in PHASES:
        if span := clock.spans.get(phase):
            columns[span] = [phase] * (span.stop - span.start)

    places = range(past, past + new)
    later = ("onset", "start", "body")
    expected = ["prompt" if p < onset else later[min(p - onset, 2)] for p in places]
    assert columns == expected


def test_clock_goes_back_to_the_rule() -> None:
    clock = PositionClock()
    clock.start_at(1)
    clock.start_at(None)

    clock.note_forward(0, 3)

    assert spans(clock) == [slice(0, 2), slice(2, 3), None, None]


# The class.


def test_steerer_gives_each_row_its_language(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    neurons = make_toy_set(model.identity)
    base = run(model.model)

    with Steerer(model, neurons, languages=["fr", None], strength=1.0):
        logits = run(model.model)

    with steered(model.model, [make_plan(neurons, SteeringRequest(FR, "", 1.0)), NO_STEERING]):
        expected = run(model.model)
    assert torch.equal(logits, expected)
    assert torch.equal(logits[1], base[1])
    assert not torch.equal(logits[0], base[0])
    assert torch.equal(run(model.model), base)
    assert count_hooks(model.model) == 0


def test_steerer_gives_the_clock_and_can_be_used_again(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    steerer = Steerer(
        model,
        make_toy_set(model.identity),
        languages=["FR-ca"],
        strength="strong",
        method="lape-own",
    )

    results = []
    for _ in range(2):
        with steerer as clock:
            clock.start_at(2)
            results.append(run(model.model))

    assert torch.equal(results[0], results[1])
    expected = trace_llama(model.model, IDS[1].tolist(), plan=steerer.plans[0], onset=2).logits
    assert torch.allclose(results[0][1], expected)


def test_steerer_attaches_nothing_before_it_is_entered(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")

    Steerer(model, make_toy_set(model.identity), languages=["fr"])

    assert count_hooks(model.model) == 0


def test_steerer_of_a_set_without_neurons_changes_no_bit(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    base = run(model.model)
    empty = without_neurons(make_toy_set(model.identity))

    with Steerer(model, empty, languages=["sw", "fr"], method="lape"):
        logits = run(model.model)

    assert torch.equal(logits, base)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"languages": ["de"]}, UnknownLanguageError, "'de'.*Known here: fr, ja, en, th, sw"),
        ({"languages": ["fr"], "method": "x"}, PlanError, "method 'x'"),
        ({"languages": ["fr"], "strength": -1}, PlanError, "Strength is '-1'"),
        (
            {"languages": ["fr"], "prompt_languages": ["en", "fr"]},
            PlanError,
            "'2' prompt languages for 1 rows",
        ),
        ({"languages": ["fr"], "prompt_languages": ["xx"]}, UnknownLanguageError, "'xx'"),
    ],
)
def test_steerer_refuses_what_the_set_does_not_have(
    changes: dict[str, object], error: type[Exception], message: str, load_tiny: LoadTiny
) -> None:
    model = load_tiny("llama")

    with pytest.raises(error, match=message):
        Steerer(model, make_toy_set(model.identity), **changes)  # type: ignore[arg-type]  # wrong


def test_steerer_takes_the_prompts_languages_where_they_are_known(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    neurons = make_toy_set(model.identity)

    steerer = Steerer(
        model,
        neurons,
        languages=["fr", "fr", None],
        method="redirect",
        prompt_languages=["ja", None, "en"],
    )

    known, unknown, alone = steerer.plans
    ask = SteeringRequest(FR, "redirect", source=LANGUAGES["ja"])
    assert list(known.edits) == list(unknown.edits)
    for place, edit in make_plan(neurons, ask).edits.items():
        assert torch.equal(known.edits[place].shift, edit.shift)
        assert not torch.equal(unknown.edits[place].shift, edit.shift)
    assert alone is NO_STEERING


def test_steerer_refuses_a_set_of_another_model(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")

    with pytest.raises(NeuronSetMismatchError, match=r"'toy' .*'tiny-llama' .*tokenizers differ"):
        Steerer(model, make_toy_set(), languages=["fr"])
    check_set_fits_model(make_toy_set(model.identity), model)


def test_steering_is_seen_by_every_thread(make_tiny_model: MakeModel) -> None:
    model = make_tiny_model("llama")
    found: list[Tensor] = []

    with steered(model, [plan_for(model, 1, "onset")]):
        here = run(model)
        thread = threading.Thread(target=lambda: found.append(run(model)))
        thread.start()
        thread.join()

    assert torch.equal(found[0], here)
