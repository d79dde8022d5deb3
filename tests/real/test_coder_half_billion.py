"""The 0.5B model with its shipped set holds what the results page says, within wide bounds.

Run by `make test-real`, with the folder of models in LANGSTEER_TEST_MODELS: it holds
`qwen2.5-coder-0.5b` and, for the last test, `qwen2.5-coder-0.5b.gguf`. About ten minutes on two
idle cores. The prompts are the project's own everyday ones, which no strength was tuned on.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from steering.cli.main import main
from steering.detection import identify_reply
from steering.languages import LANGUAGES
from steering.neuron_set_file import load_neuron_set
from tests import started

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
MODEL = "qwen2.5-coder-0.5b"
NEURON_SET = ROOT / "neuron_sets/qwen2.5-coder-0.5b-instruct.safetensors"
# LFS and looping of 40 replies: a share of 0.9 is 0.77 to 0.96 at 95%, so these hold what is far
# below the results page, not a decimal.
LEAST_FORCED = 0.9
MOST_RANDOM = 0.1
MOST_LOOPING = 0.15
PROMPTS = 40
LOADED_S = 300


def model_path(suffix: str = "") -> Path:
    """Return where the model lies, or skip and say why."""
    folder = os.environ.get("LANGSTEER_TEST_MODELS")
    if not folder:
        pytest.skip("LANGSTEER_TEST_MODELS names no folder of models")
    path = Path(folder) / f"{MODEL}{suffix}"
    if not path.exists():
        pytest.skip(f"'{path}' is not there")
    if not NEURON_SET.exists():
        pytest.skip(f"'{NEURON_SET.name}' is not there")
    return path


def test_the_default_forces_the_language_and_random_neurons_do_not(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code = main(
        ["evaluate", "forcing", "--model", str(model_path()), "--neuron-set", str(NEURON_SET),
         "--count", str(PROMPTS), "--conditions", "default,random/answer@2",
         "--max-new-tokens", "24", "--batch-size", "20", "--no-likelihood", "--json", str(out)]
    )  # fmt: skip

    assert code == 0
    methods = json.loads(out.read_text(encoding="utf-8"))["methods"]
    rates = {name: rows["measures"]["lfs"]["value"] for name, rows in methods.items()}
    assert rates["default"] >= LEAST_FORCED, rates
    assert rates["random/answer@2"] < MOST_RANDOM, rates
    assert methods["default"]["measures"]["looping"]["value"] <= MOST_LOOPING


@pytest.mark.parametrize("suffix", ["", ".gguf"], ids=["folder", "gguf"])
def test_the_server_answers_in_the_chosen_language(tmp_path: Path, suffix: str) -> None:
    if suffix:
        pytest.importorskip("gguf")
    settings = {
        "LANGSTEER_MODEL": str(model_path(suffix)),
        "LANGSTEER_DATA": str(tmp_path),
    }
    codes = [code for code in ("fr", "ja", "de") if code in load_neuron_set(NEURON_SET)
             .metadata.languages]  # fmt: skip

    with started.started_app(tmp_path / "output", **settings) as url:
        found = {code: ask(url, code) for code in codes}

    languages = [LANGUAGES[code] for code in ("en", *codes)]
    assert {
        code: str(identify_reply(text, languages=languages).language)
        for code, text in found.items()
    } == {code: code for code in codes}, found


def ask(url: str, code: str) -> str:
    """Ask for an answer in a language, as a client of the API does."""
    answer = httpx.post(
        f"{url}v1/chat/completions",
        json={
            "model": "langsteer",
            "messages": [{"role": "user", "content": "What should I see in Rome?"}],
            "max_tokens": 40,
            "temperature": 0,
            "steering": {"language": code},
        },
        timeout=LOADED_S,
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])
