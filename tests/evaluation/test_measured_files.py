"""Measured files are read back as they were written; anything else is one plain error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steering.errors import SettingsError
from steering.evaluation.forcing import ForcingPrompt, ForcingResult, judge_reply
from steering.evaluation.measured_files import read_forcing, read_perplexity
from steering.evaluation.perplexity import PerplexityChange
from steering.evaluation.plots import ForcingBar
from steering.languages import LANGUAGES

EN, FR = LANGUAGES["en"], LANGUAGES["fr"]
CHANGE = PerplexityChange(
    languages=(EN, FR),
    base_nll_nats=(1 / 3, 2.0),
    change_nats=((0.5, 0.1), (0.2, 0.7)),
    random_change_nats=((0.01, 0.02), (-0.03, 0.04)),
    neuron_counts=(3, 4),
)
FORCING = {"methods": {"none": {"lfs": 0.5, "content": None, "n": 2}}}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_perplexity_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"model": "x", **CHANGE.to_json()})

    assert read_perplexity(path) == CHANGE


def test_forcing_is_read_back_as_the_counts(tmp_path: Path) -> None:
    french = "Le hibou dort dans le vieux chêne derrière la grange."
    prompts = [ForcingPrompt("?", "?", EN, FR, lambda reply: reply == french)] * 3
    replies = [french, "The owl sleeps in the old oak tree.", f"{french} {french}"]
    outcomes = [
        judge_reply(p, r, languages=(EN, FR)) for p, r in zip(prompts, replies, strict=True)
    ]
    result = ForcingResult("mine", tuple(outcomes))
    path = write(tmp_path / "a.json", {"methods": {"mine": result.to_json()}})

    assert read_forcing(path) == {"mine": ForcingBar(result.lfs, result.content)}


def changed(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> str:
    content = copy.deepcopy(content)
    change(content)
    return json.dumps(content)


PERPLEXITY = json.loads(json.dumps(CHANGE.to_json()))
BAD_PERPLEXITY = {
    "empty": "",
    "list": "[]",
    "cut": json.dumps(PERPLEXITY)[:50],
    "unknown language": changed(PERPLEXITY, lambda c: c.update(languages=["en", "xx"])),
    "twice": changed(PERPLEXITY, lambda c: c.update(languages=["en", "en"])),
    "short row": changed(PERPLEXITY, lambda c: c["lape"]["change_nats"][1].pop()),
    "short column": changed(PERPLEXITY, lambda c: c["random"]["change_nats"].pop()),
    "no random": changed(PERPLEXITY, lambda c: c.pop("random")),
    "not finite": json.dumps(PERPLEXITY).replace("0.7", "NaN"),
    "absurd": json.dumps(PERPLEXITY).replace("0.7", "1e308"),
    "not UTF-8": "\udcff",
}
BAD_FORCING = {
    "no methods": '{"methods": {}}',
    "percent": json.dumps({"methods": {"none": {"lfs": 50, "n": 2}}}),
    "no trials": json.dumps({"methods": {"none": {"lfs": 0.5, "n": 0}}}),
    "perplexity": json.dumps(PERPLEXITY),
}


@pytest.mark.parametrize("content", BAD_PERPLEXITY.values(), ids=BAD_PERPLEXITY)
def test_what_is_no_perplexity_file_is_refused_in_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(SettingsError, match=r"Cannot read '.*a\.json': .*evaluate perplexity"):
        read_perplexity(path)


@pytest.mark.parametrize("content", BAD_FORCING.values(), ids=BAD_FORCING)
def test_what_is_no_forcing_file_is_refused_in_words(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)

    with pytest.raises(SettingsError, match=r"Cannot read '.*a\.json': .*evaluate forcing"):
        read_forcing(path)


def test_a_missing_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_perplexity(tmp_path / "none.json")
