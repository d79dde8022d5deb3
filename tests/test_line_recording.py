"""Tests of means of single lines: parity with a slow forward pass, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steering.conversation import Message, encode_prompt
from steering.corpus import Corpus, open_corpus
from steering.errors import CorpusError, StatsError
from steering.languages import LANGUAGES
from steering.line_recording import record_line_means
from steering.loading import LoadedModel
from tests.oracles import trace_llama

EN, FR = LANGUAGES["en"], LANGUAGES["fr"]
LINES = {
    EN: ["The cat sleeps.", "Where is the station, please?", "Yes.", "It rains again today."],
    FR: ["Le chat dort sur le canapé.", "Où est la gare ?", "Il pleut."],
}


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    for language, lines in LINES.items():
        (tmp_path / f"{language}.txt").write_text("\n".join(lines), encoding="utf-8")
    return open_corpus(tmp_path, [EN, FR], kind="text")


@pytest.fixture
def dialogues(tmp_path: Path) -> Corpus:
    for language, lines in LINES.items():
        rows = [{"prompt": f"Hello {n}?", "answer": line} for n, line in enumerate(lines)]
        path = tmp_path / f"{language}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return open_corpus(tmp_path, [EN, FR], kind="dialogues")


def gates_of(model: LoadedModel, ids: list[int]) -> Tensor:
    """Activations of one sequence alone, `(tokens, layers, neurons)`."""
    return torch.stack(trace_llama(model.model, ids).gate, dim=1)


@pytest.mark.parametrize("batch_rows", [1, 3])
def test_means_of_text_are_those_of_each_line_alone(
    batch_rows: int, load_tiny: Callable[..., LoadedModel], text: Corpus
) -> None:
    model = load_tiny("llama")

    found = record_line_means(model, [EN, FR], text, phase="text", lines=3, batch_rows=batch_rows)

    assert found.languages == (EN, FR)
    assert found.language_of.tolist() == [0, 0, 0, 1, 1, 1]
    lines = LINES[EN][:3] + LINES[FR]
    for line, mean in zip(lines, found.means, strict=True):
        ids = model.tokenizer(line, add_special_tokens=False)["input_ids"]
        # Another batch and another length: float32 sums in another order.
        torch.testing.assert_close(mean, gates_of(model, ids).mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("phase", ["onset", "body"])
def test_means_of_dialogues_are_over_the_positions_of_the_phase(
    phase: str, load_tiny: Callable[..., LoadedModel], dialogues: Corpus
) -> None:
    model = load_tiny("llama")

    found = record_line_means(
        model, [EN, FR], dialogues, phase=phase, lines=2, batch_rows=8  # type: ignore[arg-type]  # a phase
    )  # fmt: skip

    assert found.language_of.tolist() == [0, 0, 1, 1]
    for number, (language, mean) in enumerate(zip([EN, EN, FR, FR], found.means, strict=True)):
        prompt = encode_prompt(model.tokenizer, [Message("user", f"Hello {number % 2}?")])
        answer = model.tokenizer(LINES[language][number % 2], add_special_tokens=False)["input_ids"]
        gates = gates_of(model, [*prompt, *answer])
        start = len(prompt)
        counted = gates[start - 1 : start] if phase == "onset" else gates[start:]
        torch.testing.assert_close(mean, counted.mean(dim=0), rtol=1e-4, atol=1e-5)


def test_every_family_gives_means_of_its_shape(
    family: str, load_tiny: Callable[..., LoadedModel], text: Corpus
) -> None:
    model = load_tiny(family)

    found = record_line_means(model, [EN, FR], text, phase="text", lines=2)

    identity = model.identity
    assert found.means.shape == (4, identity.layers, identity.neurons_per_layer)
    assert found.means.isfinite().all()
    assert found.means.abs().sum(dim=2).all()


def test_a_phase_of_another_corpus_is_refused(
    load_tiny: Callable[..., LoadedModel], text: Corpus
) -> None:
    with pytest.raises(StatsError, match="Phase 'onset' is not one of"):
        record_line_means(load_tiny("llama"), [EN, FR], text, phase="onset", lines=2)


def test_too_many_lines_are_refused_before_any_is_read(
    load_tiny: Callable[..., LoadedModel], text: Corpus
) -> None:
    with pytest.raises(StatsError, match="fewer `--lines`"):
        record_line_means(load_tiny("llama"), [EN, FR], text, phase="text", lines=20_000_000)


def test_dialogues_without_answers_give_no_body(
    load_tiny: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    model = load_tiny("llama", max_position_embeddings=8)
    for language in (EN, FR):
        row = {"prompt": "A prompt that fills the context. " * 9, "answer": "Yes."}
        (tmp_path / f"{language}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    corpus = open_corpus(tmp_path, [EN, FR], kind="dialogues")

    with pytest.raises(CorpusError, match="'0' usable lines for English"):
        record_line_means(model, [EN, FR], corpus, phase="body", lines=2)
