"""Slow, obvious re-implementations, to compare with. They share no code with `steering`.

LAPE by exact fractions and loops; what other ways of choosing neurons are scored by; a Llama's
forward pass by its layers' own arithmetic, without hooks, batches, padding or cache, that can be
steered position by position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steering.lape import LapeParameters
from steering.steering_plan import SteeringPlan


@dataclass(frozen=True)
class SelectedNeuron:
    layer: int
    index: int
    score: float
    probs: list[float]
    members: list[bool]


def lape_by_loops(
    active: Sequence[Sequence[Sequence[int]]], tokens: Sequence[int], parameters: LapeParameters
) -> list[SelectedNeuron]:
    """LAPE as DESIGN.md says it; `active[language][layer][neuron]`, `tokens[language]`."""
    languages, layers, neurons = range(len(tokens)), range(len(active[0])), range(len(active[0][0]))
    probs = {
        (layer, index): [Fraction(active[k][layer][index], tokens[k]) for k in languages]
        for layer in layers
        for index in neurons
    }
    all_probs = sorted(prob for row in probs.values() for prob in row)
    bar = _kth_smallest(all_probs, parameters.prob_quantile)
    member_bar = _kth_smallest(all_probs, parameters.membership_quantile)
    candidates = [
        (round(_entropy(row), 12), place)
        for place, row in probs.items()
        if any(prob > bar for prob in row)
    ]
    count = round(len(probs) * parameters.select_fraction)
    kept = sorted(sorted(candidates)[:count], key=lambda one: one[1])
    return [
        SelectedNeuron(*place, score, [float(p) for p in probs[place]],
                       [p > member_bar for p in probs[place]])
        for score, place in kept
        if any(p > member_bar for p in probs[place])
    ]  # fmt: skip


def has_tie_at_rounding_edge(
    active: Sequence[Sequence[Sequence[int]]], tokens: Sequence[int]
) -> bool:
    """Whether the last bits of a sum may make or break a tie at 12 decimals.

    So it is where two entropies nearly agree, and one of them lies between two roundings.
    """
    layers, neurons = len(active[0]), len(active[0][0])
    scores = sorted(
        _entropy(
            [Fraction(row[layer][index], count) for row, count in zip(active, tokens, strict=True)]
        )
        for layer in range(layers)
        for index in range(neurons)
    )
    # A sum of 32 terms is right to 1e-14, a hundredth of the last decimal.
    at_edge = [abs(score * 1e12 % 1 - 0.5) < 0.02 for score in scores]
    return any(
        later - score < 2e-12 and (at_edge[k] or at_edge[k + 1])
        for k, (score, later) in enumerate(pairwise(scores))
    )


def _kth_smallest(ascending: Sequence[Fraction], quantile: float) -> Fraction:
    return ascending[max(1, round(len(ascending) * quantile)) - 1]


def _entropy(probs: Sequence[Fraction]) -> float:
    total = sum(probs)
    if total == 0:
        return 0.0
    shares = [float(prob / total) for prob in probs]
    return -math.fsum(share * math.log(share) for share in shares if share > 0)


def highest_by_loops(
    scores: Sequence[Sequence[Sequence[float]]],
    sizes: Sequence[int],
    is_candidate: Sequence[Sequence[Sequence[bool]]] | None = None,
) -> list[set[tuple[int, int]]]:
    """Per language its highest-scored neurons; `scores[layer][neuron][language]`."""
    chosen = []
    for k, size in enumerate(sizes):
        places = [
            (layer, index)
            for layer, row in enumerate(scores)
            for index in range(len(row))
            if is_candidate is None or is_candidate[layer][index][k]
        ]
        places.sort(key=lambda place, k=k: (-scores[place[0]][place[1]][k], place))
        chosen.append(set(places[:size]))
    return chosen


def average_precision_by_loops(values: Sequence[float], is_own: Sequence[bool]) -> float:
    """Average precision over all thresholds, each at a value that occurs."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        above = [own for value, own in zip(values, is_own, strict=True) if value >= threshold]
        recall, precision = sum(above) / sum(is_own), sum(above) / len(above)
        total += (recall - recall_before) * precision
        recall_before = recall
    return total


