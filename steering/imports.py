"""Reads the neurons that other people published, and makes neuron sets of them.

Two kinds of files of one shape, the `*.neuron.pth` of LAPE's authors (Tang et al. 2024) and the
`activation_mask/*` of CLaS-Bench: per language, per layer, the indices of neurons, nothing else.
They name neither languages nor model, and have no means: what is unknown stays absent. They are
pickles, of which only tensors and lists are read. Knows no loaded model.
"""

import hashlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steering.errors import NeuronSetFormatError, NeuronSetMismatchError
from steering.languages import LANGUAGES, Language
from steering.model_identity import ModelIdentity
from steering.neuron_set import ImportedFrom, NeuronSet, NeuronSetMetadata

_QUANTILE = 0.95  # of both publishers: filter_rate and activation_bar_ratio in their identify.py


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that was published under a known name.

    Args:
        publisher: Who published it.
        licence: What its repository says of its use, in words.
        languages: The order of its lists.
        model_id: The model that its neurons were found in.
        architecture: That model's type.
        shape: Layers and neurons per layer; None where we have not seen the file.
        select_fraction: Share of all neurons that was selected.
    """

    publisher: str
    licence: str
    languages: tuple[Language, ...]
    model_id: str
    architecture: str
    shape: tuple[int, int] | None
    select_fraction: float

    def fits(self, model: ModelIdentity) -> bool:
        """Say whether a model is of the family and shape that the neurons were found in."""
        is_family = model.architecture in ("", self.architecture)
        return is_family and self.shape in (None, (model.layers, model.neurons_per_layer))


def _known_languages(codes: str) -> tuple[Language, ...]:
    return tuple(LANGUAGES[code] for code in codes.split())


_AUTHORS = "RUCAIBox/Language-Specific-Neurons"
_AUTHORS_LICENCE = (
    f"The neurons are those of {_AUTHORS}, which has no licence file: ask its authors before you "
    "pass them on."
)
# The README names seven; only the files of LLaMA-2-7B and 13B have the last of them.
_SEVEN = _known_languages("en zh fr es vi id ja")
_SIX = _SEVEN[:6]
# File name -> languages, model, type, layers, neurons per layer. Counted in the files themselves.
_AUTHORS_FILES: dict[str, tuple[tuple[Language, ...], str, str, int, int]] = {
    "LLaMA-2-7B.neuron.pth": (_SEVEN, "meta-llama/Llama-2-7b-hf", "llama", 32, 11008),
    "LLaMA-2-13B.neuron.pth": (_SEVEN, "meta-llama/Llama-2-13b-hf", "llama", 40, 13824),
    "LLaMA-2-70B.neuron.pth": (_SIX, "meta-llama/Llama-2-70b-hf", "llama", 80, 28672),
    "BLOOM-7B.neuron.pth": (_SIX, "bigscience/bloom-7b1", "bloom", 30, 16384),
    "Mistral-7B.neuron.pth": (_SIX, "mistralai/Mistral-7B-v0.1", "mistral", 32, 14336),
    "OPT-6.7B.neuron.pth": (_SIX, "facebook/opt-6.7b", "opt", 32, 16384),
    "Phi-2-2.7B.neuron.pth": (_SIX, "microsoft/phi-2", "phi", 32, 10240),
}

_CLAS = "d-gurgurov/CLaS-Bench"
_CLAS_LICENCE = f"The neurons are those of {_CLAS}, Apache-2.0."
_CLAS_LANGUAGES = _known_languages(
    "en ar bo da de es fr hi it ja ko mt nl no pl pt ru sv tr zh "
    "sk el kk sw ka uk fa th id vi cs ro"
)
_CLAS_NAME = re.compile(r"(llama|aya)-([1-5])")  # the number is the percentage that was selected
_CLAS_MODELS: dict[str, tuple[str, str, tuple[int, int] | None]] = {
    "llama": ("meta-llama/Llama-3.1-8B-Instruct", "llama", (32, 14336)),
    "aya": ("CohereLabs/aya-expanse-8b", "cohere", None),
}


def find_peer_file(path: Path) -> Path:
    """Return the file that a path means: itself, or the only one that a folder holds.

    Raises:
        NeuronSetFormatError: If there is none, or there are several to choose from.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise NeuronSetFormatError(
            f"No file or folder '{path}'. Expected a '*.neuron.pth' of LAPE's authors, or a file "
            "of CLaS-Bench's 'activation_mask'; check the path."
        )
    found = sorted(file for file in path.rglob("*") if _has_peer_name(file) and file.is_file())
    if len(found) == 1:
        return found[0]
    names = [str(file.relative_to(path)) for file in found]
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise NeuronSetFormatError(
        f"The folder '{path}' holds '{len(found)}' files of neurons"
        + (f": {shown}. Expected one; name the file itself." if found else ". Expected one, such "
           "as 'LLaMA-2-7B.neuron.pth' or 'activation_mask/llama-5'; name another folder.")
    )  # fmt: skip


