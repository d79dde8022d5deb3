"""LAPE: selects the neurons whose activity is concentrated in few languages.

Language activation probability entropy, Tang et al. 2024 (arXiv 2402.16438), section 2. In words:
p is the share of a language's tokens on which a neuron is active; p divided by its sum over the
languages is a distribution; its entropy, in nats, is low where few languages activate the neuron.
Works layer by layer, as the probabilities of a large model are gigabytes.
Knows statistics and sets, neither models nor text. Dimension key: see `activation_stats.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import StatsError

# Entropies that agree this far are ties. Adding in another order moves the last bits (1e-16), and
# which neuron is chosen must not depend on the order of languages, nor on the machine.
_TIE_DECIMALS = 12
_DIGIT_BITS = 16  # a float64 is read as four digits; a histogram of one digit takes half a megabyte


@dataclass(frozen=True, slots=True)
class LapeParameters:
    """The three thresholds of LAPE; the defaults are those of the authors' code.

    Args:
        prob_quantile: A neuron whose p is above this quantile of all p's in no language is out.
        select_fraction: Share of all layers x neurons that is selected, lowest entropy first.
        membership_quantile: A selected neuron belongs to every language whose p is above this
            quantile of all p's.
    """

    prob_quantile: float = 0.95
    select_fraction: float = 0.01
    membership_quantile: float = 0.95

    def __post_init__(self) -> None:
        """Refuse thresholds outside 0..1."""
        for name in ("prob_quantile", "select_fraction", "membership_quantile"):
            value = getattr(self, name)
            if not 0 < value < 1 and not (name == "select_fraction" and value == 1):
                raise StatsError(
                    f"'{name}' is '{value}'. Expected a fraction between 0 and 1; "
                    f"the paper's value is {LapeParameters.__dataclass_fields__[name].default}."
                )


@dataclass(frozen=True, slots=True, eq=False)
class LapeSelection:
    """The neurons that LAPE selects, ordered by layer and index.

    Args:
        layer: int64 `(selected,)`.
        index: int64 `(selected,)`.
        lape_score: Entropy in nats, float64 `(selected,)`.
        is_member: bool `(languages, selected)`; every selected neuron has a language.
        activation_prob: float64 `(languages, selected)`.
    """

    layer: Tensor
    index: Tensor
    lape_score: Tensor
    is_member: Tensor
    activation_prob: Tensor


def lape_score(probs: Tensor) -> Tensor:
    """Return the entropy in nats of each neuron's normalised probabilities, `(...)`.

    A neuron that no language activates gets 0 (0 log 0 = 0); the probability threshold drops it.

    Args:
        probs: float64 `(..., languages)`.

    Source: Tang et al. 2024, equation 4.
    """
    total = probs.sum(dim=-1, keepdim=True)
    share = torch.where(total > 0, probs / total, 0.0)
    entropy: Tensor = torch.special.entr(share).sum(dim=-1)
    return entropy


def quantile_of_all(read_parts: Callable[[], Iterable[Tensor]], quantile: float) -> float:
    """Return the k-th smallest of all values, k = round(count x quantile), as the authors do.

    Finds it digit by digit, highest first, without sorting or keeping values: floats from 0 up are
    in the order of their bits, so the values that share the digits found so far are counted by
    their next digit, and the k-th of them tells which digit that is. One reading per digit.

    Args:
        read_parts: Gives all values part by part, the same each time; float64, none below 0.
        quantile: 0..1.

    Source: Tang et al. 2024, the authors' code. Differs: see docs/sources.md#lape-quantile.
    """
    found, k = 0, 0
    for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = torch.zeros(2**_DIGIT_BITS, dtype=torch.int64)
        for part in read_parts():
            digits = part.flatten().view(torch.int64) >> shift
            digits = digits[digits >> _DIGIT_BITS == found] & (2**_DIGIT_BITS - 1)
            counts += torch.bincount(digits, minlength=len(counts))
        up_to = counts.cumsum(dim=0)
        k = k or max(1, round(int(up_to[-1]) * quantile))
        digit = int(torch.searchsorted(up_to, k))
        k -= int(up_to[digit] - counts[digit])
        found = (found << _DIGIT_BITS) + digit
    return float(torch.tensor(found).view(torch.float64))


def lape(
    stats: ActivationStats, *, phase: StatsPhase = "text", parameters: LapeParameters | None = None
) -> LapeSelection:
    """Select the neurons whose activity is concentrated in few languages.

    Args:
        stats: Activation counts of at least two languages.
        phase: Whose counts to use; the paper's is `text`.
        parameters: Thresholds; the paper's when omitted.

    Returns:
        The selected neurons; a language may end up with none.

    Raises:
        StatsError: With fewer than two languages, a phase not recorded, or an empty language.

    Source: Tang et al. 2024, section 2.2. Differs: see docs/sources.md#lape-ties.
    """
    parameters = parameters or LapeParameters()
    if len(stats.languages) < 2:
        raise StatsError(
            f"LAPE compares languages, and the statistics have '{len(stats.languages)}'. "
            "Expected at least two; add text in another language."
        )

    def probs_by_layer() -> Iterable[Tensor]:
        layers, _ = stats.shape(phase)
        return (stats.activation_prob(phase, at=layer) for layer in range(layers))

    quantiles = {parameters.prob_quantile, parameters.membership_quantile}
    bars = {quantile: quantile_of_all(probs_by_layer, quantile) for quantile in quantiles}
    bar = bars[parameters.prob_quantile]
    score_LN = torch.stack([_candidate_score(probs_NK, bar) for probs_NK in probs_by_layer()])
    count = round(score_LN.numel() * parameters.select_fraction)
    flat = _lowest(score_LN.flatten().round(decimals=_TIE_DECIMALS), count)
    layer, index = flat // score_LN.shape[1], flat % score_LN.shape[1]
    probs_KU = stats.activation_prob(phase, at=(layer, index)).T
    is_member = probs_KU > bars[parameters.membership_quantile]
    has_language = is_member.any(dim=0)
    return LapeSelection(
        layer=layer[has_language],
        index=index[has_language],
        lape_score=score_LN[layer, index][has_language],
        is_member=is_member[:, has_language],
        activation_prob=probs_KU[:, has_language],
    )


def _candidate_score(probs_NK: Tensor, bar: float) -> Tensor:
    """Return a layer's entropies; infinite where p is above the bar in no language."""
    return lape_score(probs_NK).masked_fill((probs_NK <= bar).all(dim=-1), torch.inf)


def _lowest(scores: Tensor, count: int) -> Tensor:
    """Return the ascending places of the *count* lowest finite scores; ties go to the first."""
    count = min(count, int(scores.isfinite().sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    bar = scores.kthvalue(count).values
    below = (scores < bar).nonzero().flatten()
    at_bar = (scores == bar).nonzero().flatten()[: count - len(below)]
    return torch.cat([below, at_bar]).sort().values
