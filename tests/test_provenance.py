"""Every command that writes numbers to cite says what made them: one test for all of them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import steering
from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.cli.main import main
from steering.cli.provenance import read_commit
from steering.loading import load_model
from steering.neuron_set_file import hash_neuron_set, load_neuron_set

ROOT = Path(__file__).resolve().parent.parent
SETS = [str(BUNDLED_NEURON_SET), str(BUNDLED_PAPER_SET)]
FEW = ["--rows", "1", "--row-tokens", "24"]
COMMANDS: Mapping[str, list[str]] = {
    "evaluate perplexity": ["evaluate", "perplexity", *FEW],
    "evaluate forcing": [
        "evaluate", "forcing", "--count", "7", "--conditions", "none", "--max-new-tokens", "2",
    ],
    "evaluate switch": [
        "evaluate", "switch", "--count", "7", "--conditions", "none", "--max-new-tokens", "2",
    ],
    "sharing": ["sharing", "--count", "1", "--groups-only"],
    "compare-sets": ["compare-sets", *SETS, "--perplexity", *FEW],
}  # fmt: skip
SHA256 = re.compile("[0-9a-f]{64}")


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Run a command and return what it wrote."""
    out = folder / "out.json"
    assert main([*COMMANDS[name], "--seed", "3", "--json", str(out)]) == 0
    written: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return written


@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_say_what_made_them(name: str, tmp_path: Path) -> None:
    written = measure(name, tmp_path)

    typed = [*COMMANDS[name], "--seed", "3", "--json", str(tmp_path / "out.json")]
    identity = load_model("bundled").identity
    assert written["command"] == f"python -m steering {shlex.join(typed)}"
    assert written["version"] == steering.__version__
    assert written["commit"] == read_commit(ROOT)
    assert written["made_at"].startswith("20")
    assert written["model"] == "bundled"
    assert written["model_revision"] == identity.revision
    assert written["tokenizer_sha256"] == identity.tokenizer_sha256
    assert written["seed"] == 3


@pytest.mark.parametrize("name", ["evaluate perplexity", "compare-sets"])
def test_perplexities_say_on_which_text(name: str, tmp_path: Path) -> None:
    written = measure(name, tmp_path)

    assert written["text"] == "held-out dialogues of the grammar"
    assert SHA256.fullmatch(written["text_sha256"])
    assert set(written["tokens"].values()) == {24}


def test_sets_are_known_by_their_hashes(tmp_path: Path) -> None:
    hashes = {path.stem: hash_neuron_set(load_neuron_set(path)) for path in map(Path, SETS)}

    assert measure("compare-sets", tmp_path)["neuron_sets_sha256"] == hashes
    assert measure("evaluate forcing", tmp_path)["neuron_set_sha256"] == hashes["bundled"]
    assert measure("evaluate switch", tmp_path)["neuron_set_sha256"] == hashes["bundled"]
    alone = measure("evaluate perplexity", tmp_path)
    assert alone["neuron_set"] == "bundled-paper.safetensors"
    assert alone["neuron_set_sha256"] == hashes["bundled-paper"]


def test_sharing_says_on_which_prompts(tmp_path: Path) -> None:
    line = {"prompt": {"en": "Where is the cat?", "fr": "Où est le chat ?"}}
    prompts, out = tmp_path / "cats.jsonl", tmp_path / "out.json"
    hashes = set()
    for end in ("", "!"):
        line["prompt"]["fr"] += end
        prompts.write_text(json.dumps(line), encoding="utf-8")
        given = ["--prompts", str(prompts), "--groups-only", "--json", str(out)]
        assert main(["sharing", *given]) == 0
        written = json.loads(out.read_text(encoding="utf-8"))
        assert written["prompts_file"] == "cats.jsonl"
        hashes.add(written["prompts_sha256"])

    assert len(hashes) == 2
    assert all(SHA256.fullmatch(one) for one in hashes)


def test_a_comparison_without_a_model_names_none(tmp_path: Path) -> None:
    out = tmp_path / "out.json"

    assert main(["compare-sets", *SETS, "--json", str(out)]) == 0

    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["command"].startswith("python -m steering compare-sets ")
    assert not {"model", "model_revision", "text"} & set(written)
