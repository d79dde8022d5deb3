"""Tests of recording: parity with one sequence at a time, and that nothing but the text counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats, StatsPhase
from steering.chunks import ChunkOptions
from steering.conversation import Message, encode_prompt
from steering.corpus import Corpus, open_corpus
from steering.languages import Language
from steering.loading import LoadedModel
from steering.recording import RecordingOptions, record
from tests.conftest import BOS, EOS, PAD, VOCAB_SIZE
from tests.oracles import trace_llama
from tests.toy import EN, FR, HIDDEN, LAYERS, NEURONS

LoadTiny = Callable[..., LoadedModel]
LANGUAGES = (FR, EN)

TEXTS = {
    "fr": ["Le chat dort.", "Où est la gare ?", "Été", "un deux trois quatre cinq six sept huit"],
    "en": ["the cat sleeps", "where is the station, then?", "a", "one two three four five six"] * 2,
}
DIALOGUES = {
    "fr": [("Say hi", "Salut !"), ("Where?", "Là-bas, à gauche."), ("the end", "Fin"), ("a", "b")],
    "en": [("Dis", "the word"), ("Où ?", "There."), ("x" * 30, "y" * 20), ("?", "!"), ("1", "2")],
}


@pytest.fixture
def text(tmp_path: Path) -> Corpus:
    return write_text(tmp_path, TEXTS)


def write_text(folder: Path, texts: dict[str, list[str]]) -> Corpus:
    for code, lines in texts.items():
        (folder / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    return open_corpus(folder, LANGUAGES, kind="text")


@pytest.fixture
def dialogues(tmp_path: Path) -> Corpus:
    return write_dialogues(tmp_path, DIALOGUES)


def write_dialogues(folder: Path, dialogues: dict[str, list[tuple[str, str]]]) -> Corpus:
    for code, rows in dialogues.items():
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in rows]
        (folder / f"{code}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return open_corpus(folder, LANGUAGES, kind="dialogues")


@dataclass
class Sums:
    """What the oracle adds up, position by position."""

    tokens: int = 0
    active: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, NEURONS, dtype=torch.int64))
    gate: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, NEURONS).double())
    value: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, NEURONS).double())
    residual: Tensor = field(default_factory=lambda: torch.zeros(LAYERS, HIDDEN).double())
    ids: Tensor = field(default_factory=lambda: torch.zeros(VOCAB_SIZE, dtype=torch.int64))

    def add(self, model: LoadedModel, ids: Sequence[int], positions: Sequence[int]) -> None:
        trace = trace_llama(model.model, ids)
        for position in positions:
            self.tokens += 1
            self.ids[ids[position]] += 1
            for layer in range(LAYERS):
                self.active[layer] += trace.gate[layer][position] > 0
                self.gate[layer] += trace.gate[layer][position]
                self.value[layer] += trace.value[layer][position]
                self.residual[layer] += trace.residual[layer][position]

    def assert_equal(self, stats: PhaseStats) -> None:
        assert stats.token_count == self.tokens
        assert torch.equal(stats.token_id_count, self.ids)
        assert torch.equal(stats.active_count, self.active)
        # Sums of up to 200 float32 values below 100, each computed in another order of additions.
        for sums, expected in (
            (stats.gate_sum, self.gate),
            (stats.value_sum, self.value),
            (stats.residual_sum, self.residual),
        ):
            assert torch.allclose(sums, expected, rtol=1e-5, atol=1e-3)


def encode(model: LoadedModel, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("context", [16, 64])
def test_text_is_recorded_as_one_packed_row_after_the_other(
    context: int, load_tiny: LoadTiny, text: Corpus
) -> None:
    model = load_tiny("llama", max_position_embeddings=context)

    stats = record(model, LANGUAGES, [text]).stats

    assert list(stats.phases) == ["text"]
    for language in LANGUAGES:
        stream = [i for line in TEXTS[language.code] for i in [*encode(model, line), EOS]]
        sums = Sums()
        for start in range(0, len(stream), context):
            row = stream[start : start + context]
            sums.add(model, row, [place for place, token in enumerate(row) if token != EOS])
        sums.assert_equal(stats.phases["text"][language])


def test_onset_is_the_last_position_of_the_prompt_and_body_the_answer(
    load_tiny: LoadTiny, dialogues: Corpus
) -> None:
    model = load_tiny("llama")

    stats = record(
        model, LANGUAGES, [dialogues], options=RecordingOptions(ChunkOptions(batch_rows=3))
    ).stats

    assert list(stats.phases) == ["onset", "body"]
    for language in LANGUAGES:
        onset, body = Sums(), Sums()
        for prompt_text, answer in DIALOGUES[language.code]:
            prompt = encode_prompt(model.tokenizer, [Message("user", prompt_text)])
            ids = prompt + encode(model, answer)
            onset.add(model, ids, [len(prompt) - 1])
            body.add(model, ids, range(len(prompt), len(ids)))
        onset.assert_equal(stats.phases["onset"][language])
        body.assert_equal(stats.phases["body"][language])
        assert onset.tokens == len(DIALOGUES[language.code])
        assert onset.ids[model.tokenizer.convert_tokens_to_ids("<|assistant|>")] == onset.tokens


def are_counts_equal(one: ActivationStats, other: ActivationStats) -> bool:
    return all(
        row.token_count == other.phases[phase][language].token_count
        and torch.equal(row.active_count, other.phases[phase][language].active_count)
        and torch.equal(row.token_id_count, other.phases[phase][language].token_id_count)
        for phase, rows in one.phases.items()
        for language, row in rows.items()
    )


def test_counts_do_not_depend_on_the_batch(
    load_tiny: LoadTiny, text: Corpus, dialogues: Corpus
) -> None:
    model = load_tiny("llama", max_position_embeddings=64)

    one, three, eight = (
        record(
            model,
            LANGUAGES,
            [text, dialogues],
            options=RecordingOptions(ChunkOptions(batch_rows=rows)),
        ).stats
        for rows in (1, 3, 8)
    )

    assert are_counts_equal(one, three)
    assert are_counts_equal(one, eight)
    for phase, rows in one.phases.items():
        for language, row in rows.items():
            for other in (three, eight):
                sums = other.phases[phase][language].value_sum
                # Float32 rounding of a product that is computed in blocks of another size.
                assert torch.allclose(row.value_sum, sums, rtol=1e-5, atol=1e-3)


def test_padding_to_the_right_changes_nothing(load_tiny: LoadTiny, tmp_path: Path) -> None:
    """The short dialogue beside a long one: its counts are what is added to the long one's."""
    model, short, long = load_tiny("llama"), ("a", "bcd"), ("x" * 40, "y" * 40)
    options = RecordingOptions(ChunkOptions(batch_rows=2))

    def record_french(name: str, *rows: tuple[str, str]) -> dict[StatsPhase, PhaseStats]:
        (tmp_path / name).mkdir()
        corpus = write_dialogues(tmp_path / name, {"fr": list(rows), "en": [short]})
        stats = record(model, LANGUAGES, [corpus], options=options).stats
        return {phase: rows_[FR] for phase, rows_ in stats.phases.items()}

    alone, other, both = (
        record_french("short", short),
        record_french("long", long),
        record_french("both", short, long),
    )

    for phase, row in both.items():
        total = alone[phase] + other[phase]
        assert torch.equal(row.active_count, total.active_count)
        assert torch.equal(row.token_id_count, total.token_id_count)
        assert row.token_id_count[PAD] == 0


