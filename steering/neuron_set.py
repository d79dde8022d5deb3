"""A neuron set: which neurons are specific to which languages, and where they stand on average.

Pure data with its checks; how a set is found is `lape.py`, how it is stored `neuron_set_file.py`.
Dimension key: see `activation_stats.py`. Every language axis follows `NeuronSet.languages`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.errors import NeuronSetMismatchError, StatsError, UnknownLanguageError
from steering.languages import LANGUAGES, Language, parse_language
from steering.neuron_choice import ChoosingWay

if TYPE_CHECKING:
    from steering.model_identity import ModelIdentity

StrengthLevel = Literal["gentle", "normal", "strong"]

# Bounded, because a number in a file may be of any length and tensors hold 64 bits.
Dimension: TypeAlias = Annotated[int, Field(gt=0, lt=2**31)]


class CalibrationPoint(BaseModel):
    """What `calibrate` measured at one strength for one language.

    `quality_nats` is the replies' mean negative log-likelihood per token under the unsteered model
    that was asked in words; None where no reply had a token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    strength: float = Field(ge=0)
    successes: NonNegativeInt
    trials: int = Field(ge=0, lt=2**31)
    quality_nats: float | None = None

    @model_validator(mode="after")
    def _check_counts(self) -> "CalibrationPoint":
        """Refuse more successes than trials."""
        if self.successes > self.trials:
            raise ValueError(f"{self.successes} successes of {self.trials} trials")
        return self


