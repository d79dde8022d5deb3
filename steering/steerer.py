"""Applies steering plans to a running model: one plan per batch row, by hooks, until exit.

Knows plans and positions, not how a plan is made or what the tokens say. Every column of the
padded batch is a prompt column, the onset, a start or a body column; `PositionClock` says which.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steering.architectures import Site, find_architecture
from steering.errors import PlanError
from steering.hooks import TensorEdit, attached, find_sites
from steering.languages import parse_language
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet, OtherWeights, StrengthLevel, check_set_fits
from steering.plan_table import PlanTable, change_values, make_plan_table
from steering.steering_plan import PHASES, START_TOKENS, Phase, SteeringPlan
from steering.value_units import fit_values

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
    None leaves its row alone, bit for bit. Edits activations only: the `tokens` and `penalty` steps
    of a method act on logits and take effect in `generate_conversations`, which takes plans.
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


def check_set_fits_model(neurons: NeuronSet, model: LoadedModel) -> OtherWeights | None:
    """Refuse a set of another model; return a warning for one made on other weights of the same.

    Raises:
        NeuronSetMismatchError: Naming both models.
    """
    return check_set_fits(neurons.made_for, model.identity)


@contextmanager
def steered(model: PreTrainedModel, plans: Sequence[SteeringPlan]) -> Iterator[PositionClock]:
    """Steer every forward pass of *model* until exit; row b follows plans[b].

    Changes what *model* computes, in every thread, until exit; removes all hooks on exit, also
    after an exception. A row with an empty plan keeps its values bit for bit; in int8 and in a
    mixture of experts, where rows of a batch share products, nearly so beside a steered one.
    A plan's token bias is not for here: see `batch.py`.

    Args:
        model: A causal language model, quantised or not.
        plans: One per batch row; one alone serves batches of any size.

    Raises:
        PlanError: If a plan does not fit the model, or a batch has another number of rows.
    """
    sites = find_sites(model)
    table = make_plan_table([fit_values(plan, model) for plan in plans], model)
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


class StepSteerer:
    """Steers passes of one token per row, where rows come and go and are in different phases.

    What `steered` is for a batch that begins and ends together. Only the layers that some row of
    the moment wants changed have a hook.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Attach nothing yet."""
        self._model = model
        self._sites = find_sites(model)
        self._attached = ExitStack()

    def steer(self, plans: Sequence[SteeringPlan], phases: Sequence[Phase]) -> None:
        """Attach what the rows want from here on, in place of what was attached before.

        Args:
            plans: One per row.
            phases: Which phase each row's next token is in.

        Raises:
            PlanError: If a plan does not fit the model.
        """
        self.close()
        fitted = [fit_values(plan, self._model) for plan in plans]
        rows = [_at_phase(plan, phase) for plan, phase in zip(fitted, phases, strict=True)]
        table = make_plan_table(rows, self._model)
        layers: dict[Site, set[int]] = {}
        for site, _, layer in table:
            layers.setdefault(site, set()).add(layer)
        for site, chosen in layers.items():
            edit = _edit_of_step(table, site, len(rows))
            self._attached.enter_context(attached(self._sites, {site: edit}, layers=chosen))

    def close(self) -> None:
        """Detach everything."""
        self._attached.close()


@functools.lru_cache(maxsize=256)
def _at_phase(plan: SteeringPlan, phase: Phase) -> SteeringPlan:
    """Return what a plan does in one phase, as if it did so in the body."""
    edits = {(site, layer): e for (site, p, layer), e in plan.edits.items() if p == phase}
    pulls = {(site, layer): e for (site, p, layer), e in plan.pulls.items() if p == phase}
    return SteeringPlan(
        {(site, "body", layer): edit for (site, layer), edit in edits.items()},
        {(site, "body", layer): pull for (site, layer), pull in pulls.items()},
    )


def _edit_of_step(table: PlanTable, site: Site, rows: int) -> TensorEdit:
    def edit(layer: int, activation: Tensor) -> Tensor:  # (B, 1, units)
        found_rows, positions, _ = activation.shape
        if found_rows != rows or positions != 1:
            raise PlanError(
                f"Cannot steer '{found_rows} x {positions}' rows and positions. Expected one "
                f"position of {rows} rows; say which rows there are before every change of them."
            )
        return change_values(activation, table, (site, "body", layer))

    return edit


def _make_edit(table: PlanTable, site: Site, clock: PositionClock) -> TensorEdit:
    def edit(layer: int, activation: Tensor) -> Tensor | None:  # (B, T, units)
        if activation.shape[1] != clock.new_tokens:
            raise PlanError(
                f"Cannot steer '{activation.shape[1]}' positions whose places are not known. "
                "Expected the whole decoder to run; call the model, not single layers of it."
            )
        edited = activation
        for phase, span in clock.spans.items():
            place = (site, phase, layer)
            if place not in table:
                continue
            if span.stop - span.start == clock.new_tokens:
                edited = change_values(edited, table, place)
                continue
            if edited is activation:
                edited = activation.clone()
            edited[:, span] = change_values(edited[:, span], table, place)
        return None if edited is activation else edited

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
