"""Fixtures that every test may use: tiny random models of all families, a tokenizer, no network.

Nothing here is downloaded, and nothing depends on the order of tests: models are seeded one by one.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from steering.activation_stats import ActivationStats
from steering.architectures import (
    ARCHITECTURES,
    expert_count,
    neurons_per_layer,
    vocabulary_size,
)
from steering.experts import prepare_experts
from steering.loading import LoadedModel
from steering.model_identity import ModelIdentity, hash_tokenizer, read_norm_weights
from steering.neuron_set import NeuronSet
from tests.toy import make_toy_set, make_toy_stats

torch.set_num_threads(1)

BOS, EOS, PAD, USER, ASSISTANT, SYSTEM = range(256, 262)
SPECIAL_TOKENS = ("<s>", "</s>", "<pad>", "<|user|>", "<|assistant|>", "<|system|>")
VOCAB_SIZE = 300

_SIZES: dict[str, object] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_LLAMA: dict[str, object] = {**_SIZES, "intermediate_size": 48, "num_key_value_heads": 2}
_HEADS: dict[str, object] = {**_LLAMA, "head_dim": 8}
_GEMMA: dict[str, object] = {**_HEADS, "query_pre_attn_scalar": 8}
_SIGLIP: dict[str, object] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
           "num_attention_heads": 2, "image_size": 8, "patch_size": 4}  # fmt: skip

# Four experts of 12 neurons each; every token goes to two of them.
_EXPERTS: dict[str, object] = {"num_experts": 4, "num_experts_per_tok": 2}

# What each family's configuration needs to be tiny: hidden 32, 2 layers, and 48 neurons per layer
# wherever the family lets one choose (BLOOM does not: always 4 x hidden).
_TINY: dict[str, dict[str, object]] = {
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "cohere": _LLAMA,
    "cohere2": _HEADS,
    "falcon": {**_SIZES, "ffn_hidden_size": 48},
    "gemma": _HEADS,
    "gemma2": _GEMMA,
    "gemma3": {"text_config": {**_GEMMA, "vocab_size": VOCAB_SIZE}, "vision_config": _SIGLIP,
               "mm_tokens_per_image": 4, "image_token_index": 299, "boi_token_index": 298,
               "eoi_token_index": 297},
    "gemma3_text": _GEMMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48},
    "gpt_neox": {**_SIZES, "intermediate_size": 48},
    "granite": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": {**_LLAMA, **_EXPERTS, "intermediate_size": 12},
    "olmo2": _LLAMA,
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": {**_SIZES, "intermediate_size": 48},
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _HEADS,
    "qwen3_moe": {**_HEADS, **_EXPERTS, "moe_intermediate_size": 12},
    "smollm3": _LLAMA,
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Let sockets reach this machine only."""
    original_connect, original_connect_ex = socket.socket.connect, socket.socket.connect_ex

    def connect(self: socket.socket, address: object) -> None:
        _refuse_remote(self, address)
        original_connect(self, address)  # type: ignore[arg-type]  # as the caller gave it

    def connect_ex(self: socket.socket, address: object) -> int:
        _refuse_remote(self, address)
        return original_connect_ex(self, address)  # type: ignore[arg-type]  # as the caller gave it

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        yield


def _refuse_remote(connection: socket.socket, address: object) -> None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = str(address[0]) if isinstance(address, tuple) else str(address)
    if host != "localhost" and not _is_loopback(host):
        raise OSError(f"A test tried to reach '{address}'; tests have no network.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_config(family: str, **changes: object) -> PreTrainedConfig:
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    text = {} if family == "gemma3" else {"vocab_size": VOCAB_SIZE}
    values = {**text, **special, **_TINY[family], **changes}
    config: PreTrainedConfig = AutoConfig.for_model(family, **values)
    return config


@functools.cache
def _make_model(family: str, **changes: int) -> PreTrainedModel:
    """Build one model with far larger weights than usual, so that each neuron shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            _make_config(family, **changes)
        )
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
    prepare_experts(model)
    return model.requires_grad_(False).eval()  # type: ignore[no-any-return,no-untyped-call]


def _make_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level BPE: 256 bytes, the special tokens, and three merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *SPECIAL_TOKENS, "th", "the", "\u0120the"]
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the")]
    vocab = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    bos, eos, pad, *roles = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=roles,
        padding_side="left",
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    return tokenizer


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def family(request: pytest.FixtureRequest) -> str:
    """Each model family of the table in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., PreTrainedConfig]:
    """Make a tiny configuration: `tiny_config(family, **changes)`."""
    return _make_config


@pytest.fixture(scope="session")
def make_tiny_model() -> Callable[..., PreTrainedModel]:
    """Return the tiny model of one family: `make_tiny_model(family, **changes of config)`.

    Shared by all tests, so leave its weights alone or copy it.
    """
    return _make_model


@pytest.fixture(scope="session")
def tiny_model(family: str) -> PreTrainedModel:
    """The tiny model of each family in turn; shared by all tests, so leave its weights alone."""
    return _make_model(family)


@pytest.fixture
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of its own for each test, with a chat template."""
    return _make_tokenizer()


@pytest.fixture
def load_tiny(byte_tokenizer: PreTrainedTokenizerFast) -> Callable[..., LoadedModel]:
    """Return a tiny model as `load_model` would: `load_tiny(family, **changes of config)`.

    The weights are shared by all tests, so leave them alone.
    """

    def load(family: str, **changes: int) -> LoadedModel:
        model = _make_model(family, **changes)
        text = model.config.get_text_config()
        identity = ModelIdentity(
            model_id=f"tiny-{family}",
            revision="local",
            architecture=family,
            layers=text.num_hidden_layers,
            neurons_per_layer=neurons_per_layer(model.config),
            hidden_size=text.hidden_size,
            tokenizer_sha256=hash_tokenizer(byte_tokenizer),
            experts=expert_count(model.config),
            vocabulary=vocabulary_size(model.config),
            norm_weights=read_norm_weights(model, ARCHITECTURES[family]),
        )
        return LoadedModel(model, byte_tokenizer, ARCHITECTURES[family], identity)

    return load


@pytest.fixture(scope="session")
def toy_stats() -> ActivationStats:
    """Statistics of five languages; see `toy.py`."""
    return make_toy_stats()


@pytest.fixture(scope="session")
def toy_set() -> NeuronSet:
    """The neuron set of `toy_stats`."""
    return make_toy_set()


@pytest.fixture(scope="session")
def save_tiny_model() -> Callable[..., Path]:
    """Save a tiny model and the tokenizer: `save_tiny_model(folder, family, **changes of config)`.

    For fixtures that live longer than a test; a test takes `tiny_model_dir`.
    """

    def save(folder: Path, family: str, **changes: int) -> Path:
        _make_model(family, **changes).save_pretrained(folder)
        _make_tokenizer().save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def tiny_model_dir(tmp_path: Path, save_tiny_model: Callable[..., Path]) -> Callable[..., Path]:
    """Save a tiny model and the tokenizer: `tiny_model_dir(family, **changes of config)`.

    The test may damage the folder.
    """

    def save(family: str, **changes: int) -> Path:
        return save_tiny_model(tmp_path / f"tiny-{family}", family, **changes)

    return save