class ImportedFrom(BaseModel):
    """Which file of other people a set's neurons were read from.

    `publisher` is who published it, where the file is a known one; empty otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    publisher: str = ""


class NeuronSetMetadata(BaseModel):
    """Where a set comes from: model, selection, corpus. Stored beside the tensors as text.

    Of an imported set much may be unknown, and then it is None or empty, never a made-up value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model_id: str
    model_revision: str
    architecture: str
    layers: Dimension
    neurons_per_layer: Dimension
    experts: Dimension | None = None  # of each layer; neuron i of expert e: e * (their width) + i
    hidden_size: Dimension | None = None
    tokenizer_sha256: str
    languages: tuple[str, ...] = Field(min_length=2)
    method: ChoosingWay = "lape"
    choice_note: str = ""  # of another way than LAPE: what it depends on beside the recording
    selection_phase: StatsPhase | None = None
    prob_quantile: float | None = Field(default=None, gt=0, lt=1)
    select_fraction: float | None = Field(default=None, gt=0, le=1)
    membership_quantile: float | None = Field(default=None, gt=0, lt=1)
    imported_from: ImportedFrom | None = None
    activation_prob_phase: StatsPhase | None = None  # None: the selection phase
    token_counts: dict[StatsPhase, dict[str, NonNegativeInt]]
    corpus_name: str
    corpus_sha256: str
    steering_method: str = ""  # the best known for this set; empty: not measured
    strengths: dict[StrengthLevel, float] = {}  # what the levels mean, times the usual strength
    language_strengths: dict[str, dict[StrengthLevel, float]] = {}  # where a language has its own
    calibration: dict[str, tuple[CalibrationPoint, ...]] = {}  # per language, the measured curve
    evaluation: str = ""  # one sentence with the measured result
    created: str = ""  # ISO date; empty by default, so that the same command gives the same bytes
    licence: str = ""

    @property
    def has_statistics(self) -> bool:
        """Say whether activations were recorded for the set; not yet, for an imported one."""
        return self.imported_from is None or bool(self.token_counts)

    @model_validator(mode="after")
    def _check_known(self) -> "NeuronSetMetadata":
        """Refuse gaps that only an imported set may have."""
        names = ("hidden_size", "selection_phase", "prob_quantile", "select_fraction",
                 "membership_quantile")  # fmt: skip
        missing = [name for name in names if getattr(self, name) is None]
        if missing and self.imported_from is None:
            raise ValueError(f"'{missing[0]}' is missing, and the set was not imported")
        if self.token_counts and self.hidden_size is None:
            raise ValueError("'hidden_size' is missing, although activations were recorded")
        if self.experts is not None and self.neurons_per_layer % self.experts:
            raise ValueError(
                f"{self.experts} experts cannot share {self.neurons_per_layer} neurons"
            )
        return self

    @model_validator(mode="after")
    def _check_languages(self) -> "NeuronSetMetadata":
        """Refuse languages that are unknown or stand twice, and counts of other languages."""
        if unknown := [code for code in self.languages if code not in LANGUAGES]:
            raise ValueError(f"language '{unknown[0]}' is not in the table of languages")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("a language stands twice")
        for phase, counts in self.token_counts.items():
            if counts.keys() != set(self.languages):
                raise ValueError(f"the token counts of '{phase}' are not those of the languages")
        for what, by_language in (
            ("strengths", self.language_strengths),
            ("a calibration curve", self.calibration),
        ):
            if foreign := by_language.keys() - set(self.languages):
                raise ValueError(f"there is {what} for '{min(foreign)}', which is not in the set")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class ColumnNorms:
    """How long the columns of some neurons in the down projections are: their unit of measure.

    A neuron writes its value times its column into the stream. Weights may be rescaled, as AWQ
    does, so that columns get longer and values smaller with the same product; norms on both sides
    say by how much.

    Args:
        layer: int64 `(neurons,)`.
        index: int64 `(neurons,)`.
        norm: Euclidean, float32 `(neurons,)`.
    """

    layer: Tensor
    index: Tensor
    norm: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class RandomNeurons:
    """As many random neurons as were selected, in the same layers: the control of every claim.

    Args:
        layer: int64 `(control,)`.
        index: int64 `(control,)`; none of them is selected.
        gate_means: Per phase, means at the gate site, float32 `(languages, control)`.
        value_means: Per phase, means at the value site, float32 `(languages, control)`.
        column_norm: As the set's, float32 `(control,)`.
    """

    layer: Tensor
    index: Tensor
    gate_means: Mapping[StatsPhase, Tensor]
    value_means: Mapping[StatsPhase, Tensor]
    column_norm: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NeuronSet:
    """Language-specific neurons of one model.

    Args:
        metadata: Model, selection and corpus.
        layer: 0-based decoder block of each selected neuron, int64 `(selected,)`.
        index: FFN intermediate unit of each selected neuron, int64 `(selected,)`.
        lape_score: Entropy of the normalised probabilities in nats, float32 `(selected,)`; None
            where nothing was recorded, as in an imported set.
        is_member: Whether a neuron belongs to a language, bool `(languages, selected)`.
        activation_prob: Share of tokens with activation > 0, float32 `(languages, selected)`; None
            as above.
        gate_means: Per phase, means at the gate site, float32 `(languages, selected)`.
        value_means: Per phase, means at the value site, float32 `(languages, selected)`.
        residual_means: Per phase, means after each layer, float32 `(languages, layers, hidden)`.
        control: Random neurons to compare with; None in a set without.
        token_log_odds: How much more a token is used in a language than in the others, nats,
            float16 `(languages, vocab)`; None in a set without.
        choice_score: What another way than LAPE ranked by, higher chosen first, float32
            `(languages, selected)`; None in a set of LAPE's.
        norm_weights: Of the model, from `read_norm_weights`, float32 `(2, hidden)`; None where
            they are not known.
        column_norm: Of each neuron's column in the down projection of the model that was recorded,
            float32 `(selected,)`; None where it is not known.
    """

    metadata: NeuronSetMetadata
    layer: Tensor
    index: Tensor
    lape_score: Tensor | None
    is_member: Tensor
    activation_prob: Tensor | None
    gate_means: Mapping[StatsPhase, Tensor]
    value_means: Mapping[StatsPhase, Tensor]
    residual_means: Mapping[StatsPhase, Tensor]
    control: RandomNeurons | None = None
    token_log_odds: Tensor | None = None
    choice_score: Tensor | None = None
    norm_weights: Tensor | None = None
    column_norm: Tensor | None = None

    @property
    def columns(self) -> ColumnNorms | None:
        """Return the norms of the neurons' columns, control neurons included.

        The same object every time, so that what is worked out from it can be kept.
        """
        return _columns_of(self)

    @property
    def made_for(self) -> "MadeFor":
        """Return what identifies the model that the set was made for."""
        odds = self.token_log_odds
        vocabulary = None if odds is None else odds.shape[-1]
        return MadeFor(self.metadata, self.norm_weights, vocabulary)

    @property
    def languages(self) -> tuple[Language, ...]:
        """Return the languages in the order of every language axis."""
        return tuple(LANGUAGES[code] for code in self.metadata.languages)

    def position(self, language: Language) -> int:
        """Return a language's place on the language axes.

        Raises:
            UnknownLanguageError: If the set does not hold the language.
        """
        if language not in self.languages:
            parse_language(language.code, known=self.languages)
            raise UnknownLanguageError(f"Unknown language '{language}' in this neuron set.")
        return self.languages.index(language)

    def neurons_of(self, language: Language) -> Tensor:
        """Return the places on the `selected` axis of a language's neurons, int64 `(own,)`."""
        return self.is_member[self.position(language)].nonzero().flatten()

    def layer_counts(self, language: Language) -> list[int]:
        """Return how many of a language's neurons each layer holds."""
        own_layers = self.layer[self.neurons_of(language)]
        return torch.bincount(own_layers, minlength=self.metadata.layers).tolist()

    def means(self, site: Literal["gate", "value"], phase: StatsPhase) -> Tensor:
        """Return means at a site in a phase, float32 `(languages, selected)`.

        Raises:
            StatsError: If the set holds no means for the phase.
        """
        means = self.gate_means if site == "gate" else self.value_means
        self._check_recorded()
        if phase not in means:
            raise StatsError(
                f"This neuron set has no means for phase '{phase}', only for: {', '.join(means)}. "
                "Use a method that needs no such means, or build the set with `--dialogues`."
            )
        return means[phase]

    def residual_mean(self, phase: StatsPhase) -> Tensor:
        """Return means after each layer in a phase, float32 `(languages, layers, hidden)`.

        Raises:
            StatsError: If the set holds none for the phase.
        """
        self._check_recorded()
        if phase not in self.residual_means:
            held = ", ".join(self.residual_means) or "none"
            raise StatsError(
                f"This neuron set has no residual means for phase '{phase}'; it has: {held}. "
                "Use a method that edits neurons, or build the set with `--dialogues`."
            )
        return self.residual_means[phase]

    def _check_recorded(self) -> None:
        """Refuse to make up what was never recorded for an imported set."""
        origin = self.metadata.imported_from
        if origin is not None and not self.metadata.has_statistics:
            raise StatsError(
                f"This neuron set was imported from '{origin.file}' and has no mean activations, "
                "which this method needs. Use `amplify` or `damp`, or record them with "
                f"`python -m steering build-set --complete SET --model {self.metadata.model_id}` "
                "and `--from-model`, `--dialogues` or `--text`."
            )


