"""GGUF files as models: each is converted once into a transformers folder, kept by its content.

The conversion is transformers' own (`gguf_file=`); what this module adds is the checks before it
and a folder that is there whole or not at all. One process converts a file, others wait for it.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from steering.errors import ModelLoadError

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Called with the share of a conversion that is done, 0 to 1.
ConversionProgress: TypeAlias = Callable[[float], None]

GGUF_SUFFIX = ".gguf"
_ON_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+):(?P<file>[^:]+\.gguf)", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_NAME_CHARACTERS = 60
# Where each step of a conversion begins and ends, in shares of its time with 0.5B parameters.
_STEPS = {
    "checking": (0.0, 0.1),
    "tokenizer": (0.1, 0.3),
    "converting": (0.3, 0.85),
    "loading": (0.85, 0.9),
    "writing": (0.9, 1.0),
}
_SHARD_SIZE = "500MB"  # small enough for steady progress
_BYTES_PER_WEIGHT = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file on this machine.

    Args:
        name: The model's name as it was given.
        path: Where the file is.
    """

    name: str
    path: Path


def names_gguf(name: str) -> bool:
    """Say whether a model's name means a GGUF file: a path, or `org/repo:file.gguf`."""
    return name.lower().endswith(GGUF_SUFFIX)


def find_gguf(name: str, revision: str | None) -> GgufFile:
    """Return the file that a name means, downloaded where it is on the hub.

    Raises:
        ModelLoadError: If there is no such file, it is no GGUF file, or `gguf` is not installed.
    """
    path = Path(name).expanduser()
    on_hub = _ON_HUB.fullmatch(name)
    if not path.is_file() and on_hub is not None:
        path = _download(on_hub["repository"], on_hub["file"], revision)
    if not path.is_file():
        raise ModelLoadError(
            f"Cannot load model '{name}': there is no such file. Expected a GGUF file, or "
            "'org/repo:file.gguf' for one on the hub; check the spelling."
        )
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as err:
        raise _unreadable(name, err) from err
    if magic != b"GGUF":
        raise ModelLoadError(
            f"Cannot load model '{name}': it is not a GGUF file, because it does not begin with "
            "'GGUF'. Expected one that llama.cpp reads; get the file again."
        )
    if importlib.util.find_spec("gguf") is None:
        raise ModelLoadError(
            f"Cannot load model '{name}': reading GGUF files needs the package 'gguf', which is "
            "not installed. Install it with `pip install gguf`."
        )
    return GgufFile(name, path)


def read_architecture(file: GgufFile) -> str:
    """Return what kind of model a file says that it holds.

    Raises:
        ModelLoadError: If the file is damaged.
    """
    return str(_value(_read(file), "general.architecture"))


def hash_content(file: GgufFile) -> str:
    """Return `sha256:` and 16 digits of the hash of the whole file.

    All of it, because nothing less tells a damaged download from a whole one; it takes a fraction
    of the time that reading the converted weights does.

    Raises:
        ModelLoadError: If the file can't be read.
    """
    digest = hashlib.sha256()
    try:
        with file.path.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    except OSError as err:
        raise _unreadable(file.name, err) from err
    return f"sha256:{digest.hexdigest()[:16]}"


def _unreadable(name: str, err: OSError) -> ModelLoadError:
    return ModelLoadError(
        f"Cannot read the model file '{name}': {err.strerror or err}. Check that it is still there "
        "and that you may read it."
    )


def convert_gguf(
    file: GgufFile, *, revision: str, data: Path, progress: ConversionProgress | None = None
) -> Path:
    """Return the transformers folder of a GGUF file; it is made on the first call.

    Args:
        file: From `find_gguf`.
        revision: From `hash_content`.
        data: Folder for what the program keeps; conversions lie in its `models`.
        progress: Called on the way, only where there is something to convert.

    Raises:
        ModelLoadError: If the file is damaged or lacks something, or cannot be written.
    """
    from filelock import FileLock

    name = _NOT_IN_NAMES.sub("-", file.path.stem)[:_NAME_CHARACTERS]
    folder = data / "models" / f"{name}-{revision.removeprefix('sha256:')}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # another process may have made it meanwhile
                _convert_into(folder, file, progress or (lambda _: None))
    except OSError as err:
        if isinstance(err, ModelLoadError):
            raise
        raise ModelLoadError(_not_written(file, folder.parent, err)) from err
    return folder


def _download(repository: str, file: str, revision: str | None) -> Path:
    from transformers.utils.hub import cached_file

    try:
        return Path(str(cached_file(repository, file, revision=revision)))
    except Exception as err:  # the hub's client has many errors; each means the same here
        reason = (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".:")
        raise ModelLoadError(
            f"Cannot find the file '{file}' of '{repository}' on the hub. Expected "
            "'org/repo:file.gguf' with a file of that repository; check the spelling and the "
            f"connection. Reason: {reason}."
        ) from err


