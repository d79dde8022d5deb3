"""Loads a causal language model with its tokenizer, 4-bit or not, and says which one it is.

Knows nothing of steering or languages. Reads safetensors and GGUF files only (no pickled weights),
runs no code that comes with a model, and compiles nothing. The family is checked before weights
are read.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from steering.architectures import (
    Architecture,
    expert_count,
    find_architecture,
    find_family,
    hidden_size,
    layer_count,
    neurons_per_layer,
    vocabulary_size,
)
from steering.data_folder import user_data_folder
from steering.errors import ModelLoadError, UnsupportedArchitectureError
from steering.experts import prepare_experts
from steering.gguf_models import (
    ConversionProgress,
    GgufFile,
    convert_gguf,
    find_gguf,
    hash_content,
    names_gguf,
    read_architecture,
)
from steering.model_identity import (
    ModelIdentity,
    folder_revision,
    hash_tokenizer,
    read_norm_weights,
)

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import (
        BitsAndBytesConfig,
        PreTrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

Quantize: TypeAlias = Literal["nf4", "int8", "none"]

DTYPES = ("float32", "bfloat16", "float16")
ANY_DTYPE = "auto"  # what suits the device and the checkpoint
ANY_DEVICE = "auto"  # all GPUs, and the memory for what does not fit there

# The name of the small model that comes with the program, and where its files are.
BUNDLED_MODEL = "bundled"
BUNDLED_FOLDER = Path(__file__).resolve().parent.parent / "demo_model" / "weights"
_one_at_a_time = threading.Lock()  # transformers keeps other threads from tying `lm_head`


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to generate, its tokenizer, and what they are.

    Args:
        model: In evaluation mode, without gradients.
        tokenizer: Pads on the left; its pad token falls back to the end-of-text token.
        architecture: Where the model keeps its FFN.
        identity: Which model it is.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    identity: ModelIdentity


def load_model(
    name: str,
    *,
    quantize: Quantize | None = None,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    revision: str | None = None,
    data: Path | None = None,
    progress: ConversionProgress | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer from the hub, a folder, a GGUF file, or the bundled one.

    Args:
        name: Hub id, folder, GGUF file (on the hub `org/repo:file.gguf`), or `bundled`.
        quantize: When omitted `nf4`, but `none` for the bundled model and quantised checkpoints.
        dtype: Of activations and unquantised weights: torch's own or its name. `auto` when omitted:
            the checkpoint's (float32 for the bundled model), or under quantisation the GPU's
            16-bit type, and on the CPU float32 outside embedding and head.
        device: Such as `cpu` or `cuda:0`; `auto` spreads a model over all GPUs and memory, which is
            slow. When omitted, the GPU if there is one.
        revision: Branch, tag or commit of the hub; the main branch when omitted.
        data: Where GGUF files are converted to; the person's own data folder when omitted.
        progress: Called while a GGUF file is converted, with the share that is done.

    Raises:
        ModelLoadError: If the model cannot be found, read or run as asked.
        UnsupportedArchitectureError: If its family is not in the table; no weights are read then.
    """
    asked_dtype = _read_dtype(name, dtype)
    source = _find_source(name, revision)
    config = _read_config(source, quantize)
    chosen = _choose_quantize(source, config, quantize)
    is_quantised = chosen != "none" or "quantization_config" in config.to_dict()
    architecture = find_architecture(config, is_quantised=is_quantised)
    place = _choose_device(source, device)
    if source.gguf is not None:
        source = _convert(source, source.gguf, data or user_data_folder(), progress)
        config = _read_config(source, quantize)
    tokenizer = _read_tokenizer(source)
    model = _read_weights(source, config, quantize=chosen, dtype=asked_dtype, device=place)
    prepare_experts(model)
    if model.device.type == "cpu":
        _settle_on_cpu(source, model, architecture, is_packed=chosen == "nf4")
    identity = replace(
        _identify(name, config),
        revision=source.revision or folder_revision(Path(source.place)),
        tokenizer_sha256=hash_tokenizer(tokenizer),
        norm_weights=read_norm_weights(model, architecture),
    )
    return LoadedModel(model, tokenizer, architecture, identity)


def _settle_on_cpu(
    source: _Source, model: PreTrainedModel, architecture: Architecture, *, is_packed: bool
) -> None:
    """Pack 4-bit weights the way the CPU's kernel wants them, and give memory back."""
    from steering.narrow_vocabulary import return_free_memory

    if is_packed:
        layers = model.get_submodule(architecture.layers_path)
        _check_widths(source, layers)
        _pack_weights(layers)
    return_free_memory()