def _has_peer_name(file: Path) -> bool:
    return file.name.endswith(".neuron.pth") or _CLAS_NAME.fullmatch(file.name) is not None


def find_known_file(path: Path) -> KnownFile | None:
    """Return what is known of a published file, by its name or the one that it was saved under."""
    for name in (path.name, _saved_name(path)):
        if name in _AUTHORS_FILES:
            languages, model_id, architecture, layers, neurons = _AUTHORS_FILES[name]
            return KnownFile(
                publisher=_AUTHORS,
                licence=_AUTHORS_LICENCE,
                languages=languages,
                model_id=model_id,
                architecture=architecture,
                shape=(layers, neurons),
                select_fraction=0.01,
            )
        if match := _CLAS_NAME.fullmatch(name):
            model_id, architecture, shape = _CLAS_MODELS[match[1]]
            return KnownFile(
                publisher=_CLAS,
                licence=_CLAS_LICENCE,
                languages=_CLAS_LANGUAGES,
                model_id=model_id,
                architecture=architecture,
                shape=shape,
                select_fraction=int(match[2]) / 100,
            )
    return None


def _saved_name(path: Path) -> str:
    """Return the name that torch wrote into the file when it was saved; empty without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()[0].split("/")[0]
    except (OSError, ValueError, IndexError, NotImplementedError, zipfile.BadZipFile):
        return ""


def import_neuron_set(
    path: Path,
    model: ModelIdentity,
    *,
    languages: Sequence[Language],
    known: KnownFile | None = None,
    licence: str = "",
) -> NeuronSet:
    """Make a set of a published file: its neurons and whose they are, and nothing that is unknown.

    Args:
        path: The file.
        model: The model that the set is for; its tokenizer's hash may be empty.
        languages: The order of the file's lists.
        known: What is known of the file.
        licence: Note for the metadata; the known file's when empty.

    Raises:
        NeuronSetFormatError: If the file is not such a one, or not of so many languages.
        NeuronSetMismatchError: If it is of another model.
    """
    if known is not None:
        _check_known_model(path, known, model)
    lists = _read_lists(path)
    _check_counts(path, lists, model, languages)
    flat = [
        _flatten(path, by_layer, model, one) for by_layer, one in zip(lists, languages, strict=True)
    ]
    places = torch.unique(torch.cat(flat))
    if not len(places):
        raise NeuronSetFormatError(
            f"'{path}' names '0' neurons. Expected some in at least one language; get another file."
        )
    width = model.neurons_per_layer
    return NeuronSet(
        metadata=_describe(path, model, languages, known, licence),
        layer=places // width,
        index=places % width,
        lape_score=None,
        is_member=torch.stack([torch.isin(places, own) for own in flat]),
        activation_prob=None,
        gate_means={},
        value_means={},
        residual_means={},
    )


def _describe(
    path: Path,
    model: ModelIdentity,
    languages: Sequence[Language],
    known: KnownFile | None,
    licence: str,
) -> NeuronSetMetadata:
    return NeuronSetMetadata(
        model_id=model.model_id,
        model_revision=model.revision,
        architecture=model.architecture,
        layers=model.layers,
        neurons_per_layer=model.neurons_per_layer,
        hidden_size=model.hidden_size or None,
        tokenizer_sha256=model.tokenizer_sha256,
        languages=tuple(str(language) for language in languages),
        selection_phase="text" if known else None,
        prob_quantile=_QUANTILE if known else None,
        select_fraction=known.select_fraction if known else None,
        membership_quantile=_QUANTILE if known else None,
        imported_from=ImportedFrom(
            file=path.name,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            publisher=known.publisher if known else "",
        ),
        token_counts={},
        corpus_name="",
        corpus_sha256="",
        licence=licence or (known.licence if known else ""),
    )


def _check_known_model(path: Path, known: KnownFile, model: ModelIdentity) -> None:
    """Refuse a known file for a model of another family or shape."""
    if not known.fits(model):
        shape = "" if known.shape is None else f", {known.shape[0]} layers x {known.shape[1]}"
        raise NeuronSetMismatchError(
            f"The neurons of '{path.name}' are those of '{known.model_id}' ({known.architecture}"
            f"{shape}), but '{model.model_id}' is {model.architecture or 'a model'} of "
            f"{model.layers} x {model.neurons_per_layer}. Name that model or one tuned from it; if "
            "this is another file of that name, give `--languages`."
        )


def _read_lists(path: Path) -> list[list[Tensor]]:
    """Read a pickle of lists of tensors; everything else in one is refused, not run."""
    if not zipfile.is_zipfile(path):
        raise NeuronSetFormatError(
            f"'{path}' is no file that torch saved, or its end is missing. Expected an undamaged "
            "'*.neuron.pth' of LAPE's authors or file of CLaS-Bench's 'activation_mask'; get it "
            "again."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - the only place; weights_only runs no code
    except Exception as err:  # zip, pickle and tensors each fail in their own ways
        raise NeuronSetFormatError(_explain_load(path, err)) from err
    if not _is_lists_of_tensors(content):
        raise NeuronSetFormatError(
            f"'{path}' holds a '{type(content).__name__}', but not of neurons. Expected a list of "
            "languages, each a list of layers, each a tensor of whole numbers; get the file "
            "again, or name another."
        )
    return [[layer.long() for layer in by_layer] for by_layer in content]


def _explain_load(path: Path, err: Exception) -> str:
    """Say why a pickle was not read; torch's own words advise to run it all the same."""
    what = re.search(r"GLOBAL ([\w.]+)", str(err))
    if what is not None or "weights_only" in str(err):
        return (
            f"'{path}' was not read: it is a pickle that may run code"
            + (f", such as '{what[1]}'" if what else "")
            + ". Expected tensors and lists only; get the file from its publisher."
        )
    reason = (str(err).strip() or type(err).__name__).splitlines()[0].rstrip(".:")[:200]
    return (
        f"'{path}' is not a readable file of neurons ({reason}). Expected an undamaged "
        "'*.neuron.pth' of LAPE's authors or file of CLaS-Bench's 'activation_mask'; get it again."
    )


