"""The tables and the JSON of `compare-sets`. Rates are 0..1 in JSON; nothing is measured here."""

from collections.abc import Mapping, Sequence

from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.signed import format_nats, format_signed
from steering.languages import Language
from steering.set_comparison import Comparison, PairComparison


def counts_markdown(comparison: Comparison) -> str:
    """Return how each set was made, its neurons per language, and how many only it finds."""
    codes = [str(language) for language in comparison.languages]
    lines = [
        f"| set | way | {' | '.join(codes)} |",
        "|---" * (len(codes) + 2) + "|",
    ]
    for name, counts in comparison.counts.items():
        cells = [
            f"{counts[language]} ({len(comparison.only[name][language])})"
            for language in comparison.languages
        ]
        lines.append(f"| {name} | {comparison.ways[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def overlap_markdown(comparison: Comparison) -> str:
    """Return the Jaccard index of every pair per language, its mean, and what chance would give."""
    codes = [str(language) for language in comparison.languages]
    lines = [
        f"| sets | {' | '.join(codes)} | mean | by chance |",
        "|---" * (len(codes) + 3) + "|",
    ]
    for pair in comparison.pairs:
        cells = [_number(one.jaccard) for one in pair.languages]
        chances = [one.chance for one in pair.languages if one.chance is not None]
        chance = sum(chances) / len(chances) if chances else None
        lines.append(
            f"| {pair.first}, {pair.second} | {' | '.join(cells)} | {_number(pair.mean_jaccard)} | "
            f"{_number(chance)} |"
        )
    return "\n".join(lines)


def ranks_markdown(comparison: Comparison) -> str:
    """Return Spearman's rank correlation of every pair per language, and of how many neurons."""
    codes = [str(language) for language in comparison.languages]
    lines = [
        f"| sets | neurons in both | {' | '.join(codes)} |",
        "|---" * (len(codes) + 2) + "|",
    ]
    for pair in comparison.pairs:
        cells = [_number(one.rank_correlation, signed=True) for one in pair.languages]
        lines.append(f"| {pair.first}, {pair.second} | {pair.ranked} | {' | '.join(cells)} |")
    return "\n".join(lines)


def layers_markdown(pair: PairComparison) -> str:
    """Return the Jaccard index of a pair layer by layer and language by language."""
    codes = [str(one.language) for one in pair.languages]
    lines = [f"| layer | {' | '.join(codes)} |", "|---" * (len(codes) + 1) + "|"]
    for layer, row in enumerate(
        zip(*(one.jaccard_by_layer for one in pair.languages), strict=True)
    ):
        lines.append(f"| {layer} | {' | '.join(map(_number, row))} |")
    return "\n".join(lines)


def perplexity_markdown(changes: Mapping[str, PerplexityChange]) -> str:
    """Return per set for how many languages the diagonal dominates, and the mean changes."""
    lines = [
        "| set | own suffers most | own, nats | others, nats | own, random neurons, nats |",
        "|---|---|---|---|---|",
    ]
    for name, change in changes.items():
        count = len(change.languages)
        own = [change.change_nats[i][i] for i in range(count)]
        others = [change.change_nats[i][j] for i in range(count) for j in range(count) if i != j]
        random = [change.random_change_nats[i][i] for i in range(count)]
        dominates = sum(change.own_suffers_most(i) for i in range(count))
        lines.append(
            f"| {name} | {dominates} of {count} | {_mean_nats(own)} | {_mean_nats(others)} | "
            f"{_mean_nats(random)} |"
        )
    return "\n".join(lines)


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """Return all of a comparison, with the lists of the neurons that only one set finds."""
    return {
        "languages": [str(language) for language in comparison.languages],
        "sets": {
            name: {
                "way": comparison.ways[name],
                "neurons": _by_code(counts),
                "only_here": {
                    str(language): [list(place) for place in places]
                    for language, places in comparison.only[name].items()
                },
            }
            for name, counts in comparison.counts.items()
        },
        "pairs": [_pair_json(pair) for pair in comparison.pairs],
    }


def _pair_json(pair: PairComparison) -> dict[str, object]:
    return {
        "sets": [pair.first, pair.second],
        "mean_jaccard": pair.mean_jaccard,
        "neurons_in_both": pair.ranked,
        "languages": {
            str(one.language): {
                "neurons": [one.first_count, one.second_count],
                "shared": one.shared,
                "jaccard": one.jaccard,
                "jaccard_by_chance": one.chance,
                "jaccard_by_layer": list(one.jaccard_by_layer),
                "rank_correlation": one.rank_correlation,
            }
            for one in pair.languages
        },
    }


def _by_code(values: Mapping[Language, int]) -> dict[str, int]:
    return {str(language): value for language, value in values.items()}


def _mean_nats(changes: Sequence[float]) -> str:
    return format_nats(sum(changes) / len(changes))


def _number(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return format_signed(value, digits=2) if signed else f"{value:.2f}"
