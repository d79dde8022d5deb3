"""Builds a neuron set from recorded statistics: a selection, the means, and where all is from.

Or completes an imported one: its selection stays, all the rest comes from the statistics. Knows no
files; `cli/build_set.py` reads the corpora and writes the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import NeuronSetMismatchError, StatsError
from steering.languages import Language
from steering.lape import LapeParameters, LapeSelection, lape, lape_score
from steering.neuron_choice import NeuronChoice
from steering.neuron_set import (
    NeuronSet,
    NeuronSetMetadata,
    RandomNeurons,
    join_means,
    split_means,
)
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
    choice: NeuronChoice | None = None,
) -> NeuronSet:
    """Select neurons on one phase and gather their means in all recorded phases.

    Args:
        identity: The model that was recorded.
        stats: What was recorded.
        phase: Whose counts LAPE uses.
        parameters: LAPE's thresholds; of another way's choice those that its size is from.
        origin: Goes into the metadata.
        choice: Of another way than LAPE, of the same statistics and phase.

    Raises:
        StatsError: If LAPE cannot run on the phase, or there is no neuron at all.
    """
    selection = (
        lape(stats, phase=phase, parameters=parameters)
        if choice is None
        else _look_up(stats, phase, choice.layer, choice.index, choice.is_member)
    )
    if not len(selection.layer):
        raise StatsError(
            f"{'LAPE' if choice is None else choice.way} selected '0' neurons with "
            f"select_fraction {parameters.select_fraction} and "
            f"prob_quantile {parameters.prob_quantile}. Expected some; raise `--select-fraction` "
            "or lower `--prob-quantile`, or give more text."
        )
    metadata = NeuronSetMetadata.model_validate(
        {
            **_describe(identity, stats, origin),
            "selection_phase": phase,
            "prob_quantile": parameters.prob_quantile,
            "select_fraction": parameters.select_fraction,
            "membership_quantile": parameters.membership_quantile,
            **({} if choice is None else {"method": choice.way, "choice_note": choice.note}),
        }
    )
    neurons = _assemble(metadata, stats, selection, identity.norm_weights)
    return neurons if choice is None else replace(neurons, choice_score=choice.score.float())


def choose_languages(imported: NeuronSet, languages: Sequence[Language]) -> NeuronSet:
    """Return an imported set with some of its languages, in the given order.

    A neuron that belongs to none of them drops out; all others stay as they are.

    Raises:
        UnknownLanguageError: If the set does not hold a language.
        StatsError: If it was not imported, or fewer than two languages are left, or no neuron.
    """
    if imported.metadata.imported_from is None:
        raise StatsError(
            f"The set of '{imported.metadata.model_id}' was not imported: its neurons were "
            "selected with its own statistics. Expected one made by `import-set`; build a new set "
            "with `build-set` and `--languages`."
        )
    is_member = imported.is_member[[imported.position(language) for language in languages]]
    is_kept = is_member.any(dim=0)
    if len(languages) < 2 or not is_kept.any():
        raise StatsError(
            f"Of the imported set '{len(languages)}' languages with '{int(is_kept.sum())}' neurons "
            "are left. Expected at least two languages and one neuron; name more `--languages`."
        )
    codes = tuple(str(language) for language in languages)
    return replace(
        imported,
        metadata=imported.metadata.model_copy(update={"languages": codes}),
        layer=imported.layer[is_kept],
        index=imported.index[is_kept],
        is_member=is_member[:, is_kept],
    )


def check_can_complete(imported: NeuronSet, identity: ModelIdentity) -> None:
    """Refuse to record an imported set on a model that it was not made for.

    Raises:
        NeuronSetMismatchError: Naming both models.
    """
    about = imported.metadata
    shape = (identity.layers, identity.neurons_per_layer)
    if shape != (about.layers, about.neurons_per_layer) or (
        about.architecture not in ("", identity.architecture)
    ):
        raise NeuronSetMismatchError(
            f"The set was imported for '{about.model_id}' ({about.architecture or 'any type'}, "
            f"{about.layers} layers x {about.neurons_per_layer}), but the loaded model is "
            f"'{identity.model_id}' ({identity.architecture}, {shape[0]} x {shape[1]}). Load "
            f"'{about.model_id}' or one tuned from it, or import neurons of this model."
        )


def complete_neuron_set(
    imported: NeuronSet,
    identity: ModelIdentity,
    stats: ActivationStats,
    *,
    phase: StatsPhase,
    origin: SetOrigin,
) -> NeuronSet:
    """Add to an imported set all that a recording of its model gives; its neurons stay.

    Args:
        imported: From `choose_languages`, with the languages of the statistics.
        identity: The model that was recorded.
        stats: What was recorded.
        phase: Whose counts the activation probabilities and LAPE scores are of.
        origin: Goes into the metadata; its licence note behind the one that is there.
    """
    about = imported.metadata
    selection = _look_up(stats, phase, imported.layer, imported.index, imported.is_member)
    kept = ("imported_from", "selection_phase", "prob_quantile", "select_fraction",
            "membership_quantile")  # fmt: skip
    licences = dict.fromkeys(text for text in (about.licence, origin.licence) if text)
    metadata = NeuronSetMetadata.model_validate(
        {
            **_describe(identity, stats, origin),
            **{name: getattr(about, name) for name in kept},
            "activation_prob_phase": phase,
            "licence": " ".join(licences),
        }
    )
    return _assemble(metadata, stats, selection, identity.norm_weights)


def update_neuron_set(neurons: NeuronSet, identity: ModelIdentity) -> NeuronSet:
    """Return a set as it would be built today: with its model's norms, means as they are stored.

    Args:
        neurons: Of that model, which `check_set_fits` has to say.
        identity: The model that is loaded.
    """
    means = {phase: _as_stored(one) for phase, one in neurons.residual_means.items()}
    return replace(neurons, residual_means=means, norm_weights=identity.norm_weights)


def _look_up(
    stats: ActivationStats, phase: StatsPhase, layer: Tensor, index: Tensor, is_member: Tensor
) -> LapeSelection:
    """Return what LAPE's selection would say of neurons that something else selected."""
    probs_UK = stats.activation_prob(phase, at=(layer, index))
    return LapeSelection(
        layer=layer,
        index=index,
        lape_score=lape_score(probs_UK.unsqueeze(0))[0],
        is_member=is_member,
        activation_prob=probs_UK.T,
    )


