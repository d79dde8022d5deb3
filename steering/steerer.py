"""Applies steering plans to a running model: one plan per batch row, by hooks, until exit.

Knows plans and positions, not how a plan is made or what the tokens say. Every column of the
padded batch is a prompt column, the onset, a start or a body column; `PositionClock` says which.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from steering.architectures import Site, find_architecture, hidden_size
from steering.errors import PlanError
from steering.hooks import TensorEdit, attached, find_sites
from steering.languages import parse_language
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet, StrengthLevel, check_set_fits
from steering.steering_plan import (
    PHASES,
    START_TOKENS,
    Phase,
    Place,
    SteeringPlan,
    SubspacePull,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from steering.loading import LoadedModel


class PositionClock:
    """Knows which columns of the current forward pass are in which phase.

    A forward pass with an empty cache starts new answers: its last column is their onset, as in
    prefill of a left-padded batch. Wherever that is not so (no cache, chunked prefill, a whole
    dialogue at once), say so with `start_at` before the first pass.
    """

    def __init__(self) -> None:
        """Start with the onset unknown."""
        self._fixed_onset: int | None = None
        self._onset = 0
        self.new_tokens = 0  # columns of the current pass
        self.spans: dict[Phase, slice] = {}  # columns of the current pass per phase that it has

    def start_at(self, onset_column: int | None) -> None:
        """Fix the column of the onset for all rows; None goes back to the rule above."""
        self._fixed_onset = onset_column

    def note_forward(self, past_tokens: int, new_tokens: int) -> None:
        """Take note of a forward pass over columns past_tokens .. past_tokens + new_tokens - 1."""
        if self._fixed_onset is not None:
            self._onset = self._fixed_onset
        elif past_tokens == 0:
            self._onset = new_tokens - 1
        self.new_tokens = new_tokens
        # Once per pass and not per layer and site: a decoding step does little else.
        ends = (0, self._onset, self._onset + 1, self._onset + 1 + START_TOKENS)
        bounds = zip(PHASES, ends, (*ends[1:], past_tokens + new_tokens), strict=True)
        self.spans = {
            phase: slice(max(low - past_tokens, 0), min(high - past_tokens, new_tokens))
            for phase, low, high in bounds
            if max(low, past_tokens) < min(high, past_tokens + new_tokens)
        }


class Steerer:
    """Steers a model while it is open: `with Steerer(model, neurons, languages=["fr", None]):`.

    Changes what the model computes, in every thread, until exit. One language per batch row;
    None leaves its row alone, bit for bit. Activations alone: a `tokens` step of the method is
    about logits and prompts, and left to `generate_conversations`, which takes plans.
    """

    def __init__(
        self,
        model: LoadedModel,
        neurons: NeuronSet,
        *,
        languages: Sequence[str | None],
        strength: StrengthLevel | float = "normal",
        method: str = "",
        prompt_languages: Sequence[str | None] | None = None,
    ) -> None:
        """Make the plans; nothing is attached yet.

        Args:
            model: From `load_model`.
            neurons: From `load_neuron_set`; must be made for this model.
            languages: Codes, one per batch row.
            strength: A level of the set, or a number; 1 is normal.
            method: As `methods.parse_method` reads it; `methods.default_method` when empty.
            prompt_languages: Codes, one per batch row, where they are known; methods such as
                `redirect` push less far then.

        Raises:
            NeuronSetMismatchError: If the set was made for another model.
            UnknownLanguageError: If the set does not hold a language.
            PlanError: If the method or the strength does not exist.
        """
        check_set_fits_model(neurons, model)
        targets = [code and parse_language(code, known=neurons.languages) for code in languages]
        codes = [None] * len(languages) if prompt_languages is None else prompt_languages
        if len(codes) != len(languages):
            raise PlanError(
                f"There are '{len(codes)}' prompt languages for {len(languages)} rows. Expected "
                "one per row; give None where it is not known."
            )
        sources = [parse_language(code) if code else None for code in codes]
        self.plans = tuple(
            make_plan(neurons, SteeringRequest(target or None, method, strength, source))
            for target, source in zip(targets, sources, strict=True)
        )
        self._model = model
        self._stack = ExitStack()

    def __enter__(self) -> PositionClock:
        """Attach the plans."""
        return self._stack.enter_context(steered(self._model.model, self.plans))

    def __exit__(self, *_: object) -> None:
        """Detach them."""
        self._stack.close()


def check_set_fits_model(neurons: NeuronSet, model: LoadedModel) -> None:
    """Refuse a set that was made for another model.

    Raises:
        NeuronSetMismatchError: Naming both models.
    """
    check_set_fits(
        neurons.metadata,
        model_id=model.identity.model_id,
        model_revision=model.identity.revision,
        layers=model.identity.layers,
        neurons_per_layer=model.identity.neurons_per_layer,
        tokenizer_sha256=model.identity.tokenizer_sha256,
    )


@dataclass(frozen=True, slots=True)
class _BatchEdit:
    """One place's edits of all rows, over the union of their units."""

    units: Tensor  # (U,)
    scale: Tensor  # (B, 1, U); 1 where a row leaves a unit alone
    shift: Tensor  # (B, 1, U); 0 where a row leaves a unit alone

    def on(self, device: torch.device) -> _BatchEdit:
        """Return it on a device: only a pass tells where a layer of a large model runs."""
        if self.units.device == device:
            return self
        return _BatchEdit(self.units.to(device), self.scale.to(device), self.shift.to(device))

    def apply(self, values: Tensor) -> None:
        """Change `(B, T, units of the site)` in place."""
        before = values[..., self.units]
        scale, shift = self.scale.to(before.dtype), self.shift.to(before.dtype)
        values[..., self.units] = torch.addcmul(shift, before, scale)


