"""Compares neuron sets of one model: which neurons they share, and whether they rank them alike.

Reads sets alone, so scores can be compared only on neurons that both sets hold. What a set does to
a model is measured elsewhere (`evaluation/`); here such numbers are only put into tables.
Knows no model, no text and no files. Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import torch
from torch import Tensor

from steering.errors import NeuronSetMismatchError, SettingsError
from steering.languages import Language
from steering.model_identity import ModelIdentity
from steering.neuron_set import NeuronSet, NeuronSetMetadata, check_set_fits

Place: TypeAlias = tuple[int, int]  # (layer, index)

_LEAST_RANKED = 3  # of fewer neurons in common a rank correlation says nothing


@dataclass(frozen=True, slots=True)
class LanguageComparison:
    """What two sets say of one language.

    Args:
        language: Which.
        first_count: Neurons of the language in the first set.
        second_count: And in the second.
        shared: In both.
        jaccard: Shared over all that either has; None where neither has any.
        jaccard_by_layer: The same layer by layer.
        chance: What `jaccard` would be for random neurons; see `chance_jaccard`.
        rank_correlation: Spearman's, of the two sets' scores for the language; None where fewer
            than 3 neurons are in both sets or all have one score.
    """

    language: Language
    first_count: int
    second_count: int
    shared: int
    jaccard: float | None
    jaccard_by_layer: tuple[float | None, ...]
    chance: float | None
    rank_correlation: float | None


@dataclass(frozen=True, slots=True)
class PairComparison:
    """What two sets say of every language that both have.

    Args:
        first: Name of the first set.
        second: And of the second.
        ranked: Neurons that both sets hold, whose scores are compared, whatever their languages.
        languages: In the order of the first set.
    """

    first: str
    second: str
    ranked: int
    languages: tuple[LanguageComparison, ...]

    @property
    def mean_jaccard(self) -> float | None:
        """Return the mean of the languages' Jaccard indices; None where no language has neurons."""
        known = [one.jaccard for one in self.languages if one.jaccard is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several sets of one model share.

    Args:
        languages: Those that all sets have, in the order of the first.
        pairs: Every set with every later one.
        counts: Per name of a set, how many neurons each language has.
        only: Per name of a set and language, the neurons that no other set gives the language.
        ways: Per name of a set, how its neurons were chosen.
    """

    languages: tuple[Language, ...]
    pairs: tuple[PairComparison, ...]
    counts: Mapping[str, Mapping[Language, int]]
    only: Mapping[str, Mapping[Language, tuple[Place, ...]]]
    ways: Mapping[str, str]


def compare_sets(sets: Mapping[str, NeuronSet]) -> Comparison:
    """Compare every set with every other one.

    Args:
        sets: At least two, of one model, by name.

    Raises:
        SettingsError: With fewer than two sets, or no language that all of them have.
        NeuronSetMismatchError: If two are of different models.
    """
    if len(sets) < 2:
        raise SettingsError(
            f"'{len(sets)}' neuron set was given. Expected at least two to compare; name another."
        )
    first_name, first = next(iter(sets.items()))
    for name, other in sets.items():
        check_same_model(first_name, first, name, other)
    languages = tuple(
        language
        for language in first.languages
        if all(language in other.languages for other in sets.values())
    )
    if not languages:
        raise SettingsError(
            f"The sets '{', '.join(sets)}' have '0' languages in common. Expected at least one; "
            "compare sets of the same languages."
        )
    own = {name: {lang: _flat(one, lang) for lang in languages} for name, one in sets.items()}
    return Comparison(
        languages=languages,
        pairs=tuple(
            _compare_pair((one, sets[one]), (other, sets[other]), languages)
            for one, other in combinations(sets, 2)
        ),
        counts={
            name: {lang: len(flat) for lang, flat in by_lang.items()}
            for name, by_lang in own.items()
        },
        only={name: _only_in(name, own, sets[name]) for name in sets},
        ways={name: one.metadata.method for name, one in sets.items()},
    )


def check_same_model(first_name: str, first: NeuronSet, name: str, other: NeuronSet) -> None:
    """Refuse two sets whose neurons are not those of one model.

    Raises:
        NeuronSetMismatchError: Naming both models.
    """
    one, two = first.metadata, other.metadata
    try:
        check_set_fits(other.made_for, _identity_of(first, like=two))
    except NeuronSetMismatchError:
        raise NeuronSetMismatchError(
            f"'{first_name}' is of '{one.model_id}' ({one.layers} layers x "
            f"{one.neurons_per_layer}) and '{name}' of '{two.model_id}' ({two.layers} x "
            f"{two.neurons_per_layer}), of other weights or another tokenizer. Expected sets of "
            "one model; leave one of them out."
        ) from None


def _identity_of(neurons: NeuronSet, *, like: NeuronSetMetadata) -> ModelIdentity:
    """Identify a set's model; gaps are filled from another set's metadata."""
    about = neurons.metadata
    return ModelIdentity(
        model_id=about.model_id,
        revision=about.model_revision,
        architecture=about.architecture,
        layers=about.layers,
        neurons_per_layer=about.neurons_per_layer,
        hidden_size=about.hidden_size or like.hidden_size or 0,
        tokenizer_sha256=about.tokenizer_sha256 or like.tokenizer_sha256,
        norm_weights=neurons.norm_weights,
    )


def jaccard(first: Tensor, second: Tensor) -> float | None:
    """Return how much of two groups of neurons is the same, 0..1; None where both are empty.

    In words: the number of neurons in both over the number in either, |A n B| / |A u B|.

    Args:
        first: Flat places, each once, int64 `(neurons,)`.
        second: As above.

    Source: Jaccard 1912, New Phytologist 11:37-50.
    """
    shared = int(torch.isin(first, second).sum())
    either = len(first) + len(second) - shared
    return shared / either if either else None


def chance_jaccard(first_count: int, second_count: int, among: int) -> float | None:
    """Return the Jaccard index of two random groups with as many in common as are expected.

    In words: of a and b neurons drawn from n, s = a b / n are expected in both; s / (a + b - s).
    None where both are empty.
    """
    expected = first_count * second_count / among
    either = first_count + second_count - expected
    return expected / either if either else None


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Return Spearman's rank correlation, -1..1; None for fewer than 3 values or constant ones.

    In words: both are replaced by their ranks, equal values by the mean of their ranks; the
    correlation of these, cov(r, s) / (sd(r) sd(s)).

    Args:
        first: `(values,)`.
        second: Of the same length.

    Source: Spearman 1904, American Journal of Psychology 15:72-101.
    """
    if len(first) < _LEAST_RANKED:
        return None
    ranks = torch.stack([_ranks(first), _ranks(second)])
    if (ranks.std(dim=1) == 0).any():
        return None
    return float(torch.corrcoef(ranks)[0, 1])


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 1, equal values sharing the mean of theirs, float64."""
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(dim=0).double()
    mean_rank: Tensor = last - (counts - 1) / 2
    return mean_rank[group]


def scores_of(neurons: NeuronSet) -> Tensor | None:
    """Return what a set's neurons were ranked by, higher chosen first, `(languages, selected)`.

    LAPE's is minus the entropy, the same for every language; None in a set that holds none, as an
    imported one.
    """
    if neurons.choice_score is not None:
        return neurons.choice_score
    if neurons.lape_score is None:
        return None
    return -neurons.lape_score.expand(len(neurons.languages), -1)


def _compare_pair(
    first: tuple[str, NeuronSet], second: tuple[str, NeuronSet], languages: Sequence[Language]
) -> PairComparison:
    (one_name, one), (two_name, two) = first, second
    places_one, places_two = _all_flat(one), _all_flat(two)
    in_one, in_two = torch.isin(places_one, places_two), torch.isin(places_two, places_one)
    scores = scores_of(one), scores_of(two)

    def correlate(language: Language) -> float | None:
        if scores[0] is None or scores[1] is None:
            return None
        # Both sets are ordered by layer and index, so the neurons in common stand in one order.
        return spearman(
            scores[0][one.position(language)][in_one], scores[1][two.position(language)][in_two]
        )

    layers, width = one.metadata.layers, one.metadata.neurons_per_layer
    compared = []
    for language in languages:
        a, b = _flat(one, language), _flat(two, language)
        compared.append(
            LanguageComparison(
                language=language,
                first_count=len(a),
                second_count=len(b),
                shared=int(torch.isin(a, b).sum()),
                jaccard=jaccard(a, b),
                jaccard_by_layer=tuple(
                    jaccard(a[a // width == layer], b[b // width == layer])
                    for layer in range(layers)
                ),
                chance=chance_jaccard(len(a), len(b), layers * width),
                rank_correlation=correlate(language),
            )
        )
    return PairComparison(one_name, two_name, int(in_one.sum()), tuple(compared))


def _only_in(
    name: str, own: Mapping[str, Mapping[Language, Tensor]], neurons: NeuronSet
) -> dict[Language, tuple[Place, ...]]:
    """Return per language the neurons that no other set gives it."""
    width = neurons.metadata.neurons_per_layer
    found = {}
    for language, flat in own[name].items():
        others = torch.cat([by_lang[language] for other, by_lang in own.items() if other != name])
        alone = flat[~torch.isin(flat, others)].tolist()
        found[language] = tuple((place // width, place % width) for place in alone)
    return found


def _flat(neurons: NeuronSet, language: Language) -> Tensor:
    """Return a language's neurons as layer x width + index, ascending, int64 `(own,)`."""
    return _all_flat(neurons)[neurons.neurons_of(language)]


def _all_flat(neurons: NeuronSet) -> Tensor:
    return neurons.layer * neurons.metadata.neurons_per_layer + neurons.index
