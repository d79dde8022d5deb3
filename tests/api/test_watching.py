"""Tests of what is to be seen of the API from outside: models, health, metrics."""

from __future__ import annotations

import re
from typing import Any

import httpx
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from steering.api.asked import ChatCompletionRequest, SteeringFields
from steering.api.replies import SteeringReport
from steering.generation import ReplyUpdate
from steering.guard import Rewrite
from steering.languages import LANGUAGES
from steering.neuron_set import NeuronSet
from tests.api.serving import make_service, served
from tests.started import ROOT
from tests.ui.scripted import ScriptedEngine

API = ROOT / "steering" / "api"
QUESTION: Any = [{"role": "user", "content": "Where is the cat?"}]


def metrics(http: httpx.Client) -> dict[str, float]:
    """Every sample without labels by its name."""
    response = http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if not sample.labels
    }


def test_models_are_listed_by_all_their_names(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]

    assert names[:3] == ["org/toy", "langsteer", "langsteer:fr"]
    assert len(names) == 7


def test_every_listed_model_can_be_shown_and_asked(client: OpenAI) -> None:
    for model in client.models.list():
        assert client.models.retrieve(model.id).id == model.id
        assert client.chat.completions.create(model=model.id, messages=QUESTION).model == model.id


def test_health_says_that_the_model_is_ready(http: httpx.Client) -> None:
    response = http.get("/healthz")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "model": "org/toy", "detail": ""}


def test_metrics_count_what_was_done(client: OpenAI, http: httpx.Client) -> None:
    answer = client.chat.completions.create(model="langsteer:fr", messages=QUESTION)
    for chunk in client.chat.completions.create(
        model="langsteer", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ):
        streamed = chunk.usage.completion_tokens if chunk.usage else 0
    http.post("/v1/chat/completions", json={})

    told = metrics(http)
    assert told["langsteer_generated_tokens_total"] == answer.usage.completion_tokens + streamed
    assert told["langsteer_request_seconds_count"] == 2
    assert told["langsteer_first_token_seconds_count"] == 2
    assert 0 < told["langsteer_first_token_seconds_sum"] < told["langsteer_request_seconds_sum"]
    assert told["langsteer_off_target_replies_total"] == 0
    assert told["langsteer_running_requests"] == told["langsteer_waiting_requests"] == 0
    text = http.get("/metrics").text
    assert 'langsteer_requests_total{status="200"} 2.0' in text
    assert 'langsteer_requests_total{status="400"} 1.0' in text


def test_what_the_guard_did_and_what_was_left_out_is_told_and_counted(toy_set: NeuronSet) -> None:
    again = Rewrite(0, "The cat", LANGUAGES["en"], tokens=2, attempt=1)
    kept = Rewrite(8, "was", None, tokens=1, attempt=3, is_kept=True)
    last = ReplyUpdate(
        ("Le chat",), ("time",), ("A message was left out.",), 9, (7,), ((again, kept),)
    )

    class Rewriting(ScriptedEngine):
        def _say(self, request: object) -> Any:
            yield last

    with served(make_service(Rewriting(), toy_set)) as url, httpx.Client(base_url=url) as http:
        answer = http.post(
            "/v1/chat/completions", json={"model": "langsteer:fr", "messages": QUESTION}
        ).json()
        told = metrics(http)

    assert answer["steering"]["rewrites"] == [
        {"start": 0, "text": "The cat", "language": "en", "tokens": 2, "attempt": 1,
         "is_kept": False},
        {"start": 8, "text": "was", "language": None, "tokens": 1, "attempt": 3, "is_kept": True},
    ]  # fmt: skip
    assert answer["steering"]["notes"][0] == "A message was left out."
    assert "as long as an answer may" in answer["steering"]["notes"][1]
    given_up = "The guard gave up: the model kept writing another language."
    assert answer["steering"]["notes"][2:] == [given_up]
    assert answer["steering"]["has_given_up"] is True
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    assert told["langsteer_rewrites_total"] == 1
    assert told["langsteer_generated_tokens_total"] == 9 + 2


def test_every_field_route_code_and_counter_is_documented(http: httpx.Client) -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    counters = re.findall(r"^# TYPE (\w+) (?!gauge\n\1_created)", http.get("/metrics").text, re.M)
    models = (ChatCompletionRequest, SteeringFields, SteeringReport)
    fields = [name for model in models for name in model.model_fields]
    fields += [*ChatCompletionRequest.only_as_usual, *ChatCompletionRequest.ignored]
    codes = re.findall(r'code="(\w+)"', "".join(p.read_text() for p in API.glob("*.py")))

    assert len(codes) > 5
    assert [name for name in (*fields, *codes) if f"`{name}`" not in page] == []
    shown = [name for name in counters if not name.endswith("_created")]
    assert len(shown) == 9
    assert [name for name in shown if name not in page] == []


def test_the_routes_describe_themselves(http: httpx.Client) -> None:
    paths = http.get("/v1/openapi.json").json()["paths"]

    assert {"/v1/chat/completions", "/v1/models", "/healthz", "/metrics"} <= set(paths)
