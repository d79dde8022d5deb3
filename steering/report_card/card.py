"""Counts what a neuron set holds: per language, per pair, per layer, by entropy, and what to doubt.

Pure: a set in, numbers and short texts out. What a set does not hold is empty or None on its card.
Knows no file, no table and no plot; those are `sections.py`, `text.py` and `page.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from steering.activation_stats import STATS_PHASES
from steering.errors import NeuronSetFormatError
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import CurvePoint
from steering.languages import Language
from steering.neuron_set import NeuronSet, NeuronSetMetadata
from steering.report_card.facts import collect_facts, plain

FEW_NEURONS = 20
FEW_TOKENS = 1_000_000  # Tang et al. 2024 count 100 million per language
MUCH_SHARED = 0.5
SHARPEST = 10
TYPICAL_NATS = 1.0  # a token used e times as much as in the others
_SCORE_BINS = 20
_MOST_LAYERS = 1024  # of a model; a file may claim any number, and each gets a row
_MOST_NATS = 1e6  # of a loss per token; also the most of a strength
_ROUNDING = 1e-4  # nats that float32 may be beyond an entropy's bounds
_NAMED = 8  # in one warning

WarningKind: TypeAlias = Literal["few_neurons", "few_tokens", "much_shared"]


@dataclass(frozen=True, slots=True)
class CardWarning:
    """Something about a set that is to be doubted.

    Args:
        kind: What it is about.
        message: One or two sentences, on one line.
    """

    kind: WarningKind
    message: str


@dataclass(frozen=True, slots=True)
class SharpNeuron:
    """A neuron with a low LAPE score.

    Args:
        layer: 0-based decoder block.
        index: FFN intermediate unit.
        score_nats: Its LAPE score.
        members: The languages that it belongs to.
        most_active: The languages with the two highest activation probabilities, and these, 0..1;
            those of 0 left out, and all in a set without.
    """

    layer: int
    index: int
    score_nats: float
    members: tuple[Language, ...]
    most_active: tuple[tuple[Language, float], ...]


@dataclass(frozen=True, slots=True)
class LanguageCard:
    """One language of a set.

    Args:
        language: Which.
        neurons: How many belong to it.
        own: How many of them belong to no other.
        layer_counts: How many of them each layer holds.
        median_score_nats: Of their LAPE scores; None without neurons or scores.
        token_counts: Per phase, positions counted.
        levels: What gentle, normal and strong stand for; empty where not measured.
        curve: What `calibrate` measured, by rising strength; empty where it did not.
        typical_tokens: Tokens with log-odds of `TYPICAL_NATS` and more; None in a set without.
        highest_log_odds_nats: The highest of them; None in a set without.
        sharpest: Its neurons with the lowest LAPE scores.
    """

    language: Language
    neurons: int
    own: int
    layer_counts: tuple[int, ...]
    median_score_nats: float | None
    token_counts: Mapping[str, int]
    levels: Mapping[str, float]
    curve: tuple[CurvePoint, ...]
    typical_tokens: int | None
    highest_log_odds_nats: float | None
    sharpest: tuple[SharpNeuron, ...]


@dataclass(frozen=True, slots=True)
class SharedPair:
    """Neurons that belong to both of two languages.

    Args:
        first: The one that the set names first.
        second: The other.
        shared: Neurons of both.
        smaller: Neurons of the language that has fewer.
    """

    first: Language
    second: Language
    shared: int
    smaller: int

    @property
    def share(self) -> float:
        """Return the shared neurons as a share of the smaller language's, 0..1."""
        return self.shared / self.smaller if self.smaller else 0.0


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """How many neurons have a LAPE score from *low* to below *high*; the last bin holds both."""

    low: float
    high: float
    neurons: int


@dataclass(frozen=True, slots=True)
class ReportCard:
    """What a neuron set holds, as numbers.

    Args:
        model_id: The model it was made for.
        facts: Name -> value of everything it was made from, and its licence.
        phases: Those that were counted.
        all_neurons: Of the model.
        selected: Neurons in the set.
        selected_of_one: Those that belong to one language only.
        layer_counts: Selected neurons per layer.
        control_counts: Control neurons per layer; None in a set without.
        languages: In the order of the set.
        pairs: Every pair, the one that shares most first.
        score_bins: The histogram of LAPE scores; empty in a set without scores.
        sharpest: The neurons of the set with the lowest scores.
        warnings: What to doubt.
    """

    model_id: str
    facts: Mapping[str, str]
    phases: tuple[str, ...]
    all_neurons: int
    selected: int
    selected_of_one: int
    layer_counts: tuple[int, ...]
    control_counts: tuple[int, ...] | None
    languages: tuple[LanguageCard, ...]
    pairs: tuple[SharedPair, ...]
    score_bins: tuple[ScoreBin, ...]
    sharpest: tuple[SharpNeuron, ...]
    warnings: tuple[CardWarning, ...]


