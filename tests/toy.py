"""Small, seeded statistics and neuron sets, of the shape of the tiny models of `conftest.py`.

Five languages in an order that is not the alphabet's: three with neurons of their own, one that
activates as the others do and so gets none, and, last, one on which no neuron was ever active.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from steering.activation_stats import STATS_PHASES, ActivationStats, PhaseStats, StatsPhase
from steering.building import SetOrigin, build_neuron_set
from steering.languages import LANGUAGES, Language
from steering.lape import LapeParameters
from steering.model_identity import ModelIdentity
from steering.neuron_set import NeuronSet
from steering.steering_plan import Edit, Phase, SteeringPlan, SubspacePull

LAYERS, NEURONS, HIDDEN, VOCAB = 2, 48, 32, 300
FR, JA, EN, TH, SW = (LANGUAGES[code] for code in ("fr", "ja", "en", "th", "sw"))
TOY_LANGUAGES = (FR, JA, EN, TH, SW)
WITH_NEURONS = (FR, JA, EN)
TOY_PARAMETERS = LapeParameters(select_fraction=0.125)  # 12 of 96 neurons
TOY_IDENTITY = ModelIdentity(
    model_id="toy",
    revision="local",
    architecture="llama",
    layers=LAYERS,
    neurons_per_layer=NEURONS,
    hidden_size=HIDDEN,
    tokenizer_sha256="0" * 64,
)


def make_phase_stats(
    seed: int, *, tokens: int = 200, layers: int = LAYERS, neurons: int = NEURONS
) -> PhaseStats:
    """Make random statistics in which each neuron is active on under a third of the tokens."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64) * tokens

    return PhaseStats(
        token_count=tokens,
        active_count=torch.randint(0, tokens // 3 + 1, (layers, neurons), generator=random),
        gate_sum=normal(layers, neurons),
        value_sum=normal(layers, neurons),
        residual_sum=normal(layers, HIDDEN),
        token_id_count=torch.randint(0, 9, (VOCAB,), generator=random),
    )


def make_toy_stats(seed: int = 0) -> ActivationStats:
    """Make statistics of all phases; language k of WITH_NEURONS has its neurons at k, k + 8, ..."""
    phases: dict[StatsPhase, dict[Language, PhaseStats]] = {}
    for number, phase in enumerate(STATS_PHASES):
        rows = {
            language: make_phase_stats(1000 * seed + 10 * number + k)
            for k, language in enumerate(TOY_LANGUAGES)
        }
        for k, language in enumerate(WITH_NEURONS):
            rows[language].active_count[:, k::8] += 100
        rows[SW].active_count.zero_()
        phases[phase] = rows
    return ActivationStats(TOY_LANGUAGES, phases)


def make_toy_set(identity: ModelIdentity = TOY_IDENTITY, *, seed: int = 0) -> NeuronSet:
    """Make the neuron set of the toy statistics, for a model."""
    return build_neuron_set(
        identity,
        make_toy_stats(seed),
        phase="text",
        parameters=TOY_PARAMETERS,
        origin=SetOrigin(corpus_name="toy", corpus_sha256="1" * 64),
    )


def as_before_version_5(neurons: NeuronSet, *, seed: int = 0) -> NeuronSet:
    """Return a toy set with residual means that half precision does not hold."""
    stats = make_toy_stats(seed)
    exact = {phase: stats.residual_mean(phase).float() for phase in neurons.residual_means}
    return replace(neurons, residual_means=exact)


def without_neurons(neurons: NeuronSet) -> NeuronSet:
    """Return the set with nothing selected."""
    return replace(
        neurons,
        layer=neurons.layer[:0],
        index=neurons.index[:0],
        lape_score=neurons.lape_score[:0],
        is_member=neurons.is_member[:, :0],
        activation_prob=neurons.activation_prob[:, :0],
        gate_means={phase: means[:, :0] for phase, means in neurons.gate_means.items()},
        value_means={phase: means[:, :0] for phase, means in neurons.value_means.items()},
    )


def make_random_plan(
    seed: int, *phases: Phase, neurons: int = NEURONS, layers: int = LAYERS, hidden: int = HIDDEN
) -> SteeringPlan:
    """Make a plan that changes all three sites of every layer, in the given phases.

    Edits some units everywhere, and pulls the residual within a subspace.
    """
    random = torch.Generator().manual_seed(seed)
    widths = (("gate", neurons), ("value", neurons), ("residual", HIDDEN))
    edits = {}
    for layer in range(layers):
        for site, width in widths:
            for phase in phases:
                units = torch.randperm(width, generator=random)[:7]
                scale = 1 + torch.randn(7, generator=random)
                edits[site, phase, layer] = Edit(units, scale, torch.randn(7, generator=random))
    pulls = {}
    for layer in range(layers):
        for phase in phases:
            rows, _ = torch.linalg.qr(torch.randn(hidden, 1 + layer, generator=random))
            point = torch.randn(1 + layer, generator=random)
            pulls["residual", phase, layer] = SubspacePull(rows.T.contiguous(), point, 0.7)
    return SteeringPlan(edits, pulls)  # type: ignore[arg-type]  # sites are literals above
