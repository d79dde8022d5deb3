"""Tables of `sharing`: groups by layer, their stability, and what becomes of answers.

Computes nothing but means over layers; knows no models and no files. Percent exists here alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steering.evaluation.proportions import Proportion
from steering.evaluation.signed import format_signed
from steering.sharing import GROUPS, SharingGroup, Stability

if TYPE_CHECKING:
    from steering.evaluation.sharing import EffectiveScores, SharingSummary
    from steering.evaluation.sharing_accuracy import ChangeOutcome


def sharing_markdown(summary: SharingSummary) -> str:
    """Return the tables of a set of parallel prompts: shares, languages, stability, scores."""
    languages = ", ".join(map(str, summary.languages))
    parts = [
        f"{summary.prompts} prompts in {languages}; active above {summary.threshold:g}, at the "
        "position that predicts the answer's first token.",
        "Share of each layer's neurons, and its standard deviation over prompts:",
        _shares_table(summary.shares, summary.share_spread),
        "Specific to one language, share of each layer's neurons:",
        _specific_table(summary),
        "Share of each layer's contribution score, and its standard deviation over prompts:",
        _shares_table(summary.contribution, summary.contribution_spread),
    ]
    if summary.stability is not None:
        parts += ["How often the same neurons have the same group:", _stability(summary.stability)]
    if summary.effective is not None:
        parts += [
            "Effective score: what a group adds to the logit of the reference's first token, and "
            "the largest of a single neuron:",
            _effective_table(summary.effective),
        ]
    return "\n\n".join(parts)


def accuracy_markdown(outcomes: Sequence[ChangeOutcome]) -> str:
    """Return the table of all changes, with 95% Wilson intervals and the languages."""
    languages = list(outcomes[0].by_language) if outcomes else []
    columns = ["change", "neurons", "right", "95% interval", "right in any language"]
    lines = [_line([*columns, *map(str, languages)]), _rule(len(columns) + len(languages))]
    for one in outcomes:
        cells = [one.change.name, f"{one.neurons:.0f}", *_rate(one.right)]
        cells += [f"{one.right_anywhere.rate:.1%}"]
        cells += [f"{one.by_language[language].rate:.1%}" for language in languages]
        lines.append(_line(cells))
    return "\n".join(lines)


def _rate(share: Proportion) -> tuple[str, str]:
    low, high = share.interval()
    return f"{share.rate:.1%}", f"{low:.1%} to {high:.1%}"


def _shares_table(
    shares: Mapping[SharingGroup, tuple[float, ...]],
    spread: Mapping[SharingGroup, tuple[float, ...]],
) -> str:
    layers = range(len(shares["specific"]))
    lines = [_line(["layer", *GROUPS]), _rule(1 + len(GROUPS))]
    for layer in layers:
        cells = [f"{shares[group][layer]:.1%} ± {spread[group][layer]:.1%}" for group in GROUPS]
        lines.append(_line([str(layer), *cells]))
    means = [f"{sum(shares[group]) / len(layers):.1%}" for group in GROUPS]
    return "\n".join([*lines, _line(["all", *means])])


def _specific_table(summary: SharingSummary) -> str:
    lines = [_line(["layer", *map(str, summary.languages)]), _rule(1 + len(summary.languages))]
    for layer in range(len(summary.shares["specific"])):
        cells = [f"{summary.specific[one][layer]:.1%}" for one in summary.languages]
        lines.append(_line([str(layer), *cells]))
    return "\n".join(lines)


def _stability(stability: Stability) -> str:
    lines = [_line(["", "measured", "by chance"]), _rule(3)]
    modal = [f"{stability.modal_share:.1%}", f"{stability.modal_share_by_chance:.1%}"]
    lines.append(_line(["share of prompts with a neuron's most frequent group", *modal]))
    for group in GROUPS:
        pair = [stability.jaccard[group], stability.jaccard_by_chance[group]]
        cells = ["-" if value is None else f"{value:.3f}" for value in pair]
        lines.append(_line([f"Jaccard of two prompts, {group}", *cells]))
    return "\n".join(lines)


def _effective_table(effective: EffectiveScores) -> str:
    lines = [_line(["layer", *GROUPS]), _rule(1 + len(GROUPS))]
    for layer in range(len(effective.total["specific"])):
        cells = [
            f"{_number(effective.total[group][layer])} / {_number(effective.largest[group][layer])}"
            for group in GROUPS
        ]
        lines.append(_line([str(layer), *cells]))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else format_signed(value, digits=2)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---" * columns + "|"