def make_report_card(neurons: NeuronSet) -> ReportCard:
    """Count everything that a person wants to know of a set.

    Raises:
        NeuronSetFormatError: If the set holds numbers that nothing measured, which a damaged or
            foreign file may: more layers than a model has, scores that are no entropies.
    """
    about = neurons.metadata
    _check_plausible(neurons)
    languages = tuple(_language_card(neurons, language) for language in neurons.languages)
    pairs = _count_shared(neurons)
    counted_phase = about.activation_prob_phase or about.selection_phase
    return ReportCard(
        model_id=plain(about.model_id),
        facts=collect_facts(neurons),
        phases=tuple(phase for phase in STATS_PHASES if phase in about.token_counts),
        all_neurons=about.layers * about.neurons_per_layer,
        selected=len(neurons.layer),
        selected_of_one=int((neurons.is_member.sum(dim=0) == 1).sum()),
        layer_counts=_per_layer(neurons.layer, about.layers),
        control_counts=_count_control(neurons),
        languages=languages,
        pairs=pairs,
        score_bins=_bin_scores(neurons.lape_score),
        sharpest=_find_sharpest(neurons, torch.arange(len(neurons.layer))),
        warnings=tuple(_warn(languages, pairs, counted_phase)),
    )


def _check_plausible(neurons: NeuronSet) -> None:
    about = neurons.metadata
    scores: Tensor | None = neurons.lape_score
    highest = math.log(len(about.languages))
    problems = []
    if about.layers > _MOST_LAYERS:
        problems.append(f"'{about.layers}' layers, not up to {_MOST_LAYERS}")
    if scores is not None and ((scores < -_ROUNDING) | (scores > highest + _ROUNDING)).any():
        low, high = scores.min().item(), scores.max().item()
        problems.append(f"LAPE scores from '{low:g}' to '{high:g}', not within 0 to {highest:.2f}")
    points = [point for curve in about.calibration.values() for point in curve]
    levels = [about.strengths, *about.language_strengths.values()]
    numbers = [point.strength for point in points] + [n for level in levels for n in level.values()]
    numbers += [point.quality_nats for point in points if point.quality_nats is not None]
    if beyond := [number for number in numbers if abs(number) > _MOST_NATS]:
        problems.append(f"a calibration with '{beyond[0]:g}', not up to {_MOST_NATS:g}")
    if problems:
        raise NeuronSetFormatError(
            f"Neuron set of '{plain(about.model_id)}' has {'; '.join(problems)}. Expected what "
            "`python -m steering build-set` and `calibrate` write; rebuild it."
        )


def _language_card(neurons: NeuronSet, language: Language) -> LanguageCard:
    about, code = neurons.metadata, language.code
    places = neurons.neurons_of(language)
    is_shared = neurons.is_member[:, places].sum(dim=0) > 1
    levels = about.language_strengths.get(code) or about.strengths
    typical, highest = _count_typical(neurons.token_log_odds, neurons.position(language))
    return LanguageCard(
        language=language,
        neurons=len(places),
        own=int((~is_shared).sum()),
        layer_counts=tuple(neurons.layer_counts(language)),
        median_score_nats=_median_at(neurons.lape_score, places),
        token_counts={phase: counts[code] for phase, counts in about.token_counts.items()},
        levels={str(name): strength for name, strength in levels.items()},
        curve=_read_curve(about, code),
        typical_tokens=typical,
        highest_log_odds_nats=highest,
        sharpest=_find_sharpest(neurons, places),
    )


def _per_layer(layer: Tensor, layers: int) -> tuple[int, ...]:
    return tuple(torch.bincount(layer, minlength=layers).tolist())


def _count_control(neurons: NeuronSet) -> tuple[int, ...] | None:
    if neurons.control is None:
        return None
    return _per_layer(neurons.control.layer, neurons.metadata.layers)


def _median_at(scores: Tensor | None, places: Tensor) -> float | None:
    return None if scores is None or not len(places) else median(scores[places].tolist())


