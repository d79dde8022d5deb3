"""Quantised and half-precision models on the CPU are recorded as they run, and steered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats
from steering.architectures import SITES, Site
from steering.chunks import ChunkOptions
from steering.cli.main import main
from steering.corpus import Corpus, open_corpus
from steering.hooks import TensorEdit, attached, find_sites
from steering.loading import LoadedModel, Quantize, load_model
from steering.neuron_set import join_means, split_means
from steering.neuron_set_file import load_neuron_set
from steering.recording import RecordingOptions, record
from steering.steerer import Steerer
from tests.texts import TEXTS
from tests.toy import EN, FR, JA

MakeFolder = Callable[..., Path]

LANGUAGES = (EN, FR, JA)
# bitsandbytes takes 4-bit weights on the CPU in blocks of 64 x 32 where it has AVX-512 BF16.
WIDE = {"hidden_size": 64, "intermediate_size": 128}
IDS = torch.arange(10, 20).view(2, 5)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for language in LANGUAGES:
        (folder / f"{language}.txt").write_text("\n".join(TEXTS[str(language)]), encoding="utf-8")
    return folder


def build(model: Path, text: Path, out: Path, *options: str) -> int:
    thresholds = ["--select-fraction", "0.2", "--prob-quantile", "0.5"]
    chosen = ["--languages", "en,fr,ja", "--tokens", "300", "--out", str(out), *options]
    return main(["build-set", "--model", str(model), "--text", str(text), *thresholds, *chosen])


@torch.no_grad()
def run(model: LoadedModel) -> Tensor:
    logits: Tensor = model.model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_set_of_a_quantised_model_is_of_its_own_activations_and_steers_it(
    quantize: Quantize, tiny_model_dir: MakeFolder, text: Path, tmp_path: Path
) -> None:
    folder, out, plain = tiny_model_dir("llama", **WIDE), tmp_path / "q", tmp_path / "plain"
    assert build(folder, text, out, "--quantize", quantize, "--device", "cpu") == 0
    assert build(folder, text, plain, "--quantize", "none", "--device", "cpu") == 0
    neurons = load_neuron_set(out)
    model = load_model(str(folder), quantize=quantize, device="cpu")
    base = run(model)

    with Steerer(model, neurons, languages=["fr", None], method="lape/prompt@5"):
        steered = run(model)

    streams = [load_neuron_set(path).residual_means["text"] for path in (out, plain)]
    assert not torch.allclose(*streams, atol=1e-2)
    assert torch.allclose(*streams, atol=2)  # the weights differ in a tenth of their size at most
    assert not torch.allclose(steered[0], base[0], atol=1e-2)
    if quantize == "nf4":
        assert torch.equal(steered[1], base[1])
    # In int8 bitsandbytes takes columns in float16 that are large in any row of the batch.
    assert torch.allclose(steered[1], base[1], atol=2e-2)
    assert torch.equal(run(model), base)


@torch.no_grad()
def collect_sums(model: LoadedModel, ids: Tensor, counted: Tensor) -> dict[str, Tensor]:
    """Return counts and float64 sums per layer over the counted positions of one row."""
    seen: dict[Site, list[Tensor]] = {site: [] for site in SITES}

    def note(site: Site) -> TensorEdit:
        return lambda _layer, units: seen[site].append(units[0][counted].double())

    with attached(find_sites(model.model), {site: note(site) for site in SITES}):
        model.model(input_ids=ids)
    sums = {str(site): torch.stack([rows.sum(dim=0) for rows in seen[site]]) for site in SITES}
    return {**sums, "active": torch.stack([(rows > 0).sum(dim=0) for rows in seen["gate"]])}


def open_text(text: Path) -> Corpus:
    return open_corpus(text, LANGUAGES, kind="text")


def french(stats: ActivationStats) -> PhaseStats:
    return stats.phases["text"][FR]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_counted_and_summed_without_further_loss(
    dtype: torch.dtype, tiny_model_dir: MakeFolder, text: Path
) -> None:
    """The activations have 8 or 11 bits; counts of them are exact, and sums nearly so."""
    folder = tiny_model_dir("llama", max_position_embeddings=2048)
    model = load_model(str(folder), quantize="none", dtype=dtype, device="cpu")
    encoded = model.tokenizer(TEXTS["fr"], add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[i for row in encoded for i in [*row, model.tokenizer.eos_token_id]]])
    assert ids.shape[1] < 2048
    counted = ids[0] != model.tokenizer.eos_token_id

    row = french(record(model, LANGUAGES, [open_text(text)]).stats)

    expected = collect_sums(model, ids, counted)
    assert torch.equal(row.active_count, expected["active"])
    # Blocks of 64 positions are added in float32: about 1e-6 of what is added up.
    for site, sums in zip(SITES, (row.gate_sum, row.value_sum, row.residual_sum), strict=True):
        assert torch.allclose(sums, expected[site], rtol=1e-5, atol=1e-3), site


@pytest.mark.parametrize(
    ("dtype", "error"),
    # One rounding is 2^-11 or 2^-8 of a value; two layers have some twenty one after the other.
    [(torch.float16, 20 * 2**-11), (torch.bfloat16, 20 * 2**-8)],
    ids=["float16", "bfloat16"],
)
def test_half_precision_gives_the_statistics_of_float32_as_far_as_it_reaches(
    dtype: torch.dtype, error: float, tiny_model_dir: MakeFolder, text: Path
) -> None:
    folder = str(tiny_model_dir("llama"))
    whole, half = (
        record(
            load_model(folder, quantize="none", dtype=kind, device="cpu"),
            LANGUAGES,
            [open_text(text)],
        ).stats
        for kind in (torch.float32, dtype)
    )

    assert half.token_counts("text") == whole.token_counts("text")
    for site in ("gate", "value"):
        means, others = (stats.mean("text", site) for stats in (whole, half))  # type: ignore[arg-type]  # sites
        assert (means - others).abs().mean() < error * means.abs().mean()
    # A neuron near 0 changes sides on few tokens.
    assert (whole.activation_prob("text") - half.activation_prob("text")).abs().mean() < error


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_of_the_command_line_reaches_the_model(
    dtype: str, tiny_model_dir: MakeFolder, text: Path, tmp_path: Path
) -> None:
    """The set's means are those of a recording in that type, as far as the file keeps them."""
    folder, out = tiny_model_dir("llama"), tmp_path / "set.safetensors"
    options = RecordingOptions(ChunkOptions(tokens=300))

    assert build(folder, text, out, "--quantize", "none", "--dtype", dtype, "--device", "cpu") == 0

    half, whole = (
        record(
            load_model(str(folder), quantize="none", dtype=kind, device="cpu"),
            LANGUAGES,
            [open_text(text)],
            options=options,
        ).stats.residual_mean("text")
        for kind in (getattr(torch, dtype), torch.float32)
    )
    means = load_neuron_set(out).residual_means["text"]
    assert torch.equal(means, join_means(*split_means(half.float())))
    assert not torch.equal(means, join_means(*split_means(whole.float())))