@dataclass(frozen=True, slots=True)
class _BatchPull:
    """One place's pulls of all rows, with as many directions as the row with most has."""

    directions: Tensor  # (B, R, H); 0 beyond a row's own
    point: Tensor  # (B, 1, R)
    share: Tensor  # (B, 1, 1); 0 leaves a row alone

    def on(self, device: torch.device) -> _BatchPull:
        """Return it on a device, as `_BatchEdit.on`."""
        if self.share.device == device:
            return self
        return _BatchPull(*(t.to(device) for t in (self.directions, self.point, self.share)))

    def apply(self, values: Tensor) -> None:
        """Change the stream `(B, T, H)` in place; computed in float32, as the sums are long."""
        exact = values.float()
        missing = self.point - exact @ self.directions.mT  # (B, T, R)
        pulled = exact + self.share * (missing @ self.directions)
        values.copy_(torch.where(self.share > 0, pulled.to(values.dtype), values))


# What is done at a place, in this order.
_Table: TypeAlias = dict[Place, list[_BatchEdit | _BatchPull]]


@contextmanager
def steered(model: PreTrainedModel, plans: Sequence[SteeringPlan]) -> Iterator[PositionClock]:
    """Steer every forward pass of *model* until exit; row b follows plans[b].

    Changes what *model* computes, in every thread, until exit; removes all hooks on exit, also
    after an exception. A row with an empty plan keeps its values bit for bit; in int8 and in a
    mixture of experts, where rows of a batch share products, nearly so beside a steered one.
    A plan's token bias is not for here: see `generation.py`.

    Args:
        model: A causal language model, quantised or not.
        plans: One per batch row; one alone serves batches of any size.

    Raises:
        PlanError: If a plan does not fit the model, or a batch has another number of rows.
    """
    sites = find_sites(model)
    table = _compile(plans, model)
    clock = PositionClock()
    layers: dict[Site, set[int]] = {}
    for site, _, layer in table:
        layers.setdefault(site, set()).add(layer)
    with ExitStack() as stack:
        if layers:
            stack.callback(_watch_forward(model, clock, rows=len(plans)).remove)
        for site, chosen in layers.items():
            edit = _make_edit(table, site, clock)
            stack.enter_context(attached(sites, {site: edit}, layers=chosen))
        yield clock


def _compile(plans: Sequence[SteeringPlan], model: PreTrainedModel) -> _Table:
    """Bring the rows' edits and pulls of every place into one tensor each, on the CPU."""
    if not plans:
        raise PlanError("There are '0' steering plans. Expected one per batch row.")
    sites = find_sites(model)
    neurons, hidden = sites.neurons_per_layer, hidden_size(model.config)
    widths: dict[Site, int] = {"gate": neurons, "value": neurons, "residual": hidden}
    table: _Table = {}
    for place in dict.fromkeys(place for plan in plans for place in plan.edits):
        edits = [plan.edits.get(place) for plan in plans]
        units = torch.unique(torch.cat([edit.units for edit in edits if edit is not None]))
        _check_place(place, units, layers=len(sites.layers), widths=widths)
        scale, shift = torch.ones(len(plans), 1, len(units)), torch.zeros(len(plans), 1, len(units))
        for row, edit in enumerate(edits):
            if edit is not None:
                at = torch.searchsorted(units, edit.units)
                scale[row, 0, at], shift[row, 0, at] = edit.scale, edit.shift
        table[place] = [_BatchEdit(units, scale.to(model.dtype), shift.to(model.dtype))]
    for place in dict.fromkeys(place for plan in plans for place in plan.pulls):
        pulls = [plan.pulls.get(place) for plan in plans]
        _check_place(place, torch.tensor([]), layers=len(sites.layers), widths=widths)
        _check_stream(place, pulls, hidden)
        table.setdefault(place, []).append(_stack_pulls(pulls, hidden))
    return table


