"""Tests of mixtures of experts: parity with the library's own way, and with loops over tokens."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from steering.corpus import open_corpus
from steering.errors import UnsupportedArchitectureError
from steering.experts import Routing, prepare_experts
from steering.hooks import attached, find_sites, noting_routing
from steering.loading import LoadedModel, load_model
from steering.recording import record
from steering.running_sums import RunningSums
from steering.steerer import steered
from steering.steering_plan import PHASES, Edit, SteeringPlan
from tests.conftest import EOS
from tests.toy import EN, FR

MakeModel = Callable[..., PreTrainedModel]
MakeFolder = Callable[..., Path]

FAMILIES = ("mixtral", "qwen3_moe")
EXPERTS, WIDTH, PER_TOKEN = 4, 12, 2
IDS = torch.arange(10, 20).view(2, 5)


def run(model: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


def are_close(one: Tensor, other: Tensor) -> bool:
    """Compare logits, all below 10; float32 sums in other blocks differ by under 2e-5 here."""
    return torch.allclose(one, other, rtol=0, atol=1e-4)


@dataclass
class LayerTrace:
    """What one token showed in one layer; units of experts that it did not go to are 0."""

    chosen: list[int]
    gate: Tensor
    value: Tensor
    output: Tensor


def trace_experts(block: nn.Module, hidden: Tensor) -> LayerTrace:
    """Run one token, `(hidden,)`, through a layer's router and experts, one after the other."""
    experts = block.get_submodule("experts")
    logits = block.get_submodule("gate").get_parameter("weight") @ hidden
    probs, chosen = logits.softmax(dim=-1).topk(PER_TOKEN)
    gates, values = torch.zeros(EXPERTS, WIDTH), torch.zeros(EXPERTS, WIDTH)
    output = torch.zeros_like(hidden)
    for prob, expert in zip(probs / probs.sum(), chosen.tolist(), strict=True):
        both = experts.get_parameter("gate_up_proj")[expert] @ hidden
        gates[expert] = torch.nn.functional.silu(both[:WIDTH])
        values[expert] = gates[expert] * both[WIDTH:]
        output += prob * (experts.get_parameter("down_proj")[expert] @ values[expert])
    return LayerTrace(sorted(chosen.tolist()), gates.flatten(), values.flatten(), output)


def trace_layers(model: PreTrainedModel, ids: Tensor) -> list[list[LayerTrace]]:
    """Return what each token showed in each layer, from what went into the layers' experts."""
    traces: list[list[LayerTrace]] = []
    handles = []
    for layer in model.get_submodule("model.layers").children():
        block = layer.get_submodule("mlp")

        def note(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            rows = [trace_experts(module, token) for token in args[0].flatten(0, 1)]
            traces.append(rows)
            assert torch.allclose(
                output.flatten(0, 1), torch.stack([row.output for row in rows]), atol=1e-5
            )

        handles.append(block.register_forward_hook(note))
    run(model, ids)
    for handle in handles:
        handle.remove()
    return traces


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, make_tiny_model: MakeModel) -> PreTrainedModel:
    return make_tiny_model(str(request.param), norm_topk_prob=True)


@pytest.mark.parametrize("own", ["eager", "grouped_mm", "batched_mm"])
def test_prepared_model_computes_what_the_library_does(own: str, model: PreTrainedModel) -> None:
    ours, theirs = run(model), copy.deepcopy(model)

    theirs.set_experts_implementation(own)

    assert are_close(ours, run(theirs))