def value_entropy_by_loops(means: Sequence[float]) -> float:
    """Entropy, in nats, of mean values, those below 0 as 0, over their sum."""
    values = [max(0.0, mean) for mean in means]
    if sum(values) == 0:
        return 0.0
    return -math.fsum(v / sum(values) * math.log(v / sum(values)) for v in values if v > 0)


def spearman_by_loops(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of ranks, where equal values share the mean of their ranks."""

    def rank(values: Sequence[float], value: float) -> float:
        below = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        return below + (equal + 1) / 2

    one = [rank(first, value) for value in first]
    two = [rank(second, value) for value in second]
    mean_one, mean_two = sum(one) / len(one), sum(two) / len(two)
    product = sum((a - mean_one) * (b - mean_two) for a, b in zip(one, two, strict=True))
    squares = sum((a - mean_one) ** 2 for a in one) * sum((b - mean_two) ** 2 for b in two)
    return product / math.sqrt(squares)


@dataclass
class Trace:
    """What one sequence showed: per layer, `(tokens, units)`; and the logits `(tokens, vocab)`."""

    gate: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)
    residual: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


@torch.no_grad()
def trace_llama(
    model: PreTrainedModel,
    ids: Sequence[int],
    *,
    plan: SteeringPlan | None = None,
    onset: int = 0,
) -> Trace:
    """Run a Llama over one sequence layer by layer, steered by a plan whose onset is at a place."""
    trace, plan = Trace(), plan or SteeringPlan({})
    body = model.model
    hidden = body.embed_tokens(torch.tensor([list(ids)]))
    rotary = body.rotary_emb(hidden, torch.arange(len(ids)).unsqueeze(0))
    for number, layer in enumerate(body.layers):
        attention, _ = layer.self_attn(
            layer.input_layernorm(hidden), position_embeddings=rotary, attention_mask=None
        )
        hidden = hidden + attention
        normed = layer.post_attention_layernorm(hidden)
        gate = layer.mlp.act_fn(layer.mlp.gate_proj(normed))
        gate = _edit_by_loops(gate, plan, "gate", number, onset)
        value = gate * layer.mlp.up_proj(normed)
        value = _edit_by_loops(value, plan, "value", number, onset)
        hidden = hidden + layer.mlp.down_proj(value)
        hidden = _edit_by_loops(hidden, plan, "residual", number, onset)
        trace.gate.append(gate[0])
        trace.value.append(value[0])
        trace.residual.append(hidden[0])
    trace.logits = model.lm_head(body.norm(hidden))[0]
    return trace


def _edit_by_loops(units: Tensor, plan: SteeringPlan, site: str, layer: int, onset: int) -> Tensor:
    edited = units.clone()
    for position in range(units.shape[1]):
        later = ("onset", "start", "body")
        phase = later[min(position - onset, 2)] if position >= onset else "prompt"
        edit = plan.edits.get((site, phase, layer))  # type: ignore[arg-type]  # plain words
        if edit is not None:
            for unit, scale, shift in zip(edit.units, edit.scale, edit.shift, strict=True):
                edited[0, position, unit] = edited[0, position, unit] * scale + shift
        pull = plan.pulls.get((site, phase, layer))  # type: ignore[arg-type]  # plain words
        if pull is not None:
            units = range(edited.shape[2]) if pull.units is None else pull.units.tolist()
            before = edited[0, position, list(units)].clone()
            for direction, coordinate in zip(pull.directions, pull.point, strict=True):
                way = coordinate - (before * direction).sum()
                for unit, part in zip(units, direction, strict=True):
                    edited[0, position, unit] += pull.share * way * part
    return edited
