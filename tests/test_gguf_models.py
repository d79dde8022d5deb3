"""Tests of models in GGUF files: tiny ones, written here as llama.cpp's converter would."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from steering.conversation import Message, encode_prompt
from steering.errors import ModelLoadError, UnsupportedArchitectureError
from steering.gguf_models import convert_gguf, find_gguf, hash_content, names_gguf
from steering.loading import load_model, read_identity

pytest.importorskip("gguf", reason="`gguf` is not installed: GGUF files cannot be written")

from tests.tiny_gguf import write_gguf

MakeModel = Callable[..., PreTrainedModel]

IDS = torch.arange(10, 20).view(2, 5)
WIDE = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture
def gguf_file(
    tmp_path: Path, make_tiny_model: MakeModel, byte_tokenizer: PreTrainedTokenizerFast
) -> Path:
    """A tiny Qwen2 with a chat template."""
    return write_gguf(tmp_path / "tiny.gguf", make_tiny_model("qwen2", **WIDE), byte_tokenizer)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder, not made yet."""
    return tmp_path / "data"


def kept(data: Path) -> list[str]:
    """Return the names of what lies among the conversions, but for locks."""
    models = data / "models"
    return sorted(one.name for one in models.glob("*") if one.suffix != ".lock")


def test_model_in_a_gguf_file_computes_what_was_written_to_it(
    gguf_file: Path, data: Path, make_tiny_model: MakeModel
) -> None:
    """Weights are kept in bfloat16, so the original is rounded to it as well."""
    loaded = load_model(str(gguf_file), quantize="none", dtype="float32", device="cpu", data=data)
    with torch.no_grad():
        expected = make_tiny_model("qwen2", **WIDE)
        rounded = {name: t.bfloat16().float() for name, t in expected.state_dict().items()}
        original = type(expected)(expected.config).eval()
        original.load_state_dict(rounded)
        got, wanted = loaded.model(input_ids=IDS).logits, original(input_ids=IDS).logits

    assert torch.allclose(got, wanted, atol=1e-4)


def test_tokenizer_and_chat_template_survive_the_conversion(
    gguf_file: Path, data: Path, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer = load_model(str(gguf_file), device="cpu", data=data).tokenizer

    conversation = [Message("user", "Where is the cat?")]
    assert tokenizer.chat_template == byte_tokenizer.chat_template
    assert encode_prompt(tokenizer, conversation) == encode_prompt(byte_tokenizer, conversation)


@pytest.mark.parametrize("quantize", ["nf4", "int8", "none"])
def test_gguf_model_is_quantised_as_asked_and_named_by_file_and_content(
    quantize: str, gguf_file: Path, data: Path
) -> None:
    loaded = load_model(str(gguf_file), quantize=quantize, device="cpu", data=data)  # type: ignore[arg-type]  # one of the three

    names = {type(module).__name__ for module in loaded.model.modules()}
    assert {"nf4": "Linear4bit", "int8": "Linear8bitLt", "none": "Linear"}[quantize] in names
    assert loaded.identity.model_id == str(gguf_file)
    assert loaded.identity.revision == hash_content(find_gguf(str(gguf_file), None))


def test_configuration_of_a_gguf_file_is_read_without_converting_it(
    gguf_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(data))

    identity = read_identity(str(gguf_file))

    assert (identity.architecture, identity.layers, identity.neurons_per_layer) == ("qwen2", 2, 128)
    assert not data.exists()


def test_file_is_converted_once_and_again_when_its_content_changes(
    gguf_file: Path,
    data: Path,
    make_tiny_model: MakeModel,
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    seen: list[float] = []
    first = load_model(str(gguf_file), device="cpu", data=data, progress=seen.append).identity
    calls = len(seen)
    moved = gguf_file.rename(gguf_file.with_name("tiny.renamed.gguf"))
    shutil.copy(moved, gguf_file)
    again = load_model(str(gguf_file), device="cpu", data=data, progress=seen.append).identity

    assert calls > 10
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert (len(seen), again) == (calls, first)
    assert len(kept(data)) == 1

    narrower = make_tiny_model("qwen2", hidden_size=64, intermediate_size=64)
    write_gguf(gguf_file, narrower, byte_tokenizer)

    other = load_model(str(gguf_file), device="cpu", data=data).identity
    assert other.revision != first.revision
    assert other.neurons_per_layer == 64
    assert len(kept(data)) == 2


def test_two_at_once_convert_it_one_time(gguf_file: Path, data: Path) -> None:
    """In processes of their own, as a page and a command would."""
    code = (
        "import sys; from pathlib import Path; from steering.loading import load_model; "
        "calls = []; load_model(sys.argv[1], device='cpu', data=Path(sys.argv[2]), "
        "progress=calls.append); print(bool(calls))"
    )

    def run(_: int) -> str:
        command = [sys.executable, "-c", code, str(gguf_file), str(data)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with ThreadPoolExecutor(2) as pool:
        converted = sorted(pool.map(run, range(2)))

    assert converted == ["False", "True"]
    assert len(kept(data)) == 1


def test_rest_of_a_killed_conversion_is_cleared_away(gguf_file: Path, data: Path) -> None:
    file = find_gguf(str(gguf_file), None)
    revision = hash_content(file)
    left = data / "models" / f".tiny-{revision.removeprefix('sha256:')}.part-old"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")

    folder = convert_gguf(file, revision=revision, data=data)

    assert kept(data) == [folder.name]


@pytest.mark.parametrize("name", ["bert", "not-in-any-release"])
def test_unknown_architecture_is_refused_before_weights_are_read(
    name: str,
    tmp_path: Path,
    data: Path,
    make_tiny_model: MakeModel,
    byte_tokenizer: PreTrainedTokenizerFast,
) -> None:
    path = write_gguf(
        tmp_path / "odd.gguf", make_tiny_model("qwen2"), byte_tokenizer, architecture=name
    )

    with pytest.raises(UnsupportedArchitectureError, match=f"'{name}'.*Known here"):
        load_model(str(path), device="cpu", data=data)
    assert not data.exists()


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99])
def test_truncated_file_is_refused(share: float, gguf_file: Path, data: Path) -> None:
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: max(8, int(len(content) * share))])

    with pytest.raises(ModelLoadError, match=r"GGUF file of model '.*damaged or cut off.*again"):
        load_model(str(gguf_file), device="cpu", data=data)
    assert kept(data) == []


