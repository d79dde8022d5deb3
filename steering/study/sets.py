"""What a study says of sets: their report cards, and how several of one model compare.

Knows no command line and no page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from steering.evaluation.figures import plot_layers, plot_overlap
from steering.evaluation.report import methods_markdown
from steering.evaluation.set_tables import (
    comparison_json,
    counts_markdown,
    overlap_markdown,
    perplexity_markdown,
    ranks_markdown,
)
from steering.neuron_set import NeuronSet
from steering.report_card.card import make_report_card
from steering.report_card.sections import Table, make_sections, summarise
from steering.set_comparison import Comparison, compare_sets
from steering.study.measuring import (
    ForcingTask,
    PerplexityTask,
    change_perplexity,
    forcing_json,
    run_conditions,
)
from steering.study.parts import Block, Finding, Progress, figure

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_CARD_SECTIONS = ("Languages", "Layers", "Shared neurons")


def describe_sets(folder: Path, progress: Progress, *, sets: Mapping[str, NeuronSet]) -> Finding:
    """Return the report card of every set, with its layers and overlaps drawn."""
    numbers: dict[str, object] = {}
    blocks: list[Block] = []
    summaries = []
    for place, (name, neurons) in enumerate(sets.items()):
        card = make_report_card(neurons)
        summaries.append(f"`{name}`: {summarise(card)}")
        numbers[name] = {
            "facts": dict(card.facts),
            "selected": card.selected,
            "all_neurons": card.all_neurons,
            "languages": {
                str(one.language): {"neurons": one.neurons, "layers": list(one.layer_counts)}
                for one in card.languages
            },
            "shared": [[str(p.first), str(p.second), p.shared] for p in card.pairs],
        }
        facts = tuple((fact, value) for fact, value in card.facts.items())
        blocks += [Block("words", summaries[-1]), _table(Table("", ("fact", "value"), facts))]
        blocks += [Block("words", f"Warning: {warning.message}") for warning in card.warnings]
        for section in make_sections(card):
            if section.heading in _CARD_SECTIONS:
                blocks.append(Block("words", f"{section.heading}. {section.words}"))
                blocks += [_table(table) for table in section.tables]
        blocks += [
            figure(folder, f"layers-{place + 1}", f"Neurons per layer and language of `{name}`.",
                   partial(plot_layers, neurons)),
            figure(folder, f"overlap-{place + 1}", f"Neurons that two languages share in `{name}`.",
                   partial(plot_overlap, neurons)),
        ]  # fmt: skip
        progress(1)
    return Finding(" ".join(summaries), numbers, tuple(blocks))


def compare_with(
    progress: Progress,
    *,
    sets: Mapping[str, NeuronSet],
    model: LoadedModel,
    forcing: ForcingTask,
    perplexity: PerplexityTask | None,
) -> Finding:
    """Compare the set with others: neurons, ranks, and what each does to answers and perplexity.

    Args:
        progress: Called with 1 per plan and per answer.
        sets: At least two, of one model; the first is the report's.
        model: Theirs.
        forcing: With one condition per set.
        perplexity: None where there is no held-out text.
    """
    comparison = compare_sets(sets)
    blocks = [
        Block("words", "Neurons, and in brackets those that only the set finds:"),
        Block("table", counts_markdown(comparison)),
        Block("words", "Jaccard index of a language's neurons:"),
        Block("table", overlap_markdown(comparison)),
        Block("words", "Spearman's rank correlation of scores, on neurons that both sets hold:"),
        Block("table", ranks_markdown(comparison)),
    ]
    numbers = _without_lists(comparison)
    if perplexity is not None:
        changes = {
            name: change_perplexity(perplexity, neurons=one, model=model, progress=progress)
            for name, one in sets.items()
        }
        blocks += [Block("words", "Neurons of a language switched off:"),
                   Block("table", perplexity_markdown(changes))]  # fmt: skip
        numbers["perplexity"] = {name: change.to_json() for name, change in changes.items()}
    results = run_conditions(forcing, model=model, progress=progress)
    blocks += [Block("words", note) for note in forcing.notes]
    blocks += [Block("words", "Language forcing by the neurons of each set alone (`lape`):"),
               Block("table", methods_markdown(results, languages=forcing.languages))]  # fmt: skip
    numbers["forcing"] = forcing_json(forcing, results)
    shared = ", ".join(
        f"`{pair.first}` and `{pair.second}` {_number(pair.mean_jaccard)}"
        for pair in comparison.pairs
    )
    summary = " ".join([f"Mean Jaccard index: {shared}.", *forcing.notes])
    return Finding(summary, numbers, tuple(blocks))


def _without_lists(comparison: Comparison) -> dict[str, object]:
    """Return the comparison without the neurons by name, which `compare-sets --json` lists."""
    content = comparison_json(comparison)
    content["sets"] = {
        name: {
            "way": comparison.ways[name],
            "neurons": {str(language): count for language, count in counts.items()},
            "only_here": {
                str(language): len(places) for language, places in comparison.only[name].items()
            },
        }
        for name, counts in comparison.counts.items()
    }
    return content


def _table(table: Table) -> Block:
    lines = [table.header, ("---",) * len(table.header), *table.rows]
    text = "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )
    return Block("table", text)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
