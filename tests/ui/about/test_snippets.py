"""Tests of the programs to copy: they hold every choice, and do what the page does."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.api.asked import ChatCompletionRequest
from steering.bundled import BUNDLED_NEURON_SET
from steering.engine import Engine
from steering.languages import LANGUAGES
from steering.loading import load_model
from steering.neuron_set_file import load_neuron_set
from steering.token_choice import Sampling
from steering.ui.about.snippets import (
    Call,
    as_curl,
    base_url_of,
    with_gradio_client,
    with_openai,
    with_steering,
)
from steering.ui.about.tab import make_call
from steering.ui.about.texts import SetFile
from steering.ui.asking import Chat, Wish
from tests.started import ROOT, started_app
from tests.ui.scripted import ScriptedEngine

URL = "http://127.0.0.1:7860"
FR = LANGUAGES["fr"]
CALL = Call(
    base_url=URL,
    question="Where is the cat?",
    model="bundled",
    set_file=SetFile("neuron_sets/bundled.safetensors", "ab" * 32),
    wish=Wish(FR),
    method="",
    sampling=Sampling(max_new_tokens=40),
    longest=40,
)
SAMPLED = replace(
    CALL,
    wish=Wish(
        FR,
        "strong",
        "lape@5+diffmean/L4@1",
        has_guard=False,
        max_new_tokens=9,
        temperature=0.5,
        seed=7,
    ),
    method="lape@5+diffmean/L4@1",
    sampling=Sampling(max_new_tokens=9, temperature=0.5, top_p=0.95, seed=7),
)
OFF = replace(CALL, wish=Wish(FR, "off"))
PYTHON = (with_openai, with_gradio_client, with_steering)

# No half characters: nobody can type one, and no file could hold it.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
HARD = (
    'l\'été "dit" \\ `id` $(id) $HOME !! %s {} \\u0041',
    "日本語 العربية 😀 \u202e\u2028",
    "a\nb\r\tc\x00\x7f",
    "'\"'\"'",
)


def body_of(curl: str) -> dict[str, object]:
    words = shlex.split(curl)
    return json.loads(words[words.index("-d") + 1])  # type: ignore[no-any-return]


def arguments_of(program: str) -> dict[str | None, object]:
    """The arguments of the call to `predict`."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.predict"
    )
    return {one.arg: ast.literal_eval(one.value) for one in call.keywords}


def literals(program: str) -> set[object]:
    return {node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)}


def test_a_call_of_the_api_holds_what_was_chosen() -> None:
    request = ChatCompletionRequest.model_validate(body_of(as_curl(SAMPLED)))

    assert request.messages[0].content == "Where is the cat?"
    assert request.steering is not None
    assert request.steering.model_dump() == {
        "language": "fr", "strength": "strong", "guard": False, "method": "lape@5+diffmean/L4@1",
    }  # fmt: skip
    assert (request.wanted_tokens(), request.temperature, request.top_p) == (9, 0.5, 0.95)
    assert request.seed == 7


def test_without_steering_a_call_of_the_api_has_none() -> None:
    for call in (OFF, replace(CALL, wish=Wish(None)), replace(CALL, set_file=None)):
        assert "steering" not in body_of(as_curl(call))
        assert "extra_body" not in with_openai(call)
        assert "NO_STEERING" in with_steering(call)


def test_gradios_client_asks_with_every_choice_that_is_not_the_usual() -> None:
    damped = replace(SAMPLED, wish=replace(SAMPLED.wish, is_damped=True), method="x+damp@0.5")

    assert arguments_of(with_gradio_client(CALL)) == {
        "message": "Where is the cat?", "language": "fr", "steering": "normal", "guard": True,
        "api_name": "/chat",
    }  # fmt: skip
    assert arguments_of(with_gradio_client(damped)) == {
        "message": "Where is the cat?", "language": "fr", "steering": "strong", "guard": False,
        "method": "lape@5+diffmean/L4@1", "damping": True, "length": 9, "creativity": 0.5,
        "seed": 7, "api_name": "/chat",
    }  # fmt: skip
    assert 'steering="off"' in with_gradio_client(OFF)
    assert 'language="none"' in with_gradio_client(replace(CALL, wish=Wish(None)))


def test_the_name_of_a_model_may_hold_the_language() -> None:
    assert '"langsteer:fr"' in with_openai(CALL)
    assert "langsteer:" not in with_openai(OFF)


@pytest.mark.parametrize("text", HARD)
def test_no_letter_of_a_method_or_a_question_breaks_out(text: str) -> None:
    call = replace(CALL, method=text, question=text, model=text)
    body = ChatCompletionRequest.model_validate(
        {**body_of(as_curl(call)), "messages": [{"role": "user", "content": "x"}], "steering": None}
    )

    assert body.model == "langsteer"
    assert body_of(as_curl(call))["messages"] == [{"role": "user", "content": text}]
    for write in PYTHON:
        assert text in literals(write(call))


@given(TEXTS)
def test_every_text_comes_through_shell_and_python(text: str) -> None:
    call = replace(CALL, method=text, question=text)

    steering = body_of(as_curl(call)).get("steering")
    assert isinstance(steering, dict)
    assert steering.get("method", "") == text
    for write in PYTHON:
        assert text in literals(write(call))