@functools.lru_cache(maxsize=8)
def _columns_of(neurons: NeuronSet) -> ColumnNorms | None:
    if neurons.column_norm is None:
        return None
    parts = [(neurons.layer, neurons.index, neurons.column_norm)]
    control = neurons.control
    if control is not None and control.column_norm is not None:
        parts.append((control.layer, control.index, control.column_norm))
    layer, index, norm = (torch.cat(part) for part in zip(*parts, strict=True))
    return ColumnNorms(layer, index, norm)


def difference_from_others(means_KX: Tensor, row: int) -> Tensor:
    """Return a language's mean less the mean of the other languages' means, `(units,)`.

    Args:
        means_KX: Of neurons or dimensions, `(languages, units)`.
        row: The language's place.
    """
    others = (means_KX.sum(dim=0) - means_KX[row]) / max(1, means_KX.shape[0] - 1)
    return means_KX[row] - others


def split_means(means_KLH: Tensor) -> tuple[Tensor, Tensor]:
    """Return residual means in half the bytes: the first language's, and how the others differ.

    Methods use differences of languages, which are small beside the means themselves: in float16
    the differences keep 11 bits, where the means would leave them few.

    Args:
        means_KLH: float32 `(languages, layers, hidden)`.

    Returns:
        float32 `(layers, hidden)`, and float16 `(languages - 1, layers, hidden)`.
    """
    return means_KLH[0].contiguous(), (means_KLH[1:] - means_KLH[0]).half()


def join_means(first: Tensor, rest: Tensor) -> Tensor:
    """Return the residual means that `split_means` was given, as far as float16 keeps them."""
    return torch.cat([first.unsqueeze(0), first + rest.float()])