def _stack_pulls(pulls: Sequence[SubspacePull | None], hidden: int) -> _BatchPull:
    count = max(len(pull.point) for pull in pulls if pull is not None)
    directions = torch.zeros(len(pulls), count, hidden)
    point, share = torch.zeros(len(pulls), 1, count), torch.zeros(len(pulls), 1, 1)
    for row, pull in enumerate(pulls):
        if pull is not None:
            own = len(pull.point)
            directions[row, :own], point[row, 0, :own] = pull.directions, pull.point
            share[row] = pull.share
    return _BatchPull(directions, point, share)


def _check_stream(place: Place, pulls: Sequence[SubspacePull | None], hidden: int) -> None:
    """Refuse a pull elsewhere than in the residual, or of another width."""
    site, _, _ = place
    wrong = [p.directions.shape[1] for p in pulls if p and p.directions.shape[1] != hidden]
    if site != "residual" or wrong:
        raise PlanError(
            f"A steering plan pulls at the {site} site over '{wrong[0] if wrong else hidden}' "
            f"dimensions. Expected the residual and {hidden}; use a plan made from this model's "
            "neuron set."
        )


def _check_place(place: Place, units: Tensor, *, layers: int, widths: Mapping[Site, int]) -> None:
    """Refuse an edit of what the model does not have; *units* are ascending."""
    site, phase, layer = place
    if site not in widths or phase not in PHASES:
        raise PlanError(
            f"A steering plan edits site '{site}' in phase '{phase}'. Expected one of "
            f"{', '.join(widths)} in one of {', '.join(PHASES)}; use one of these."
        )
    outside = [unit for unit in units.tolist() if not 0 <= unit < widths[site]]
    if outside or not 0 <= layer < layers:
        unit = f", unit '{outside[0]}'" if outside else ""
        raise PlanError(
            f"A steering plan edits layer '{layer}'{unit} at the {site} site. Expected layers "
            f"0..{layers - 1} and units 0..{widths[site] - 1}; use a plan made from this model's "
            "neuron set."
        )


def _make_edit(table: _Table, site: Site, clock: PositionClock) -> TensorEdit:
    def edit(layer: int, activation: Tensor) -> Tensor | None:  # (B, T, units)
        if activation.shape[1] != clock.new_tokens:
            raise PlanError(
                f"Cannot steer '{activation.shape[1]}' positions whose places are not known. "
                "Expected the whole decoder to run; call the model, not single layers of it."
            )
        edited = None
        for phase, span in clock.spans.items():
            place = (site, phase, layer)
            if place not in table:
                continue
            changes = table[place] = [change.on(activation.device) for change in table[place]]
            edited = activation.clone() if edited is None else edited
            for change in changes:
                change.apply(edited[:, span])
        return edited

    return edit


def _watch_forward(
    model: PreTrainedModel, clock: PositionClock, *, rows: int
) -> torch.utils.hooks.RemovableHandle:
    """Tell the clock of every forward pass of the decoder, and refuse a batch of another size.

    The decoder is what holds the layers; OPT runs it without going through its base model.
    """

    def note(_module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs.get("input_ids")
        if tokens is None:
            tokens = kwargs["inputs_embeds"]
        if rows not in (1, tokens.shape[0]):
            raise PlanError(
                f"A batch has '{tokens.shape[0]}' rows, but there are {rows} steering plans. "
                "Expected one plan per row; give each prompt its own plan."
            )
        cache = kwargs.get("past_key_values")
        clock.note_forward(0 if cache is None else cache.get_seq_length(), tokens.shape[1])

    path, _, _ = find_architecture(model.config).layers_path.rpartition(".")
    return model.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True)