def _convert_into(folder: Path, file: GgufFile, progress: ConversionProgress) -> None:
    """Convert into a temporary folder beside, then rename it; the caller holds the lock."""
    prefix = f".{folder.name}.part-"
    for left in folder.parent.glob(f"{prefix}*"):  # of a conversion that was killed
        shutil.rmtree(left, ignore_errors=True)
    _check_content(file, folder.parent)
    progress(_STEPS["checking"][1])
    part = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        _read_tokenizer(file).save_pretrained(part)
        progress(_STEPS["tokenizer"][1])
        with _reporting(progress):
            _read_model(file).save_pretrained(part, max_shard_size=_SHARD_SIZE)
        part.rename(folder)
        progress(1.0)
    except Exception as err:
        if isinstance(err, ModelLoadError):
            raise
        if is_full(err):
            raise ModelLoadError(_not_written(file, folder.parent, err)) from err
        raise ModelLoadError(_damaged(file, err)) from err
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_content(file: GgufFile, folder: Path) -> None:
    """Refuse a file that is damaged or lacks something, or a disk that is too small for it."""
    reader = _read(file)
    if int(_value(reader, "split.count") or 1) > 1:
        raise ModelLoadError(
            f"Cannot load model '{file.name}': it is one part of several. Expected a GGUF file "
            "with the whole model; join the parts with `llama-gguf-split --merge`."
        )
    if reader.get_field("tokenizer.ggml.tokens") is None:
        raise ModelLoadError(
            f"Cannot load model '{file.name}': the file has no tokenizer. Expected one under "
            "'tokenizer.ggml'; get a GGUF file that was converted with its tokenizer."
        )
    needed = _BYTES_PER_WEIGHT * sum(int(tensor.n_elements) for tensor in reader.tensors)
    if needed > (free := shutil.disk_usage(folder).free):
        raise ModelLoadError(
            f"Cannot convert model '{file.name}': the disk of '{folder}' has {free / 1e9:.1f} GB "
            f"free, and {needed / 1e9:.1f} GB are needed. Make room, or choose another data folder."
        )


def _read(file: GgufFile) -> GGUFReader:
    """Read all but the weights; where these end after the file, that is found as well."""
    from gguf import GGUFReader

    try:
        return GGUFReader(file.path)
    except Exception as err:  # numpy's own and others: it reads past the end
        raise ModelLoadError(_damaged(file, err)) from err


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _read_tokenizer(file: GgufFile) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        file.path.parent, gguf_file=file.path.name
    )
    return tokenizer


def _read_model(file: GgufFile) -> PreTrainedModel:
    """Return the model in bfloat16, as one that was never in a GGUF file.

    What the library returns refuses to be saved, so its weights move to a model that holds none.
    """
    import torch
    from transformers import AutoModelForCausalLM

    read: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        file.path.parent, gguf_file=file.path.name, dtype=torch.bfloat16, **_unpacked()
    )
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain: PreTrainedModel = type(read)(config)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = read.generation_config
    return plain


def _unpacked() -> dict[str, Any]:
    """Return what asks for plain weights; older releases know no others."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def _reporting(progress: ConversionProgress) -> Iterator[None]:
    """Turn transformers' own progress bars into calls, so that nothing is printed here.

    It has a hook for all of them but the one of its module for GGUF files.
    """
    from transformers import modeling_gguf_pytorch_utils as own
    from transformers.utils import logging

    def make(*args: Any, **kwargs: Any) -> _Steps:
        return _Steps(progress, *args, **kwargs)

    set_hook = getattr(logging, "set_tqdm_hook", lambda _: None)  # older releases have none
    names = vars(own)
    before_bar = names.get("tqdm")
    before_hook = set_hook(lambda _, args, kwargs: make(*args, **kwargs))
    names["tqdm"] = make
    try:
        yield
    finally:
        names["tqdm"] = before_bar
        set_hook(before_hook)


class _Steps:
    """What stands in for a progress bar and passes its progress on."""

    def __init__(
        self,
        progress: ConversionProgress,
        iterable: Any = None,
        *_: object,
        desc: str = "",
        total: int | None = None,
        **_options: object,
    ) -> None:
        self._items = iterable
        self._total = total or (len(iterable) if hasattr(iterable, "__len__") else 0)
        step = next((step for step in _STEPS if desc.lower().startswith(step)), "writing")
        self._start, self._end = _STEPS[step]
        self._progress, self._done = progress, 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update(1)

    def update(self, count: int = 1) -> None:
        self._done += count
        if self._total:
            done = min(self._done / self._total, 1.0)
            self._progress(self._start + (self._end - self._start) * done)

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, _name: str) -> Callable[..., None]:
        """Take what else is asked of a bar: `set_description`, `close` and the like."""
        return lambda *_args, **_kwargs: None


def is_full(err: BaseException) -> bool:
    """Say whether an error means that the disk is full."""
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    words = str(err)  # safetensors raises an error of its own
    return any(f"os error {code}" in words for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _not_written(file: GgufFile, folder: Path, err: BaseException) -> str:
    if is_full(err):
        reason = "the disk is full"
    else:
        reason = (getattr(err, "strerror", None) or str(err) or type(err).__name__).rstrip(".")
    return (
        f"Cannot convert model '{file.name}' into '{folder}': {reason}. Nothing was kept; make "
        "room, or choose another data folder."
    )


def _damaged(file: GgufFile, err: BaseException) -> str:
    reason = (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".:")
    return (
        f"Cannot read the GGUF file of model '{file.name}': it is damaged or cut off, or of a kind "
        f"that transformers does not read. Get the file again. Reason: {reason}."
    )
