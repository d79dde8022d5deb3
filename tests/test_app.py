"""Tests of `python app.py`, started as a person starts it, with a tiny random model."""

from __future__ import annotations

import re
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from steering.model_identity import hash_tokenizer
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import save_neuron_set
from tests.started import free_port, run_app, started_app, wait_for

LAYERS = 24


@pytest.fixture(scope="module")
def model_dir(
    tmp_path_factory: pytest.TempPathFactory, save_tiny_model: Callable[..., Path]
) -> Path:
    """A model with so many layers that a long answer takes ten seconds and more."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_tiny_model(folder, "llama", num_hidden_layers=LAYERS)


@pytest.fixture(scope="module")
def fitting_set(
    model_dir: Path, toy_set: NeuronSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    metadata = toy_set.metadata.model_copy(
        update={"tokenizer_sha256": hash_tokenizer(tokenizer), "layers": LAYERS}
    )
    path = tmp_path_factory.mktemp("sets") / "tiny.safetensors"
    save_neuron_set(replace(toy_set, metadata=metadata, residual_means={}), path)
    return path


@pytest.fixture(scope="module")
def app_url(
    model_dir: Path, fitting_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    settings = {
        "LANGSTEER_MODEL": str(model_dir),
        "LANGSTEER_NEURON_SET": str(fitting_set),
        "LANGSTEER_QUANTIZE": "none",
        "LANGSTEER_MAX_NEW_TOKENS": "2000",  # so that there is something to cancel
    }
    with started_app(tmp_path_factory.mktemp("app") / "output.txt", **settings) as url:
        yield url


@pytest.fixture(scope="module")
def client(app_url: str) -> Client:
    return Client(app_url, verbose=False)


def test_the_page_is_there_and_names_the_model(app_url: str, model_dir: Path) -> None:
    with urllib.request.urlopen(app_url) as page:  # noqa: S310 - our own address
        html = page.read().decode()

    assert page.status == 200
    assert str(model_dir) in html


def test_page_and_api_are_served_together(app_url: str, model_dir: Path, client: Client) -> None:
    names = [card["id"] for card in httpx.get(f"{app_url}v1/models").json()["data"]]
    body = {"model": f"{names[0]}:fr", "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 4}  # fmt: skip
    answer = httpx.post(f"{app_url}v1/chat/completions", json=body, timeout=60)

    assert names[:3] == [str(model_dir), "langsteer", "langsteer:fr"]
    assert (answer.status_code, answer.json()["steering"]["language"]) == (200, "fr")
    assert httpx.get(f"{app_url}healthz").json()["status"] == "ready"
    assert 'status="200"} 1.0' in httpx.get(f"{app_url}metrics").text
    assert httpx.get(f"{app_url}v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{app_url}gradio_api/app_id").status_code == 200


def test_chat_and_compare_are_the_only_endpoints_and_say_what_they_take(client: Client) -> None:
    api = client.view_api(return_format="dict", print_info=False)

    assert sorted(api["named_endpoints"]) == ["/chat", "/compare"]
    assert api["unnamed_endpoints"] == {}
    parameters = api["named_endpoints"]["/chat"]["parameters"]
    assert [p["parameter_name"] for p in parameters] == [
        "message",
        "language",
        "steering",
        "guard",
        "method",
        "damping",
        "length",
        "creativity",
        "seed",
    ]
    assert [p["parameter_has_default"] for p in parameters] == [False, *[True] * 8]


def test_chat_streams_and_cancel_stops_the_model(client: Client) -> None:
    job = client.submit(message="Where is the cat?", language="none", api_name="/chat")
    wait_for(lambda: len(job.outputs()) > 1)
    job.cancel()
    began = time.monotonic()
    # The engine serves one request at a time, so a refusal comes when the model is free again.
    with pytest.raises(AppError, match="empty"):
        client.predict(message=" ", language="fr", api_name="/chat")

    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"language": "jp"}, "Unknown language 'jp'. Did you mean 'ja'?"),
        ({"steering": "storng"}, "Unknown steering 'storng'. Did you mean 'strong'?"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_nearest(
    arguments: dict[str, str], expected: str, client: Client
) -> None:
    with pytest.raises(AppError, match=re.escape(expected)):
        client.predict(message="Hi", **arguments, api_name="/chat")


def test_chat_returns_the_answer_as_text(
    model_dir: Path, fitting_set: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output.txt"
    settings = {"LANGSTEER_MODEL": str(model_dir), "LANGSTEER_NEURON_SET": str(fitting_set),
                "LANGSTEER_QUANTIZE": "none", "LANGSTEER_MAX_NEW_TOKENS": "8"}  # fmt: skip
    with started_app(output, **settings) as url:
        answer = Client(url, verbose=False).predict(
            message="Where is the cat?", language="fr", steering="normal", api_name="/chat"
        )

    assert isinstance(answer, str)
    assert answer
    assert "Traceback" not in output.read_text()


def test_a_set_for_another_model_is_told_on_the_console_and_to_who_chats(
    model_dir: Path, toy_set: NeuronSet, tmp_path: Path
) -> None:
    path, output = tmp_path / "other.safetensors", tmp_path / "output.txt"
    save_neuron_set(toy_set, path)
    settings = {"LANGSTEER_MODEL": str(model_dir), "LANGSTEER_NEURON_SET": str(path),
                "LANGSTEER_QUANTIZE": "none"}  # fmt: skip
    with (
        started_app(output, **settings) as url,
        pytest.raises(AppError, match=f"made for 'toy'.*'{model_dir}'"),
    ):
        Client(url, verbose=False).predict(message="Hi", language="fr", api_name="/chat")

    assert "made for 'toy'" in output.read_text()
    assert "Traceback" not in output.read_text()


def test_without_a_set_the_model_is_chatted_with_as_it_is(model_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    settings = {"LANGSTEER_MODEL": str(model_dir), "LANGSTEER_QUANTIZE": "none",
                "LANGSTEER_MAX_NEW_TOKENS": "8", "LANGSTEER_DATA": str(tmp_path / "data"),
                "LANGSTEER_LANGUAGES": "en,fr"}  # fmt: skip
    with started_app(output, **settings) as url:
        client = Client(url, verbose=False)
        answer = client.predict(message="Where is the cat?", language="none", api_name="/chat")
        with pytest.raises(AppError, match="this model has no neuron set yet"):
            client.predict(message="Where is the cat?", language="fr", api_name="/chat")

    assert isinstance(answer, str)
    assert not (tmp_path / "data").exists()
    assert "Traceback" not in output.read_text()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"LANGSTEER_MODLE": "x"}, "Unknown setting 'LANGSTEER_MODLE'"),
        ({"GRADIO_SERVER_PORT": "http"}, "'GRADIO_SERVER_PORT' is 'http'"),
        ({"LANGSTEER_NEURON_SET": "no/such.safetensors"}, "No neuron set 'no/such.safetensors'"),
        ({"GRADIO_SERVER_NAME": "256.1.1.1"}, "Cannot listen on '256.1.1.1'"),
    ],
)
def test_nonsense_is_one_plain_line_and_exit_code_2(
    settings: dict[str, str], expected: str
) -> None:
    done = run_app(**{"GRADIO_SERVER_PORT": str(free_port()), **settings})

    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_one_plain_line_and_exit_code_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_app(GRADIO_SERVER_PORT=str(taken.getsockname()[1]))

    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
