"""Other ways than LAPE to choose a language's neurons: what LAPE is compared with.

Each way is one function of the same signature: what there is to go by, and how many neurons every
language gets; so that all of them, and LAPE, can be compared at the same size. Their names are the
rows of `WAYS`. Source of LAP, LAVE, PV and RS: baselines of Tang et al. 2024 (arXiv 2402.16438),
whose code was not published; differs: see docs/sources.md#ways-to-choose.
Unlike LAPE, holds the scores of all neurons and languages at once, 8 bytes each: 20 MB for 32 x
11,008 neurons and 7 languages, 0.6 GB for 80 x 28,672 and 32.
Pure: knows neither models nor text. Dimension key: see `activation_stats.py`; S lines.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch import Tensor

from steering.errors import SettingsError, StatsError
from steering.neuron_choice import (
    ChoosingWay,
    Evidence,
    LineMeans,
    NeuronChoice,
    choose_highest,
)

# (what there is to go by, neurons per language) -> choice
Chooser: TypeAlias = Callable[[Evidence, tuple[int, ...]], NeuronChoice]

_HELD_OUT_EVERY = 5  # every fifth line of a language tells how good the probe is
_PROBE_STEPS = 1000  # most steps of the solver; some ten are enough


def choose_by_probability(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """LAP, language activation probability: the neurons that a language activates most often.

    In words: score = share of the language's tokens on which the neuron is active, whatever it
    does in other languages.

    Source: Tang et al. 2024, baseline LAP. Differs: see docs/sources.md#ways-to-choose.
    """
    score_LNK = evidence.stats.activation_prob(evidence.phase)
    return choose_highest(score_LNK, sizes, way="lap")


def choose_by_value_entropy(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """LAVE, language activation value entropy: LAPE on mean values in place of probabilities.

    In words: m = mean activation in a language, 0 where it is below 0; m over its sum over the
    languages is a distribution; score = - its entropy in nats. A language may have the neurons
    whose m is above the given quantile of all m's in it.

    Source: Tang et al. 2024, baseline LAVE. Differs: see docs/sources.md#ways-to-choose.
    """
    stats, phase = evidence.stats, evidence.phase
    mean_LNK = stats.mean(phase, "gate").clamp(min=0)
    count = max(1, round(mean_LNK.numel() * evidence.quantile))
    bar = mean_LNK.flatten().kthvalue(count).values
    total = mean_LNK.sum(dim=-1, keepdim=True)
    share_LNK = torch.where(total > 0, mean_LNK / total, 0.0)
    score_LN1 = -torch.special.entr(share_LNK).sum(dim=-1, keepdim=True)
    return choose_highest(
        score_LN1.expand(mean_LNK.shape), sizes, way="lave", is_candidate=mean_LNK > bar
    )


def choose_by_variation(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """PV, parameter variation: the neurons that tuning on a language changed most.

    In words: score = length of the change of the neuron's parameters over their length before;
    see `parameter_variation.py`. A language may have the neurons that tuning on it changed at all.

    Raises:
        StatsError: Without the variation, or with one of another shape.

    Source: Tang et al. 2024, baseline PV. Differs: see docs/sources.md#ways-to-choose.
    """
    shape = (*evidence.stats.shape(evidence.phase), len(evidence.stats.languages))
    if evidence.variation is None or evidence.variation.shape != shape:
        found = "none" if evidence.variation is None else tuple(evidence.variation.shape)
        raise StatsError(
            f"The parameter variation is '{found}'. Expected one of shape {shape} (layers, "
            "neurons, languages); give a checkpoint per language with `--tuned`."
        )
    return choose_highest(evidence.variation, sizes, way="pv", is_candidate=evidence.variation > 0)


def choose_at_random(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """RS, random selection: every language gets neurons drawn from all layers.

    In words: score = a uniform random number, for every neuron and language on its own.

    Source: Tang et al. 2024, baseline RS.
    """
    random = torch.Generator().manual_seed(evidence.seed)
    shape = (*evidence.stats.shape(evidence.phase), len(evidence.stats.languages))
    score_LNK = torch.rand(shape, generator=random, dtype=torch.float64)
    return choose_highest(score_LNK, sizes, way="random", note=f"seed {evidence.seed}")


def choose_by_average_precision(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """AP as published: half of the neurons tell the language by being high, half by being low.

    In words: neurons are ranked by average precision; score = distance of the neuron's rank from
    the middle rank, over the largest such distance (0 in the middle, 1 at both ends).

    Raises:
        StatsError: Without means of single lines.

    Source: Kojima et al. 2024, arXiv 2404.02431. Differs: see docs/sources.md#ways-to-choose.
    """
    lines = _line_means(evidence)
    precision_LNK = average_precision(lines)
    flat_MK = precision_LNK.flatten(0, 1)
    rank_MK = flat_MK.argsort(dim=0, stable=True).argsort(dim=0).double()
    middle = (len(flat_MK) - 1) / 2
    score_MK = (rank_MK - middle).abs() / max(middle, 1)
    score_LNK = score_MK.view(precision_LNK.shape)
    return choose_highest(score_LNK, sizes, way="ap", note=_count_lines(lines))


def choose_by_top_average_precision(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """AP, its upper end alone: the neurons that are high where the line is in the language.

    Raises:
        StatsError: Without means of single lines.

    Source: Kojima et al. 2024, arXiv 2404.02431. Differs: see docs/sources.md#ways-to-choose.
    """
    lines = _line_means(evidence)
    return choose_highest(average_precision(lines), sizes, way="ap-top", note=_count_lines(lines))


def average_precision(lines: LineMeans) -> Tensor:
    """Return how well each neuron alone ranks a language's lines first, 0..1.

    In words: sort the lines by the neuron's mean activation, highest first, equal ones together;
    average, over the language's lines, the share of its lines among those up to there.
    AP = sum over thresholds t of (recall_t - recall_(t-1)) x precision_t.

    Returns:
        float64 `(layers, neurons, languages)`.

    Source: Kojima et al. 2024; the usual average precision, as scikit-learn has it.
    """
    count, layers, neurons = lines.means.shape
    result = torch.empty(layers, neurons, len(lines.languages), dtype=torch.float64)
    seen_S1 = torch.arange(1, count + 1).unsqueeze(1)
    for layer in range(layers):
        value_SN, order_SN = lines.means[:, layer].sort(dim=0, descending=True)
        last_SN = _last_of_equals(value_SN)
        for k in range(len(lines.languages)):
            is_own_SN = (lines.language_of == k)[order_SN]
            precision_SN = is_own_SN.cumsum(dim=0).double() / seen_S1
            at_end_SN = precision_SN.gather(0, last_SN)
            result[layer, :, k] = (at_end_SN * is_own_SN).sum(dim=0) / is_own_SN.sum(dim=0)
    return result


def _last_of_equals(value_SN: Tensor) -> Tensor:
    """Return for each place of sorted columns the last place with the same value, int64."""
    count = len(value_SN)
    place_S1 = torch.arange(count).unsqueeze(1)
    is_last_SN = torch.ones(value_SN.shape, dtype=torch.bool)
    is_last_SN[:-1] = value_SN[1:] != value_SN[:-1]
    ends_SN = torch.where(is_last_SN, place_S1, count)
    return ends_SN.flip(0).cummin(dim=0).values.flip(0)


def choose_by_probe(evidence: Evidence, sizes: tuple[int, ...]) -> NeuronChoice:
    """Linear probe: the neurons whose activation speaks most for the language.

    In words: multinomial logistic regression (L2, C = 1) from a line's mean activations, each less
    its mean and over its standard deviation, to its language; score = the neuron's weight for the
    language. Every fifth line of a language is left out, and the note says what share of those
    the probe gets right.

    Raises:
        SettingsError: Without scikit-learn.
        StatsError: Without means of single lines.

    Source: linear probes, as in CLaS-Bench, arXiv 2601.08331, which takes directions of the
    residual. Differs: see docs/sources.md#ways-to-choose.
    """
    check_probe_can_run()
    from sklearn.linear_model import LogisticRegression

    lines = _line_means(evidence)
    features_SM = lines.means.flatten(1)
    is_held_out = _is_held_out(lines)
    mean, spread = features_SM[~is_held_out].mean(0), features_SM[~is_held_out].std(0)
    scaled_SM = torch.where(spread > 0, (features_SM - mean) / spread, 0.0)
    probe = LogisticRegression(C=1.0, max_iter=_PROBE_STEPS)
    probe.fit(scaled_SM[~is_held_out].numpy(), lines.language_of[~is_held_out].numpy())
    weight_KM = torch.as_tensor(probe.coef_).double()
    if len(weight_KM) == 1:  # of two languages scikit-learn keeps the second's alone
        weight_KM = torch.cat([-weight_KM, weight_KM])
    note = f"{_count_lines(lines)}, no line held out"
    if is_held_out.any():
        right = probe.score(scaled_SM[is_held_out].numpy(), lines.language_of[is_held_out].numpy())
        note = f"{_count_lines(lines)}, {right:.1%} of {int(is_held_out.sum())} held out right"
    score_LNK = weight_KM.T.reshape(*lines.means.shape[1:], len(weight_KM))
    return choose_highest(score_LNK, sizes, way="probe", note=note)


def check_probe_can_run() -> None:
    """Refuse to probe without scikit-learn, which is needed for studies alone.

    Raises:
        SettingsError: Saying how it is installed.
    """
    if find_spec("sklearn") is None:
        raise SettingsError(
            "The way to choose is 'probe', but scikit-learn is not installed. Expected it for "
            "this way alone; run `pip install -r requirements-study.txt -c constraints.txt`."
        )


def _is_held_out(lines: LineMeans) -> Tensor:
    """Say which lines the probe does not see: every fifth of each language, bool `(lines,)`."""
    is_own_SK = lines.language_of.unsqueeze(1) == torch.arange(len(lines.languages))
    place_S = (is_own_SK.cumsum(dim=0) * is_own_SK).sum(dim=1)  # from 1, within the language
    return place_S % _HELD_OUT_EVERY == 0


def _line_means(evidence: Evidence) -> LineMeans:
    lines, languages = evidence.line_means, evidence.stats.languages
    if lines is None or lines.languages != languages:
        found = "none" if lines is None else ", ".join(map(str, lines.languages))
        raise StatsError(
            f"Means of single lines are of '{found}'. Expected them of the languages of the "
            f"recording ({', '.join(map(str, languages))}); record them with `record_line_means`."
        )
    return lines


def _count_lines(lines: LineMeans) -> str:
    counts = torch.bincount(lines.language_of, minlength=len(lines.languages)).tolist()
    fewest, most = min(counts), max(counts)
    return f"{fewest} lines per language" if fewest == most else f"{fewest} to {most} lines"


WAYS: Mapping[ChoosingWay, Chooser] = {
    "lap": choose_by_probability,
    "lave": choose_by_value_entropy,
    "pv": choose_by_variation,
    "random": choose_at_random,
    "ap": choose_by_average_precision,
    "ap-top": choose_by_top_average_precision,
    "probe": choose_by_probe,
}
