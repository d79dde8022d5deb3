"""Builds a neuron set from recorded statistics: LAPE's selection, the means, and where all is from.

Knows no files; `cli/build_set.py` reads the corpora and writes the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import StatsError
from steering.lape import LapeParameters, LapeSelection, lape
from steering.neuron_set import NeuronSet, NeuronSetMetadata, RandomNeurons
from steering.token_bias import token_log_odds

if TYPE_CHECKING:
    from steering.model_identity import ModelIdentity

_CONTROL_SEED = 0  # the random neurons of a set are always the same


@dataclass(frozen=True, slots=True)
class SetOrigin:
    """What a set's metadata say beyond model and statistics.

    Args:
        corpus_name: Names of what was read.
        corpus_sha256: Hash of what was read.
        evaluation: One sentence with the measured result.
        licence: Note on what the set may be used for.
    """

    corpus_name: str
    corpus_sha256: str
    evaluation: str = ""
    licence: str = ""


def build_neuron_set(
    identity: ModelIdentity,
    stats: ActivationStats,
    *,
    phase: StatsPhase,
    parameters: LapeParameters,
    origin: SetOrigin,
) -> NeuronSet:
    """Select neurons on one phase and gather their means in all recorded phases.

    Args:
        identity: The model that was recorded.
        stats: What was recorded.
        phase: Whose counts LAPE uses.
        parameters: LAPE's thresholds.
        origin: Goes into the metadata.

    Raises:
        StatsError: If LAPE cannot run on the phase, or selects no neuron at all.
    """
    selection = lape(stats, phase=phase, parameters=parameters)
    if not len(selection.layer):
        raise StatsError(
            f"LAPE selected '0' neurons with select_fraction {parameters.select_fraction} and "
            f"prob_quantile {parameters.prob_quantile}. Expected some; raise `--select-fraction` "
            "or lower `--prob-quantile`, or give more text."
        )
    return NeuronSet(
        metadata=_metadata(identity, stats, phase, parameters, origin),
        layer=selection.layer,
        index=selection.index,
        lape_score=selection.lape_score.float(),
        is_member=selection.is_member,
        activation_prob=selection.activation_prob.float(),
        gate_means=_means_at(stats, "gate", selection.layer, selection.index),
        value_means=_means_at(stats, "value", selection.layer, selection.index),
        residual_means={name: stats.residual_mean(name).float() for name in stats.phases},
        control=_draw_control(stats, selection),
        token_log_odds=token_log_odds(_token_counts(stats)).half(),
    )


def _means_at(
    stats: ActivationStats, site: Literal["gate", "value"], layer: Tensor, index: Tensor
) -> dict[StatsPhase, Tensor]:
    """Return the means of some neurons per phase, float32 `(languages, neurons)`."""
    return {phase: stats.mean(phase, site, at=(layer, index)).T.float() for phase in stats.phases}


def _draw_control(stats: ActivationStats, selection: LapeSelection) -> RandomNeurons:
    """Draw as many neurons as were selected, in the same layers, none of which was selected.

    A layer of which more than half is selected gives all the others that it has.
    """
    layers, neurons = stats.shape(next(iter(stats.phases)))
    random = torch.Generator().manual_seed(_CONTROL_SEED)
    drawn: list[Tensor] = []
    for block in range(layers):
        is_free = torch.ones(neurons, dtype=torch.bool)
        is_free[selection.index[selection.layer == block]] = False
        free = is_free.nonzero().flatten()
        order = torch.randperm(len(free), generator=random)[: neurons - len(free)]
        drawn.append(block * neurons + free[order].sort().values)
    flat = torch.cat(drawn)
    layer, index = flat // neurons, flat % neurons
    return RandomNeurons(
        layer,
        index,
        _means_at(stats, "gate", layer, index),
        _means_at(stats, "value", layer, index),
    )


def _token_counts(stats: ActivationStats) -> Tensor:
    """Return how often each token stood at a counted position, int64 `(languages, vocab)`."""
    return torch.stack(
        [
            torch.stack([rows[language].token_id_count for rows in stats.phases.values()]).sum(0)
            for language in stats.languages
        ]
    )


def _metadata(
    identity: ModelIdentity,
    stats: ActivationStats,
    phase: StatsPhase,
    parameters: LapeParameters,
    origin: SetOrigin,
) -> NeuronSetMetadata:
    return NeuronSetMetadata(
        model_id=identity.model_id,
        model_revision=identity.revision,
        architecture=identity.architecture,
        layers=identity.layers,
        neurons_per_layer=identity.neurons_per_layer,
        hidden_size=identity.hidden_size,
        tokenizer_sha256=identity.tokenizer_sha256,
        languages=tuple(str(language) for language in stats.languages),
        selection_phase=phase,
        prob_quantile=parameters.prob_quantile,
        select_fraction=parameters.select_fraction,
        membership_quantile=parameters.membership_quantile,
        token_counts={
            name: {str(language): count for language, count in stats.token_counts(name).items()}
            for name in stats.phases
        },
        corpus_name=origin.corpus_name,
        corpus_sha256=origin.corpus_sha256,
        evaluation=origin.evaluation,
        licence=origin.licence,
    )
