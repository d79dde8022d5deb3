"""Tests of what was measured with a set: read, refused, and shown with its intervals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import pytest

from steering.bundled import BUNDLED_NEURON_SET
from steering.errors import SettingsError
from steering.evaluation.proportions import Proportion
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set, load_neuron_set
from steering.ui.asking import Chat
from steering.ui.results.measured import STEERED, UNSTEERED, read_results, results_path
from steering.ui.results.measured_html import percent, results_html
from steering.ui.results.tab import Measurements
from steering.ui.strings import LOCALES

METHOD = {
    "lfs": 0.25,
    "content": 0.2,
    "n": 40,
    "by_language": {"fr": {"lfs": 0.5, "n": 10}, "ja": {"lfs": 5 / 30, "n": 30}},
    "own_language": {"lfs": 1.0, "n": 4},
}
STEERED_METHOD = METHOD | {
    "lfs": 1.0,
    "by_language": {"fr": {"lfs": 1.0, "n": 10}, "ja": {"lfs": 1.0, "n": 30}},
}
FILE: dict[str, Any] = {
    "model": "bundled",
    "made_at": "2026-03-04T05:06:07+00:00",
    "version": "0.1.0",
    "commit": "abcdef0123456789",
    "neuron_set_sha256": "0" * 64,
    "command": "python -m steering evaluate forcing --json <x>",
    "prompts": 40,
    "temperature": 0.0,
    "methods": {"none": METHOD, "random": METHOD, "default": STEERED_METHOD},
}


@pytest.fixture
def neuron_set(tmp_path: Path) -> Path:
    return tmp_path / "toy.safetensors"


def write(neuron_set: Path, content: object) -> Path:
    path = results_path(neuron_set)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def words_of(html: str) -> str:
    """The text of HTML, without the marks that keep an interval in one line and direction."""
    return " ".join(re.sub(r"<[^>]+>|[\u2066\u2069]", " ", html).split())


def test_results_lie_beside_their_set_by_its_name() -> None:
    assert results_path(Path("a/b.c.safetensors")) == Path("a/b.c.forcing.json")


def test_rates_become_counts_again_for_every_language(neuron_set: Path) -> None:
    results = read_results(write(neuron_set, FILE))

    assert results is not None
    unsteered, steered = results.conditions[UNSTEERED], results.conditions[STEERED]
    assert unsteered.off_target == Proportion(30, 40)
    assert unsteered.by_language == {"fr": Proportion(5, 10), "ja": Proportion(25, 30)}
    assert steered.off_target == Proportion(0, 40)
    assert [one.name for one in results.shown] == ["none", "default"]
    assert results.own_language == 4


def test_there_may_be_none(neuron_set: Path) -> None:
    assert read_results(results_path(neuron_set)) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{broken", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ({"model": "x"}, "prompts: Field required"),
        (FILE | {"made_at": "yesterday"}, "made_at: "),
        (FILE | {"methods": {"none": METHOD}}, "lacks the conditions default"),
        (FILE | {"methods": {"none": METHOD | {"lfs": 1.5}}}, "less than or equal to 1"),
        (FILE | {"methods": {"none": METHOD | {"n": -1}}}, "greater than or equal to 0"),
        (FILE | {"command": "x" * 4_000_000}, "too large"),
    ],
)
def test_another_file_is_refused_in_words_without_the_servers_folders(
    neuron_set: Path, content: object, reason: str
) -> None:
    path = write(neuron_set, content)

    with pytest.raises(SettingsError, match=rf"^'toy\.forcing\.json' cannot.*{reason}") as caught:
        read_results(path)
    assert str(path.parent) not in str(caught.value)


def test_numbers_come_with_counts_and_the_wilson_interval(neuron_set: Path) -> None:
    results = read_results(write(neuron_set, FILE))
    assert results is not None

    words = words_of(results_html(results, warnings=[], locale="en"))

    low, high = Proportion(30, 40).interval()
    assert f"Without steering 75% 30 of 40 answers; 95% interval {low:.1%} – {high:.1%} " in words
    assert "Of 40 answers, 75% were not in the chosen language without steering, 0% with" in words
    assert "4 of the prompts were in the chosen language already" in words
    assert "random 75.0%" in words
    assert "2026-03-04, commit abcdef0123." in words


def test_every_bar_has_its_numbers_in_a_table(neuron_set: Path) -> None:
    results = read_results(write(neuron_set, FILE))
    assert results is not None

    html = results_html(results, warnings=[], locale="en")

    chart, *tables = re.findall(r"<figure.*?</figure>|<table.*?</table>", html)
    assert chart.count("<svg") == 4
    for text in ("French", "50.0%", "5 of 10", "Japanese", "83.3%", "25 of 30", "0 of 30"):
        assert text in words_of(tables[0])
    assert 'width="83.33%"' in chart
    assert 'class="bar-before"' in chart


def test_text_of_the_file_is_shown_and_never_run(neuron_set: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    method = METHOD | {"by_language": {evil: {"lfs": 0.5, "n": 10}}}
    content = FILE | {
        "model": evil, "commit": evil, "version": evil, "added_later": {"commit": evil},
        "methods": {"none": method, "default": method, evil: method},
    }  # fmt: skip
    results = read_results(write(neuron_set, content))
    assert results is not None

    html = results_html(results, warnings=[evil], locale="en")

    assert "<img" not in html
    assert "<x>" not in html
    assert html.count("&lt;img") > 5


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0.0, "0%"), (0.0043, "0.4%"), (0.871, "87%"), (0.996, "99.6%"), (1.0, "100%")],
)
def test_little_is_not_called_nothing(rate: float, shown: str) -> None:
    assert percent(rate) == shown


def measurements(chat: Chat, neuron_set: Path, model: str) -> Measurements:
    return Measurements(replace(chat, set_path=neuron_set), model)


def test_the_tab_warns_of_another_set_and_another_model(
    neuron_set: Path, chat: Chat, toy_set: NeuronSet
) -> None:
    write(neuron_set, FILE)
    assert "another neuron set" in measurements(chat, neuron_set, "bundled").show()
    assert "the loaded one is org/x" in measurements(chat, neuron_set, "org/x").show()

    write(neuron_set, FILE | {"neuron_set_sha256": hash_neuron_set(toy_set)})
    assert "✗" not in measurements(chat, neuron_set, "bundled").show()

    write(neuron_set, {key: value for key, value in FILE.items() if "sha256" not in key})
    assert "does not say with which neuron set" in measurements(chat, neuron_set, "bundled").show()


def test_the_tab_says_how_results_are_made_where_there_are_none(
    neuron_set: Path, chat: Chat
) -> None:
    shown = measurements(chat, neuron_set, "org/a model").show()

    assert "no toy.forcing.json beside it" in shown
    command = (
        "evaluate forcing --model 'org/a model' --neuron-set toy.safetensors --json toy.forcing"
    )
    assert command in shown.replace("&#x27;", "'")
    assert str(neuron_set.parent) not in shown
    assert "Nobody has measured" in Measurements(chat, "org/x").show()


def test_a_damaged_file_is_said_in_words_and_nothing_else(neuron_set: Path, chat: Chat) -> None:
    write(neuron_set, "<script>")

    shown = measurements(chat, neuron_set, "bundled").show()

    assert "✗ 'toy.forcing.json' cannot be shown" in shown
    assert "<script" not in shown


def test_the_bundled_set_has_results_of_its_own_that_say_what_was_not_recorded() -> None:
    results = read_results(results_path(BUNDLED_NEURON_SET))

    assert results is not None
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    assert results.neuron_set_sha256 == hash_neuron_set(neurons)
    assert results.languages == sorted(language.code for language in neurons.languages)
    assert {one.name for one in results.shown} == {"none", "instruction", "default"}
    assert {"random", "diffmean"} <= set(results.conditions)
    assert results.made_at is not None
    assert results.command is not None
    for locale in LOCALES:
        html = results_html(results, warnings=[], locale=locale)
        assert all(escape(source) in html for source in results.added_later.values())
        assert html.count("<svg") == 3 * len(neurons.languages)
    assert LANGUAGES["vi"].native_name in html
