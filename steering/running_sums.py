"""Running sums of one language's activations, kept on the model's device, exact enough to merge.

Counts are integers. Sums of activations are kept in two float64 numbers each (Knuth's two-sum), so
that the order in which chunks are added does not show in the result: one process, several, or one
that was stopped in between give the same bits. Knows no model and no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.activation_stats import PhaseStats
from steering.errors import StatsError

SumName: TypeAlias = Literal["gate", "value", "residual"]
SUM_NAMES: tuple[SumName, ...] = ("gate", "value", "residual")

_BLOCK_TOKENS = 64  # so many are added in the activations' own precision, blocks in float64


@dataclass(slots=True)
class _LayerSum:
    """A sum of float64 vectors as `high + low`."""

    high: Tensor
    low: Tensor

    def add(self, term: Tensor) -> None:
        """Add a float64 vector; what its rounding loses goes into `low`."""
        total = self.high + term
        kept = total - self.high
        self.low += (self.high - (total - kept)) + (term - kept)
        self.high = total


class RunningSums:
    """Sums over the counted positions of one language in one phase.

    The tensors of a layer lie where its activations lie.
    """

    def __init__(
        self,
        *,
        layers: int,
        neurons: int,
        hidden: int,
        vocabulary: int,
        experts: int | None = None,
    ) -> None:
        """Start at zero."""
        widths: Mapping[SumName, int] = {"gate": neurons, "value": neurons, "residual": hidden}
        self.token_id_count = torch.zeros(vocabulary, dtype=torch.int64)
        self._active = [torch.zeros(neurons, dtype=torch.int64) for _ in range(layers)]
        self._routed = [torch.zeros(experts or 0, dtype=torch.int64) for _ in range(layers)]
        self._sums = {
            name: [_zero_sum(width) for _ in range(layers)] for name, width in widths.items()
        }

    @classmethod
    def zeros_like(cls, tensors: Mapping[str, Tensor]) -> RunningSums:
        """Return sums at zero of the size of another one's `to_tensors`."""
        layers, neurons = tensors["active"].shape
        hidden = tensors["residual_high"].shape[1]
        vocabulary = len(tensors["token_id_count"])
        return cls(
            layers=layers,
            neurons=neurons,
            hidden=hidden,
            vocabulary=vocabulary,
            experts=tensors["routed"].shape[1],
        )

    def add_active(self, layer: int, counts: Tensor) -> None:
        """Add how many positions were active, int64 `(neurons,)`."""
        self._active[layer] = self._active[layer].to(counts.device) + counts

    def add_routed(self, layer: int, counts: Tensor) -> None:
        """Add how many positions went to each expert, int64 `(experts,)`."""
        self._routed[layer] = self._routed[layer].to(counts.device) + counts

    def add(self, name: SumName, layer: int, term: Tensor) -> None:
        """Add a sum over positions, float64 `(units,)`."""
        one = self._sums[name][layer]
        if one.high.device != term.device:
            one.high, one.low = one.high.to(term.device), one.low.to(term.device)
        one.add(term)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return everything as tensors on the CPU, to store or to send."""
        tensors = {
            "token_id_count": self.token_id_count,
            "active": _stack(self._active),
            "routed": _stack(self._routed),
        }
        for name, rows in self._sums.items():
            tensors[f"{name}_high"] = _stack([row.high for row in rows])
            tensors[f"{name}_low"] = _stack([row.low for row in rows])
        return tensors

    def add_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Add what another one's `to_tensors` returned."""
        self.token_id_count += tensors["token_id_count"]
        for layer in range(len(self._active)):
            self.add_active(layer, tensors["active"][layer].to(self._active[layer].device))
            self.add_routed(layer, tensors["routed"][layer].to(self._routed[layer].device))
            for name, rows in self._sums.items():
                row = rows[layer]
                row.add(tensors[f"{name}_high"][layer].to(row.high.device))
                row.low += tensors[f"{name}_low"][layer].to(row.low.device)

    def result(self) -> PhaseStats:
        """Return the sums as plain float64.

        Raises:
            StatsError: If one is not finite, because an activation was not.
        """
        totals = {
            name: _stack([row.high + row.low for row in rows]) for name, rows in self._sums.items()
        }
        for name, total in totals.items():
            if not (is_finite := total.isfinite().all(dim=1)).all():
                layer = int((~is_finite).nonzero()[0])
                raise StatsError(
                    f"Activations at the {name} site of layer {layer} are 'inf' or 'nan'. Expected "
                    "finite numbers; half precision overflows in some models: load this one with "
                    "`--dtype bfloat16` or float32."
                )
        return PhaseStats(
            token_count=int(self.token_id_count.sum()),
            active_count=_stack(self._active),
            gate_sum=totals["gate"],
            value_sum=totals["value"],
            residual_sum=totals["residual"],
            token_id_count=self.token_id_count,
            routed_count=_stack(self._routed) if len(self._routed[0]) else None,
        )