def read_identity(name: str, *, revision: str | None = None) -> ModelIdentity:
    """Say which model a name means, from its configuration alone.

    Neither weights nor tokenizer are read: the tokenizer's hash is empty, and so is the revision
    of a folder and of a GGUF file.

    Raises:
        ModelLoadError: If the configuration cannot be found or read.
        UnsupportedArchitectureError: If the family is not in the table.
    """
    source = _find_source(name, revision, needs_weights=False)
    config = _read_config(source, "none")
    return replace(_identify(name, config), revision=source.revision or "")


def _identify(name: str, config: PreTrainedConfig) -> ModelIdentity:
    """Say what a configuration alone can: no revision, no tokenizer, no norms."""
    return ModelIdentity(
        model_id=name,
        revision="",
        architecture=find_architecture(config).model_type,
        layers=layer_count(config),
        neurons_per_layer=neurons_per_layer(config),
        hidden_size=hidden_size(config),
        experts=expert_count(config),
        tokenizer_sha256="",
        vocabulary=vocabulary_size(config),
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model is read from: *place* is a folder, or the hub id as a string.

    The revision of a folder is None; of a hub id it is the commit once that is known, and of a
    converted GGUF file the hash of its content.
    """

    name: str
    place: Path | str
    revision: str | None
    gguf: GgufFile | None = None  # in the place, not converted yet


def _find_source(name: str, revision: str | None, *, needs_weights: bool = True) -> _Source:
    """Find the folder that a name means; a name that is no path and no folder is a hub id."""
    if name == BUNDLED_MODEL:
        return _Source(name, _check_folder(name, BUNDLED_FOLDER, needs_weights), None)
    folder = Path(name).expanduser()
    if names_gguf(name) and not folder.is_dir():
        gguf = find_gguf(name, revision)
        return _Source(name, gguf.path.parent, None, gguf)
    looks_like_path = folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if folder.is_dir() or looks_like_path:
        return _Source(name, _check_folder(name, folder, needs_weights), None)
    return _pin_commit(_Source(name, name, revision))


def _convert(
    source: _Source, gguf: GgufFile, data: Path, progress: ConversionProgress | None
) -> _Source:
    """Return the folder that a GGUF file is converted to, with the file's hash as its revision."""
    content = hash_content(gguf)
    with _one_at_a_time:
        folder = convert_gguf(gguf, revision=content, data=data, progress=progress)
    return _Source(source.name, _check_folder(source.name, folder, needs_weights=True), content)


def _pin_commit(source: _Source) -> _Source:
    """Replace a branch by its commit, so that all files of one load belong together."""
    from transformers.utils.hub import cached_file

    try:
        config_file = cached_file(source.name, "config.json", revision=source.revision)
    except Exception as err:  # the hub's client has many errors; each means the same here
        raise ModelLoadError(_unreadable(source, "configuration", err)) from err
    # The hub's cache keeps a file at snapshots/<commit>/<file>.
    return replace(source, revision=Path(str(config_file)).parent.name)


def _check_folder(name: str, folder: Path, needs_weights: bool) -> Path:
    """Refuse a folder that lacks what a model consists of, before anything is loaded."""
    if not folder.is_dir():
        raise ModelLoadError(
            f"Cannot load model '{name}': there is no folder '{folder}'. Expected a folder with a "
            "model, or a hub id such as 'org/model'; check the spelling."
        )
    if not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"Cannot load model '{name}': the folder '{folder}' has no 'config.json'. "
            "Expected a folder that `save_pretrained` wrote; check that it is the right one."
        )
    if needs_weights and (missing := _missing_weight_files(folder)):
        raise ModelLoadError(
            f"Cannot load model '{name}': the folder '{folder}' lacks weights: "
            f"'{', '.join(missing[:8])}'. Expected safetensors files (pickled weights are not "
            "read); copy them there, or save the model again."
        )
    return folder


def _missing_weight_files(folder: Path) -> list[str]:
    if (folder / "model.safetensors").is_file():
        return []
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return [f"{index.name} (unreadable)"]
    return sorted(str(file) for file in files if not (folder / str(file)).is_file())


