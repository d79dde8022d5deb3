"""A steering plan: what to do at which site, in which phase, to which units. Pure data.

Most steering methods are sparse affine edits: at a site, in a phase, for some units, the value a
becomes scale * a + shift. A plan may also pull the residual towards a point within a subspace, and
bias the logits. This module knows neither methods nor models; `methods.py` makes plans,
`steerer.py` applies edits and pulls, `batch.py` the bias. Dimension key: see
`activation_stats.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.architectures import Site
from steering.errors import PlanError
from steering.languages import Language
from steering.neuron_set import ColumnNorms

# `prompt`: positions before the onset. `onset`: the position that predicts the answer's first
# token. `start`: the next START_TOKENS positions, for answers whose first token is the same in
# every language ("9 plus 6 ..."). `body`: every later position of the answer.
Phase: TypeAlias = Literal["prompt", "onset", "start", "body"]
PHASES: tuple[Phase, ...] = ("prompt", "onset", "start", "body")
START_TOKENS = 1  # with 2 the bundled model lost content at the same success (docs/log.md)
EVERY_POSITION: tuple[Phase, ...] = PHASES

# Where an edit acts: site, phase, 0-based layer.
Place: TypeAlias = tuple[Site, Phase, int]


@dataclass(frozen=True, slots=True)
class Where:
    """Where and when a method acts.

    Args:
        site: What is edited.
        phases: When.
        layers: 0-based decoder blocks.
        depths: First and last layer as shares of the model's depth, 0..1, instead of `layers`.

    With neither layers nor depths the method chooses.
    """

    site: Site
    phases: tuple[Phase, ...]
    layers: tuple[int, ...] = ()
    depths: tuple[float, float] | None = None


def layers_of(where: Where, layers: int) -> tuple[int, ...]:
    """Return the layers that a place means in a model with this many; empty if it names none.

    Depth d is layer round(d * layers), so the same method suits models of any depth.

    Raises:
        PlanError: Naming the first layer that the model doesn't have.
    """
    if where.depths is not None:
        first, last = (min(layers - 1, round(depth * layers)) for depth in where.depths)
        return tuple(range(first, last + 1))
    if outside := [layer for layer in where.layers if not 0 <= layer < layers]:
        raise PlanError(
            f"Cannot edit layer {outside[0]}: the model has layers 0 to {layers - 1}. "
            "Choose one of those."
        )
    return where.layers


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """What happens to some units of one place; all three tensors are `(units,)`.

    Args:
        units: Distinct indices of FFN neurons, or of dimensions at the residual site, int64.
        scale: Factor, float32.
        shift: Summand, float32.
    """

    units: Tensor
    scale: Tensor
    shift: Tensor

    def __post_init__(self) -> None:
        """Refuse tensors that do not belong together."""
        if not self.units.shape == self.scale.shape == self.shift.shape:
            shapes = [tuple(t.shape) for t in (self.units, self.scale, self.shift)]
            raise PlanError(
                f"An edit has units, scale and shift of shapes '{shapes}'. "
                "Expected three equal lengths; give each unit one scale and one shift."
            )
        if len(torch.unique(self.units)) < len(self.units):
            raise PlanError(
                f"An edit names '{len(self.units)}' units, some twice. Expected each unit once; "
                "combine their scales and shifts first."
            )


@dataclass(frozen=True, slots=True, eq=False)
class SubspacePull:
    """What happens to some units of one place: x + share * (point - R x) D.

    What x has outside the subspace stays as it is.

    Args:
        directions: D, rows that span the subspace, float32 `(directions, units)`.
        point: Coordinates to pull to, float32 `(directions,)`.
        share: Of the way, from 0 to 1.
        units: Distinct ascending indices that x is made of, int64 `(units,)`; None for all units
            of the site.
        readers: R, rows that read the coordinates of x, so that R D^T = 1; None for D itself,
            which is orthonormal then.
    """

    directions: Tensor
    point: Tensor
    share: float
    units: Tensor | None = None
    readers: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse tensors that do not belong together."""
        if self.directions.dim() != 2 or self.point.shape != self.directions.shape[:1]:
            shapes = [tuple(t.shape) for t in (self.directions, self.point)]
            raise PlanError(
                f"A pull has directions and a point of shapes '{shapes}'. Expected (directions, "
                "hidden) and (directions,); give the point in coordinates of the directions."
            )
        if self.units is not None and self.units.shape != self.directions.shape[1:]:
            raise PlanError(
                f"A pull names {len(self.units)} units, but its directions have "
                f"{self.directions.shape[1]}. Give both the same number."
            )
        if not 0 <= self.share <= 1:
            raise PlanError(
                f"A pull goes '{self.share}' of the way. Expected 0 to 1; put the point further "
                "away to pull harder."
            )


