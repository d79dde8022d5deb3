"""Fixtures of the page: a chat whose engine follows a script."""

from collections.abc import Callable

import pytest

from steering.neuron_set import NeuronSet
from steering.ui.asking import Chat
from tests.ui.scripted import ScriptedEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def make_chat(toy_set: NeuronSet) -> Callable[[ScriptedEngine], Chat]:
    def make(engine: ScriptedEngine) -> Chat:
        return Chat(engine, toy_set, 40)  # type: ignore[arg-type]  # all that Chat needs of one

    return make


@pytest.fixture
def chat(engine: ScriptedEngine, make_chat: Callable[[ScriptedEngine], Chat]) -> Chat:
    return make_chat(engine)