def _count_typical(log_odds: Tensor | None, row: int) -> tuple[int | None, float | None]:
    if log_odds is None or not log_odds.shape[1]:
        return None, None
    return int((log_odds[row] >= TYPICAL_NATS).sum()), float(log_odds[row].max())


def _read_curve(about: NeuronSetMetadata, code: str) -> tuple[CurvePoint, ...]:
    points = sorted(about.calibration.get(code, ()), key=lambda point: point.strength)
    return tuple(
        CurvePoint(
            strength=point.strength,
            success=Proportion(point.successes, point.trials),
            quality_nats=float("nan") if point.quality_nats is None else point.quality_nats,
        )
        for point in points
    )


def _find_sharpest(neurons: NeuronSet, places: Tensor) -> tuple[SharpNeuron, ...]:
    """Return the neurons with the lowest scores among *places*; ties in the order of the set."""
    scores: Tensor | None = neurons.lape_score
    if scores is None:
        return ()
    lowest = places[scores[places].sort(stable=True).indices[:SHARPEST]]
    return tuple(
        SharpNeuron(
            layer=int(neurons.layer[place]),
            index=int(neurons.index[place]),
            score_nats=float(scores[place]),
            members=tuple(
                language
                for language, is_member in zip(
                    neurons.languages, neurons.is_member[:, place].tolist(), strict=True
                )
                if is_member
            ),
            most_active=_most_active(neurons.languages, neurons.activation_prob, place),
        )
        for place in lowest.tolist()
    )


def _most_active(
    languages: Sequence[Language], probs: Tensor | None, place: int
) -> tuple[tuple[Language, float], ...]:
    if probs is None:
        return ()
    active = [
        (language, prob)
        for language, prob in zip(languages, probs[:, place].tolist(), strict=True)
        if prob > 0
    ]
    return tuple(sorted(active, key=lambda pair: -pair[1])[:2])


def _count_shared(neurons: NeuronSet) -> tuple[SharedPair, ...]:
    """Return every pair; ties in the order of the set."""
    members = [neurons.neurons_of(language) for language in neurons.languages]
    sets = [set(places.tolist()) for places in members]
    pairs = [
        SharedPair(
            first=first,
            second=second,
            shared=len(ours & theirs),
            smaller=min(len(ours), len(theirs)),
        )
        for (first, ours), (second, theirs) in combinations(
            zip(neurons.languages, sets, strict=True), 2
        )
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.share))


def _bin_scores(scores: Tensor | None) -> tuple[ScoreBin, ...]:
    """Return bins of one width from the lowest score to the highest; one bin if these are equal."""
    if scores is None or not len(scores):
        return ()
    low, high = scores.min().item(), scores.max().item()
    if low == high:
        return (ScoreBin(low, high, len(scores)),)
    counts, edges = torch.histogram(scores.double(), _SCORE_BINS, range=(low, high))
    return tuple(
        ScoreBin(start, end, int(count))
        for start, end, count in zip(
            edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True
        )
    )


def _warn(
    languages: Sequence[LanguageCard], pairs: Sequence[SharedPair], phase: str | None
) -> list[CardWarning]:
    """Return one warning per kind, naming the languages that it is about."""
    few = [f"{row.language} {row.neurons}" for row in languages if row.neurons < FEW_NEURONS]
    counted = [(row.language, row.token_counts.get(phase or "", FEW_TOKENS)) for row in languages]
    short = [f"{language} {tokens:,}" for language, tokens in counted if tokens < FEW_TOKENS]
    alike = [
        f"{pair.first} and {pair.second} {pair.shared} of {pair.smaller}"
        for pair in pairs
        if pair.share > MUCH_SHARED
    ]
    found: list[tuple[WarningKind, list[str], str, str]] = [
        ("few_neurons", few, f"Languages with under {FEW_NEURONS} neurons",
         "Steering by so few does little; record more, or select more with `--select-fraction`."),
        ("few_tokens", short, f"Selected on under {FEW_TOKENS:,} tokens (phase {phase})",
         "Other text may give other neurons; record more."),
        ("much_shared", alike, "Over half of the smaller language's neurons are shared",
         "Steering by neurons hardly tells these apart."),
    ]  # fmt: skip
    return [
        CardWarning(kind, f"{what}: {_name_some(named)}. {advice}")
        for kind, named, what, advice in found
        if named
    ]


def _name_some(named: Sequence[str]) -> str:
    rest = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