@pytest.mark.parametrize("text", HARD[:2])
def test_a_shell_reads_the_command_as_it_is_meant(text: str, tmp_path: Path) -> None:
    (tmp_path / "curl").write_text(f"#!{sys.executable}\nimport sys\nprint(ascii(sys.argv[1:]))\n")
    (tmp_path / "curl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    said = subprocess.run(
        ["sh", "-c", as_curl(replace(CALL, question=text))],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip

    words = ast.literal_eval(said.stdout)
    assert words[:2] == ["-sS", f"{URL}/v1/chat/completions"]
    assert json.loads(words[-1])["messages"][0]["content"] == text


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"host": "127.0.0.1:7860"}, "http://127.0.0.1:7860"),
        ({"host": "[::1]:7860"}, "http://[::1]:7860"),
        ({"host": "me-app.hf.space", "x-forwarded-proto": "https"}, "https://me-app.hf.space"),
        ({"host": "a:1", "x-forwarded-proto": "https,http"}, "https://a:1"),
        ({"host": "a:1", "x-forwarded-host": "b.org, a:1"}, "http://b.org"),
        ({"host": "a", "x-forwarded-proto": "javascript"}, "http://a"),
        ({}, URL),
        ({"host": ""}, URL),
        ({"host": "a/b"}, URL),
        ({"host": "a' ; id #"}, URL),
        ({"host": 'a"b'}, URL),
        ({"host": "a\nb"}, URL),
        ({"host": "é.org"}, URL),
    ],
)
def test_the_address_is_the_one_that_was_opened(headers: dict[str, str], url: str) -> None:
    assert base_url_of(headers) == url


def test_a_call_is_made_of_the_choices(make_chat: Callable[..., Chat]) -> None:
    chat = replace(make_chat(ScriptedEngine()), neurons=load_neuron_set(BUNDLED_NEURON_SET))

    plain = make_call(chat, "bundled", Wish(FR), URL)
    damped = make_call(chat, "bundled", Wish(FR, is_damped=True, max_new_tokens=9), URL)

    assert plain.set_file is not None
    assert (plain.set_file.name, plain.method) == ("neuron_sets/bundled.safetensors", "")
    assert chat.neurons is not None
    assert damped.method == f"{chat.neurons.metadata.steering_method}+damp@0.5"
    assert (plain.sampling.max_new_tokens, damped.sampling.max_new_tokens) == (40, 9)


def test_where_a_set_lies_is_nobodys_business(chat: Chat) -> None:
    call = make_call(chat, "org/model", Wish(FR), URL)

    assert call.set_file is not None
    assert call.set_file.name == "neurons.safetensors"
    assert make_call(replace(chat, neurons=None), "org/model", Wish(None), URL).set_file is None


# What follows runs the programs.


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page and the API with the bundled model."""
    with started_app(tmp_path_factory.mktemp("app") / "output.txt") as url:
        yield url.rstrip("/")


@pytest.fixture(scope="module")
def on_page() -> Iterator[Callable[[Wish], str]]:
    """What the chat of the page answers to the question of the programs."""
    from steering.conversation import Message

    neurons = load_neuron_set(BUNDLED_NEURON_SET)
    engine = Engine(lambda: load_model("bundled"))
    chat = Chat(engine, neurons, 40)
    yield lambda wish: list(chat.answer([Message("user", CALL.question)], wish))[-1].texts[0]
    engine.close()


def run_python(program: str) -> str:
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(program, "snippet.py", "exec"), {})  # noqa: S102 - our own program
    return printed.getvalue().strip()


@pytest.mark.slow
@pytest.mark.parametrize("call", [CALL, SAMPLED, OFF], ids=["usual", "sampled", "off"])
def test_the_package_says_what_the_page_says(
    call: Call, on_page: Callable[[Wish], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)

    wish = replace(call.wish, method=call.method)
    assert run_python(with_steering(call)) == on_page(wish).strip()


@pytest.mark.slow
@pytest.mark.parametrize("call", [CALL, SAMPLED, OFF], ids=["usual", "sampled", "off"])
def test_openais_client_says_what_the_page_says(
    call: Call, url: str, on_page: Callable[[Wish], str]
) -> None:
    wish = replace(call.wish, method=call.method)

    assert run_python(with_openai(replace(call, base_url=url))) == on_page(wish).strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [CALL, SAMPLED, replace(CALL, wish=Wish(FR, is_damped=True)), OFF],
    ids=["usual", "sampled", "damped", "off"],
)
def test_gradios_client_says_what_the_page_says(
    call: Call, url: str, on_page: Callable[[Wish], str]
) -> None:
    assert run_python(with_gradio_client(replace(call, base_url=url))) == on_page(call.wish).strip()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("call", [CALL, SAMPLED, OFF], ids=["usual", "sampled", "off"])
def test_curl_says_what_the_page_says(call: Call, url: str, on_page: Callable[[Wish], str]) -> None:
    said = subprocess.run(
        ["sh", "-c", as_curl(replace(call, base_url=url))],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    answer = json.loads(said.stdout)["choices"][0]["message"]["content"]
    wish = replace(call.wish, method=call.method)
    assert answer.strip() == on_page(wish).strip()
