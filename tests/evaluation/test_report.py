"""Tables of language forcing: counted from given replies, by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from steering.detection import detect
from steering.errors import SettingsError
from steering.evaluation.forcing import ForcingPrompt, ForcingResult, judge_reply
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import (
    clas_bench_score,
    line_pass,
    lpr,
    matrix_markdown,
    methods_markdown,
    success_matrix,
)
from steering.languages import LANGUAGES, Language

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
ALL = (EN, FR, JA)
FRENCH = "Le hibou dort dans le vieux chêne derrière la grange."
ENGLISH = "The owl sleeps in the old oak tree behind the barn."
MIXED = f"{FRENCH}\n{ENGLISH}\n{FRENCH}\n{FRENCH}"  # French as a whole, but for a line


def result(*asked: tuple[Language, Language, str], right: str | None = None) -> ForcingResult:
    """Answers as (language of the prompt, target, reply); *right* is the one that answers."""
    is_right = None if right is None else lambda reply: reply == right
    prompts = [ForcingPrompt("?", "?", language, target, is_right) for language, target, _ in asked]
    return ForcingResult(
        "mine",
        tuple(judge_reply(p, a[2], languages=ALL) for p, a in zip(prompts, asked, strict=True)),
    )


def test_matrix_counts_each_pair_apart() -> None:
    matrix = success_matrix(
        result((JA, FR, FRENCH), (EN, FR, FRENCH), (EN, FR, ENGLISH), (EN, EN, ENGLISH))
    )

    assert matrix == {
        EN: {EN: Proportion(1, 1), FR: Proportion(1, 2)},
        JA: {FR: Proportion(1, 1)},
    }
    assert list(matrix) == [EN, JA]


def test_matrix_as_a_table_has_totals_and_a_dash_where_nothing_was_asked() -> None:
    table = matrix_markdown(result((JA, FR, FRENCH), (EN, FR, ENGLISH), (EN, EN, ENGLISH)))

    assert table.splitlines() == [
        "| prompt in | to en | to fr | all |",
        "|---|---|---|---|",
        "| en | 100.0% (1/1) | 0.0% (0/1) | 50.0% (1/2) |",
        "| ja | - | 100.0% (1/1) | 100.0% (1/1) |",
        "| all | 100.0% (1/1) | 50.0% (1/2) | 66.7% (2/3) |",
    ]


@pytest.mark.parametrize(
    ("reply", "passes"),
    [(FRENCH, True), (MIXED, False), (ENGLISH, False), ("", True), ("OK", True)],
)
def test_one_line_in_another_language_fails_a_reply(reply: str, passes: bool) -> None:
    assert line_pass(reply, target=FR, languages=ALL) is passes


def test_lines_too_short_to_tell_do_not_fail_a_reply_that_is_off_target_as_a_whole() -> None:
    reply = "no one\nto be\nof it\nit ate\nhe had\nto go\nan elm"

    assert detect(reply, expected=FR, languages=ALL).verdict == "off_target"
    assert line_pass(reply, target=FR, languages=ALL)


def test_line_pass_rate_looks_at_lines_where_forcing_looks_at_the_whole() -> None:
    measured = result((EN, FR, FRENCH), (EN, FR, MIXED), (EN, EN, ENGLISH))

    assert measured.lfs == Proportion(3, 3)
    assert lpr(measured, languages=ALL) == Proportion(2, 3)


@pytest.mark.parametrize(
    ("forcing", "relevance", "score"),
    [(1, 1, 1), (0.9, 0.6, 0.72), (0, 0.7, 0), (0.7, 0, 0), (0, 0, 0)],
)
def test_score_of_clas_bench_is_the_harmonic_mean(
    forcing: float, relevance: float, score: float
) -> None:
    assert clas_bench_score(forcing, relevance) == pytest.approx(score)


@pytest.mark.parametrize("rates", [(72.0, 0.5), (0.5, 72.0), (-0.1, 0.5), (0.5, float("nan"))])
def test_percent_is_not_taken_for_a_rate(rates: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match=r"rate is '.*'\. Expected 0 to 1; divide percent"):
        clas_bench_score(*rates)


def test_methods_have_a_line_each_with_every_number() -> None:
    asked = [(EN, FR, FRENCH), (EN, FR, MIXED), (EN, FR, ENGLISH), (EN, FR, ENGLISH)]

    table = methods_markdown(
        {"none": result(*asked, right=FRENCH), "lape@4": result(*asked), "empty": result()},
        languages=ALL,
    )

    # Harmonic mean of 1/2 and 1/4 is 1/3; the interval of 2 in 4 is 15.0% to 85.0%.
    assert table.splitlines() == [
        "| method | n | LFS | 95% interval | LPR | content | harmonic |",
        "|---|---|---|---|---|---|---|",
        "| none | 4 | 50.0% | 15.0% to 85.0% | 25.0% | 25.0% | 33.3% |",
        "| lape@4 | 4 | 50.0% | 15.0% to 85.0% | 25.0% | - | - |",
        "| empty | 0 | - | 0.0% to 100.0% | - | - | - |",
    ]


def test_languages_in_play_are_those_of_the_prompts_when_omitted() -> None:
    """Spanish lines pass for French ones only while Spanish is not in play."""
    spanish = "La lechuza duerme en el viejo roble detrás del granero."
    asked = {"a": result((EN, FR, f"{FRENCH}\n{spanish}"))}
    of_spanish = result((LANGUAGES["es"], FR, FRENCH))

    assert "| a | 1 | 100.0% | 20.7% to 100.0% | 100.0% |" in methods_markdown(asked)
    assert "| a | 1 | 100.0% | 20.7% to 100.0% | 0.0% |" in methods_markdown(
        asked, languages=[*ALL, LANGUAGES["es"]]
    )
    assert "| a | 1 | 100.0% | 20.7% to 100.0% | 0.0% |" in methods_markdown(
        asked | {"b": of_spanish}
    )


def test_the_module_knows_no_models() -> None:
    code = (
        "import sys, steering.evaluation.report; print({'torch', 'transformers'} & {*sys.modules})"
    )
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )

    assert done.stdout == "set()\n"
