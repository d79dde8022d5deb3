"""Activation statistics: what a recording counts, and how counts are added up.

All fields are sums, so statistics of shards, machines and runs merge by adding. Counts are exact
integers. Knows nothing of models, files or how a language's neurons are chosen.
Dimension key, used in all of `steering/`: K languages, L layers, N neurons per layer, H hidden
size, V vocabulary, U selected neurons, B rows, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import EllipsisType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.errors import StatsError
from steering.languages import Language

# `text`: every token of plain text (Tang et al. 2024). `onset`: the position of a dialogue that
# predicts the answer's first token. `body`: the later positions of the answer.
StatsPhase: TypeAlias = Literal["text", "onset", "body"]
STATS_PHASES: tuple[StatsPhase, ...] = ("text", "onset", "body")

# Which neurons: all of them, those of one layer, or the pairs of a layer and an index tensor.
NeuronPlaces: TypeAlias = EllipsisType | int | tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class PhaseStats:
    """Sums over the tokens of one language in one phase; all tensors on the CPU.

    Args:
        token_count: Positions counted.
        active_count: Positions with activation > 0, int64 `(layers, neurons)`.
        gate_sum: Sum at the gate site, float64 `(layers, neurons)`.
        value_sum: Sum at the value site, float64 `(layers, neurons)`.
        residual_sum: Sum of the stream after each layer, float64 `(layers, hidden)`.
        token_id_count: How often each token stood at a counted position, int64 `(vocab,)`.
        routed_count: How many counted positions went to each expert, int64 `(layers, experts)`;
            None where a layer has one FFN for every token. Neurons of all experts lie side by side.
    """

    token_count: int
    active_count: Tensor
    gate_sum: Tensor
    value_sum: Tensor
    residual_sum: Tensor
    token_id_count: Tensor
    routed_count: Tensor | None = None

    def tokens_seen(self, at: NeuronPlaces = ...) -> int | Tensor:
        """Return how many counted positions came by neurons: all, or those that went to its expert.

        A neuron of an expert that none went to has 1, for its sums of 0 to be divided by.
        """
        if self.routed_count is None:
            return self.token_count
        neurons = self.active_count.shape[1] // self.routed_count.shape[1]  # of one expert
        if isinstance(at, tuple):
            layer, index = at
            return self.routed_count[layer, index // neurons].clamp(min=1)
        return self.routed_count[at].repeat_interleave(neurons, dim=-1).clamp(min=1)

    def __add__(self, other: "PhaseStats") -> "PhaseStats":
        """Return the sums over both."""
        ours, theirs = self._shapes(), other._shapes()
        if ours != theirs:
            raise StatsError(
                f"Cannot add statistics of shapes '{ours}' to those of '{theirs}' (neurons, hidden "
                "size, vocabulary, experts). Expected the same model; record again."
            )
        return PhaseStats(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
                if getattr(self, field.name) is not None
            }
        )

    def _shapes(self) -> list[tuple[int, ...]]:
        sums = (self.active_count, self.residual_sum, self.token_id_count, self.routed_count)
        return [tuple(one.shape) for one in sums if one is not None]


@dataclass(frozen=True, slots=True, eq=False)
class ActivationStats:
    """Statistics of several languages in one or more phases.

    Args:
        languages: The order of the K axis of everything made from these statistics.
        phases: Per phase, one entry per language.
    """

    languages: tuple[Language, ...]
    phases: Mapping[StatsPhase, Mapping[Language, PhaseStats]]

    def shape(self, phase: StatsPhase) -> tuple[int, int]:
        """Return how many layers there are, and how many neurons in each.

        Raises:
            StatsError: If the phase was not recorded, or a language has no tokens.
        """
        layers, neurons = self._rows(phase)[0].active_count.shape
        return layers, neurons

    def activation_prob(self, phase: StatsPhase, at: NeuronPlaces = ...) -> Tensor:
        """Return the share of tokens with activation > 0, float64 `(layers, neurons, languages)`.

        Of a neuron of an expert: the share of the tokens that went there; 0 where none did.

        Args:
            phase: Whose counts to use.
            at: Of all neurons; or of one layer, `(neurons, languages)`, or of chosen places,
                `(chosen, languages)`. All of a large model take gigabytes.

        Raises:
            StatsError: If the phase was not recorded, or a language has no tokens.
        """
        rows = self._rows(phase)
        return torch.stack(
            [row.active_count[at].double() / row.tokens_seen(at) for row in rows], dim=-1
        )

    def mean(
        self, phase: StatsPhase, site: Literal["gate", "value"], at: NeuronPlaces = ...
    ) -> Tensor:
        """Return mean activations at a site, float64; shape and experts as in `activation_prob`."""
        sums = [
            (row.gate_sum if site == "gate" else row.value_sum)[at] / row.tokens_seen(at)
            for row in self._rows(phase)
        ]
        return torch.stack(sums, dim=-1)

    def residual_mean(self, phase: StatsPhase) -> Tensor:
        """Return means of the stream after each layer, float64 `(languages, layers, hidden)`."""
        return torch.stack([row.residual_sum / row.token_count for row in self._rows(phase)])

    def token_counts(self, phase: StatsPhase) -> dict[Language, int]:
        """Return the number of counted positions per language."""
        return {lang: self.phases[phase][lang].token_count for lang in self.languages}

    def _rows(self, phase: StatsPhase) -> list[PhaseStats]:
        if phase not in self.phases:
            recorded = ", ".join(self.phases)
            raise StatsError(
                f"Phase '{phase}' was not recorded; these were: {recorded}. "
                "Record it too: `text` needs `--text`, the others `--dialogues`."
            )
        rows = [self.phases[phase][language] for language in self.languages]
        if empty := [str(lang) for lang, row in zip(self.languages, rows, strict=True)
                     if row.token_count == 0]:  # fmt: skip
            raise StatsError(
                f"Language '{empty[0]}' has no tokens in phase '{phase}'. Expected at least one "
                "per language; check its text, or leave the language out."
            )
        return rows