def _assemble(
    metadata: NeuronSetMetadata,
    stats: ActivationStats,
    selection: LapeSelection,
    norm_weights: Tensor | None,
) -> NeuronSet:
    """Gather what the statistics say of the selected neurons, of random ones and of the stream."""
    return NeuronSet(
        metadata=metadata,
        layer=selection.layer,
        index=selection.index,
        lape_score=selection.lape_score.float(),
        is_member=selection.is_member,
        activation_prob=selection.activation_prob.float(),
        gate_means=_means_at(stats, "gate", selection.layer, selection.index),
        value_means=_means_at(stats, "value", selection.layer, selection.index),
        residual_means={
            name: _as_stored(stats.residual_mean(name).float()) for name in stats.phases
        },
        control=_draw_control(stats, selection),
        token_log_odds=token_log_odds(_token_counts(stats)).half(),
        norm_weights=norm_weights,
    )


def _as_stored(means: Tensor) -> Tensor:
    """Round residual means to what a file keeps, so that a set is the same when it is read."""
    first, rest = split_means(means)
    return join_means(first, rest) if rest.isfinite().all() else means


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


def _describe(
    identity: ModelIdentity, stats: ActivationStats, origin: SetOrigin
) -> dict[str, object]:
    """Return the metadata that do not depend on how neurons were selected."""
    return {
        "model_id": identity.model_id,
        "model_revision": identity.revision,
        "architecture": identity.architecture,
        "layers": identity.layers,
        "neurons_per_layer": identity.neurons_per_layer,
        "hidden_size": identity.hidden_size,
        "experts": identity.experts,
        "tokenizer_sha256": identity.tokenizer_sha256,
        "languages": tuple(str(language) for language in stats.languages),
        "token_counts": {
            name: {str(language): count for language, count in stats.token_counts(name).items()}
            for name in stats.phases
        },
        "corpus_name": origin.corpus_name,
        "corpus_sha256": origin.corpus_sha256,
        "evaluation": origin.evaluation,
        "licence": origin.licence,
    }
