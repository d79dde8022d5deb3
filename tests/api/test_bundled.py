"""The API with the bundled model: what a client gets that knows nothing of scripts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from openai import OpenAI

from steering.api.answering import Service
from steering.api.choosing import ServedModel
from steering.bundled import BUNDLED_NEURON_SET
from steering.engine import Engine
from steering.loading import load_model
from steering.neuron_set_file import load_neuron_set
from tests.api.serving import served
from tests.asking import running

QUESTION: Any = [{"role": "user", "content": "Where is the cat?"}]
CODES = ("en", "es", "fr", "id", "ja", "vi", "zh")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running(lambda: load_model("bundled")) as one:
        yield one


@pytest.fixture(scope="module")
def url(engine: Engine) -> Iterator[str]:
    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    service = Service(engine, ServedModel("bundled", lambda: neurons), 120, 60)
    with served(service) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as one:
        yield one


def test_people_at_once_get_each_their_own_language(client: OpenAI) -> None:
    def ask(code: str) -> tuple[str, str, str]:
        chunks = list(
            client.chat.completions.create(
                model=f"langsteer:{code}",
                messages=QUESTION,
                stream=True,
                extra_body={"steering": {"guard": False}},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        report = chunks[-1].model_extra["steering"]
        return text, report["language"], report["verdict"]

    with ThreadPoolExecutor(len(CODES)) as pool:
        answers = list(pool.map(ask, CODES))

    assert [language for _, language, _ in answers] == list(CODES)
    assert {verdict for *_, verdict in answers} == {"on_target"}
    assert len({text for text, *_ in answers}) == len(CODES)


def test_stream_and_whole_answer_are_the_same(client: OpenAI) -> None:
    asked: Any = {"model": "langsteer:es", "messages": QUESTION}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(**asked, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert text == whole
    assert text


def test_a_client_that_leaves_frees_the_engine(url: str, engine: Engine) -> None:
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    body = {"model": "langsteer", "messages": [{"role": "user", "content": "Tell me a story."}],
            "stream": True}  # fmt: skip
    model = engine.model().model
    engine.call(lambda _: None)  # whatever ran before is over
    handle = model.register_forward_pre_hook(count)
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            while '"content":"' not in next(lines):
                pass
        engine.call(lambda _: None)
        after = passes
    finally:
        handle.remove()

    assert 0 < after < 119  # an answer that is not stopped would take up to 120


def test_no_room_for_the_question_is_refused_in_words(client: OpenAI) -> None:
    long: Any = [{"role": "system", "content": "cat " * 4000}, *QUESTION]

    response = client.chat.completions.with_raw_response.create
    with pytest.raises(Exception, match="system message alone fills") as caught:
        response(model="langsteer", messages=long)

    assert caught.value.status_code == 400  # type: ignore[attr-defined]  # of openai's errors
