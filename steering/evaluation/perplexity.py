"""Perplexity change: what switching a language's neurons off costs in every language.

The mean negative log-likelihood (NLL, nats per token) of held-out text in language j while the
neurons of language i are off, minus the same with nothing off; beside it, the same number of
random neurons. exp of the change is the ratio of perplexities.
Source: Tang et al. 2024, section 3.2 (PPLC). Knows neither files nor how neurons were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.hooks import input_device
from steering.languages import Language
from steering.neuron_plans import deactivate, deactivate_neurons
from steering.neuron_set import NeuronSet
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, SteeringPlan

if TYPE_CHECKING:
    from steering.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class PerplexityChange:
    """What switching neurons off costs; row i is switched off, column j is measured.

    Args:
        languages: The order of rows and columns.
        base_nll_nats: Per language, with nothing off.
        change_nats: With the language's own neurons off.
        random_change_nats: With as many random neurons off.
        neuron_counts: How many were off, per row.
    """

    languages: tuple[Language, ...]
    base_nll_nats: tuple[float, ...]
    change_nats: tuple[tuple[float, ...], ...]
    random_change_nats: tuple[tuple[float, ...], ...]
    neuron_counts: tuple[int, ...]

    def own_suffers_most(self, row: int) -> bool:
        """Say whether the language itself suffers most when its neurons are off."""
        changes = self.change_nats[row]
        return changes[row] == max(changes)

    def to_json(self) -> dict[str, object]:
        """Return plain numbers, as `evaluate perplexity --json` writes them."""
        return {
            "languages": [str(language) for language in self.languages],
            "base_nll_nats": list(self.base_nll_nats),
            "neuron_counts": list(self.neuron_counts),
            "lape": {"change_nats": [list(row) for row in self.change_nats]},
            "random": {"change_nats": [list(row) for row in self.random_change_nats]},
        }

    def to_markdown(self) -> str:
        """Return the matrix, nats per token, and the random control of the diagonal."""
        names = " | ".join(map(str, self.languages))
        lines = [
            f"| off | neurons | {names} | own, random neurons |",
            "|---" * (len(self.languages) + 3) + "|",
        ]
        for i, language in enumerate(self.languages):
            cells = " | ".join(
                f"**{change:+.3f}**" if i == j else f"{change:+.3f}"
                for j, change in enumerate(self.change_nats[i])
            )
            lines.append(
                f"| {language} | {self.neuron_counts[i]} | {cells} | "
                f"{self.random_change_nats[i][i]:+.3f} |"
            )
        return "\n".join(lines)


def mean_nll_nats(model: LoadedModel, rows: Tensor, plan: SteeringPlan) -> float:
    """Return the mean negative log-likelihood per predicted token, in nats.

    Args:
        model: From `load_model`; left as it was.
        rows: Token ids, int64 `(rows, tokens)`; the first token of a row is not predicted.
        plan: Applied to all rows.
    """
    total, count = 0.0, 0
    network = model.model
    with torch.inference_mode(), steered(network, [plan]):
        for batch in torch.split(rows, 8):
            ids = batch.to(input_device(network))
            logits = network(input_ids=ids, use_cache=False).logits[:, :-1]  # (B, T-1, V)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(),
                ids[:, 1:].flatten().to(logits.device),
                reduction="sum",
            )
            total, count = total + float(loss), count + ids[:, 1:].numel()
    return total / count


def pack_rows(model: LoadedModel, lines: Sequence[str], *, row_tokens: int, rows: int) -> Tensor:
    """Return the first rows of packed text, int64 `(rows, tokens)`; fewer when text is short."""
    ids: list[int] = []
    separator = model.tokenizer.eos_token_id
    for line in lines:
        ids += model.tokenizer(line, add_special_tokens=False, verbose=False)["input_ids"]
        ids += [] if separator is None else [separator]
        if len(ids) >= rows * row_tokens:
            break
    count = max(1, min(rows, len(ids) // row_tokens))
    return torch.tensor(ids[: count * row_tokens]).view(count, -1)


def perplexity_change(
    model: LoadedModel,
    neurons: NeuronSet,
    rows: Mapping[Language, Tensor],
    *,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> PerplexityChange:
    """Switch every language's neurons off in turn, and as many random ones, and measure all.

    Args:
        model: The model the set was made for.
        neurons: The set.
        rows: Per language of the set, token ids `(rows, tokens)` of held-out text.
        seed: Of the random neurons; they are drawn from all layers x neurons.
        progress: Called after each of the 2 x languages + 1 plans is measured.
    """

    def measure(plan: SteeringPlan) -> list[float]:
        losses = [mean_nll_nats(model, rows[language], plan) for language in neurons.languages]
        if progress is not None:
            progress()
        return losses

    base = measure(NO_STEERING)
    generator = torch.Generator().manual_seed(seed)
    changes, random_changes, counts = [], [], []
    for language in neurons.languages:
        count = len(neurons.neurons_of(language))
        own = measure(deactivate(neurons, language))
        random = measure(_random_plan(neurons, count, generator))
        changes.append(_minus(own, base))
        random_changes.append(_minus(random, base))
        counts.append(count)
    return PerplexityChange(
        neurons.languages, tuple(base), tuple(changes), tuple(random_changes), tuple(counts)
    )


def _minus(losses: Sequence[float], base: Sequence[float]) -> tuple[float, ...]:
    return tuple(loss - start for loss, start in zip(losses, base, strict=True))


def _random_plan(neurons: NeuronSet, count: int, generator: torch.Generator) -> SteeringPlan:
    width = neurons.metadata.neurons_per_layer
    flat = (
        torch.randperm(neurons.metadata.layers * width, generator=generator)[:count].sort().values
    )
    return deactivate_neurons(flat // width, flat % width)
