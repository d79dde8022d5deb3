"""The tables on the bundled model's page are those of its committed numbers and of today's sets.

Nothing is measured: what is measured again is in `test_bundled_report.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.evaluation.measured_files import read_perplexity
from steering.evaluation.proportions import Proportion
from steering.evaluation.set_tables import (
    comparison_json,
    counts_markdown,
    overlap_markdown,
    perplexity_markdown,
    ranks_markdown,
)
from steering.evaluation.sharing import EffectiveScores, SharingSummary
from steering.evaluation.sharing_accuracy import Change, ChangeOutcome
from steering.evaluation.sharing_report import accuracy_markdown, sharing_markdown
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set
from steering.set_comparison import compare_sets
from steering.sharing import Stability
from steering.study import sets as study_sets
from steering.study.parts import Block, words_and_tables

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
PAGE = (RESULTS / "bundled.md").read_text(encoding="utf-8")
PARTS: Mapping[str, Any] = json.loads((RESULTS / "bundled.json").read_text("utf-8"))["parts"]


@pytest.fixture(scope="module")
def sets() -> dict[str, NeuronSet]:
    paths = {"bundled": BUNDLED_NEURON_SET, "bundled-paper": BUNDLED_PAPER_SET}
    return {name: load_neuron_set(path) for name, path in paths.items()}


def check_on_page(heading: str, *blocks: str) -> None:
    """Every block stands whole, between empty lines, in the section of the heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for block in blocks:
        assert f"\n\n{block}\n\n" in f"\n{section}\n", block


def test_tables_of_the_sets(
    sets: dict[str, NeuronSet], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study_sets, "figure", lambda *_: Block("figure", ""))

    finding = study_sets.describe_sets(tmp_path, lambda _: None, sets=sets)

    assert json.loads(json.dumps(finding.numbers)) == PARTS["sets"]["numbers"]
    assert finding.summary == PARTS["sets"]["summary"]
    check_on_page("The sets", *(one.text for one in finding.blocks if one.kind != "figure"))


def test_tables_of_language_forcing() -> None:
    numbers = PARTS["forcing"]["numbers"]

    check_on_page("Language forcing", forcing_table(numbers["methods"]))
    name, last = list(numbers["methods"].items())[-1]
    targets = last["by_language"]
    cells = [forced_cell(one) for one in (*targets.values(), last)]
    section = PAGE.split(f"By `{name}`, language of the prompt by chosen language:\n\n")[1]
    table = section.split("\n\n")[0].splitlines()
    *rows, totals = [[read_cell(cell) for cell in line.split(" | ")[1:]] for line in table[2:]]
    assert [add_up(column) for column in zip(*rows, strict=True)] == totals
    assert all(add_up(row[:-1]) == row[-1] for row in rows)
    assert table[0] == f"| prompt in | {' | '.join(f'to {code}' for code in targets)} | all |"
    assert table[-1] == f"| all | {' | '.join(cells)} |"


def read_cell(text: str) -> Proportion:
    """Read `85.7% (6/7)`, in which both must say the same."""
    shown, counts = text.removesuffix(" |").removesuffix(")").split(" (")
    share = Proportion(*map(int, counts.split("/")))
    assert shown == f"{share.rate:.1%}"
    return share


def add_up(shares: Iterable[Proportion]) -> Proportion:
    successes, trials = zip(*((one.successes, one.trials) for one in shares), strict=True)
    return Proportion(sum(successes), sum(trials))