def test_activations_of_all_experts_lie_side_by_side(model: PreTrainedModel) -> None:
    expected = trace_layers(model, IDS)
    seen: dict[tuple[str, int], Tensor] = {}
    routed: dict[int, Tensor] = {}
    sites = find_sites(model)

    def note(site: str) -> Callable[[int, Tensor], None]:
        return lambda layer, units: seen.update({(site, layer): units.clone()})

    with (
        attached(sites, {"gate": note("gate"), "value": note("value")}),
        noting_routing(sites, lambda layer, is_routed: routed.update({layer: is_routed})),
    ):
        run(model)

    for layer, rows in enumerate(expected):
        for site in ("gate", "value"):
            units = torch.stack([getattr(row, site) for row in rows]).view(2, 5, -1)
            assert torch.allclose(seen[site, layer], units, atol=1e-5)
            assert torch.equal(seen[site, layer] == 0, units == 0)
        chosen = [torch.tensor(flags).nonzero().flatten().tolist()
                  for flags in routed[layer].flatten(0, 1).tolist()]  # fmt: skip
        assert chosen == [row.chosen for row in rows]
    all_chosen = {tuple(row.chosen) for rows in expected for row in rows}
    assert len(all_chosen) > 1  # or the order of experts would not show


def test_replacement_for_experts_that_a_token_does_not_go_to_changes_nothing(
    model: PreTrainedModel,
) -> None:
    base, sites = run(model), find_sites(model)

    def fill(_layer: int, units: Tensor) -> Tensor:
        return torch.where(units == 0, 1000.0, units)

    with attached(sites, {"value": fill}):
        assert torch.equal(run(model), base)


def test_plan_edits_neurons_only_of_tokens_that_went_to_the_expert(model: PreTrainedModel) -> None:
    """A shift of one neuron is its column of the expert's down projection, times the weight."""
    ids, layer, unit = IDS[:1], 1, 5
    traces = trace_layers(model, ids)[layer]
    expert = next(e for e in range(EXPERTS) if len({e in trace.chosen for trace in traces}) == 2)
    units = torch.tensor([expert * WIDTH + unit])
    plan = SteeringPlan(
        {
            ("value", phase, layer): Edit(units, torch.tensor([0.5]), torch.tensor([3.0]))
            for phase in PHASES
        }
    )
    outputs: list[Tensor] = []
    block = model.get_submodule(f"model.layers.{layer}.mlp")
    handle = block.register_forward_hook(lambda _module, _args, out: outputs.append(out[0]))

    run(model, ids)
    with steered(model, [plan]):
        run(model, ids)
    handle.remove()

    is_there = [expert in trace.chosen for trace in traces]
    changed = (outputs[1] != outputs[0]).any(dim=1).tolist()
    assert changed == is_there
    column = block.get_submodule("experts").get_parameter("down_proj")[expert][:, unit]
    for token in [place for place, there in enumerate(is_there) if there]:
        change = outputs[1][token] - outputs[0][token]
        push = 3.0 - 0.5 * traces[token].value[units[0]]
        weight = float(change @ column) / float(push * (column @ column))
        assert 0 < weight < 1
        assert torch.allclose(change, weight * push * column, atol=1e-5)


def test_counts_are_over_the_tokens_that_went_to_the_expert(
    load_tiny: Callable[..., LoadedModel], model: PreTrainedModel, tmp_path: Path
) -> None:
    loaded = load_tiny(model.config.model_type, norm_topk_prob=True)
    texts = {FR: "Le chat dort là-bas", EN: "xy"}
    for language, text in texts.items():
        (tmp_path / f"{language}.txt").write_text(text, encoding="utf-8")
    corpus = open_corpus(tmp_path, list(texts), kind="text")

    stats = record(loaded, list(texts), [corpus]).stats

    probs, means = stats.activation_prob("text"), stats.mean("text", "value")
    is_vacant = False
    for k, (language, text) in enumerate(texts.items()):
        row = stats.phases["text"][language]
        ids = [*loaded.tokenizer(text, add_special_tokens=False)["input_ids"], EOS]
        for layer, traces in enumerate(trace_layers(loaded.model, torch.tensor([ids]))):
            for expert in range(EXPERTS):
                here = [
                    t for t in traces[:-1] if expert in t.chosen
                ]  # the separator is not counted
                assert row.routed_count is not None
                assert row.routed_count[layer, expert] == len(here)
                is_vacant |= not here
                units = slice(expert * WIDTH, (expert + 1) * WIDTH)
                active = sum((t.gate[units] > 0 for t in here), torch.zeros(WIDTH))
                value = sum((t.value[units].double() for t in here), torch.zeros(WIDTH).double())
                tokens = max(1, len(here))
                assert torch.equal(probs[layer, units, k], active.double() / tokens)
                assert torch.allclose(means[layer, units, k], value / tokens, atol=1e-4)
    assert is_vacant  # an expert without tokens is among them
    for layer in range(2):  # all ways of asking agree
        assert torch.equal(stats.activation_prob("text", at=layer), probs[layer])
        index = torch.tensor([0, 13, 47])
        at = (torch.full_like(index, layer), index)
        assert torch.equal(stats.activation_prob("text", at=at), probs[layer, index])
    both = stats.phases["text"][FR] + stats.phases["text"][EN]
    assert both.routed_count is not None
    assert int(both.routed_count[0].sum()) == PER_TOKEN * both.token_count


