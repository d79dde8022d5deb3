"""Somebody who asks over the page's `/chat` endpoint, or over the OpenAI API, and may leave midway.

Both note what came, update by update. Knows no benchmark: what is right is `load_checks.py`.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import httpx
from gradio_client import Client
from gradio_client.client import Job

Way: TypeAlias = Literal["page", "api"]

LIMIT_S = 120.0  # an answer that takes longer is a lost one
_POLL_S = 0.03  # gradio's client looks for news every 0.05 s itself


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the code of the language that its answer should be in, and how it is asked."""

    text: str
    language: str
    way: Way


@dataclass(slots=True)
class Heard:
    """What came back.

    Args:
        question: What was asked.
        texts: The answer so far, after each update.
        ends: How often the stream said that it is over; the connection's end is not counted.
        has_left: Whether it was cancelled before the end.
        error: What went wrong, in the server's words; empty where nothing did.
        first_s: Seconds to the first text; None if there was none.
        total_s: Seconds to the end.
    """

    question: Question
    texts: list[str] = field(default_factory=list)
    ends: int = 0
    has_left: bool = False
    error: str = ""
    first_s: float | None = None
    total_s: float = 0.0

    @property
    def text(self) -> str:
        """Return the answer as far as it came."""
        return self.texts[-1] if self.texts else ""

    def note(self, text: str, started: float) -> None:
        """Take an update."""
        if text and self.first_s is None:
            self.first_s = time.perf_counter() - started
        self.texts.append(text)


class Asker(Protocol):
    """One of the clients."""

    async def ask(self, question: Question, *, leave_after_s: float | None = None) -> Heard:
        """Ask, and leave midway after a time."""
        ...


class PageAsker:
    """A session of the page, through gradio's own client."""

    def __init__(self, url: str) -> None:
        self._client = Client(url, verbose=False)

    async def ask(self, question: Question, *, leave_after_s: float | None = None) -> Heard:
        """Ask, and leave midway after a time."""
        started, heard = time.perf_counter(), Heard(question)
        job = self._client.submit(
            message=question.text, language=question.language, steering="normal", api_name="/chat"
        )
        while not job.done():
            self._note(job, heard, started)
            passed_s = time.perf_counter() - started
            if leave_after_s is not None and passed_s > leave_after_s and not heard.has_left:
                heard.has_left = await asyncio.to_thread(job.cancel)
            if passed_s > LIMIT_S:
                heard.error = f"no end after {LIMIT_S:g} s"
                break
            await asyncio.sleep(_POLL_S)
        self._note(job, heard, started)
        heard.total_s = time.perf_counter() - started
        if not heard.has_left and not heard.error:
            error = job.exception()
            heard.error, heard.ends = ("", 1) if error is None else (str(error), 0)
        return heard

    @staticmethod
    def _note(job: Job, heard: Heard, started: float) -> None:
        for text in job.outputs()[len(heard.texts) :]:
            heard.note(str(text), started)


class ApiAsker:
    """A client of the OpenAI API, through the official library."""

    def __init__(self, url: str) -> None:
        from openai import AsyncOpenAI

        self._client = AsyncOpenAI(base_url=f"{url}v1", api_key="none", max_retries=0)

    async def ask(self, question: Question, *, leave_after_s: float | None = None) -> Heard:
        """Ask, and leave midway after a time."""
        started, heard = time.perf_counter(), Heard(question)
        try:
            limit_s = LIMIT_S if leave_after_s is None else leave_after_s
            await asyncio.wait_for(self._read(question, heard, started), limit_s)
        except asyncio.TimeoutError:  # its own name until Python 3.11
            heard.has_left = leave_after_s is not None
            heard.error = "" if heard.has_left else f"no end after {LIMIT_S:g} s"
        except Exception as err:  # the library has many, and each is an answer that did not come
            heard.error = f"{type(err).__name__}: {err}"
        heard.total_s = time.perf_counter() - started
        return heard

    async def _read(self, question: Question, heard: Heard, started: float) -> None:
        stream: Any = await self._client.chat.completions.create(
            model="langsteer",
            messages=[{"role": "user", "content": question.text}],
            temperature=0,
            stream=True,
            extra_body={"steering": {"language": question.language}},
        )
        try:
            async for chunk in stream:
                for choice in chunk.choices:
                    heard.note(heard.text + (choice.delta.content or ""), started)
                    heard.ends += choice.finish_reason is not None
        finally:
            await stream.close()


def has_api(url: str) -> bool:
    """Say whether the server speaks OpenAI's API; without a server the program ends."""
    try:
        return httpx.get(f"{url}v1/models").status_code == httpx.codes.OK
    except httpx.HTTPError as err:
        raise SystemExit(
            f"error: no server answers at '{url}' ({err}). Start `python app.py`, or leave --url "
            "out to have one started."
        ) from None


def make_asker(url: str, way: Way) -> Asker:
    """Return a client of a kind."""
    return PageAsker(url) if way == "page" else ApiAsker(url)