@dataclass(frozen=True, slots=True, eq=False)
class MadeFor:
    """Of which model a set is, without the rest of the set.

    Args:
        metadata: The set's.
        norm_weights: As of `NeuronSet`.
        vocabulary: Number of token ids that the model has logits for; None where not known.
    """

    metadata: NeuronSetMetadata
    norm_weights: Tensor | None = None
    vocabulary: int | None = None


@dataclass(frozen=True, slots=True)
class OtherWeights:
    """A warning: the set is of the same model as the loaded one, but of other weights of it.

    Args:
        made_for: The model that the set was made on.
        loaded: The model that is loaded.
    """

    made_for: str
    loaded: str

    def __str__(self) -> str:
        """Return it in words."""
        return (
            f"The neuron set was made on another copy of '{self.made_for}' than the loaded "
            f"'{self.loaded}': a fine-tune, or weights that were rescaled for quantisation. For "
            "rescaled weights it is converted if it is of format 5; for a fine-tune it may push "
            "too much or too little. Check it with `python -m steering evaluate forcing`, or run "
            f"`python -m steering build-set --from-model --model {self.loaded}`."
        )


# How far the norms of two models are apart: the length of their difference over that of the
# deviations from the mean (unrelated weights: about 1.4). Rounding to bfloat16 would move final
# norms like those of Qwen2.5-Coder-0.5B and -1.5B by 0.008 and 0.015. Fine-tuning moves a weight
# by at most about the learning rate a step: 0.1 after 10,000 steps at 1e-5, which is 0.08 and 0.17
# there.
_SAME_WEIGHTS, _SAME_MODEL = 0.03, 0.2


def check_set_fits(made_for: MadeFor, loaded: "ModelIdentity") -> OtherWeights | None:
    """Refuse a set of another model; warn of one that was made on other weights of the same.

    Where the norms of both are known, they decide. Otherwise names, hashes of weights and
    tokenizers do, as far as they are known.

    Raises:
        NeuronSetMismatchError: Naming both models and all that differs.
    """
    about, is_warned = made_for.metadata, False
    revisions = (loaded.revision, about.model_revision)
    are_commits = all(map(_is_commit, revisions))  # a folder may be a copy under another name
    are_hashes = all(revision.startswith("sha256:") for revision in revisions)
    other = {
        "shapes": (loaded.layers, loaded.neurons_per_layer, loaded.hidden_size)
        != (about.layers, about.neurons_per_layer, about.hidden_size or loaded.hidden_size),
        "weights": are_hashes and len(set(revisions)) == 2,
        "tokenizers": about.tokenizer_sha256 not in ("", loaded.tokenizer_sha256),  # "": not known
        "names": are_commits and loaded.model_id != about.model_id,
    }
    if loaded.norm_weights is not None and made_for.norm_weights is not None:
        final, first = _norm_distances(made_for.norm_weights, loaded.norm_weights)
        sizes = {loaded.vocabulary, made_for.vocabulary} - {None}
        is_apart = max(final, first) > _SAME_WEIGHTS or len(sizes) == 2
        is_warned = is_apart
        other = {"shapes": other["shapes"], "final norms": final > _SAME_MODEL}
    if any(other.values()):
        differ = "".join(f"; the {what} differ" for what, is_other in other.items() if is_other)
        raise NeuronSetMismatchError(
            f"The neuron set was made for '{about.model_id}' ({about.layers} layers x "
            f"{about.neurons_per_layer}), but the loaded model is '{loaded.model_id}' "
            f"({loaded.layers} x {loaded.neurons_per_layer}){differ}. Load '{about.model_id}', or "
            f"run `python -m steering build-set --model {loaded.model_id}`."
        )
    return OtherWeights(about.model_id, loaded.model_id) if is_warned else None


def _norm_distances(made: Tensor, loaded: Tensor) -> tuple[float, float]:
    """Return how far the final norms and the first norms of two models are apart."""
    if made.shape != loaded.shape:
        return float("inf"), float("inf")
    deviations = made - made.mean(dim=1, keepdim=True)
    apart = (made - loaded).norm(dim=1) / deviations.norm(dim=1)
    final, first = apart.tolist()
    return final, first


def _is_commit(revision: str) -> bool:
    """Say whether a revision is a commit of the hub."""
    return len(revision) == 40 and all(digit in "0123456789abcdef" for digit in revision)
