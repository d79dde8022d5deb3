"""Which neurons several languages share over a set of parallel prompts, and what they contribute.

Puts together `last_token.py`, `ffn_columns.py` and the pure functions of `sharing.py`. What
happens to answers without a group is in `sharing_accuracy.py`.
Source: Wang et al. 2024, arXiv 2406.09265. Dimension key: see `sharing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.evaluation.parallel_prompts import ParallelPrompt
from steering.ffn_columns import ColumnTable, read_columns
from steering.languages import Language
from steering.last_token import record_last_token
from steering.sharing import (
    GROUPS,
    ByLayer,
    SharingGroup,
    Stability,
    by_layer,
    contribution_scores,
    effective_scores,
    find_specific_languages,
    group_neurons,
    group_shares,
    measure_stability,
    score_groups,
    shares_of_total,
)

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# Per group, a number of every layer, or None where no prompt has a neuron of the group there.
GapsByLayer = Mapping[SharingGroup, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class EffectiveScores:
    """Effective scores with the first token of the reference answer, means over prompts.

    Over the prompts and languages in which a group has neurons in a layer, of each prompt's:

    Args:
        total: Sum over the group: what it adds to the token's logit directly.
        mean: Mean over the group.
        largest: Largest of the group.
        smallest: Smallest of the group.
    """

    total: GapsByLayer
    mean: GapsByLayer
    largest: GapsByLayer
    smallest: GapsByLayer


@dataclass(frozen=True, slots=True)
class SharingSummary:
    """What a set of parallel prompts showed. Every share is 0..1.

    Args:
        languages: Those of every prompt.
        threshold: Above which a neuron counts as active.
        prompts: How many.
        shares: Mean share of each layer's neurons that is in a group.
        share_spread: Its standard deviation over prompts; 0 for a single prompt.
        specific: Per language, mean share of each layer's neurons that is specific to it.
        stability: None for a single prompt.
        contribution: Mean share of each layer's contribution score that a group makes.
        contribution_spread: Its standard deviation over prompts.
        effective: None without answers.
        groups: Of every prompt, places in GROUPS, uint8 `(prompts, layers, neurons)`.
    """

    languages: tuple[Language, ...]
    threshold: float
    prompts: int
    shares: ByLayer
    share_spread: ByLayer
    specific: Mapping[Language, tuple[float, ...]]
    stability: Stability | None
    contribution: ByLayer
    contribution_spread: ByLayer
    effective: EffectiveScores | None
    groups: Tensor = field(repr=False, compare=False)

    def to_json(self) -> dict[str, object]:
        """Return plain numbers, as `sharing --json` writes them."""
        return {
            "languages": [str(language) for language in self.languages],
            "threshold": self.threshold,
            "prompts": self.prompts,
            "shares": dict(self.shares),
            "share_spread": dict(self.share_spread),
            "specific": {str(language): row for language, row in self.specific.items()},
            "stability": self.stability and asdict(self.stability),
            "contribution": dict(self.contribution),
            "contribution_spread": dict(self.contribution_spread),
            "effective": self.effective and asdict(self.effective),
        }


@dataclass(frozen=True, slots=True)
class _PromptTables:
    """What one prompt showed, by group: shares and scores."""

    groups_LN: Tensor
    specific_KL: Tensor
    contribution_GL: Tensor
    effective_4GL: Tensor | None


def measure_sharing(
    model: LoadedModel,
    languages: Sequence[Language],
    prompts: Sequence[ParallelPrompt],
    *,
    threshold: float = 0.0,
    progress: Callable[[], None] | None = None,
) -> SharingSummary:
    """Sort the neurons of every prompt into groups, and sum up.

    Args:
        model: From `load_model`; left as it was.
        languages: At least two, which every prompt has.
        prompts: At least one; effective scores are left out unless all have answers.
        threshold: As for `group_neurons`.
        progress: Called after each prompt.

    Raises:
        StatsError: With fewer than two languages.
        UnsupportedArchitectureError: If the model has experts.
    """
    has_answers = all(prompt.answers for prompt in prompts)
    tokens = [_answer_tokens(model, languages, one) for one in prompts] if has_answers else []
    columns = read_columns(model, [token for row in tokens for token in row])
    tables = []
    for number, prompt in enumerate(prompts):
        chosen = tokens[number] if has_answers else None
        tables.append(
            _tables_of_prompt(model, [prompt.texts[one] for one in languages], columns,
                              tokens=chosen, threshold=threshold)
        )  # fmt: skip
        if progress is not None:
            progress()
    return _sum_up(tables, tuple(languages), threshold)


def first_content_token(model: LoadedModel, text: str) -> int:
    """Return the first token of a text that is not blank; the first of all where all are."""
    ids: list[int] = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    return next((one for one in ids if str(model.tokenizer.decode([one])).strip()), ids[0])


def _answer_tokens(
    model: LoadedModel, languages: Sequence[Language], prompt: ParallelPrompt
) -> list[int]:
    return [first_content_token(model, prompt.answers[language][0]) for language in languages]


def _tables_of_prompt(
    model: LoadedModel,
    texts: Sequence[str],
    columns: ColumnTable,
    *,
    tokens: Sequence[int] | None,
    threshold: float,
) -> _PromptTables:
    seen = record_last_token(model, texts)
    groups_LN = group_neurons(seen.gate, threshold=threshold)
    only_LN = find_specific_languages(seen.gate, threshold=threshold)
    contribution = score_groups(contribution_scores(seen.value, columns.norms), groups_LN)
    effective = None
    if tokens is not None:
        found = score_groups(
            effective_scores(seen.value, columns.projections_of(tokens)), groups_LN
        )
        # The number of neurons of a group is the same in every language, so a mean has no gaps.
        rows = (found.total, found.mean, found.largest, found.smallest)
        effective = torch.stack([row.mean(dim=0) for row in rows])
        effective = torch.where(found.mean.mean(dim=0).isnan(), torch.nan, effective)
    return _PromptTables(
        groups_LN=groups_LN,
        specific_KL=torch.stack(
            [(only_LN == place).double().mean(dim=-1) for place in range(len(texts))]
        ),
        contribution_GL=shares_of_total(contribution.total).mean(dim=0),
        effective_4GL=effective,
    )


def _sum_up(
    tables: Sequence[_PromptTables], languages: tuple[Language, ...], threshold: float
) -> SharingSummary:
    groups_PLN = torch.stack([table.groups_LN for table in tables])
    shares_PGL = group_shares(groups_PLN)
    contribution_PGL = torch.stack([table.contribution_GL for table in tables])
    specific_KL = torch.stack([table.specific_KL for table in tables]).mean(dim=0)
    effective = [table.effective_4GL for table in tables if table.effective_4GL is not None]
    return SharingSummary(
        languages=languages,
        threshold=threshold,
        prompts=len(tables),
        shares=by_layer(shares_PGL.mean(dim=0)),
        share_spread=by_layer(_spread(shares_PGL)),
        specific={
            language: tuple(row)
            for language, row in zip(languages, specific_KL.tolist(), strict=True)
        },
        stability=measure_stability(groups_PLN),
        contribution=by_layer(contribution_PGL.mean(dim=0)),
        contribution_spread=by_layer(_spread(contribution_PGL)),
        effective=_effective(torch.stack(effective)) if effective else None,
        groups=groups_PLN,
    )


def _spread(table_PGL: Tensor) -> Tensor:
    """Return the standard deviation over prompts, of a sample."""
    return table_PGL.std(dim=0) if len(table_PGL) > 1 else torch.zeros_like(table_PGL[0])


def _effective(table_P4GL: Tensor) -> EffectiveScores:
    """Return the means over the prompts that have neurons of the group, None where none has."""
    rows = [
        {
            group: tuple(None if value != value else value for value in row)
            for group, row in zip(GROUPS, table, strict=True)
        }
        for table in table_P4GL.nanmean(dim=0).tolist()
    ]
    return EffectiveScores(*rows)