def test_sums_of_processes_hold_the_routed_tokens() -> None:
    parts = [RunningSums(layers=1, neurons=6, hidden=2, vocabulary=3, experts=3) for _ in range(2)]
    for part, counts in zip(parts, ([1, 0, 4], [2, 5, 0]), strict=True):
        part.add_routed(0, torch.tensor(counts))

    total = RunningSums.zeros_like(parts[0].to_tensors())
    for part in parts:
        total.add_tensors(part.to_tensors())

    assert total.result().routed_count.tolist() == [[3, 5, 4]]  # type: ignore[union-attr]  # there


def test_no_tokens_at_all_go_through(model: PreTrainedModel) -> None:
    routing = Routing(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64), 4)
    block = model.get_submodule("model.layers.0.mlp")

    assert block(torch.zeros(1, 0, 32)).shape == (1, 0, 32)
    assert torch.equal(routing.spread(torch.zeros(0, 12), 3), torch.zeros(3, 48))


def test_model_that_runs_its_experts_in_another_way_is_refused(model: PreTrainedModel) -> None:
    other = copy.deepcopy(model)
    other.set_experts_implementation("eager")

    with pytest.raises(UnsupportedArchitectureError, match=r"run as 'eager'.*`load_model`"):
        find_sites(other)


def test_experts_whose_weights_are_not_plain_are_refused(model: PreTrainedModel) -> None:
    other = copy.deepcopy(model)
    experts = other.get_submodule("model.layers.1.mlp.experts")
    experts.down_proj = nn.Parameter(torch.zeros(4, 32, 12, dtype=torch.uint8), requires_grad=False)

    with pytest.raises(UnsupportedArchitectureError, match=r"down_proj \(torch\.uint8\)"):
        prepare_experts(other)


def test_prepared_model_is_saved_as_if_it_were_not(
    model: PreTrainedModel, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir(model.config.model_type, norm_topk_prob=True)

    again = load_model(str(folder), quantize="none", device="cpu")

    assert torch.equal(run(again.model), run(model))
    assert again.identity.experts == EXPERTS
    assert "langsteer" not in (folder / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("quantize", [None, "nf4", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_experts_are_refused_before_weights_are_read(
    family: str, quantize: str | None, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir(family)
    (folder / "model.safetensors").write_bytes(b"not read")

    with pytest.raises(UnsupportedArchitectureError, match=r"quantised.*`quantize` 'none'"):
        load_model(str(folder), quantize=quantize)  # type: ignore[arg-type]  # plain strings


def test_experts_that_are_stored_quantised_are_refused(tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir("qwen3_moe")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "fp8"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    with pytest.raises(UnsupportedArchitectureError, match="stored quantised"):
        load_model(str(folder), quantize="none", device="cpu")


@pytest.mark.parametrize("change", [{"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}])
def test_layers_with_and_without_experts_in_one_model_are_refused(
    change: dict[str, object], tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir("qwen3_moe")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")

    with pytest.raises(UnsupportedArchitectureError, match="some of its layers have experts"):
        load_model(str(folder), quantize="none", device="cpu")
