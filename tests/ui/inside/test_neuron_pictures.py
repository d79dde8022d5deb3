"""Tests of the pictures of neurons and readings: what stands in them, escaped, and in the table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from steering.activity import AnswerReading, TokenReading
from steering.languages import LANGUAGES, Language
from steering.neuron_set import NeuronSet
from steering.report_card.card import make_report_card
from steering.ui.inside import neuron_table
from steering.ui.inside.neuron_pictures import bars_svg, direction, language_html, reading_html
from steering.ui.inside.neuron_table import make_neuron_table
from tests.report_card.small_set import make_small_set
from tests.toy import EN, FR, JA, without_neurons


def words_of(html: str) -> str:
    return re.sub(r"<[^>]*>", " ", html)


def reading_of(*tokens: tuple[str, dict[Language, float]]) -> AnswerReading:
    return AnswerReading(
        TokenReading("", {FR: -0.5}), tuple(TokenReading(text, excess) for text, excess in tokens)
    )


@pytest.mark.parametrize("layers", [1, 3, 14, 80])
def test_bars_are_as_many_and_as_high_as_the_counts(layers: int) -> None:
    counts = [layer % 5 for layer in range(layers)]
    svg = ET.fromstring(bars_svg(counts, 'a "b" <c>'))  # noqa: S314 - our own text

    bars = [float(bar.attrib["height"]) for bar in svg.iter("rect")]
    assert len(bars) == layers
    tallest = max(counts) or 1
    scale = max(bars) / tallest if max(bars) else 0
    assert bars == pytest.approx([count * scale for count in counts], abs=0.06)
    assert svg.attrib["aria-label"] == 'a "b" <c>'
    for bar in svg.iter("rect"):
        start, width = (float(bar.attrib[name].rstrip("%")) for name in ("x", "width"))
        assert 0 <= start <= start + width <= 100


def test_a_language_is_shown_with_those_that_share_its_neurons() -> None:
    html = language_html(make_report_card(make_small_set()), LANGUAGES["fr"], "en")

    words = " ".join(words_of(html).split())
    assert "French: 3 neurons, 1 of them in no other language." in words
    assert "English 2 67%" in words
    assert "Japanese" not in words
    assert "Most of them, 2, are in layer 0." in html
    assert "Layer Neurons 0 2 1 0 2 1" in words  # the table twin


def test_a_language_that_shares_nothing_says_so() -> None:
    html = language_html(make_report_card(make_small_set()), LANGUAGES["ja"], "en")

    assert "No other language shares any of them." in html


def test_a_language_without_neurons_says_so(toy_set: NeuronSet) -> None:
    html = language_html(make_report_card(toy_set), LANGUAGES["th"], "fr")

    assert "aucun neurone" in html
    assert "<svg" not in html


def test_tokens_are_labelled_in_words_and_in_the_table() -> None:
    reading = reading_of(("Le", {FR: 0.25, EN: 0.1}), (" cat", {FR: -0.1, EN: 0.5}), (".", {}))

    html = reading_html(reading, [FR, JA, EN], note="As <it> was.", locale="en")

    said = re.findall(r'class="said">([^<]*)</span><span class="code">([^<]*)<', html)
    assert said == [("▸", "–"), ("Le", "fr"), (" cat", "en"), (".", "–")]
    assert "<p>As &lt;it&gt; was.</p>" in html
    rows = re.findall(r"<tr>(.*?)</tr>", html.split("<details>")[1])
    cells = [re.findall(r"<t[hd][^>]*>(?:<bdi>)?(.*?)(?:</bdi>)?</t[hd]>", row) for row in rows]
    assert cells[0] == ["Token", "Fired most", "fr", "ja", "en"]
    assert cells[2] == ["Le", "French", "+25", "–", "+10"]
    assert cells[4] == [".", "–", "–", "–", "–"]
    legend = words_of(html.split('class="legend"')[1].split("</ul>")[0]).split()
    assert " ".join(legend[1:]) == "fr French : 1 en English : 1 ja Japanese : 0 – none: 1"


def test_a_token_cannot_be_html() -> None:
    html = reading_html(reading_of(("<script>", {FR: 1.0})), [FR], note="", locale="en")

    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 2


def test_arabic_reads_from_the_right_and_its_letters_join_across_tokens() -> None:
    reading = reading_of(("الق", {}), ("طة", {}), (" x", {}))

    html = reading_html(reading, [FR], note="", locale="en")

    assert 'dir="rtl"' in html
    assert '"said">الق&zwj;</span>' in html
    assert '"said">&zwj;طة</span>' in html
    assert '"said"> x</span>' in html


@pytest.mark.parametrize(
    ("text", "expected"), [("Le chat", "ltr"), ("1. القطة", "rtl"), ("猫", "ltr"), ("…", "ltr")]
)
def test_the_first_letter_gives_the_direction(text: str, expected: str) -> None:
    assert direction(text) == expected


def test_the_table_has_a_row_per_neuron_the_sharpest_first() -> None:
    table = make_neuron_table(make_small_set(), LANGUAGES["fr"], "en")

    assert table.headers == (
        "Layer", "Neuron", "LAPE score (nats)", "Active in French (% of tokens)",
        "Most active elsewhere (%)", "Where", "Belongs also to",
    )  # fmt: skip
    assert table.rows == [
        [0, 4, 0.0, 75.0, 87.5, "en", "en"],
        [0, 1, 0.5, 50.0, 25.0, "en", ""],
        [2, 9, 0.5, 50.0, 50.0, "en", "en"],
    ]
    assert len(table.kinds) == len(table.headers)


def test_what_an_imported_set_does_not_know_has_no_column() -> None:
    neurons = replace(make_small_set(), lape_score=None, activation_prob=None)

    table = make_neuron_table(neurons, LANGUAGES["fr"], "en")

    assert table.headers == ("Layer", "Neuron", "Belongs also to")
    assert [row[:2] for row in table.rows] == [[0, 1], [0, 4], [2, 9]]


def test_a_long_table_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_table, "MOST_ROWS", 2)
    table = make_neuron_table(make_small_set(), LANGUAGES["fr"], "en")

    assert [row[:2] for row in table.rows] == [[0, 4], [0, 1]]
    assert table.note.endswith("Shown are the first 2 of 3.")


def test_a_set_without_neurons_has_an_empty_table(toy_set: NeuronSet) -> None:
    table = make_neuron_table(without_neurons(toy_set), FR, "en")

    assert table.rows == []
