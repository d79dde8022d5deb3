"""Tests of what the page says about itself."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from html import escape, unescape

import pytest

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import hash_neuron_set, load_neuron_set
from steering.ui.about.texts import about_html, api_html, find_set_file, origin_html, set_facts
from steering.ui.strings import LOCALES, Told, say

LANGUAGES_SHOWN = (LANGUAGES["fr"], LANGUAGES["ja"])


def with_metadata(neurons: NeuronSet, **changes: object) -> NeuronSet:
    return replace(neurons, metadata=neurons.metadata.model_copy(update=changes))


@pytest.mark.parametrize("locale", LOCALES)
def test_it_is_told_in_the_readers_language_and_direction(locale: str) -> None:
    html = unescape(about_html("bundled", LANGUAGES_SHOWN, locale))

    assert f'lang="{locale}" dir="{"rtl" if locale == "ar" else "ltr"}"' in html
    assert say("about_what_pick", locale) in html
    assert say("about_privacy_server", locale) in html


def test_the_toy_and_who_has_not_read_it_are_named_of_the_toy_alone() -> None:
    toy, other = (about_html(model, LANGUAGES_SHOWN) for model in ("bundled", "org/model"))

    assert "is a toy" in toy
    assert "grammar" in toy
    assert "toy" not in other
    assert "grammar" not in other
    assert "French, Japanese" in other
    assert "No native speaker" in other


def test_the_facts_are_those_of_the_set() -> None:
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    facts = set_facts(neurons)
    html = unescape(origin_html(neurons))

    assert facts["model"] == "bundled"
    assert facts["languages"].startswith("English (en), Chinese (zh)")
    assert facts["tokens counted, onset"] == ", ".join(
        f"{code} 1,200" for code in neurons.metadata.languages
    )
    assert facts["calibrated strengths, fr"] == "gentle 0.3, normal 1.5, strong 2.25"
    assert facts["licence"] == facts["created"] == "not stated"
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', html)
    shown = {re.sub("<.*?>", "", name): re.sub("<.*?>", "", value) for name, value in rows}
    for name, value in facts.items():
        fact, comma, of = name.partition(", ")
        assert shown[f"{fact} ({of})" if comma else fact] == value
    assert hashlib.sha256(BUNDLED_NEURON_SET.read_bytes()).hexdigest() in html


def test_date_licence_and_missing_calibration_are_said_as_they_are(toy_set: NeuronSet) -> None:
    facts = set_facts(with_metadata(toy_set, created="2026-01-02", licence="CC0"))

    assert (facts["created"], facts["licence"]) == ("2026-01-02", "CC0")
    assert facts["calibrated strengths"] == "not measured"
    assert list(facts)[-2:] == ["created", "licence"]


def test_what_a_file_says_is_shown_and_not_run(toy_set: NeuronSet) -> None:
    evil = "<img src=x onerror=alert(1)>\u202e"
    html = origin_html(with_metadata(toy_set, corpus_name=evil, licence=evil))

    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in html
    assert "<script" not in api_html(Told("", "<script>alert(1)</script>"))


def test_a_model_without_a_set_has_no_facts() -> None:
    html = origin_html(None)

    assert "There is no neuron set" in html
    assert "<table" not in html


def test_a_set_of_the_program_is_named_by_its_place_others_are_not(toy_set: NeuronSet) -> None:
    for path in (BUNDLED_NEURON_SET, BUNDLED_PAPER_SET):
        assert find_set_file(load_neuron_set(path)).name == f"neuron_sets/{path.name}"
    assert find_set_file(toy_set).name == "neurons.safetensors"
    assert find_set_file(toy_set).sha256 == hash_neuron_set(toy_set)


def test_a_problem_of_the_choices_is_said_and_else_nothing() -> None:
    (problem,) = re.findall(r'class="trouble">(.*?)</p>', api_html(Told("No such method.")))

    assert "No such method." in problem
    assert 'class="trouble"></p>' in api_html()


@pytest.mark.parametrize("locale", LOCALES)
def test_what_a_set_does_not_state_is_said_plainly_in_the_readers_language(locale: str) -> None:
    html = unescape(origin_html(load_neuron_set(BUNDLED_NEURON_SET), locale))

    for key in ("fact_created", "fact_licence"):
        assert f"{say(key, locale)}</th><td>{say('fact_not_stated', locale)}</td>" in html
    assert say("about_origin_note", locale) in html
    assert "demo_model/README.md" in html


def test_a_set_that_states_all_needs_no_such_note(toy_set: NeuronSet) -> None:
    html = origin_html(with_metadata(toy_set, created="2026-01-02", licence="CC0"), "fr")

    assert '<bdi lang="en">CC0</bdi>' in html
    assert "non indiqué" not in html
    assert escape(say("about_origin_note", "fr")) not in html


def test_every_fact_of_the_bundled_sets_has_a_name_in_the_readers_language() -> None:
    for path in (BUNDLED_NEURON_SET, BUNDLED_PAPER_SET):
        html = origin_html(load_neuron_set(path), "ja")
        assert re.findall('<th scope="row"><bdi lang="en">(.*?)</bdi>', html) == []


def test_the_card_that_lists_the_licences_of_the_texts_is_there() -> None:
    card = BUNDLED_NEURON_SET.parent.parent / "demo_model" / "README.md"

    assert "| source | licence |" in card.read_text("utf-8")