def test_file_that_is_no_gguf_is_refused(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "page.gguf"
    path.write_text("<html>Not found</html>")

    with pytest.raises(ModelLoadError, match="not a GGUF file, because it does not begin"):
        load_model(str(path), data=data)


def test_file_without_a_tokenizer_is_refused(
    tmp_path: Path, data: Path, make_tiny_model: MakeModel
) -> None:
    path = write_gguf(tmp_path / "mute.gguf", make_tiny_model("qwen2"), None)

    with pytest.raises(ModelLoadError, match=r"has no tokenizer\. Expected one under"):
        load_model(str(path), device="cpu", data=data)
    assert kept(data) == []


def test_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"there is no such file.*'org/repo:file\.gguf'"):
        load_model(str(tmp_path / "nothing.gguf"))


def test_disk_that_is_too_small_is_said_before_anything_is_written(
    gguf_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(gguf_file.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))

    with pytest.raises(ModelLoadError, match=r"0\.0 GB free, and 0\.0 GB are needed"):
        load_model(str(gguf_file), device="cpu", data=data)
    assert kept(data) == []


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files")
def test_disk_that_fills_while_converting_leaves_nothing(gguf_file: Path, data: Path) -> None:
    """A limit on the size of files stands for a full disk; it holds for one process."""
    code = (
        "import resource, sys; from pathlib import Path; from steering.loading import load_model\n"
        "from steering.errors import ModelLoadError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: load_model(sys.argv[1], device='cpu', data=Path(sys.argv[2]))\n"
        "except ModelLoadError as err: print(err)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(gguf_file), str(data)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "the disk is full. Nothing was kept; make room" in done.stdout
    assert kept(data) == []


def test_data_folder_that_cannot_be_written_is_said_so(gguf_file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder belongs")

    with pytest.raises(ModelLoadError, match=r"Cannot convert model .*choose another data folder"):
        load_model(str(gguf_file), device="cpu", data=blocked)


def test_missing_package_is_said_so(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(ModelLoadError, match=r"needs the package 'gguf'.*`pip install gguf`"):
        load_model(str(gguf_file))


def test_names_of_gguf_files_are_told_from_other_names() -> None:
    assert all(map(names_gguf, ["a.gguf", "./b/C.GGUF", "org/repo:q4/file.gguf"]))
    assert not any(map(names_gguf, ["bundled", "org/repo", "org/gguf", "folder/model"]))


def load_from_cache(hub: Path, name: str, data: Path) -> subprocess.CompletedProcess[str]:
    """Load in a process of its own, because the cache's place is read once, on import."""
    code = (
        "import sys; from pathlib import Path; from steering.loading import load_model\n"
        "from steering.errors import ModelLoadError\n"
        "try: print(load_model(sys.argv[1], device='cpu', data=Path(sys.argv[2])).identity)\n"
        "except ModelLoadError as err: print(err)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, name, str(data)],
        env={**os.environ, "HF_HUB_CACHE": str(hub)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_file_of_a_repository_on_the_hub_is_a_model(
    gguf_file: Path, data: Path, tmp_path: Path
) -> None:
    commit = "0123456789" * 4
    repository = tmp_path / "hub" / "models--org--tiny-GGUF"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    (repository / "snapshots" / commit).mkdir(parents=True)
    revision = hash_content(find_gguf(str(gguf_file), None))
    gguf_file.rename(repository / "snapshots" / commit / "tiny-q4.gguf")

    done = load_from_cache(tmp_path / "hub", "org/tiny-GGUF:tiny-q4.gguf", data)
    absent = load_from_cache(tmp_path / "hub", "org/tiny-GGUF:other.gguf", data)

    assert "model_id='org/tiny-GGUF:tiny-q4.gguf'" in done.stdout
    assert f"revision='{revision}'" in done.stdout
    assert "Cannot find the file 'other.gguf' of 'org/tiny-GGUF' on the hub" in absent.stdout