def test_special_tokens_in_the_text_are_read_but_not_counted(
    load_tiny: LoadTiny, tmp_path: Path
) -> None:
    model = load_tiny("llama")
    corpus = write_text(tmp_path, {"fr": ["ab<s>c</s>", "d"], "en": ["x"]})

    row = record(model, LANGUAGES, [corpus]).stats.phases["text"][FR]

    assert row.token_count == 4
    assert row.token_id_count[[BOS, EOS, PAD]].tolist() == [0, 0, 0]
    sums = Sums()
    ids = [*encode(model, "ab"), BOS, *encode(model, "c"), EOS, EOS, *encode(model, "d"), EOS]
    sums.add(model, ids, [0, 1, 3, 6])
    sums.assert_equal(row)


@pytest.mark.parametrize(("tokens", "counted"), [(1, 1), (5, 5), (16, 15), (17, 16), (10_000, 70)])
def test_number_of_tokens_can_be_limited(
    tokens: int, counted: int, load_tiny: LoadTiny, tmp_path: Path
) -> None:
    """Separators are among the tokens that are read, though they are not counted."""
    model = load_tiny("llama", max_position_embeddings=16)
    corpus = write_text(tmp_path, {"fr": ["a" * 14, "b" * 56], "en": ["x"]})

    stats = record(
        model, LANGUAGES, [corpus], options=RecordingOptions(ChunkOptions(tokens=tokens))
    ).stats

    assert stats.phases["text"][FR].token_count == counted


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_number_of_answer_tokens_can_be_limited_in_any_batch(
    rows: int, load_tiny: LoadTiny, dialogues: Corpus
) -> None:
    options = RecordingOptions(ChunkOptions(batch_rows=rows, tokens=8))

    stats = record(load_tiny("llama"), LANGUAGES, [dialogues], options=options).stats

    onsets = stats.token_counts("onset")
    assert onsets == {FR: 2, EN: 2}  # of 4 and 5: the dialogue that reaches the number is whole