def _read_config(source: _Source, quantize: Quantize | None) -> PreTrainedConfig:
    """Read the configuration, refusing an unknown family before transformers looks at it."""
    from transformers import AutoConfig, PreTrainedConfig

    if quantize not in (None, *get_args(Quantize)):
        raise ModelLoadError(
            f"Unknown quantisation '{quantize}' for model '{source.name}'. "
            f"Expected one of {', '.join(get_args(Quantize))}; use one of these, or omit it."
        )
    is_quantised = quantize != "none" and (quantize is not None or source.name != BUNDLED_MODEL)
    options = {"gguf_file": source.gguf.path.name} if source.gguf else {"revision": source.revision}
    try:
        raw, _ = PreTrainedConfig.get_config_dict(source.place, **options)
        find_family(str(raw.get("model_type", "")), is_quantised=is_quantised)
        config: PreTrainedConfig = AutoConfig.from_pretrained(source.place, **options)
    except UnsupportedArchitectureError:
        raise
    except Exception as err:  # transformers raises OSError, ValueError, KeyError and its own here
        if source.gguf is not None:
            find_family(read_architecture(source.gguf), is_quantised=is_quantised)
        raise ModelLoadError(_unreadable(source, "configuration", err)) from err
    return config


def _choose_quantize(source: _Source, config: PreTrainedConfig, asked: Quantize | None) -> Quantize:
    """Return how to quantise on loading; a checkpoint that is stored quantised stays as it is."""
    stored = config.to_dict().get("quantization_config")
    if stored is None:
        return asked or ("none" if source.name == BUNDLED_MODEL else "nf4")
    if asked in (None, "none"):
        return "none"
    method = stored.get("quant_method", "unknown")
    raise ModelLoadError(
        f"Cannot load model '{source.name}' as '{asked}': its checkpoint is quantised already "
        f"('{method}'). Expected an unquantised checkpoint; leave `quantize` out to load it as "
        "it is stored."
    )


def _read_tokenizer(source: _Source) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.place, revision=source.revision, padding_side="left"
        )
    except Exception as err:  # each kind of tokenizer raises its own
        raise ModelLoadError(_unreadable(source, "tokenizer", err)) from err
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelLoadError(
            f"The tokenizer of model '{source.name}' has 'None' as its pad and its end-of-text "
            "token. Expected one of them in 'tokenizer_config.json'; add it there."
        )
    return tokenizer


def _read_weights(
    source: _Source,
    config: PreTrainedConfig,
    *,
    quantize: Quantize,
    dtype: torch.dtype | None,
    device: str,
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    computing = dtype or _default_dtype(source.name, quantize, device)
    stored = _stored_dtype(config, computing) if quantize != "none" and device == "cpu" else None
    try:
        with _one_at_a_time:
            loaded: object = AutoModelForCausalLM.from_pretrained(
                source.place,
                config=config,
                revision=source.revision,
                dtype=stored or computing,
                device_map=device if device == ANY_DEVICE else {"": device},
                quantization_config=_quantization(quantize, computing),
                use_safetensors=True,
                output_loading_info=True,
            )
    except Exception as err:  # safetensors, bitsandbytes and torch each raise their own
        message = _explain_weights_error(source, err, quantize=quantize, device=device)
        raise ModelLoadError(message) from err
    # What `output_loading_info` returns, which the library's annotation leaves out.
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    if missing := sorted(report["missing_keys"]):
        raise ModelLoadError(
            f"The weights of model '{source.name}' are not complete: {len(missing)} are missing, "
            f"such as '{missing[0]}', and would be random. Expected every weight that "
            "'config.json' describes; get the model's files again."
        )
    model.requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it unannotated
    if stored is not None:
        from steering.narrow_vocabulary import widen_all_but_vocabulary

        widen_all_but_vocabulary(model)
    return model


def _stored_dtype(config: PreTrainedConfig, computing: torch.dtype | str) -> torch.dtype | None:
    """Return the 16 bits of a checkpoint whose vocabulary stays in them; None where it does not."""
    import torch

    from steering.narrow_vocabulary import NARROW_DTYPES

    stored = config.get_text_config().dtype or config.dtype
    return stored if computing == torch.float32 and stored in NARROW_DTYPES else None


def _quantization(quantize: Quantize, dtype: torch.dtype | str) -> BitsAndBytesConfig | None:
    from transformers import BitsAndBytesConfig

    if quantize == "none":
        return None
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # unannotated in transformers
        load_in_8bit=quantize == "int8",
        load_in_4bit=quantize == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )


