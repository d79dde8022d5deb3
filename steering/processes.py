"""Several processes that record together: `accelerate launch`, one process per GPU or machine.

Every process takes each of its chunks in turn; sums are added over all of them in the order of
their ranks. Alone, everything here is free. Knows tensors, not what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from steering.errors import StoppedError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_Value = TypeVar("_Value")

# Processes of unequal speed wait for one another at the end of every language.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Processes:
    """Which of how many processes this one is.

    Args:
        rank: 0 for the one that writes.
        count: How many there are.
        device: Where this one's model belongs; None leaves the choice to `load_model`.
        group: Over which tensors on the CPU are sent; None alone.
    """

    rank: int = 0
    count: int = 1
    device: str | None = None
    group: ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Say whether this is the process that speaks and writes."""
        return self.rank == 0

    def takes(self, number: int) -> bool:
        """Say whether a chunk is this process's, by its number."""
        return number % self.count == self.rank

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the same tensors of every process, by rank; all must be on the CPU."""
        if self.group is None:
            return [dict(tensors)]
        try:
            return self._gather(tensors)
        except RuntimeError as err:
            raise _not_together(err) from err

    def _gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        gathered: list[dict[str, Tensor]] = [{} for _ in range(self.count)]
        for name, tensor in sorted(tensors.items()):
            rows = [torch.empty_like(tensor) for _ in range(self.count)]
            torch.distributed.all_gather(rows, tensor.contiguous(), group=self.group)
            for rank, row in enumerate(rows):
                gathered[rank][name] = row
        return gathered

    def gather_values(self, value: _Value) -> list[_Value]:
        """Return a plain value of every process, by rank."""
        if self.group is None:
            return [value]
        rows = [value] * self.count
        try:
            torch.distributed.all_gather_object(rows, value, group=self.group)
        except RuntimeError as err:
            raise _not_together(err) from err
        return rows

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.group is None:
            return
        try:
            torch.distributed.barrier(group=self.group)
        except RuntimeError as err:
            raise _not_together(err) from err


def join_processes() -> Processes:
    """Return this process's place among those that `accelerate launch` or `torchrun` started."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    from accelerate import PartialState

    state = PartialState()
    # Sums are sent from the CPU, whatever the models run on.
    group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes, str(state.device), group)


def _not_together(err: RuntimeError) -> StoppedError:
    reason = " ".join(str(err).split())[:200]
    return StoppedError(
        f"Another process of this run has ended ({reason}). What there is was saved: see what it "
        "said, then run the same command again to go on."
    )
