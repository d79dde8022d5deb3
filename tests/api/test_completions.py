"""Tests of chat completions, asked for with OpenAI's own client."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from steering.api.answering import Service
from steering.conversation import Message
from steering.errors import EngineClosedError, GenerationError, OutOfMemoryError, QueueFullError
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING
from tests.api.serving import FailingEngine, is_free_soon, make_service, served
from tests.started import wait_for
from tests.ui.scripted import ENGLISH, FRENCH, ScriptedEngine

QUESTION: Any = [{"role": "user", "content": "Where is the cat?"}]
FRENCH_PLEASE = {"steering": {"language": "fr", "strength": 1.0, "guard": True}}


def test_an_answer_comes_in_the_language_that_was_asked_for(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="langsteer", messages=QUESTION, extra_body=FRENCH_PLEASE
    )

    assert answer.choices[0].message.content == FRENCH
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "langsteer")
    assert answer.usage.completion_tokens == answer.usage.total_tokens - 5 > 0
    assert answer.model_extra["steering"] == {
        "language": "fr",
        "verdict": "on_target",
        "detected": "fr",
        "strays": [],
        "intrusions": [],
        "rewrites": [],
        "has_given_up": False,
        "notes": [],
    }


def test_without_steering_the_model_answers_as_it_is(
    client: OpenAI, engine: ScriptedEngine
) -> None:
    answer = client.chat.completions.create(model="org/toy", messages=QUESTION)

    assert answer.choices[0].message.content == ENGLISH
    report = answer.model_extra["steering"]
    assert (report["language"], report["verdict"], report["detected"]) == (None, None, "en")
    assert engine.requests[0].plans == (NO_STEERING,)


@pytest.mark.parametrize("model", ["langsteer:fr", "org/toy:fr", "langsteer:FR-ca"])
def test_a_language_may_stand_behind_the_name_of_the_model(
    model: str, client: OpenAI, engine: ScriptedEngine
) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION)
    client.chat.completions.create(model="langsteer", messages=QUESTION, extra_body=FRENCH_PLEASE)

    assert answer.choices[0].message.content == FRENCH
    assert answer.model_extra["steering"]["language"] == "fr"
    by_name, by_field = (request.plans[0] for request in engine.requests)
    assert by_name.pulls.keys() == by_field.pulls.keys() != set()


def test_name_and_field_may_say_the_same_or_complete_each_other(
    client: OpenAI, engine: ScriptedEngine
) -> None:
    for fields in ({"language": "fr"}, {"strength": "strong"}):
        answer = client.chat.completions.create(
            model="langsteer:fr", messages=QUESTION, extra_body={"steering": fields}
        )
        assert answer.model_extra["steering"]["language"] == "fr"

    normal, strong = (request.plans[0].repetition_penalty for request in engine.requests)
    assert strong > normal > 1


def test_an_answer_in_another_language_is_told_as_such(client: OpenAI, http: httpx.Client) -> None:
    answer = client.chat.completions.create(model="langsteer:ja", messages=QUESTION)

    report = answer.model_extra["steering"]
    assert (report["verdict"], report["detected"]) == ("off_target", "fr")
    assert {one["language"] for one in report["strays"]} == {"fr"}
    assert "langsteer_off_target_replies_total 1.0" in http.get("/metrics").text


def test_every_field_reaches_the_engine(client: OpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where "},
                                     {"type": "text", "text": "is it?"}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "short", "name": "Ann"},
    ]  # fmt: skip

    client.chat.completions.create(
        model="langsteer",
        messages=messages,
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        seed=11,
        stop=["\n", "END"],
        n=1,
        user="ann",
        store=False,
        metadata={"a": "b"},
        logprobs=False,
        tools=[],
        response_format={"type": "text"},
        extra_body={"service_tier": None},
    )

    request = engine.requests[0]
    assert request.conversations == (
        (
            Message("system", "Be brief."),
            Message("user", "Where is it?"),
            Message("assistant", ""),
            Message("user", "short"),
        ),
    )
    sampling = request.sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 0.9)
    assert (sampling.seed, sampling.stop) == (11, ("\n", "END"))
    assert request.time_limit_s == 60


def test_a_single_stop_and_the_newer_name_of_the_length_are_read(
    client: OpenAI, engine: ScriptedEngine
) -> None:
    client.chat.completions.create(
        model="langsteer", messages=QUESTION, stop="END", max_completion_tokens=9
    )

    assert engine.requests[0].sampling.stop == ("END",)
    assert engine.requests[0].sampling.max_new_tokens == 9


def test_without_a_seed_sampled_answers_differ(client: OpenAI, engine: ScriptedEngine) -> None:
    for _ in range(3):
        client.chat.completions.create(model="langsteer", messages=QUESTION, temperature=1)

    assert len({request.sampling.seed for request in engine.requests}) == 3


def test_a_stream_brings_the_answer_piece_by_piece(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="langsteer",
            messages=QUESTION,
            stream=True,
            extra_body={"steering": {"language": "fr", "guard": False}},
        )
    )

    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == FRENCH
    assert len([piece for piece in pieces if piece]) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks[-2:]] == [None, "stop"]
    assert chunks[-1].model_extra["steering"]["verdict"] == "on_target"
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_what_it_took_when_asked(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="langsteer",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_the_events_are_as_openai_writes_them(http: httpx.Client) -> None:
    body = {"model": "langsteer", "messages": QUESTION, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        events = "".join(response.iter_text()).split("\n\n")

    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert "usage" not in chunks[0]


def test_under_a_guard_nothing_is_sent_that_may_be_taken_back(
    client: OpenAI, engine: ScriptedEngine
) -> None:
    """The scripted engine settles sentence by sentence."""
    chunks = list(
        client.chat.completions.create(model="langsteer:fr", messages=QUESTION, stream=True)
    )

    assert engine.requests[0].guards[0].target == LANGUAGES["fr"]
    pieces = [chunk.choices[0].delta.content for chunk in chunks]
    first, rest = FRENCH.split(".", 1)
    assert [piece for piece in pieces if piece] == [f"{first}.", rest]


def test_a_guard_can_be_left_out(client: OpenAI, engine: ScriptedEngine) -> None:
    client.chat.completions.create(
        model="langsteer:fr", messages=QUESTION, extra_body={"steering": {"guard": False}}
    )

    assert engine.requests[0].guards == ()


def test_clients_at_once_get_each_their_own_answer(client: OpenAI, http: httpx.Client) -> None:
    def ask(number: int) -> str:
        model = ("langsteer", "langsteer:fr")[number % 2]
        answer = client.chat.completions.create(model=model, messages=QUESTION)
        return str(answer.choices[0].message.content)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))

    assert answers == [ENGLISH, FRENCH] * 8
    told = http.get("/metrics").text
    assert 'langsteer_requests_total{status="200"} 16.0' in told
    assert "langsteer_running_requests 0.0" in told


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_its_place_at_once(
    is_stream: bool, http: httpx.Client, engine: ScriptedEngine
) -> None:
    body = {"model": "langsteer", "messages": [{"role": "user", "content": "forever"}],
            "stream": is_stream}  # fmt: skip
    if is_stream:
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
            assert engine.running == 1
    else:
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json=body, timeout=0.5)

    assert is_free_soon(engine)
    wait_for(lambda: 'langsteer_requests_total{status="499"} 1.0' in http.get("/metrics").text)
    assert "langsteer_running_requests 0.0" in http.get("/metrics").text


def test_the_official_client_can_leave_a_stream(client: OpenAI, engine: ScriptedEngine) -> None:
    messages: Any = [{"role": "user", "content": "forever"}]
    stream = client.chat.completions.create(model="langsteer", messages=messages, stream=True)
    next(iter(stream))
    assert engine.running == 1

    stream.close()

    assert is_free_soon(engine)


@pytest.mark.parametrize(
    ("failure", "status", "kind", "code"),
    [
        (QueueFullError("'32' wait already."), 429, "rate_limit_error", "queue_full"),
        (OutOfMemoryError("Too long."), 503, "server_error", "out_of_memory"),
        (EngineClosedError("It ends."), 503, "server_error", "shutting_down"),
        (GenerationError("No room."), 400, "invalid_request_error", None),
    ],
)
@pytest.mark.parametrize("is_stream", [True, False])
def test_what_the_engine_refuses_has_its_status(
    failure: Exception, status: int, kind: str, code: str, is_stream: bool, toy_set: NeuronSet
) -> None:
    body = {"model": "langsteer", "messages": QUESTION, "stream": is_stream}
    with served(make_service(FailingEngine(failure), toy_set)) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=body)

    assert response.status_code == status
    error = response.json()["error"]
    assert error == {"message": str(failure), "type": kind, "param": None, "code": code}
    assert ("retry-after" in response.headers) == (status == 429)


def test_the_official_client_knows_a_full_queue(toy_set: NeuronSet) -> None:
    engine = FailingEngine(QueueFullError("'32' people are waiting already."))
    with (
        served(make_service(engine, toy_set)) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.RateLimitError, match="'32' people are waiting"),
    ):
        client.chat.completions.create(model="langsteer", messages=QUESTION)


def test_a_fault_of_the_program_is_one_plain_sentence_and_in_the_log(
    toy_set: NeuronSet, caplog: pytest.LogCaptureFixture
) -> None:
    with served(make_service(FailingEngine(RuntimeError("a secret")), toy_set)) as url:
        response = httpx.post(
            f"{url}/v1/chat/completions", json={"model": "langsteer", "messages": QUESTION}
        )

    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
    assert "Something went wrong inside the program." in response.text
    assert "RuntimeError: a secret" in caplog.text


def test_what_goes_wrong_within_a_stream_is_its_last_event(toy_set: NeuronSet) -> None:
    engine = FailingEngine(OutOfMemoryError("No memory is left."), after=3)
    body = {"model": "langsteer", "messages": QUESTION, "stream": True}
    with served(make_service(engine, toy_set)) as url:
        response = httpx.post(f"{url}/v1/chat/completions", json=body)
        told = httpx.get(f"{url}/metrics").text

    *pieces, last, empty = response.text.split("\n\n")
    assert response.status_code == 200
    assert empty == ""
    assert "The cat" in "".join(
        json.loads(p.removeprefix("data: "))["choices"][0]["delta"]["content"] for p in pieces
    )
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["message"], error["code"]) == ("No memory is left.", "out_of_memory")
    assert 'langsteer_requests_total{status="503"} 1.0' in told


def test_while_the_model_is_loaded_a_request_waits(toy_set: NeuronSet) -> None:
    engine = ScriptedEngine(is_ready=False)
    with served(make_service(engine, toy_set)) as url, ThreadPoolExecutor(1) as pool:
        body = {"model": "langsteer", "messages": QUESTION}
        waits = pool.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=20)
        wait_for(lambda: engine.running == 1)
        health = httpx.get(f"{url}/healthz")
        told = httpx.get(f"{url}/metrics").text
        engine.finish_loading()
        answer = waits.result()

    assert (health.status_code, health.json()["status"]) == (200, "loading")
    assert "langsteer_waiting_requests 1.0" in told
    assert answer.json()["choices"][0]["message"]["content"] == ENGLISH


@pytest.mark.parametrize(
    ("failure", "said"),
    [(GenerationError("No 'x'."), "No 'x'."), (RuntimeError("a secret"), "The log says why.")],
)
def test_a_model_that_cannot_be_loaded_is_nobodys_fault_who_asks(
    failure: Exception, said: str, toy_set: NeuronSet
) -> None:
    with served(make_service(ScriptedEngine(error=failure), toy_set)) as url:
        body = {"model": "langsteer", "messages": QUESTION}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body)
        health = httpx.get(f"{url}/healthz")

    assert answer.status_code == health.status_code == 503
    message = f"The model could not be loaded. {said}"
    assert answer.json()["error"]["message"] == message
    assert answer.json()["error"]["code"] == "model_not_loaded"
    assert (health.json()["status"], health.json()["detail"]) == ("failed", message)


def test_when_the_program_ends_streams_end_and_nothing_new_begins(
    service: Service, http: httpx.Client, engine: ScriptedEngine
) -> None:
    body = {"model": "langsteer", "messages": [{"role": "user", "content": "forever"}],
            "stream": True}  # fmt: skip
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        service.closing.has_begun = True
        refused = http.post("/v1/chat/completions", json={**body, "stream": False})
        health = http.get("/healthz")
        assert engine.running == 1
        service.closing.is_over = True
        began = time.monotonic()
        last = [line for line in lines if line][-1]

    assert time.monotonic() - began < 2
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert is_free_soon(engine)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert (health.status_code, health.json()["status"]) == (503, "closing")