def _check_widths(source: _Source, layers: nn.Module) -> None:
    """Refuse widths that bitsandbytes 0.50 cannot pack on a CPU with AVX-512 BF16."""
    from bitsandbytes.nn.modules import Linear4bit

    for module in layers.modules():
        if not isinstance(module, Linear4bit) or not module.support_avx512bf16_for_cpu:
            continue
        if module.in_features % 64 or module.out_features % 32:
            raise ModelLoadError(
                f"Cannot run model '{source.name}' in 4-bit on this CPU: it has a projection of "
                f"'{module.in_features} x {module.out_features}'. Expected multiples of 64 and 32; "
                "use `quantize` 'int8' or 'none', or a GPU."
            )


def _pack_weights(layers: nn.Module) -> None:
    """Let bitsandbytes put 4-bit weights in the order of its kernel, as it would at the first pass.

    That needs many times their size, which is given back together with what loading needed.
    """
    import torch
    from bitsandbytes.nn.modules import Linear4bit

    with torch.no_grad():
        for module in layers.modules():
            if isinstance(module, Linear4bit) and module.support_avx512bf16_for_cpu:
                module(torch.zeros(1, module.in_features))


def _choose_device(source: _Source, asked: str | None) -> str:
    import torch

    has_gpu = torch.cuda.is_available()
    if asked is None or asked == ANY_DEVICE:
        return (asked or "cuda") if has_gpu else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ModelLoadError(
            f"Cannot load model '{source.name}' on '{asked}': there is no such device. Expected "
            f"'cpu', 'cuda:0' or the like, or '{ANY_DEVICE}'; leave it out to have it chosen."
        ) from None
    if device.type == "cuda" and not has_gpu:
        raise ModelLoadError(
            f"Cannot load model '{source.name}' on '{asked}': this machine has no CUDA GPU that "
            "torch can use. Expected 'cpu'; leave the device out to have it chosen."
        )
    return asked


def _read_dtype(name: str, asked: torch.dtype | str | None) -> torch.dtype | None:
    """Return the type that was asked for; None leaves the choice."""
    import torch

    if asked is None or asked == ANY_DTYPE:
        return None
    known: dict[object, torch.dtype] = {text: getattr(torch, text) for text in DTYPES}
    known |= {dtype: dtype for dtype in known.values()}
    if asked not in known:
        raise ModelLoadError(
            f"Unknown dtype '{asked}' for model '{name}'. "
            f"Expected one of {', '.join((ANY_DTYPE, *DTYPES))}; use one of these, or omit it."
        )
    return known[asked]


def _default_dtype(name: str, quantize: Quantize, device: str) -> torch.dtype | str:
    """Return float32 where it is cheap or the only fast one; `auto` keeps the checkpoint's own."""
    import torch

    has_gpu = device == ANY_DEVICE or device.startswith("cuda")
    if name == BUNDLED_MODEL or (quantize != "none" and not has_gpu):
        return torch.float32
    if quantize == "none":
        return "auto"
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _explain_weights_error(
    source: _Source, err: Exception, *, quantize: Quantize, device: str
) -> str:
    import torch

    if isinstance(err, ImportError):
        return (
            f"Cannot load model '{source.name}' as '{quantize}': a library is missing ({err}). "
            "Expected what requirements.txt lists; install it, or use `quantize` 'none'."
        )
    if isinstance(err, (MemoryError, torch.OutOfMemoryError)):
        return (
            f"Cannot load model '{source.name}' as '{quantize}': the memory of '{device}' is too "
            "small. Expected room for all weights; use `quantize` 'nf4', a smaller model, or "
            "`device` 'auto' where there are several GPUs."
        )
    if "dispatched on the CPU" in str(err):  # bitsandbytes' words
        return (
            f"Cannot load model '{source.name}' as '{quantize}' on '{device}': it does not fit on "
            "the GPUs, and quantised weights cannot wait in memory. Expected more or larger GPUs; "
            "use `quantize` 'nf4' if it is not, 'none', or a smaller model."
        )
    return _unreadable(source, "weights", err)


def _unreadable(source: _Source, part: str, err: Exception) -> str:
    """Say which part of a model could not be read; the last words are the library's own."""
    reason = (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".:")
    if isinstance(source.place, Path):
        expected = f"Expected complete files in '{source.place}'; get or save them again"
    else:
        expected = (
            "Expected the id of a model on the hub that this machine can reach, or a folder; "
            "check the spelling and the connection"
        )
    return f"Cannot read the {part} of model '{source.name}'. {expected}. Reason: {reason}."
