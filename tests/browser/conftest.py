"""Debian's Chromium, without which these tests are skipped, and a page with a scripted engine."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from steering.neuron_set import NeuronSet
from tests.browser.served import served_page
from tests.ui.scripted import ScriptedEngine

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.visit import Visit

collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

# No sandbox, as tests may run as root; the rest keeps Chromium from asking its makers for anything.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium once."""
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve(toy_set: NeuronSet) -> Iterator[Callable[..., str]]:
    """Serve the page of the bundled model with a scripted engine: its address."""
    with ExitStack() as pages:
        yield lambda engine, neurons=toy_set: pages.enter_context(served_page(neurons, engine))


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    engine = ScriptedEngine()
    engine.word_s = 0.03
    return engine


@pytest.fixture(scope="module")
def url(serve: Callable[[ScriptedEngine], str], engine: ScriptedEngine) -> str:
    return serve(engine)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    from tests.browser.visit import Visit

    context = browser.new_context(viewport={"width": 1200, "height": 850})
    visit = Visit(context.new_page())
    visit.open(url)
    yield visit
    context.close()
    assert visit.complaints == []
