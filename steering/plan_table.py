"""The plans of a batch's rows as tensors: what is done to the activations of every place.

Knows plans and shapes, not hooks, positions or how a plan is made. Dimension key: see
`activation_stats.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from steering.architectures import (
    Site,
    activation_dtype,
    hidden_size,
    layer_count,
    neurons_per_layer,
)
from steering.errors import PlanError
from steering.steering_plan import (
    PHASES,
    Edit,
    Place,
    SteeringPlan,
    SubspacePull,
    is_same_subspace,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class BatchEdit:
    """One place's edits of all rows, over the union of their units."""

    units: Tensor | None  # (U,); None for all of them, in order
    scale: Tensor | None  # (B, 1, U); 1 where a row leaves a unit alone; None for 1 everywhere
    shift: Tensor  # (B, 1, U); 0 where a row leaves a unit alone

    @property
    def device(self) -> torch.device:
        """Return where its tensors are."""
        return self.shift.device

    def on(self, device: torch.device) -> BatchEdit:
        """Return it on a device: only a pass tells where a layer of a large model runs."""
        units, scale = (None if t is None else t.to(device) for t in (self.units, self.scale))
        return BatchEdit(units, scale, self.shift.to(device))

    def apply(self, values: Tensor) -> Tensor:
        """Return what becomes of `(B, T, units of the site)`."""
        before = values if self.units is None else values[..., self.units]
        shift = self.shift.to(before.dtype)
        if self.scale is None:
            after = before + shift
        else:
            after = torch.addcmul(shift, before, self.scale.to(before.dtype))
        if self.units is None:
            return after
        edited = values.clone()
        edited[..., self.units] = after
        return edited


@dataclass(frozen=True, slots=True)
class BatchPull:
    """One place's pulls of all rows within one subspace; a row of another one has share 0."""

    directions: Tensor  # (R, U)
    minus_readers: Tensor  # (U, R), transposed; made once and not for every token
    point: Tensor  # (B, R)
    share: Tensor | None  # (B, 1); 0 leaves a row alone; None for 1 everywhere
    units: Tensor | None  # (U,); None for all units of the site

    @classmethod
    def make(
        cls,
        directions: Tensor,
        readers: Tensor,
        point: Tensor,
        share: Tensor | None,
        units: Tensor | None,
    ) -> BatchPull:
        """Return it with what can be made beforehand."""
        return cls(directions, -readers.T, point, share, units)

    @property
    def device(self) -> torch.device:
        """Return where its tensors are."""
        return self.point.device

    def on(self, device: torch.device) -> BatchPull:
        """Return it on a device, as `BatchEdit.on`."""
        share, units = (None if t is None else t.to(device) for t in (self.share, self.units))
        directions, minus_readers, point = (
            t.to(device) for t in (self.directions, self.minus_readers, self.point)
        )
        return BatchPull(directions, minus_readers, point, share, units)

    def apply(self, values: Tensor) -> Tensor:
        """Return what becomes of `(B, T, units of the site)`."""
        if self.units is None:
            return self._pull(values)
        pulled = values.clone()
        pulled[..., self.units] = self._pull(values[..., self.units])
        return pulled

    def _pull(self, values: Tensor) -> Tensor:
        """Return what becomes of `(B, T, U)`; in float32, as the sums are long."""
        positions = values.shape[1]
        # This runs for every token: calls that change nothing are left out, as they cost as well.
        exact = values if values.dtype == torch.float32 else values.float()
        flat = exact.reshape(-1, values.shape[2])  # (B * T, U)
        point = _per_position(self.point, positions)
        missing = torch.addmm(point, flat, self.minus_readers)  # (B * T, R)
        if self.share is not None:
            missing *= _per_position(self.share, positions)
        # A row of share 0 gets 0 added to it: the same bits.
        pulled = torch.addmm(flat, missing, self.directions).view(values.shape)
        return pulled if exact is values else pulled.to(values.dtype)


def _per_position(per_row: Tensor, positions: int) -> Tensor:
    """Return a row for each of the `(B * T)` positions; one alone serves all."""
    return (
        per_row if positions == 1 or len(per_row) == 1 else per_row.repeat_interleave(positions, 0)
    )


# What is done at each place, in this order.
PlanTable: TypeAlias = dict[Place, list["BatchEdit | BatchPull"]]


def change_values(values: Tensor, table: PlanTable, place: Place) -> Tensor:
    """Return what becomes of values `(B, T, units)` at a place that the table has."""
    changes = table[place]
    if changes[0].device != values.device:
        changes = table[place] = [change.on(values.device) for change in changes]
    for change in changes:
        values = change.apply(values)
    return values


