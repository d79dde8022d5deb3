"""Tests of loading models from folders; the hub is never reached."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from steering import loading
from steering.architectures import ARCHITECTURES, expert_count
from steering.errors import ModelLoadError, UnsupportedArchitectureError
from steering.hooks import SITES, attached, find_sites
from steering.loading import (
    BUNDLED_MODEL,
    Quantize,
    load_model,
    read_identity,
)
from steering.model_identity import ModelIdentity, folder_revision, hash_tokenizer

MakeFolder = Callable[..., Path]

# bitsandbytes takes 4-bit weights on the CPU in blocks of 64 x 32 where it has AVX-512 BF16.
WIDE: dict[str, dict[str, int]] = {
    "gpt2": {"n_embd": 64, "n_inner": 128},
    "llama": {"hidden_size": 64, "intermediate_size": 128},
    "opt": {"hidden_size": 64, "ffn_dim": 128, "word_embed_proj_dim": 64},
    "phi3": {"hidden_size": 64, "intermediate_size": 128},
}
IDS = torch.arange(10, 20).view(2, 5)


def run(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS.to(model.device)).logits
    return logits


def test_unquantised_model_computes_what_was_saved(
    make_tiny_model: Callable[..., PreTrainedModel], tiny_model_dir: MakeFolder
) -> None:
    loaded = load_model(str(tiny_model_dir("llama")), quantize="none", device="cpu")

    assert torch.equal(run(loaded.model), run(make_tiny_model("llama")))
    assert loaded.model.training is False
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_several_threads_may_load_at_once() -> None:
    """The bundled model's weights are tied, which transformers forgets in one of two threads."""
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_model(BUNDLED_MODEL), range(8)))

    assert all(torch.equal(run(one.model), run(loaded[0].model)) for one in loaded)


