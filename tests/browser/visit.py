"""A visit to the page, as the browser tests and the screenshot see it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

WAIT_MS = 10_000


@dataclass
class Visit:
    """A browser's page on ours, and what the browser complained of or asked others for."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._note_request)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.complaints.append(f"asked {request.url}")

    def open(self, url: str, query: str = "?lang=fr") -> None:
        self.page.goto(url + query)
        self.button("Send").wait_for()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def ask(self, message: str) -> None:
        self.page.get_by_role("textbox", name="Message").fill(message)
        self.page.keyboard.press("Enter")

    def answers(self, name: str = "chat") -> Locator:
        return self.page.locator(f"#{name} .bot.message")

    def expect(self, text: str | re.Pattern[str], name: str = "chat") -> None:
        expect(self.answers(name).last).to_contain_text(text, timeout=WAIT_MS)

    def expect_kept(self, text: str) -> None:
        """Expect the last answer to have a text, and the browser to have kept the chat."""
        self.expect(text)
        expect(self.button("Send")).to_be_enabled(timeout=WAIT_MS)


def wait_until(is_true: Callable[[], bool], *, within_s: float = 5) -> None:
    end = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
