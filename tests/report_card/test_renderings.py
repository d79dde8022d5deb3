"""The text and the page of a report card: the same cells, escaped, and nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from steering.neuron_set import NeuronSet
from steering.report_card.card import ReportCard, make_report_card
from steering.report_card.page import to_html
from steering.report_card.plots import to_svg
from steering.report_card.sections import Table, make_sections
from steering.report_card.text import to_text
from tests.report_card.small_set import make_small_set
from tests.toy import make_toy_set, without_neurons

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(1)>&amp;"
ASKING = ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background")


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def card() -> ReportCard:
    return make_report_card(make_small_set())


@pytest.fixture(scope="module")
def html(card: ReportCard) -> str:
    return to_html(card)


def svgs_of(html: str) -> list[str]:
    found = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)
    return [base64.b64decode(content).decode() for content in found]


def bare_set() -> NeuronSet:
    small = make_small_set(strengths={}, language_strengths={}, calibration={})
    return replace(
        small,
        lape_score=None,  # type: ignore[arg-type]  # an imported set may know members alone
        activation_prob=None,  # type: ignore[arg-type]  # as above
        control=None,
        token_log_odds=None,
    )


def test_text_and_page_hold_every_cell_and_every_fact(card: ReportCard, html: str) -> None:
    text, words = to_text(card), " ".join(Page(html).words)

    for section in make_sections(card):
        assert section.words in text
        assert section.words in words
        for table in section.tables:
            for cell in [*table.header, *(cell for row in table.rows for cell in row)]:
                assert cell in text
                assert cell in words
    for value in [*card.facts.values(), *(w.message.split("`")[0] for w in card.warnings)]:
        assert value in text
        assert value in words


def test_tables_hold_the_numbers_of_the_card(card: ReportCard) -> None:
    rows = {table.caption: table.rows for s in make_sections(card) for table in s.tables}

    assert rows["Languages"][1] == ("en", "English", "3", "1", "0.50", "999,999")
    assert rows["Neurons per layer"] == (
        ("0", "2", "2", "1", "0", "1"),
        ("1", "1", "0", "1", "0", "0"),
        ("2", "2", "1", "1", "1", "1"),
    )
    assert rows["Shared neurons"][0] == ("fr and en", "2", "3", "67%")
    assert rows["The sharpest of the set"][:2] == (
        ("0/4", "0.00", "fr en", "en 87.5%", "fr 75.0%"),
        ("2/3", "0.25", "ja", "ja 50.0%", "-"),
    )
    assert rows["The sharpest of each language: layer/index, score"][2] == (
        "ja", "2/3, 0.25", *["-"] * 9
    )  # fmt: skip
    assert rows["Strengths of the levels"][2] == ("ja", "0.25", "0.5", "2")
    assert rows["Measured strengths"] == (
        ("ja", "0.25", "gentle", "25.0% (1/4)", "4.6% to 69.9%", "-"),
        ("ja", "0.5", "normal", "75.0% (3/4)", "30.1% to 95.4%", "1.25"),
    )
    assert rows["Typical tokens"][2] == ("ja", "2", "4.00")


def test_columns_of_the_text_stand_below_each_other(card: ReportCard) -> None:
    lines = to_text(card).splitlines()

    assert "language  name      neurons  in no other  median LAPE score  text tokens" in lines
    assert "fr        French          3            1               0.50    2,000,000" in lines
    assert "ja        Japanese        1            1               0.25    1,000,000" in lines


def test_a_long_table_says_how_many_rows_it_leaves_out_of_a_terminal() -> None:
    toy = make_toy_set()
    codes = ("ar", "bo", "cs", "da", "de", "el", "en", "es", "fa")
    many = replace(
        toy,
        metadata=toy.metadata.model_copy(update={"languages": codes, "token_counts": {}}),
        is_member=torch.ones(9, len(toy.layer)).bool(),
        activation_prob=torch.ones(9, len(toy.layer)),
        token_log_odds=None,
    )
    card = make_report_card(many)

    assert "... and 6 more; `--html` shows all" in to_text(card)
    assert to_html(card).count(" and ") > 36


def test_the_page_escapes_whatever_a_set_says() -> None:
    texts = dict.fromkeys(("model_id", "corpus_name", "licence", "evaluation"), HOSTILE)

    html = to_html(make_report_card(make_small_set(**texts)))

    page = Page(html)
    assert not page.all("script")
    assert len(page.all("img")) == 4
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.words.count(HOSTILE) == 5  # the heading and four facts
    assert f"Neuron set of {HOSTILE}: report card" in page.words


def test_the_text_holds_nothing_that_a_terminal_obeys() -> None:
    text = to_text(make_report_card(make_small_set(model_id="a\x1b[2Jb", licence="c\rd\u202ee")))

    assert r"a\x1b[2Jb" in text
    assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_the_page_needs_no_other_file_and_no_host(html: str) -> None:
    page = Page(html)
    asked = [a[name] for _, a in page.tags for name in ASKING if name in a]
    style = html[html.index("<style>") : html.index("</style>")]
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)

    assert len(asked) == 2 * 4 + 1  # light and dark of four plots, and the icon
    assert all(value.startswith("data:") for value in asked)
    assert "url(" not in style
    assert "@import" not in style
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {t for t, _ in page.tags}


def test_plots_are_whole_svg_files_that_refer_to_nothing_outside(html: str) -> None:
    svgs = svgs_of(html)

    assert len(svgs) == 8
    for svg in svgs:
        for element in ElementTree.fromstring(svg).iter():  # noqa: S314 - we drew it
            links = [value for name, value in element.items() if name.endswith("href")]
            assert all(link.startswith(("#", "data:")) for link in links)
            assert not element.tag.endswith("}text")  # letters are shapes: no font is needed
        assert "#010203" not in svg


def test_the_dark_twin_has_the_shapes_of_the_light_one_in_other_colours(card: ReportCard) -> None:
    for section in make_sections(card):
        for plot in section.plots:
            drawn = to_svg(plot)
            light, dark = (re.sub("#[0-9a-f]{6}", "", drawn[theme]) for theme in ("light", "dark"))
            assert light == dark
            assert drawn["light"] != drawn["dark"]


def test_every_plot_has_words_and_its_numbers_as_a_table(card: ReportCard, html: str) -> None:
    page = Page(html)
    sections = make_sections(card)

    assert all(len(attributes["alt"]) > 40 for attributes in page.all("img"))
    assert all(section.tables for section in sections)
    assert len(page.all("table")) == sum(len(section.tables) for section in sections)
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("details")) == sum(1 for section in sections if section.plots) == 4
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == len(sections) + 2  # warnings and origin
    labels = [a["aria-labelledby"] for a in page.all("section")]
    assert labels == [a["id"] for a in page.all("h2")]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in page.all("div") if "role" in a)


def test_alt_texts_say_what_is_to_be_seen(html: str) -> None:
    assert [attributes["alt"] for attributes in Page(html).all("img")] == [
        "Bars of each language's neurons over the layers. "
        "Most neurons: fr in layer 0, en in layer 0, ja in layer 2.",
        "Heat map of shared neurons per pair of languages. "
        "The pair that shares most: fr and en with 67%.",
        "Histogram of LAPE scores from 0.00 to 1.00 nats. "
        "Most neurons, 2, lie between 0.50 and 0.55.",
        "Success and quality of Japanese over strength. Most success: 75% at strength 0.5. "
        "Levels: gentle 0.25, normal 0.5, strong 2.",
    ]


@pytest.mark.parametrize("neurons", [bare_set(), without_neurons(make_toy_set())], ids=str)
def test_what_a_set_does_not_hold_is_left_out(neurons: NeuronSet) -> None:
    card = make_report_card(neurons)
    headings = [section.heading for section in make_sections(card)]
    text, html = to_text(card), to_html(card)

    assert headings[:3] == ["Languages", "Layers", "Shared neurons"]
    assert "LAPE scores" not in headings
    assert "Sharpest neurons" not in headings
    assert "Calibration" not in headings
    assert "None" not in text
    assert "None" not in html.replace("'none'", "")
    assert "nan" not in text


def test_the_same_card_gives_the_same_bytes(card: ReportCard, html: str) -> None:
    assert to_html(make_report_card(make_small_set())) == html


def test_columns_of_numbers_are_told_from_words() -> None:
    rows = (("fr", "1,200", "-", "25.0%"), ("ja", "3", "0.5", "-"))

    assert Table("?", ("a", "b", "c", "d"), rows).is_number == (False, True, True, True)