def make_plan_table(plans: Sequence[SteeringPlan], model: PreTrainedModel) -> PlanTable:
    """Bring the edits and pulls of a batch's rows into a few tensors per place, on the CPU.

    Args:
        plans: One per row; one alone serves batches of any size.
        model: Whose sites and type to use.

    Raises:
        PlanError: If there is no plan, or one does not fit the model.
    """
    if not plans:
        raise PlanError("There are '0' steering plans. Expected one per batch row.")
    shape = _Shape(
        layer_count(model.config), neurons_per_layer(model.config), hidden_size(model.config)
    )
    with torch.inference_mode(mode=False), torch.no_grad():  # who meets it next may be in neither
        return _make_plan_table(tuple(plans), shape, activation_dtype(model))


@dataclass(frozen=True, slots=True)
class _Shape:
    layers: int
    neurons: int
    hidden: int


@functools.lru_cache(maxsize=64)  # a person alone has the same few tables, token after token
def _make_plan_table(
    plans: tuple[SteeringPlan, ...], shape: _Shape, dtype: torch.dtype
) -> PlanTable:
    layers = shape.layers
    widths: dict[Site, int] = {
        "gate": shape.neurons, "value": shape.neurons, "residual": shape.hidden,
    }  # fmt: skip
    table: PlanTable = {}
    for place in dict.fromkeys(place for plan in plans for place in plan.edits):
        edits = [plan.edits.get(place) for plan in plans]
        units = torch.unique(torch.cat([edit.units for edit in edits if edit is not None]))
        _check_place(place, units, layers=layers, widths=widths)
        table[place] = [_stack_edits(edits, units, width=widths[place[0]], dtype=dtype)]
    for place in dict.fromkeys(place for plan in plans for place in plan.pulls):
        pulls = [plan.pulls.get(place) for plan in plans]
        _check_pulls(place, pulls, layers=layers, widths=widths)
        table.setdefault(place, []).extend(_stack_pulls(pulls))
    return table


def _stack_edits(
    edits: Sequence[Edit | None], units: Tensor, *, width: int, dtype: torch.dtype
) -> BatchEdit:
    scale, shift = (make(len(edits), 1, len(units)) for make in (torch.ones, torch.zeros))
    for row, edit in enumerate(edits):
        if edit is not None:
            at = torch.searchsorted(units, edit.units)
            scale[row, 0, at], shift[row, 0, at] = edit.scale, edit.shift
    is_scaled = any(edit is not None and not (edit.scale == 1).all() for edit in edits)
    return BatchEdit(
        None if len(units) == width else units,
        scale.to(dtype) if is_scaled else None,
        shift.to(dtype),
    )


def _stack_pulls(pulls: Sequence[SubspacePull | None]) -> list[BatchPull]:
    """Return one for each subspace: those of one neuron set have one in common."""
    spaces: list[SubspacePull] = []
    for pull in pulls:
        if pull is not None and not any(is_same_subspace(pull, one) for one in spaces):
            spaces.append(pull)
    return [_stack_in_subspace(pulls, space) for space in spaces]


def _stack_in_subspace(pulls: Sequence[SubspacePull | None], space: SubspacePull) -> BatchPull:
    nowhere = torch.zeros(len(space.directions))
    inside = [
        pull if pull is not None and is_same_subspace(pull, space) else None for pull in pulls
    ]
    shares = [0.0 if pull is None else pull.share for pull in inside]
    return BatchPull.make(
        space.directions,
        space.directions if space.readers is None else space.readers,
        torch.stack([nowhere if pull is None else pull.point for pull in inside]),
        None if set(shares) == {1.0} else torch.tensor(shares)[:, None],
        space.units,
    )


def _check_pulls(
    place: Place, pulls: Sequence[SubspacePull | None], *, layers: int, widths: Mapping[Site, int]
) -> None:
    """Refuse pulls of units that the site doesn't have, or of another width than the site's."""
    for pull in filter(None, pulls):
        units = torch.tensor([], dtype=torch.long) if pull.units is None else pull.units
        _check_place(place, units, layers=layers, widths=widths)
        width = pull.directions.shape[1]
        if pull.units is None and width != widths[place[0]]:
            raise PlanError(
                f"A steering plan pulls {width} units at the {place[0]} site, which has "
                f"{widths[place[0]]}. Use a plan made from this model's neuron set."
            )


def _check_place(place: Place, units: Tensor, *, layers: int, widths: Mapping[Site, int]) -> None:
    """Refuse an edit of what the model does not have; *units* are ascending."""
    site, phase, layer = place
    if site not in widths or phase not in PHASES:
        raise PlanError(
            f"A steering plan edits site '{site}' in phase '{phase}'. Expected one of "
            f"{', '.join(widths)} in one of {', '.join(PHASES)}; use one of these."
        )
    ends = (units[0].item(), units[-1].item()) if len(units) else ()
    outside = [unit for unit in ends if not 0 <= unit < widths[site]]
    if outside or not 0 <= layer < layers:
        unit = f", unit '{outside[0]}'" if outside else ""
        raise PlanError(
            f"A steering plan edits layer '{layer}'{unit} at the {site} site. Expected layers "
            f"0..{layers - 1} and units 0..{widths[site] - 1}; use a plan made from this model's "
            "neuron set."
        )
