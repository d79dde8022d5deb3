"""Tests of bad input: every mistake is an OpenAI error object that names it, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from steering.api.gates import MAX_BODY_BYTES
from steering.neuron_set import NeuronSet
from tests.api.serving import make_service, served
from tests.ui.scripted import ScriptedEngine

PATH = "/v1/chat/completions"
SAY = {"role": "user", "content": "Where is the cat?"}
GOOD: Mapping[str, Any] = {"model": "langsteer", "messages": [SAY]}


def refused(http: httpx.Client, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str]]:
    response = http.post(PATH, content=json.dumps(body).encode(),
                         headers={"content-type": "application/json"})  # fmt: skip
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith(".")
    return response.status_code, error


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"model": None}, "model", "'model' is missing"),
        ({"model": 3}, "model", "'model' is '3'. Expected a valid string"),
        ({"messages": None}, "messages", "'messages' is missing"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "Hello"}, "messages", "'messages' is 'Hello'. Expected a valid list"),
        ({"messages": [3]}, "messages[0]", "'messages[0]' is '3'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'system', "),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "of role 'user' is empty"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content", "is empty"),
        ({"messages": [{**SAY, "content": 3}]}, "messages[0].content", "a valid string"),
        ({"messages": [{**SAY, "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages[0].content", "part of type 'image_url'"),
        ({"messages": [{**SAY, "content": ["x"]}]}, "messages[0].content", "part of type 'str'"),
        ({"messages": [{**SAY, "content": "a\ud800"}]}, "messages[0].content", "half a character"),
        ({"messages": [{**SAY, "tool_calls": [{}]}]}, "messages[0].tool_calls", "not supported"),
        ({"messages": [{**SAY, "colour": 1}]}, "messages[0].colour", "Unknown parameter"),
        ({"messages": [SAY, {"role": "assistant", "content": "x"}]}, "messages",
         "The last message is"),
        ({"max_tokens": 0}, "max_tokens", "'max_tokens' is '0'. Expected greater than or equal"),
        ({"max_tokens": True}, "max_tokens", "a valid integer"),
        ({"max_tokens": 41}, "max_tokens", "Expected at most 40"),
        ({"max_completion_tokens": 41}, "max_completion_tokens", "Expected at most 40"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens", "Expected one of them"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "'temperature' is 'hot'. Expected a valid number"),
        ({"temperature": float("nan")}, "temperature", "a finite number"),
        ({"temperature": True}, "temperature", "a valid number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"stop": ["a"] * 5}, "stop", "at most 4 items"),
        ({"stop": [""]}, "stop[0]", "at least 1 character"),
        ({"stream": "yes"}, "stream", "a valid boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "'stream' is not true"),
        ({"n": 2}, "n", "'n' is not supported with this value. Expected '1'"),
        ({"n": True}, "n", "not supported"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "Expected '0'"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"top_k": 5}, "top_k", "Unknown parameter 'top_k'"),
        ({"steering": "fr"}, "steering", "'steering' is 'fr'"),
        ({"steering": {"language": "jp"}}, "steering.language", "Did you mean 'ja'?"),
        ({"steering": {"language": "de"}}, "steering.language", "Unknown language 'de'"),
        ({"steering": {"language": "fr", "strength": "storng"}}, "steering.strength", "'storng'"),
        ({"steering": {"language": "fr", "strength": -1}}, "steering.strength", "'-1'"),
        ({"steering": {"language": "fr", "strength": 11}}, "steering.strength", "from 0 to 10"),
        ({"steering": {"language": "fr", "strength": float("nan")}}, "steering.strength", "'nan'"),
        ({"steering": {"language": "fr", "strength": []}}, "steering.strength", "'[]'"),
        ({"steering": {"language": "fr", "guard": 1}}, "steering.guard", "a valid boolean"),
        ({"steering": {"language": "fr", "method": "magic"}}, "steering", "method 'magic'"),
        ({"steering": {"lang": "fr"}}, "steering.lang", "Unknown parameter 'steering.lang'"),
        ({"steering": {"strength": 1}}, "steering.language", "has no language, but strength"),
        ({"model": "langsteer:fr", "steering": {"language": "ja"}}, "steering.language",
         "asks for 'fr', 'steering.language' for 'ja'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(
    changes: dict[str, Any], param: str | None, said: str, http: httpx.Client
) -> None:
    status, error = refused(http, {**GOOD, **changes})

    assert status == 400
    assert said in error["message"]
    assert error["param"] == param


@pytest.mark.parametrize("name", ["gpt-4", "langsteer:xx", "langsteer:", ":fr", "", "org/toy:jp"])
def test_a_model_that_is_not_there_is_named(name: str, http: httpx.Client) -> None:
    status, error = refused(http, {**GOOD, "model": name})

    assert status == 404
    assert f"No model '{name}'" in error["message"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")


def test_several_mistakes_are_named_at_once(http: httpx.Client) -> None:
    _, error = refused(http, {**GOOD, "temperature": 9, "top_p": 9, "top_k": 1})

    assert all(f"'{name}'" in error["message"] for name in ("temperature", "top_p", "top_k"))


def test_codes_tell_unknown_from_unsupported(http: httpx.Client) -> None:
    assert refused(http, {**GOOD, "top_k": 1})[1]["code"] == "unknown_parameter"
    assert refused(http, {**GOOD, "n": 2})[1]["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{", "application/json", "The body is not JSON"),
        (b"\xff", "application/json", "body"),
        (b"[" * 100_000, "application/json", "body"),
        (b"[]", "application/json", "not a JSON object"),
        (b"", "application/json", "not a JSON object"),
        (json.dumps(GOOD).encode(), "text/plain", "Content-Type: application/json"),
        (b'{"seed": ' + b"9" * 9999 + b"}", "application/json", "body"),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    body: bytes, kind: str, said: str, http: httpx.Client
) -> None:
    response = http.post(PATH, content=body, headers={"content-type": kind})

    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    assert response.json()["error"]["param"] is None


@pytest.mark.parametrize("is_told", [True, False])
def test_a_body_that_is_too_long_is_refused_unread(is_told: bool, http: httpx.Client) -> None:
    long = json.dumps({**GOOD, "user": "x" * MAX_BODY_BYTES}).encode()
    pieces = (long[place : place + 65536] for place in range(0, len(long), 65536))

    response = http.post(
        PATH,
        content=long if is_told else pieces,
        headers={"content-type": "application/json"},
    )

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


def test_a_body_that_is_just_short_enough_is_answered(http: httpx.Client) -> None:
    rest = MAX_BODY_BYTES - len(json.dumps({**GOOD, "user": ""}))
    body = json.dumps({**GOOD, "user": "x" * rest}).encode()
    assert len(body) == MAX_BODY_BYTES

    response = http.post(PATH, content=body, headers={"content-type": "application/json"})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", PATH, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/completions", 404),
        ("GET", "/v1/models/gpt-4", 404),
    ],
)
def test_a_route_that_is_not_there_is_an_error_object_too(
    method: str, path: str, status: int, http: httpx.Client
) -> None:
    response = http.request(method, path)

    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_official_client_raises_its_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="No model 'gpt-4'"):
        client.chat.completions.create(model="gpt-4", messages=[SAY])  # type: ignore[list-item]
    with pytest.raises(openai.BadRequestError, match="'n' is not supported"):
        client.chat.completions.create(model="langsteer", n=2, messages=[SAY])  # type: ignore[list-item]


def test_without_a_set_a_language_cannot_be_had(engine: ScriptedEngine) -> None:
    with served(make_service(engine, None)) as url:
        by_field = httpx.post(url + PATH, json={**GOOD, "steering": {"language": "fr"}})
        by_name = httpx.post(url + PATH, json={**GOOD, "model": "langsteer:fr"})
        unsteered = httpx.post(url + PATH, json=GOOD)
        names = [card["id"] for card in httpx.get(f"{url}/v1/models").json()["data"]]

    assert (by_field.status_code, by_name.status_code) == (400, 404)
    assert "this model has no neuron set yet" in by_field.json()["error"]["message"]
    assert "this model has no neuron set yet" in by_name.json()["error"]["message"]
    assert unsteered.status_code == 200
    assert unsteered.json()["steering"]["detected"] is None
    assert names == ["org/toy", "langsteer"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Basic s3cret-é"}, 401),
        ({"Authorization": "Bearer s3cret-é"}, 200),
        ({"Authorization": "bearer  s3cret-é"}, 200),
    ],
)
def test_a_key_is_asked_for_where_one_is_set(
    header: dict[str, str], status: int, engine: ScriptedEngine, toy_set: NeuronSet
) -> None:
    headers = {name: value.encode() for name, value in header.items()}
    with served(make_service(engine, toy_set), key="s3cret-é") as url:
        answers = [
            httpx.post(url + PATH, json=GOOD, headers=headers),
            httpx.get(f"{url}/v1/models", headers=headers),
            httpx.get(f"{url}/metrics", headers=headers),
        ]
        nonsense = httpx.post(url + PATH, content=b"{")
        health = httpx.get(f"{url}/healthz")

    assert [answer.status_code for answer in answers] == [status] * 3
    assert (nonsense.status_code, health.status_code) == (401, 200)
    if status == 401:
        assert answers[0].json()["error"]["code"] == "invalid_api_key"
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert len(engine.requests) == 0
