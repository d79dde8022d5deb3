"""The committed report of the bundled model is of today's sets, and its numbers still come out.

A small part is measured again. Rates are compared within what 999 of 1,000 random draws of so many
of the committed answers would give; losses and shares of neurons, which are measured on the same
tokens as then, within what other processors round differently.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.cli.bundled_prompts import held_out_prompts
from steering.cli.conditions import ChosenSets, read_conditions
from steering.cli.evaluate_perplexity import choose_text, uncounted_tokens
from steering.cli.sharing import read_questions
from steering.evaluation.forcing import ForcingPrompt, run_forcing
from steering.evaluation.perplexity import perplexity_change
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import lpr
from steering.evaluation.sharing import measure_sharing
from steering.evaluation.sharing_accuracy import Change, measure_change
from steering.languages import LANGUAGES
from steering.loading import LoadedModel, load_model
from steering.neuron_set_file import hash_neuron_set, load_neuron_set
from steering.study.measuring import AMPLIFY

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
COMMITTED: Mapping[str, Any] = json.loads((RESULTS / "bundled.json").read_text(encoding="utf-8"))
PARTS = COMMITTED["parts"]
RENEW = "docs/contributing.md says how the report is made again"
OUTSIDE = 0.0005  # of a draw, on either side
SHARE_BOUND = 0.002  # two of a layer's 1,024 neurons; on another processor some pass the threshold
STABILITY_BOUND = 0.005  # of rates over prompts, to which such a neuron counts up to 20 times
EFFECT_BOUND = 0.05  # of logits up to 45; what passes the threshold adds next to nothing
LOSS_BOUND_NATS = 0.005  # float32 sums in another order change a mean loss by under a thousandth
ANSWERS_BOUND = 2.01  # of 49; on another processor two likely tokens may change places
WHOLE_TARGET = LANGUAGES["es"]  # where every condition gives another rate
PROMPTS, QUESTIONS = 21, 2


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("bundled")


@pytest.fixture(scope="module")
def sets() -> ChosenSets:
    return ChosenSets(load_neuron_set(BUNDLED_NEURON_SET), load_neuron_set(BUNDLED_PAPER_SET))


def draw_bounds(successes: int, trials: int, drawn: int) -> tuple[int, int]:
    """Return the least and the most successes of a draw without return, but for `OUTSIDE` each."""
    ways = [
        math.comb(successes, k) * math.comb(trials - successes, drawn - k) for k in range(drawn + 1)
    ]
    allowed = OUTSIDE * sum(ways)
    low = next(k for k in range(drawn + 1) if sum(ways[: k + 1]) > allowed)
    high = next(k for k in range(drawn, -1, -1) if sum(ways[k:]) > allowed)
    return low, high


def check_draw(found: Proportion, rate: float, trials: int) -> None:
    low, high = draw_bounds(round(rate * trials), trials, found.trials)
    assert low <= found.successes <= high, f"{found} of {rate:.3f} x {trials}; {RENEW}"


@pytest.mark.parametrize(
    ("successes", "trials", "drawn", "expected"),
    [(10, 10, 3, (3, 3)), (0, 10, 3, (0, 0)), (1, 350, 35, (0, 1)), (175, 350, 1, (0, 1))],
)
def test_bounds_of_a_draw(
    successes: int, trials: int, drawn: int, expected: tuple[int, int]
) -> None:
    assert draw_bounds(successes, trials, drawn) == expected


def test_bounds_are_narrow_enough_to_fail() -> None:
    assert draw_bounds(347, 350, PROMPTS)[0] >= PROMPTS - 3
    assert draw_bounds(45, 350, PROMPTS)[1] < PROMPTS // 2


def test_it_is_of_the_sets_and_the_model_that_are_here(
    model: LoadedModel, sets: ChosenSets
) -> None:
    made = COMMITTED["made"]

    assert made["set bundled sha256"] == hash_neuron_set(sets.neurons), RENEW
    assert made["set bundled-paper sha256"] == hash_neuron_set(sets.paper), RENEW
    assert model.identity.revision in made["model"], RENEW
    assert COMMITTED["is_complete"]
    assert not COMMITTED["left_out"]


def test_the_page_says_what_the_numbers_say() -> None:
    page = (RESULTS / "bundled.md").read_text(encoding="utf-8")

    for part in PARTS.values():
        assert part["summary"] in page
    figures = re.findall(r"\]\((bundled/[\w-]+\.svg)\)", page)
    assert len(figures) == 8
    assert sorted(figures) == sorted(
        f"bundled/{one.name}" for one in (RESULTS / "bundled").iterdir()
    )
    assert sum((RESULTS / name).stat().st_size for name in figures) < 600_000
    assert not re.search(r"(^|[\s'])/\w", page), "a path of one machine"


@pytest.fixture(scope="module")
def prompts(sets: ChosenSets) -> list[ForcingPrompt]:
    count = PARTS["forcing"]["numbers"]["prompts"]
    return held_out_prompts(count, seed=0, languages=sets.neurons.languages)


def test_language_forcing_still_comes_out(
    model: LoadedModel, sets: ChosenSets, prompts: list[ForcingPrompt]
) -> None:
    committed = PARTS["forcing"]["numbers"]
    count, languages = committed["prompts"], sets.neurons.languages
    drawn = prompts[:PROMPTS]

    for condition in read_conditions("none,instruction,default", sets):
        found = run_forcing(model, drawn, condition, languages=languages, batch_rows=PROMPTS)

        method = committed["methods"][condition.name]
        check_draw(found.lfs, method["lfs"], count)
        check_draw(lpr(found, languages=languages), method["lpr"], count)
        assert found.content is not None
        check_draw(found.content, method["content"], count)


@pytest.mark.parametrize("name", ["random", "lape"])
def test_conditions_that_sometimes_work_still_do_as_often(
    name: str, model: LoadedModel, sets: ChosenSets, prompts: list[ForcingPrompt]
) -> None:
    """A draw says little of a rate near a half, so all prompts with one target are asked."""
    languages = sets.neurons.languages
    asked = [one for one in prompts if one.target == WHOLE_TARGET]
    (condition,) = read_conditions(name, sets)

    found = run_forcing(model, asked, condition, languages=languages, batch_rows=len(asked))

    method = PARTS["forcing"]["numbers"]["methods"][name]["by_language"][str(WHOLE_TARGET)]
    assert found.lfs.trials == method["n"]
    assert found.lfs.successes == pytest.approx(method["lfs"] * method["n"], abs=ANSWERS_BOUND)
    assert found.content is not None
    assert found.content.successes == pytest.approx(
        method["content"] * method["n"], abs=ANSWERS_BOUND
    )


def test_perplexity_changes_still_come_out(model: LoadedModel, sets: ChosenSets) -> None:
    """Of the first two languages, because random neurons depend on what was drawn before."""
    committed = PARTS["perplexity"]["numbers"]
    codes = tuple(committed["languages"][:2])
    alone = {"languages": codes, "token_counts": {}}
    pair = replace(
        sets.paper,
        metadata=sets.paper.metadata.model_copy(update=alone),
        is_member=sets.paper.is_member[:2],
    )
    tokens = committed["tokens"][codes[0]]
    asked = argparse.Namespace(text=None, rows=tokens // 192, row_tokens=192, seed=0)
    pack = choose_text(asked, pair)
    rows = {language: pack(model, language, 192) for language in pair.languages}
    assert rows[pair.languages[0]].numel() == tokens

    found = perplexity_change(
        model, pair, rows, seed=committed["seed"], uncounted=uncounted_tokens(asked, model)
    )

    assert sets.paper.metadata.languages[:2] == codes
    assert list(found.neuron_counts) == committed["neuron_counts"][:2]
    assert found.base_nll_nats == nearly(committed["base_nll_nats"][:2])
    for name, table in (("lape", found.change_nats), ("random", found.random_change_nats)):
        for row, expected in zip(table, committed[name]["change_nats"], strict=False):
            assert row == nearly(expected[:2]), name


def nearly(losses: Sequence[float]) -> object:
    return pytest.approx(losses, abs=LOSS_BOUND_NATS)


def test_sharing_still_comes_out(model: LoadedModel) -> None:
    committed = PARTS["sharing"]["numbers"]
    count = committed["prompts"]
    asked = argparse.Namespace(prompts=None, model="bundled", count=count, groups_only=True)
    read = read_questions(asked)

    found = measure_sharing(model, read.languages, read.prompts)

    assert found.effective is not None
    assert found.stability is not None
    numbers = json.loads(json.dumps(found.to_json()))
    for name in ("shares", "specific", "contribution"):
        check_numbers(numbers[name], committed[name], bound=SHARE_BOUND)
    check_numbers(numbers["stability"], committed["stability"], bound=STABILITY_BOUND)
    check_numbers(numbers["effective"], committed["effective"], bound=EFFECT_BOUND)
    rates = {one["name"]: one for one in committed["accuracy"]}
    for change in (Change(), Change("all-shared", 0.0), Change("all-shared", AMPLIFY[-1])):
        outcome = measure_change(
            model, read.languages, read.prompts[:QUESTIONS], found.groups[:QUESTIONS], change
        )
        check_draw(outcome.right, rates[change.name]["right"], rates[change.name]["n"])


def check_numbers(found: object, expected: object, *, bound: float) -> None:
    """Compare every number of two trees of one shape."""
    if isinstance(expected, Mapping):
        assert isinstance(found, Mapping)
        assert found.keys() == expected.keys()
        for name in expected:
            check_numbers(found[name], expected[name], bound=bound)
    else:
        assert found == pytest.approx(expected, abs=bound), RENEW