@dataclass(frozen=True, slots=True, eq=False)
class TokenBias:
    """How much less likely tokens of other languages and scripts become, all through the answer.

    Args:
        target: The answer's language.
        bound_nats: The most that is taken off a logit.
        log_odds: How much more the target uses each token than the other languages do, float
            `(vocab,)`, in nats; None compares scripts only.
    """

    target: Language
    bound_nats: float
    log_odds: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class SteeringPlan:
    """What to do for one row of a batch. An empty plan leaves all alone.

    Args:
        edits: One per place.
        pulls: One per place, after its edit.
        token_bias: What is done to the logits; None leaves them alone.
        repetition_penalty: The least repetition penalty of the answer; 1 for none.
        columns: In which units values at the value site are; None for the steered model's own.
    """

    edits: Mapping[Place, Edit]
    pulls: Mapping[Place, SubspacePull] = field(default_factory=dict)
    token_bias: TokenBias | None = None
    repetition_penalty: float = 1.0
    columns: ColumnNorms | None = None


NO_STEERING = SteeringPlan({})


def plan_from_neurons(
    *,
    site: Literal["gate", "value"],
    phases: Iterable[Phase],
    layer: Tensor,
    index: Tensor,
    scale: Tensor,
    shift: Tensor,
) -> SteeringPlan:
    """Return the plan that makes the same edit of the given neurons in several phases.

    Args:
        site: Where the edit acts.
        phases: When it acts.
        layer: int64 `(units,)`.
        index: int64 `(units,)`; a neuron may stand once.
        scale: Float `(units,)`.
        shift: Float `(units,)`.
    """
    edits: dict[Place, Edit] = {}
    for one_layer in torch.unique(layer).tolist():
        chosen = layer == one_layer
        edit = Edit(index[chosen], scale[chosen].float(), shift[chosen].float())
        edits |= {(site, phase, one_layer): edit for phase in phases}
    return SteeringPlan(edits)


def combine_plans(first: SteeringPlan, second: SteeringPlan) -> SteeringPlan:
    """Return the plan that makes the first's edits and then the second's.

    For a unit that both edit: scale2 * (scale1 * a + shift1) + shift2. Pulls act after all edits of
    their place, whichever plan those are of. The bounds of two token biases add up, and the
    larger repetition penalty counts.
    """
    edits = dict(first.edits)
    for place, later in second.edits.items():
        edits[place] = _then(edits[place], later) if place in edits else later
    bias = _join_biases(first.token_bias, second.token_bias)
    pulls = dict(first.pulls)
    for place, pull in second.pulls.items():
        pulls[place] = _pull_on(pulls[place], pull) if place in pulls else pull
    penalty = max(first.repetition_penalty, second.repetition_penalty)
    return SteeringPlan(edits, pulls, bias, penalty, first.columns or second.columns)


def _pull_on(earlier: SubspacePull, later: SubspacePull) -> SubspacePull:
    """Return the pull that does what two do one after the other."""
    if not is_same_subspace(earlier, later):
        raise PlanError(
            "Two pulls at one place act on different neurons or in different subspaces. Give them "
            "different phases, layers or sites, and take both from the same neuron set."
        )
    rest = 1 - later.share
    share = 1 - (1 - earlier.share) * rest
    if share == 0:
        return later
    point = (earlier.share * rest * earlier.point + later.share * later.point) / share
    return replace(earlier, point=point, share=share)


def is_same_subspace(one: SubspacePull, other: SubspacePull) -> bool:
    """Say whether two pulls act in the same subspace of the same units."""
    return (
        _is_equal(one.units, other.units)
        and _is_equal(one.directions, other.directions)
        and _is_equal(one.readers, other.readers)
    )


def _is_equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or torch.equal(one, other)


def _join_biases(first: TokenBias | None, second: TokenBias | None) -> TokenBias | None:
    if first is None or second is None:
        return first or second
    return replace(second, bound_nats=first.bound_nats + second.bound_nats)


def _then(earlier: Edit, later: Edit) -> Edit:
    units = torch.unique(torch.cat([earlier.units, later.units]))
    scale, shift = torch.ones(len(units)), torch.zeros(len(units))
    for edit in (earlier, later):
        at = torch.searchsorted(units, edit.units)
        shift[at] = edit.scale * shift[at] + edit.shift
        scale[at] = edit.scale * scale[at]
    return Edit(units, scale, shift)
