"""Says in words whether the diagonal of a matrix of changes dominates, by row and by column.

Row i is switched off, column j is measured, in nats per token. By row: what is switched off costs
its own language more than every other. By column: nothing else that is switched off costs a
language as much. Knows neither models nor how neurons were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from steering.evaluation.signed import format_nats

Matrix: TypeAlias = tuple[tuple[float, ...], ...]


def row_dominates(changes: Matrix, place: int) -> bool:
    """Say whether a language suffers most when its own row is off; a tie is none."""
    row = changes[place]
    return all(row[place] > change for j, change in enumerate(row) if j != place)


def column_dominates(changes: Matrix, place: int) -> bool:
    """Say whether a language suffers most from its own row; a tie is none."""
    own = changes[place][place]
    return all(own > row[place] for i, row in enumerate(changes) if i != place)


def ratios(changes: Matrix) -> Matrix:
    """Return the ratio of perplexities with and without: exp of the change, in every cell."""
    return tuple(tuple(math.exp(change) for change in row) for row in changes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the diagonal dominates under a set's neurons and not under random ones.

    Args:
        codes: The languages, in the order of rows and columns.
        neuron_counts: How many neurons are off, per row.
        own: Changes with the set's neurons off.
        random: Changes with as many random ones off.
    """

    codes: Sequence[str]
    neuron_counts: Sequence[int]
    own: Matrix
    random: Matrix

    def by_language(self) -> dict[str, str]:
        """Return a sentence or three per language."""
        return {code: self._about(place) for place, code in enumerate(self.codes)}

    def overall(self) -> str:
        """Return the sentences over all languages."""
        size = len(self.codes)
        places = range(size)
        missing = {
            "row": [self.codes[i] for i in places if not row_dominates(self.own, i)],
            "column": [self.codes[i] for i in places if not column_dominates(self.own, i)],
        }
        exceptions = "".join(
            f" By {way} it does not for {', '.join(codes)}."
            for way, codes in missing.items()
            if codes
        )
        return (
            f"With a language's own neurons off, the diagonal dominates for "
            f"{size - len(missing['row'])} of {size} languages by row and for "
            f"{size - len(missing['column'])} by column; with as many random neurons off for "
            f"{sum(row_dominates(self.random, i) for i in places)} by row and "
            f"{sum(column_dominates(self.random, i) for i in places)} by column (chance alone: "
            f"about 1).{exceptions} The diagonal's mean is {_diagonal_mean(self.own)} nats "
            f"per token, under random neurons {_diagonal_mean(self.random)}."
        )

    def _about(self, place: int) -> str:
        code, count = self.codes[place], self.neuron_counts[place]
        if not count:
            return f"{code} has no neurons in this set, so nothing was switched off."
        return f"{self._row(place)}; {self._column(place)}. {self._control(place)}"

    def _row(self, place: int) -> str:
        code, own = self.codes[place], self.own[place]
        beginning = f"With the {self.neuron_counts[place]} neurons of {code} off,"
        nats, times = format_nats(own[place]), math.exp(own[place])
        cost = f"{nats} nats per token, perplexity times {times:.2f}"
        other = _largest(own, without=place)
        if row_dominates(self.own, place):
            return f"{beginning} {code} suffers most ({cost}; then {self._show(own, other)})"
        return f"{beginning} {self._show(own, other)} suffers as much as {code} or more ({cost})"

    def _column(self, place: int) -> str:
        code = self.codes[place]
        column = [row[place] for row in self.own]
        if column_dominates(self.own, place):
            return f"no other language's neurons cost {code} as much"
        worst = _largest(column, without=place)
        return f"the neurons of {self._show(column, worst)} cost {code} as much or more"

    def _control(self, place: int) -> str:
        code, row = self.codes[place], self.random[place]
        beginning = f"With as many random neurons off, {code} changes by {format_nats(row[place])}"
        if row_dominates(self.random, place):
            return f"{beginning}, and suffers most there too."
        other = _largest(row, without=place)
        return f"{beginning}, and {self._show(row, other)} as much or more."

    def _show(self, changes: Sequence[float], place: int) -> str:
        return f"{self.codes[place]} {format_nats(changes[place])}"


def _largest(changes: Sequence[float], *, without: int) -> int:
    return max((j for j in range(len(changes)) if j != without), key=lambda j: changes[j])


def _diagonal_mean(changes: Matrix) -> str:
    return format_nats(math.fsum(row[i] for i, row in enumerate(changes)) / len(changes))
