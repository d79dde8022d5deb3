"""A change that rounds to nothing has no minus, in numbers, tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from steering.evaluation.figures import plot_perplexity
from steering.evaluation.set_tables import perplexity_markdown
from steering.evaluation.signed import format_nats, format_signed
from tests.evaluation.test_figures import CHANGE

TINY = ((-0.0001,) * 3,) * 3
NOTHING = replace(CHANGE, change_nats=TINY, random_change_nats=TINY)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-0.001, "+0.00"), (-0.0, "+0.00"), (0.0, "+0.00"), (-0.006, "-0.01"), (1.005, "+1.00")],
)
def test_two_digits(value: float, expected: str) -> None:
    assert format_signed(value, digits=2) == expected


def test_nats_have_three_digits() -> None:
    assert (format_nats(-0.0004), format_nats(-0.0006)) == ("+0.000", "-0.001")


SHOWN: dict[str, Callable[[], str]] = {
    "table": NOTHING.to_markdown,
    "verdict": NOTHING.verdict.overall,
    "sentences": lambda: " ".join(NOTHING.verdict.by_language().values()),
    "sets": lambda: perplexity_markdown({"a": NOTHING}),
}


@pytest.mark.parametrize("what", SHOWN)
def test_no_minus_stands_before_nothing(what: str) -> None:
    text = SHOWN[what]()

    assert "-0.0" not in text
    assert "+0.000" in text


def test_no_minus_stands_before_nothing_in_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *given: object, **options: object) -> None:
        drawn.append(figure)
        save(figure, *given, **options)  # type: ignore[arg-type]  # as they come

    monkeypatch.setattr(Figure, "savefig", collect)
    plot_perplexity(NOTHING, tmp_path / "a.svg")

    own, random, _ = drawn[0].axes
    assert {text.get_text() for axes in (own, random) for text in axes.texts} == {"+0.00"}
