"""Take the pictures of the page: `python scripts/take_screenshots.py [--url URL] [--out FOLDER]`.

Every tab, with something in it, in light, dark and on a phone, in Debian's Chromium. Without
`--url` it starts `python app.py` itself. Needs playwright (requirements-dev.txt).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 150_000  # each; a README should open quickly
COLOURS = 128  # of a picture's palette: enough for greys, badges and bars
PORT = "7875"
QUESTION = "Where is the cat?"
WAIT_MS = 60_000
# name -> width, height, colour scheme
VIEWS = {
    "light": (1120, 860, "light"),
    "dark": (1120, 860, "dark"),
    "phone": (360, 740, "light"),
}


@contextlib.contextmanager
def started_app() -> Iterator[str]:
    """Start the page on a port of its own and give its address."""
    url = f"http://127.0.0.1:{PORT}/"
    environment = {**os.environ, "GRADIO_SERVER_PORT": PORT}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit("app.py ended; see what it says above.")
            with contextlib.suppress(OSError), urllib.request.urlopen(url):
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def show_chat(page: Page) -> None:
    """Ask steered, then without steering, which shows a marked answer."""
    for level, badges in (("Normal", 1), ("Off", 2)):
        page.get_by_label(level, exact=True).check()
        page.get_by_role("textbox", name="Message").fill(QUESTION)
        page.keyboard.press("Enter")
        page.locator("#chat .badge").nth(badges - 1).wait_for()
    page.get_by_label("Normal", exact=True).check()


def show_compare(page: Page) -> None:
    """Have one question answered three ways."""
    page.locator("#compare-box textarea").fill(QUESTION)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("The three answers are there.").wait_for()


def show_inside(page: Page) -> None:
    """Show what fires in the chat's first answer."""
    page.get_by_role("button", name="Show what fires").click()
    page.locator("#inside-reading table").first.wait_for(state="attached")


# tab's file name -> its label, and what is done before its picture is taken
TABS: dict[str, tuple[str, Callable[[Page], None]]] = {
    "chat": ("Chat", show_chat),
    "compare": ("Compare", show_compare),
    "results": ("Does it work?", lambda _: None),
    "inside": ("Look inside", show_inside),
    "about": ("About & API", lambda _: None),
}


def take_all(url: str, out: Path) -> None:
    """Write a picture of each tab in each view.

    Raises:
        SystemExit: If there is no Chromium, or a picture is too large.
    """
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        raise SystemExit("chromium is not installed; see the Makefile's `browser`.")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for view in VIEWS:
            take_view(browser, url, out, view)
        browser.close()


def take_view(browser: Browser, url: str, out: Path, view: str) -> None:
    """Write a picture of each tab in one view."""
    width, height, scheme = VIEWS[view]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-US",
    )
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}?lang=fr")
    page.get_by_role("button", name="Send", exact=True).wait_for()
    for name, (label, prepare) in TABS.items():
        page.get_by_role("tab", name=label).click()
        prepare(page)
        if name != "chat" or view == "phone":
            page.locator("#tabs").evaluate("node => node.scrollIntoView()")
        page.wait_for_timeout(1000)  # answers scroll to their ends
        save(page.screenshot(), out / f"{name}-{view}.png")
    page.close()


def save(png: bytes, path: Path) -> None:
    """Write a picture with few colours.

    Raises:
        SystemExit: If it is too large all the same.
    """
    picture = Image.open(BytesIO(png)).convert("RGB").quantize(COLOURS)
    picture.save(path, optimize=True)
    if path.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"'{path}' has {path.stat().st_size} bytes; the limit is {LIMIT_BYTES}.")
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Read the arguments and take the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the page.")
    parser.add_argument("--url", help="a page that is open already; else app.py is started")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "page")
    options = parser.parse_args()
    with contextlib.nullcontext(options.url) if options.url else started_app() as url:
        take_all(url, options.out)


if __name__ == "__main__":
    main()