def test_dialogue_that_is_longer_than_the_context_is_cut_but_keeps_its_onset(
    load_tiny: LoadTiny, tmp_path: Path
) -> None:
    model = load_tiny("llama", max_position_embeddings=16)
    rows = [("p" * 40, "answer"), ("p", "a" * 40), ("p", "a")]
    corpus = write_dialogues(tmp_path, {"fr": rows, "en": [("a", "b")]})

    stats = record(model, LANGUAGES, [corpus]).stats

    prompts = [encode_prompt(model.tokenizer, [Message("user", text)])[-16:] for text, _ in rows]
    answers = [encode(model, answer) for _, answer in rows]
    onset, body = Sums(), Sums()
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = (prompt + answer)[:16]
        onset.add(model, ids, [len(prompt) - 1])
        body.add(model, ids, range(len(prompt), len(ids)))
    onset.assert_equal(stats.phases["onset"][FR])
    body.assert_equal(stats.phases["body"][FR])


def test_text_and_dialogues_together_are_all_three_phases(
    load_tiny: LoadTiny, text: Corpus, dialogues: Corpus
) -> None:
    model = load_tiny("llama")

    both = record(model, LANGUAGES, [text, dialogues]).stats

    assert list(both.phases) == ["text", "onset", "body"]
    assert are_counts_equal(record(model, LANGUAGES, [text]).stats, both)
    assert are_counts_equal(record(model, LANGUAGES, [dialogues]).stats, both)


def test_languages_are_recorded_in_the_order_asked_for(load_tiny: LoadTiny, text: Corpus) -> None:
    model = load_tiny("llama")

    stats, turned = record(model, LANGUAGES, [text]).stats, record(model, (EN, FR), [text]).stats

    assert turned.languages == (EN, FR)
    assert are_counts_equal(stats, turned)


def test_nothing_to_record_is_empty(load_tiny: LoadTiny) -> None:
    assert record(load_tiny("llama"), LANGUAGES, []).stats.phases == {}


def test_progress_adds_up_to_the_positions_counted(
    load_tiny: LoadTiny, text: Corpus, dialogues: Corpus
) -> None:
    seen: dict[tuple[Language, StatsPhase], int] = {}

    def note(language: Language, phase: StatsPhase, positions: int) -> None:
        seen[language, phase] = seen.get((language, phase), 0) + positions

    stats = record(load_tiny("llama"), LANGUAGES, [text, dialogues], progress=note).stats

    for language in LANGUAGES:
        count = {phase: stats.phases[phase][language].token_count for phase in stats.phases}
        assert seen[language, "text"] == count["text"]
        assert seen[language, "onset"] == count["onset"] + count["body"]


def test_every_family_is_recorded_at_all_sites_and_left_alone(
    family: str, load_tiny: LoadTiny, text: Corpus, dialogues: Corpus
) -> None:
    model = load_tiny(family)
    ids = torch.arange(10, 20).view(2, 5)
    before = model.model(input_ids=ids).logits

    stats = record(model, LANGUAGES, [text, dialogues]).stats

    assert torch.equal(model.model(input_ids=ids).logits, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())
    shape = (model.identity.layers, model.identity.neurons_per_layer)
    for rows in stats.phases.values():
        for row in rows.values():
            assert row.active_count.shape == row.gate_sum.shape == row.value_sum.shape == shape
            assert row.token_count == int(row.token_id_count.sum()) > 0
            assert (row.active_count <= row.token_count).all()
            assert row.active_count.any(dim=1).all()
            assert (row.active_count < row.token_count).any()  # a ReLU is often exactly 0
            assert row.residual_sum.shape == (shape[0], model.identity.hidden_size)
            tensors = [getattr(row, field.name) for field in fields(row)[1:]]
            assert all(one is None or one.isfinite().all() for one in tensors)
            assert (row.residual_sum.abs().sum(dim=1) > 0).all()
            is_gated = model.architecture.is_gated
            assert torch.equal(row.gate_sum, row.value_sum) == (not is_gated)


def test_failing_forward_pass_leaves_no_hooks(
    load_tiny: LoadTiny, text: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny("llama")

    def fail(*_args: object) -> None:
        assert model.model.model.layers[0]._forward_hooks
        raise RuntimeError("broken")

    monkeypatch.setattr(model.model.model.norm, "forward", fail)
    with pytest.raises(RuntimeError, match="broken"):
        record(model, LANGUAGES, [text])

    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


def test_tokenizer_without_an_end_token_needs_no_separator(
    load_tiny: LoadTiny, text: Corpus
) -> None:
    model = load_tiny("llama")
    model.tokenizer.eos_token = None

    stats = record(replace(model), LANGUAGES, [text]).stats

    letters = sum(len(encode(model, line)) for line in TEXTS["fr"])
    assert stats.phases["text"][FR].token_count == letters
