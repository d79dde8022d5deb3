"""Take the README's picture: `python scripts/take_screenshot.py [--url URL] [--out FILE]`.

Asks "Where is the cat?" with French chosen, beside the answer without steering, in Debian's
Chromium. Without `--url` it starts `python app.py` itself. Needs playwright (requirements-dev.txt).
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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 200_000  # a README should open quickly
PORT = "7875"
QUESTION = "Where is the cat?"


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


def show_turn(page: Page, url: str) -> None:
    """Ask the question and wait for both answers."""
    page.goto(url)
    page.get_by_role("button", name="Send", exact=True).wait_for()
    page.get_by_label("Also show the answer without steering").check()
    page.get_by_role("textbox", name="Message").fill(QUESTION)
    page.keyboard.press("Enter")
    for column in ("#chat", "#twin"):
        page.locator(f"{column} .badge").wait_for()
    page.wait_for_timeout(500)  # the columns scroll to their ends


def take(url: str, out: Path) -> None:
    """Write the picture.

    Raises:
        SystemExit: If there is no Chromium, or the picture is too large.
    """
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        raise SystemExit("chromium is not installed; see the Makefile's `browser`.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1120, "height": 760}, color_scheme="light")
        show_turn(page, url)
        out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=out)
        browser.close()
    if out.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"'{out}' has {out.stat().st_size} bytes; the limit is {LIMIT_BYTES}.")
    print(f"{out}: {out.stat().st_size:,} bytes")


def main() -> None:
    """Read the arguments and take the picture."""
    parser = argparse.ArgumentParser(description="Take the README's picture of the page.")
    parser.add_argument("--url", help="a page that is open already; else app.py is started")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "chat.png")
    options = parser.parse_args()
    with contextlib.nullcontext(options.url) if options.url else started_app() as url:
        take(url, options.out)


if __name__ == "__main__":
    main()