@dataclass(frozen=True, slots=True)
class CountedPositions:
    """Which positions of a chunk count, on one device, in the form that is quickest to add up.

    Args:
        listed: Places in the flattened chunk: those that count, or those that do not.
        is_complement: Whether *listed* are those that do not count.
    """

    listed: Tensor
    is_complement: bool

    @classmethod
    def of(cls, mask: Tensor) -> CountedPositions:
        """Return them from a mask, bool `(B, T)`: most of a text counts, little of a dialogue."""
        flat = mask.flatten()
        is_complement = bool(flat.sum() * 2 > len(flat))
        return cls((~flat if is_complement else flat).nonzero().flatten(), is_complement)

    def on(self, device: torch.device) -> CountedPositions:
        """Return them on a device: the layers of a large model lie on several."""
        if self.listed.device == device:
            return self
        return CountedPositions(self.listed.to(device), self.is_complement)

    def sum(self, activation: Tensor) -> Tensor:
        """Return the sum of `(B, T, units)` over the counted positions, float64 `(units,)`."""
        listed = activation.flatten(0, 1)[self.listed].sum(dim=0, dtype=torch.float64)
        return _sum_of_all(activation) - listed if self.is_complement else listed

    def count_active(self, activation: Tensor) -> Tensor:
        """Return how many counted positions are above 0, int64 `(units,)`."""
        listed = (activation.flatten(0, 1)[self.listed] > 0).sum(dim=0)
        return _active_of_all(activation) - listed if self.is_complement else listed


def _active_of_all(activation: Tensor) -> Tensor:
    """Count over all positions, in bytes first: adding up booleans as integers is ten times slower.

    A block has fewer positions than a byte can count.
    """
    is_active = (activation > 0).view(torch.uint8)
    _, tokens, units = is_active.shape
    whole = tokens - tokens % _BLOCK_TOKENS
    total = is_active[:, whole:].sum(dim=(0, 1))
    if whole:
        blocks = is_active[:, :whole].reshape(len(is_active), -1, _BLOCK_TOKENS, units)
        total += blocks.sum(dim=2, dtype=torch.uint8).sum(dim=(0, 1))
    return total


def _sum_of_all(activation: Tensor) -> Tensor:
    """Add up all positions, row by row in blocks, so that the rows beside one change nothing."""
    _, tokens, units = activation.shape
    whole = tokens - tokens % _BLOCK_TOKENS
    total = activation[:, whole:].sum(dim=1, dtype=torch.float32).sum(dim=0, dtype=torch.float64)
    if whole:
        blocks = activation[:, :whole].reshape(len(activation), -1, _BLOCK_TOKENS, units)
        total += blocks.sum(dim=2, dtype=torch.float32).sum(dim=(0, 1), dtype=torch.float64)
    return total


def _zero_sum(width: int) -> _LayerSum:
    return _LayerSum(
        torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    )


def _stack(rows: list[Tensor]) -> Tensor:
    return torch.stack([row.cpu() for row in rows])