def forcing_table(methods: Mapping[str, Any]) -> str:
    lines = [
        "| method | n | LFS | 95% interval | LPR | content | harmonic |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in methods.items():
        low, high = one["lfs_interval"]
        rates = " | ".join(f"{one[rate]:.1%}" for rate in ("lpr", "content", "harmonic"))
        lines.append(
            f"| {name} | {one['n']} | {one['lfs']:.1%} | {low:.1%} to {high:.1%} | {rates} |"
        )
    return "\n".join(lines)


def forced_cell(method: Mapping[str, Any]) -> str:
    return f"{method['lfs']:.1%} ({round(method['lfs'] * method['n'])}/{method['n']})"


def test_tables_and_sentences_of_perplexity(tmp_path: Path) -> None:
    part = PARTS["perplexity"]
    kept = tmp_path / "perplexity.json"
    kept.write_text(json.dumps(part["numbers"]), encoding="utf-8")

    change = read_perplexity(kept)

    assert json.loads(json.dumps(change.to_json())).items() <= part["numbers"].items()
    assert change.verdict.overall() == part["summary"]
    sentences = change.verdict.by_language().values()
    check_on_page("Perplexity change", change.to_markdown(), *sentences)


def test_tables_of_sharing() -> None:
    numbers = PARTS["sharing"]["numbers"]
    summary = SharingSummary(
        languages=tuple(LANGUAGES[code] for code in numbers["languages"]),
        threshold=numbers["threshold"],
        prompts=numbers["prompts"],
        shares=numbers["shares"],
        share_spread=numbers["share_spread"],
        specific={LANGUAGES[code]: row for code, row in numbers["specific"].items()},
        stability=Stability(**numbers["stability"]),
        contribution=numbers["contribution"],
        contribution_spread=numbers["contribution_spread"],
        effective=EffectiveScores(**numbers["effective"]),
        groups=torch.empty(0),
    )
    outcomes = [
        ChangeOutcome(
            change=Change(one["group"], one["factor"], one["is_random"]),
            neurons=one["neurons"],
            right=rate_of(one["right"], one["n"]),
            right_anywhere=rate_of(one["right_anywhere"], one["n"]),
            by_language={
                LANGUAGES[code]: rate_of(rate, numbers["prompts"])
                for code, rate in one["by_language"].items()
            },
        )
        for one in numbers["accuracy"]
    ]

    assert [one.change.name for one in outcomes] == [one["name"] for one in numbers["accuracy"]]
    blocks = words_and_tables(sharing_markdown(summary)) + words_and_tables(
        accuracy_markdown(outcomes)
    )
    assert sum(one.kind == "table" for one in blocks) == 6
    check_on_page("Neurons that languages share", *(one.text for one in blocks))


def rate_of(rate: float, trials: int) -> Proportion:
    return Proportion(round(rate * trials), trials)


def test_tables_of_other_sets(sets: dict[str, NeuronSet], tmp_path: Path) -> None:
    numbers = PARTS["comparison"]["numbers"]
    comparison = compare_sets(sets)
    changes = {}
    for name, one in numbers["perplexity"].items():
        kept = tmp_path / "perplexity.json"
        kept.write_text(json.dumps(one), encoding="utf-8")
        changes[name] = read_perplexity(kept)

    found = json.loads(json.dumps(comparison_json(comparison)))
    for pair, expected in zip(found["pairs"], numbers["pairs"], strict=True):
        assert flat(pair) == pytest.approx(flat(expected))
    for name, expected in numbers["sets"].items():
        found["sets"][name]["only_here"] = {
            code: len(places) for code, places in found["sets"][name]["only_here"].items()
        }
        assert found["sets"][name] == expected
    check_on_page(
        "Other sets",
        counts_markdown(comparison),
        overlap_markdown(comparison),
        ranks_markdown(comparison),
        perplexity_markdown(changes),
        forcing_table(numbers["forcing"]["methods"]),
    )


def flat(tree: object, name: str = "") -> dict[str, object]:
    """Return the leaves of a tree by their paths, for `approx`, which takes no nested ones."""
    rows = dict(enumerate(tree)) if isinstance(tree, list) else tree
    if not isinstance(rows, dict):
        return {name: tree}
    return {
        path: leaf
        for key, value in rows.items()
        for path, leaf in flat(value, f"{name}/{key}").items()
    }


def test_parts_that_measure_the_same_say_the_same() -> None:
    """The comparison switches the same neurons off on the same text, and asks the same prompts."""
    forcing, perplexity, comparison = (
        PARTS[name]["numbers"] for name in ("forcing", "perplexity", "comparison")
    )

    changes = comparison["perplexity"]
    assert changes[perplexity["set"]].items() <= perplexity.items()
    assert changes["bundled"]["base_nll_nats"] == perplexity["base_nll_nats"]
    methods = comparison["forcing"]["methods"]
    assert methods["none"] == forcing["methods"]["none"]
    assert methods["bundled"] == forcing["methods"]["lape"]