def _is_lists_of_tensors(content: object) -> bool:
    """Say whether all is as published; a view of few numbers as many would take all memory."""
    return (
        isinstance(content, list)
        and len(content) > 0
        and all(isinstance(by_layer, list) and len(by_layer) > 0 for by_layer in content)
        and all(_is_index_list(layer) for by_layer in content for layer in by_layer)
    )


def _is_index_list(layer: object) -> bool:
    return (
        isinstance(layer, Tensor)
        and layer.layout == torch.strided
        and layer.device.type == "cpu"
        and (layer.dtype in (torch.int32, torch.int64) or layer.numel() == 0)
        and layer.dim() == 1
        and layer.is_contiguous()
    )


def _check_counts(
    path: Path, lists: list[list[Tensor]], model: ModelIdentity, languages: Sequence[Language]
) -> None:
    """Refuse another number of languages, and of layers."""
    if len(lists) != len(languages):
        codes = ",".join(map(str, languages))
        raise NeuronSetFormatError(
            f"'{path}' holds lists for '{len(lists)}' languages, but {len(languages)} are named "
            f"({codes}). Expected one for each, in the order of the file; correct `--languages` "
            "(a last language without neurons is missing in these files)."
        )
    for language, by_layer in zip(languages, lists, strict=True):
        if len(by_layer) != model.layers:
            raise NeuronSetMismatchError(
                f"'{path}' has '{len(by_layer)}' layers in language '{language}', but "
                f"'{model.model_id}' has {model.layers}. Expected as many; name the model that the "
                "neurons were found in, or one tuned from it."
            )


def _flatten(
    path: Path, by_layer: Sequence[Tensor], model: ModelIdentity, language: Language
) -> Tensor:
    """Return a language's neurons as layer x neurons per layer + index; refuse impossible ones."""
    width = model.neurons_per_layer
    for number, layer in enumerate(by_layer):
        outside = layer[(layer < 0) | (layer >= width)]
        if len(outside):
            raise NeuronSetMismatchError(
                f"'{path}' names neuron '{int(outside[0])}' in layer {number} of language "
                f"'{language}', but '{model.model_id}' has 0 to {width - 1}. Name the model that "
                "they were found in, or one tuned from it."
            )
        if len(torch.unique(layer)) < len(layer):
            raise NeuronSetFormatError(
                f"'{path}' names neurons twice in layer '{number}' of language '{language}'. "
                "Expected each once; get the file again."
            )
    return torch.cat([number * width + layer for number, layer in enumerate(by_layer)])
