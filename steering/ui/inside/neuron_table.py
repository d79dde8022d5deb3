"""The neurons of a language one by one, as the rows of a table that can be searched and sorted.

Knows sets and words, not components.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from steering.languages import Language
from steering.neuron_set import NeuronSet
from steering.ui.badges import name_in
from steering.ui.strings import say

# What a column holds, as gradio calls it.
Kind: TypeAlias = Literal["number", "str"]

MOST_ROWS = 2000  # a browser sorts and searches these at once


@dataclass(frozen=True, slots=True)
class NeuronTable:
    """What the table shows.

    Args:
        headers: Names of the columns.
        kinds: What each column holds.
        rows: Cells, one list per neuron, the sharpest first.
        note: How to read it, and whether some are left out.
    """

    headers: tuple[str, ...]
    kinds: tuple[Kind, ...]
    rows: list[list[object]]
    note: str


def make_neuron_table(neurons: NeuronSet, language: Language, locale: str) -> NeuronTable:
    """Return a language's neurons; what the set does not know has no column."""
    places = neurons.neurons_of(language)
    if neurons.lape_score is not None:
        places = places[neurons.lape_score[places].sort(stable=True).indices]
    count, places = len(places), places[:MOST_ROWS]
    columns: list[tuple[str, Kind, list[object]]] = [
        (say("inside_layer", locale), "number", list(neurons.layer[places].tolist())),
        (say("inside_index", locale), "number", list(neurons.index[places].tolist())),
    ]
    if neurons.lape_score is not None:
        scores = [round(score, 3) for score in neurons.lape_score[places].tolist()]
        columns.append((say("inside_score", locale), "number", list(scores)))
    columns += _prob_columns(neurons, language, places, locale)
    shared = [_names(neurons, language, place) for place in places.tolist()]
    columns.append((say("inside_shared_with", locale), "str", list(shared)))
    headers, kinds, cells = zip(*columns, strict=True)
    return NeuronTable(
        headers, kinds, [list(row) for row in zip(*cells, strict=True)], _note(count, locale)
    )


def _prob_columns(
    neurons: NeuronSet, language: Language, places: torch.Tensor, locale: str
) -> list[tuple[str, Kind, list[object]]]:
    """Return how often they are active in the language, and where else most."""
    if neurons.activation_prob is None:
        return []
    row = neurons.position(language)
    own = [round(100 * prob, 1) for prob in neurons.activation_prob[row, places].tolist()]
    others = neurons.activation_prob[:, places].clone()
    others[row] = -1.0  # below every probability
    most, which = others.max(dim=0)
    elsewhere = [round(100 * prob, 1) for prob in most.tolist()]
    named = zip(most.tolist(), which.tolist(), strict=True)
    codes = [str(neurons.languages[k]) if prob > 0 else "" for prob, k in named]
    name = name_in(language, locale)
    return [
        (say("inside_active_here", locale, language=name), "number", list(own)),
        (say("inside_active_elsewhere", locale), "number", list(elsewhere)),
        (say("inside_where", locale), "str", list(codes)),
    ]


def _names(neurons: NeuronSet, language: Language, place: int) -> str:
    """Return the codes of the other languages that a neuron belongs to."""
    members = zip(neurons.languages, neurons.is_member[:, place].tolist(), strict=True)
    return " ".join(str(other) for other, is_one in members if is_one and other != language)


def _note(count: int, locale: str) -> str:
    note = say("inside_table_note", locale)
    if count <= MOST_ROWS:
        return note
    capped = say("inside_table_capped", locale, shown=f"{MOST_ROWS:,}", count=f"{count:,}")
    return f"{note} {capped}"
