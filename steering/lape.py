"""LAPE: selects the neurons whose activity is concentrated in few languages.

Language activation probability entropy, Tang et al. 2024 (arXiv 2402.16438), section 2. In words:
p is the share of a language's tokens on which a neuron is active; p divided by its sum over the
languages is a distribution; its entropy, in nats, is low where few languages activate the neuron.
Knows statistics and sets, neither models nor text. Dimension key: see `activation_stats.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, StatsPhase
from steering.errors import StatsError

# Entropies that agree this far are ties. Adding in another order moves the last bits (1e-16), and
# which neuron is chosen must not depend on the order of languages, nor on the machine.
_TIE_DECIMALS = 12


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


def lape_score(probs_LNK: Tensor) -> Tensor:
    """Return the entropy in nats of each neuron's normalised probabilities, `(layers, neurons)`.

    A neuron that no language activates gets 0 (0 log 0 = 0); the probability threshold drops it.

    Source: Tang et al. 2024, equation 4.
    """
    total_LN1 = probs_LNK.sum(dim=-1, keepdim=True)
    share_LNK = torch.where(total_LN1 > 0, probs_LNK / total_LN1, 0.0)
    entropy_LN: Tensor = torch.special.entr(share_LNK).sum(dim=-1)
    return entropy_LN


def quantile_of_all(probs_LNK: Tensor, quantile: float) -> float:
    """Return the k-th smallest of all values, k = round(count x quantile), as the authors do."""
    k = max(1, round(probs_LNK.numel() * quantile))
    return float(probs_LNK.flatten().kthvalue(k).values)


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
    probs_LNK = stats.activation_prob(phase)
    score_LN = lape_score(probs_LNK)
    is_too_quiet = (probs_LNK <= quantile_of_all(probs_LNK, parameters.prob_quantile)).all(dim=-1)
    score_LN = score_LN.masked_fill(is_too_quiet, torch.inf)
    count = round(score_LN.numel() * parameters.select_fraction)
    flat = _lowest(score_LN.flatten().round(decimals=_TIE_DECIMALS), count)
    layer, index = flat // score_LN.shape[1], flat % score_LN.shape[1]
    probs_KU = probs_LNK[layer, index].T
    is_member = probs_KU > quantile_of_all(probs_LNK, parameters.membership_quantile)
    has_language = is_member.any(dim=0)
    return LapeSelection(
        layer=layer[has_language],
        index=index[has_language],
        lape_score=score_LN[layer, index][has_language],
        is_member=is_member[:, has_language],
        activation_prob=probs_KU[:, has_language],
    )


def _lowest(scores: Tensor, count: int) -> Tensor:
    """Return the ascending places of the *count* lowest finite scores; ties go to the first."""
    count = min(count, int(scores.isfinite().sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    bar = scores.kthvalue(count).values
    below = (scores < bar).nonzero().flatten()
    at_bar = (scores == bar).nonzero().flatten()[: count - len(below)]
    return torch.cat([below, at_bar]).sort().values