def test_every_family_loads_and_says_which_it_is(family: str, tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir(family)

    loaded = load_model(str(folder), quantize="none", device="cpu")

    assert loaded.architecture is ARCHITECTURES[family]
    assert loaded.identity == ModelIdentity(
        model_id=str(folder),
        revision=folder_revision(folder),
        architecture=family,
        layers=2,
        neurons_per_layer=128 if family == "bloom" else 48,
        hidden_size=32,
        tokenizer_sha256=hash_tokenizer(loaded.tokenizer),
        experts=expert_count(loaded.model.config),
        vocabulary=loaded.model.get_input_embeddings().num_embeddings,
    )


def test_configuration_alone_says_what_a_model_is_like(
    family: str, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir(family)
    loaded = load_model(str(folder), quantize="none", device="cpu")
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()

    assert read_identity(str(folder)) == replace(loaded.identity, revision="", tokenizer_sha256="")


def test_configuration_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    with pytest.raises(UnsupportedArchitectureError, match="'bert'"):
        read_identity(str(tmp_path))


def test_revision_of_a_folder_changes_with_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"some weights")
    before = folder_revision(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other weights")

    assert before.startswith("sha256:")
    assert folder_revision(tmp_path) != before


@pytest.mark.parametrize("family", sorted(WIDE))
@pytest.mark.parametrize("quantize", [None, "nf4", "int8"])
def test_quantised_model_loads_on_the_cpu_and_its_sites_have_the_right_width(
    family: str, quantize: Quantize | None, tiny_model_dir: MakeFolder
) -> None:
    loaded = load_model(
        str(tiny_model_dir(family, **WIDE[family])), quantize=quantize, device="cpu"
    )
    sites = find_sites(loaded.model)
    seen: list[tuple[int, tuple[int, ...]]] = []

    with attached(sites, {"value": lambda layer, units: seen.append((layer, tuple(units.shape)))}):
        run(loaded.model)

    kind = "Linear8bitLt" if quantize == "int8" else "Linear4bit"
    assert type(sites.down_projections[0]).__name__ == kind
    assert seen == [(0, (2, 5, 128)), (1, (2, 5, 128))]


def test_edits_change_and_no_edits_leave_the_logits_of_a_four_bit_model(
    tiny_model_dir: MakeFolder,
) -> None:
    loaded = load_model(str(tiny_model_dir("llama", **WIDE["llama"])), quantize="nf4", device="cpu")
    base, sites = run(loaded.model), find_sites(loaded.model)

    with attached(sites, dict.fromkeys(SITES, lambda _layer, _units: None)):
        untouched = run(loaded.model)
    with attached(sites, {"value": lambda _layer, units: units * 0}):
        edited = run(loaded.model)

    assert torch.equal(untouched, base)
    assert not torch.equal(edited, base)


def test_checkpoint_that_is_stored_quantised_is_loaded_as_it_is(
    tiny_model_dir: MakeFolder, byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first = load_model(str(tiny_model_dir("llama", **WIDE["llama"])), quantize="nf4", device="cpu")
    folder = tmp_path / "stored-in-4-bit"
    first.model.save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)

    again = load_model(str(folder), device="cpu")

    assert torch.equal(run(again.model), run(first.model))
    with pytest.raises(ModelLoadError, match=r"as 'int8'.*already \('bitsandbytes'\)"):
        load_model(str(folder), quantize="int8", device="cpu")


def test_bundled_model_is_float32_unquantised_and_keeps_its_name(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model_dir("llama")
    half = load_model(str(folder), quantize="none", device="cpu", dtype=torch.float16)
    half.model.save_pretrained(folder)
    monkeypatch.setattr(loading, "BUNDLED_FOLDER", folder)

    loaded = load_model(BUNDLED_MODEL, device="cpu")

    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.identity.model_id == "bundled"
    assert loaded.identity.revision == folder_revision(folder)


def test_dtype_of_the_checkpoint_is_kept_unless_another_is_asked_for(
    tiny_model_dir: MakeFolder,
) -> None:
    folder = str(tiny_model_dir("llama"))

    kept = load_model(folder, quantize="none", device="cpu")
    asked = load_model(folder, quantize="none", device="cpu", dtype=torch.bfloat16)

    assert kept.model.dtype == torch.float32
    assert asked.model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("auto", torch.float16),
        (None, torch.float16),
        ("bfloat16", torch.bfloat16),
        (torch.float32, torch.float32),
    ],
)
def test_dtype_may_be_named(
    asked: torch.dtype | str | None, got: torch.dtype, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir("llama")
    half = load_model(str(folder), quantize="none", device="cpu", dtype=torch.float16)
    half.model.save_pretrained(folder)

    assert load_model(str(folder), quantize="none", device="cpu", dtype=asked).model.dtype == got


@pytest.mark.parametrize("asked", ["float64", "fast", torch.int8])
def test_unknown_dtype_is_refused_with_the_known_ones(asked: torch.dtype | str) -> None:
    with pytest.raises(ModelLoadError, match=rf"dtype '{asked}'.*auto, float32, bfloat16, float16"):
        load_model(BUNDLED_MODEL, dtype=asked)


def test_tokenizer_pads_on_the_left_and_falls_back_to_the_end_of_text_token(
    tiny_model_dir: MakeFolder, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tiny_model_dir("llama")
    byte_tokenizer.pad_token = None
    byte_tokenizer.padding_side = "right"
    byte_tokenizer.save_pretrained(folder)

    tokenizer = load_model(str(folder), quantize="none", device="cpu").tokenizer

    assert tokenizer.pad_token == tokenizer.eos_token == byte_tokenizer.eos_token
    assert tokenizer(["ab", "c"], padding=True)["input_ids"][1][0] == tokenizer.pad_token_id


def test_tokenizer_without_pad_and_end_is_refused(
    tiny_model_dir: MakeFolder, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    folder = tiny_model_dir("llama")
    byte_tokenizer.pad_token = byte_tokenizer.eos_token = None
    byte_tokenizer.save_pretrained(folder)

    with pytest.raises(ModelLoadError, match="pad and its end-of-text token"):
        load_model(str(folder), quantize="none", device="cpu")


def test_tokenizer_hash_survives_save_and_reload_but_not_another_vocabulary(
    byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first = hash_tokenizer(byte_tokenizer)
    byte_tokenizer.save_pretrained(tmp_path)
    reloaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    byte_tokenizer.chat_template = None
    without_template = hash_tokenizer(byte_tokenizer)
    byte_tokenizer.add_tokens(["more"])

    assert hash_tokenizer(reloaded) == first
    assert without_template == first
    assert hash_tokenizer(byte_tokenizer) != first


def test_tokenizer_hash_depends_on_the_order_of_merges(
    byte_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    byte_tokenizer.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"].reverse()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    assert hash_tokenizer(PreTrainedTokenizerFast.from_pretrained(tmp_path)) != hash_tokenizer(
        byte_tokenizer
    )


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_folder_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ModelLoadError, match=f"'{name}': there is no folder"):
        load_model(name)


def test_bundled_model_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "BUNDLED_FOLDER", tmp_path / "weights")

    with pytest.raises(ModelLoadError, match="model 'bundled': there is no folder"):
        load_model("bundled")


def test_hub_that_cannot_be_reached_is_said_so() -> None:
    with pytest.raises(ModelLoadError, match=r"model 'nobody/nothing'.*check the spelling and"):
        load_model("nobody/nothing")


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no 'config\.json'"):
        load_model(str(tmp_path))


def test_folder_without_weights_is_refused(tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir("llama")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickled")

    with pytest.raises(ModelLoadError, match=r"lacks weights: 'model\.safetensors'.*pickled"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("index", "missing"),
    [
        ('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}', "one.*, two"),
        ('{"weight_map": ', "unreadable"),
        ("[]", "unreadable"),
    ],
)
def test_folder_without_all_shards_is_refused(
    index: str, missing: str, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir("llama")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")

    with pytest.raises(ModelLoadError, match=f"lacks weights: '.*{missing}"):
        load_model(str(folder))


@pytest.mark.parametrize("kept_bytes", [0, 4, 2000])
def test_truncated_weights_are_refused(kept_bytes: int, tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir("llama")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept_bytes])

    with pytest.raises(ModelLoadError, match=r"Cannot read the weights of model .*get or save"):
        load_model(str(folder), quantize="none", device="cpu")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("num_hidden_layers", 3, "not complete: 9 are missing"), ("hidden_size", 64, "weights")],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(
    key: str, value: int, message: str, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir("llama")
    change_config(folder, key, value)

    with pytest.raises(ModelLoadError, match=message):
        load_model(str(folder), quantize="none", device="cpu")


def change_config(folder: Path, key: str, value: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, key: value}), encoding="utf-8")


@pytest.mark.parametrize("text", ["{", '{"model_type": "llama", "hidden_size": "wide"}'])
def test_damaged_config_is_refused(text: str, tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir("llama")
    (folder / "config.json").write_text(text, encoding="utf-8")

    with pytest.raises(ModelLoadError, match="Cannot read the configuration"):
        load_model(str(folder), quantize="none", device="cpu")


def test_missing_tokenizer_is_refused(tiny_model_dir: MakeFolder) -> None:
    folder = tiny_model_dir("llama")
    for file in folder.glob("tokenizer*"):
        file.unlink()

    with pytest.raises(ModelLoadError, match="Cannot read the tokenizer"):
        load_model(str(folder), quantize="none", device="cpu")


@pytest.mark.parametrize("model_type", ["t5", "not-in-any-release"])
def test_unknown_family_is_refused_before_weights_are_read(
    model_type: str, tiny_model_dir: MakeFolder
) -> None:
    folder = tiny_model_dir("llama")
    (folder / "model.safetensors").write_bytes(b"not read")
    change_config(folder, "model_type", model_type)

    with pytest.raises(UnsupportedArchitectureError, match=f"'{model_type}'.*Known here"):
        load_model(str(folder))


def test_mixture_of_experts_without_a_row_is_refused_before_weights_are_read(
    tmp_path: Path,
) -> None:
    AutoConfig.for_model("olmoe").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")

    with pytest.raises(UnsupportedArchitectureError, match="experts are not in the table"):
        load_model(str(tmp_path), quantize="none")


def test_unknown_quantisation_is_refused_with_the_known_ones(tiny_model_dir: MakeFolder) -> None:
    with pytest.raises(ModelLoadError, match=r"'gguf'.*nf4, int8, none"):
        load_model(str(tiny_model_dir("llama")), quantize="gguf")  # type: ignore[arg-type]  # wrong


def test_width_that_four_bit_on_this_cpu_cannot_take_is_refused(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)

    with pytest.raises(ModelLoadError, match=r"4-bit on this CPU.*'32 x 32'.*multiples of 64"):
        load_model(str(tiny_model_dir("llama")), device="cpu")


def test_gpu_that_is_not_there_is_refused(
    tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ModelLoadError, match="on 'cuda:0': this machine has no CUDA GPU"):
        load_model(str(tiny_model_dir("llama")), device="cuda:0")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("no bitsandbytes"), "as 'nf4': a library is missing"),
        (torch.OutOfMemoryError("full"), "memory of 'cpu' is too small"),
        (MemoryError(), "memory of 'cpu' is too small"),
    ],
)
def test_missing_library_and_small_memory_are_said_so(
    error: Exception, message: str, tiny_model_dir: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(ModelLoadError, match=message):
        load_model(str(tiny_model_dir("llama")), quantize="nf4", device="cpu")


def test_model_of_the_hub_is_named_by_its_commit(
    tiny_model_dir: MakeFolder, tmp_path: Path
) -> None:
    """In a process of its own, because the cache's place is read once, on import."""
    commit = "0123456789" * 4
    repository = tmp_path / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    (repository / "snapshots").mkdir()
    tiny_model_dir("llama").rename(repository / "snapshots" / commit)
    code = (
        "from steering.loading import load_model; "
        "identity = load_model('org/tiny', quantize='none', device='cpu').identity; "
        "print(identity.model_id, identity.revision)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.stdout.split() == ["org/tiny", commit], result.stderr


def test_tests_reach_no_other_machine() -> None:
    with socket.socket() as connection, pytest.raises(OSError, match="tests have no network"):
        connection.connect(("192.0.2.1", 80))
