"""Builds a neuron set from recorded statistics: LAPE's selection, the means, and where all is from.

Knows no files; `cli.py` reads the corpora and writes the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import StatsError
from steering.lape import LapeParameters, lape
from steering.neuron_set import NeuronSet, NeuronSetMetadata, StrengthLevel

if TYPE_CHECKING:
    from steering.model_identity import ModelIdentity


@dataclass(frozen=True, slots=True)
class SetOrigin:
    """What a set's metadata say beyond model and statistics.

    Args:
        corpus_name: Names of what was read.
        corpus_sha256: Hash of what was read.
        steering_method: Best known method for the set; empty when not measured.
        strengths: Calibrated strengths; empty when not measured.
        evaluation: One sentence with the measured result.
        licence: Note on what the set may be used for.
    """

    corpus_name: str
    corpus_sha256: str
    steering_method: str = ""
    strengths: tuple[tuple[StrengthLevel, float], ...] = ()
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
    at = (selection.layer, selection.index)
    phases = list(stats.phases)
    return NeuronSet(
        metadata=_metadata(identity, stats, phase, parameters, origin),
        layer=selection.layer,
        index=selection.index,
        lape_score=selection.lape_score.float(),
        is_member=selection.is_member,
        activation_prob=selection.activation_prob.float(),
        gate_means={name: stats.mean(name, "gate")[at].T.float() for name in phases},
        value_means={name: stats.mean(name, "value")[at].T.float() for name in phases},
        residual_means={name: stats.residual_mean(name).float() for name in phases},
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
        steering_method=origin.steering_method,
        strengths=dict(origin.strengths),
        evaluation=origin.evaluation,
        licence=origin.licence,
    )
