"""Tests of the tab "Does it work?" in Chromium, with an engine that follows a script."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from steering.neuron_set import NeuronSet
from steering.ui.results.measured import results_path
from tests.browser.served import served_page
from tests.browser.visit import Visit
from tests.ui.results.test_measured import FILE
from tests.ui.scripted import ScriptedEngine

pytestmark = pytest.mark.browser

TABLE = "text,target,language\nWhere is the cat?,fr,en\n<script>alert(1)</script>,fr,en\n"


@pytest.fixture(scope="module")
def url(
    toy_set: NeuronSet, engine: ScriptedEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    neuron_set = tmp_path_factory.mktemp("sets") / "toy.safetensors"
    results_path(neuron_set).write_text(json.dumps(FILE), encoding="utf-8")
    with served_page(toy_set, engine, neuron_set=neuron_set) as url:
        yield url


@pytest.fixture
def open_tab(browser: Browser, url: str) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(*, width: int = 1200, **options: str) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 850}, **options)  # type: ignore[arg-type]  # names of Playwright's own
        visit = Visit(context.new_page())
        visits.append(visit)
        visit.open(url)
        visit.page.get_by_role("tab", name="Does it work?").click()
        visit.button("Run 8 prompts live").wait_for()
        return visit

    yield start
    for visit in visits:
        visit.page.context.close()
        assert visit.complaints == []


@pytest.fixture
def visit(open_tab: Callable[..., Visit]) -> Visit:
    return open_tab()


def tab(visit: Visit) -> Locator:
    return visit.page.locator(".results")


def pick(visit: Visit, path: Path) -> None:
    with visit.page.expect_file_chooser() as chosen:
        visit.button("Choose a file of prompts …").click()
    chosen.value.set_files(path)


def test_measured_results_are_there_with_chart_and_table(visit: Visit) -> None:
    expect(tab(visit)).to_contain_text("30 of 40 answers; 95% interval")
    expect(tab(visit)).to_contain_text("another neuron set")
    expect(visit.page.locator("figure.bars svg").first).to_be_visible()
    table = visit.page.get_by_role("table").first
    expect(table).to_be_hidden()

    summary = visit.page.get_by_text("The chart as a table")
    summary.focus()
    visit.page.keyboard.press("Enter")

    expect(table).to_contain_text("25 of 30")


def test_bars_are_as_long_as_their_rates(visit: Visit) -> None:
    group = visit.page.locator(".bar-group", has_text="Japanese")
    room = group.locator(".bar-room").first.bounding_box()
    bar = group.locator(".bar-before").bounding_box()

    assert room is not None
    assert bar is not None
    assert bar["width"] == pytest.approx(room["width"] * 25 / 30, rel=0.01)
    assert room["width"] > 200


def test_eight_prompts_run_with_progress_and_results_as_they_come(visit: Visit) -> None:
    visit.button("Run 8 prompts live").click()

    expect(visit.page.get_by_role("progressbar")).to_be_visible()
    expect(tab(visit)).to_contain_text("2 of 8 prompts answered …")
    expect(tab(visit)).to_contain_text("Prompt by prompt")
    expect(visit.button("Run 8 prompts live")).to_be_disabled()
    expect(tab(visit)).to_contain_text("Done: 8 of 8 prompts answered.", timeout=30_000)
    expect(tab(visit)).to_contain_text("Steered (Normal)")
    expect(tab(visit)).to_contain_text("✓ French, as chosen")
    expect(visit.button("Run 8 prompts live")).to_be_enabled()
    expect(visit.button("Stop").filter(visible=True)).to_have_count(0)


def test_stop_ends_it_and_keeps_what_is_finished(visit: Visit, engine: ScriptedEngine) -> None:
    visit.button("Run 8 prompts live").click()
    expect(tab(visit)).to_contain_text("2 of 8 prompts answered …")
    visit.button("Stop").filter(visible=True).click()

    expect(tab(visit)).to_contain_text(re.compile(r"Stopped: [246] of 8 prompts answered\."))
    assert engine.running == 0
    expect(visit.button("Run 8 prompts live")).to_be_enabled()
    expect(visit.button("Download verdicts (CSV)")).to_be_visible()


def test_a_file_of_ones_own_is_run_and_its_verdicts_are_saved(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(TABLE, encoding="utf-8")
    expect(visit.button("Run my prompts")).to_be_disabled()

    pick(visit, tmp_path / "mine.csv")
    expect(tab(visit)).to_contain_text("mine.csv: prompts: 2, to be answered in: French.")
    visit.button("Run my prompts").click()
    expect(tab(visit)).to_contain_text("Done: 2 of 2 prompts answered.")

    expect(tab(visit)).to_contain_text("<script>alert(1)</script>")
    with visit.page.expect_download() as saved:
        visit.button("Download verdicts (CSV)").click()
    assert saved.value.suggested_filename == "langsteer-verdicts.csv"
    assert "off_target" in Path(saved.value.path()).read_text(encoding="utf-8")
    with visit.page.expect_download() as saved:
        visit.button("Download verdicts (JSON)").click()
    kept = json.loads(Path(saved.value.path()).read_text(encoding="utf-8"))
    assert [one["steered_verdict"] for one in kept["verdicts"]] == ["on_target", "on_target"]


def test_a_wrong_file_is_refused_in_words_and_the_page_goes_on(
    visit: Visit, tmp_path: Path
) -> None:
    wrong = {
        "picture.csv": (b"\x89PNG\x00\x01", "is no text"),
        "latin.csv": (b"text,target\n\xe9t\xe9,fr\n", "is not UTF-8"),
        "empty.jsonl": (b"", "it is empty"),
        "large.csv": (b"x" * 1_000_001, "Expected at most 1,000,000"),
        "unknown.csv": (b"text,target\nWho is it?,xx\n", "unknown language: 'xx'"),
    }
    for name, (content, words) in wrong.items():
        (tmp_path / name).write_bytes(content)
        pick(visit, tmp_path / name)
        expect(tab(visit).get_by_role("alert")).to_contain_text(words)
        expect(visit.button("Run my prompts")).to_be_disabled()

    (tmp_path / "mine.csv").write_text(TABLE, encoding="utf-8")
    pick(visit, tmp_path / "mine.csv")
    expect(visit.button("Run my prompts")).to_be_enabled()


def test_steering_that_is_off_is_refused_in_words(visit: Visit) -> None:
    visit.page.get_by_label("Off").check()
    visit.button("Run 8 prompts live").click()

    expect(visit.page.get_by_text("Cannot compare with steering: it is 'off'")).to_be_visible()
    expect(visit.button("Run 8 prompts live")).to_be_enabled()


def test_a_phone_does_not_scroll_sideways(open_tab: Callable[..., Visit]) -> None:
    visit = open_tab(width=360)
    visit.button("Run 8 prompts live").click()
    expect(tab(visit)).to_contain_text("Done: 8 of 8", timeout=30_000)
    for folded in visit.page.locator(".results summary").all():
        folded.click()

    wide = visit.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    tables = visit.page.locator(".results .wide").last
    assert tables.evaluate("e => e.scrollWidth > e.clientWidth && e.tabIndex === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_keeps_its_contrast(open_tab: Callable[..., Visit], scheme: str) -> None:
    visit = open_tab(color_scheme=scheme)
    visit.button("Run 8 prompts live").click()
    expect(tab(visit)).to_contain_text("2 of 8 prompts answered …")

    poor = visit.page.evaluate(_POOR_CONTRAST)

    assert poor == []


# Every visible text of the tab whose contrast to what is behind it is under 4.5.
_POOR_CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll('.results *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('button')) continue;
    const text = light(parse(getComputedStyle(e).color)), page = light(behind(e));
    const contrast = (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
    if (contrast < 4.5) poor.push(e.className + ': ' + e.textContent.slice(0, 40));
  }
  return poor;
}"""
