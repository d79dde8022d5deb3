"""Fixtures of the API: a server whose engine follows a script, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from steering.api.answering import Service
from steering.neuron_set import NeuronSet
from tests.api.serving import make_service, served
from tests.ui.scripted import ScriptedEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def service(engine: ScriptedEngine, toy_set: NeuronSet) -> Service:
    return make_service(engine, toy_set)


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with served(service) as address:
        yield address


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20) as one:
        yield one
