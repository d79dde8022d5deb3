"""Perplexity change: what switching a language's neurons off costs in every language.

The mean negative log-likelihood (NLL, nats per token) of held-out text in language j while the
neurons of language i are off, minus the same with nothing off; beside it, the same number of
random neurons. exp of the change is the ratio of perplexities.

In words: the change is how many nats more a token costs; in a formula, with x_t the tokens of text
in language j, change[i][j] = mean_t(-log p(x_t | x_<t, neurons of i off)) - mean_t(-log p(x_t |
x_<t)), and ratio[i][j] = exp(change[i][j]) = perplexity with / perplexity without.
Source: Tang et al. 2024, section 3.2. Differs: theirs (PPLC) is perplexity with less perplexity
without, here exp(base) x (ratio - 1); see docs/sources.md#perplexity.
Knows neither files nor how neurons were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.conversation import Message, encode_prompt
from steering.corpus_rows import Dialogue
from steering.errors import CorpusError
from steering.evaluation.dominance import (
    Matrix,
    Verdict,
    column_dominates,
    ratios,
    row_dominates,
)
from steering.evaluation.kept_losses import KeptLosses
from steering.evaluation.signed import format_nats
from steering.hooks import input_device
from steering.languages import Language
from steering.neuron_plans import deactivate, deactivate_neurons
from steering.neuron_set import NeuronSet
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, SteeringPlan

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_NO_LOSS = -100  # the label that a loss leaves out


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
    change_nats: Matrix
    random_change_nats: Matrix
    neuron_counts: tuple[int, ...]

    @property
    def verdict(self) -> Verdict:
        """Return whether the diagonal dominates, in words."""
        codes = [str(language) for language in self.languages]
        return Verdict(codes, self.neuron_counts, self.change_nats, self.random_change_nats)

    def own_suffers_most(self, row: int) -> bool:
        """Say whether the language itself suffers most when its neurons are off; a tie is none."""
        return row_dominates(self.change_nats, row)

    def to_json(self) -> dict[str, object]:
        """Return plain numbers and the verdict, as `evaluate perplexity --json` writes them."""
        verdict = self.verdict
        return {
            "languages": [str(language) for language in self.languages],
            "base_nll_nats": list(self.base_nll_nats),
            "neuron_counts": list(self.neuron_counts),
            "lape": _matrix_json(self.change_nats),
            "random": _matrix_json(self.random_change_nats),
            "verdict": {"overall": verdict.overall(), "by_language": verdict.by_language()},
        }

    def to_markdown(self) -> str:
        """Return the matrix, nats per token and ratio of perplexities, beside the random control.

        The last two columns are measured on the language itself and on the one that suffers most.
        """
        codes = [str(language) for language in self.languages]
        lines = [
            f"| off | neurons | {' | '.join(codes)} | own, random neurons | most, random neurons |",
            "|---" * (len(codes) + 4) + "|",
        ]
        for i, code in enumerate(codes):
            cells = " | ".join(
                f"**{_cell(change)}**" if i == j else _cell(change)
                for j, change in enumerate(self.change_nats[i])
            )
            random = self.random_change_nats[i]
            most = max(range(len(codes)), key=lambda j: random[j])
            lines.append(
                f"| {code} | {self.neuron_counts[i]} | {cells} | {_cell(random[i])} | "
                f"{codes[most]} {_cell(random[most])} |"
            )
        return "\n".join(lines)


def mean_nll_nats(
    model: LoadedModel, rows: Tensor, plan: SteeringPlan, *, uncounted: Sequence[int] = ()
) -> float:
    """Return the mean negative log-likelihood per predicted token, in nats.

    Args:
        model: From `load_model`; left as it was.
        rows: Token ids, int64 `(rows, tokens)`; the first token of a row is not predicted.
        plan: Applied to all rows.
        uncounted: Token ids that are read and not predicted, such as a chat template's marks.

    Raises:
        CorpusError: If nothing is predicted.
    """
    total, count = 0.0, 0
    is_out = torch.tensor(sorted(uncounted), dtype=torch.int64)
    network = model.model
    with torch.inference_mode(), steered(network, [plan]):
        for batch in torch.split(rows, 8):
            ids = batch.to(input_device(network))
            logits = network(input_ids=ids, use_cache=False).logits[:, :-1]  # (B, T-1, V)
            labels = batch[:, 1:].flatten()
            labels = labels.masked_fill(torch.isin(labels, is_out), _NO_LOSS)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(),
                labels.to(logits.device),
                reduction="sum",
                ignore_index=_NO_LOSS,
            )
            total, count = total + float(loss), count + int((labels != _NO_LOSS).sum())
    if not count:
        raise CorpusError(
            f"Rows of '{rows.shape[1]}' tokens hold nothing that is predicted. Expected words in "
            "them; raise `--row-tokens`."
        )
    return total / count


def pack_rows(model: LoadedModel, lines: Iterable[str], *, row_tokens: int, rows: int) -> Tensor:
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


def pack_dialogues(
    model: LoadedModel, dialogues: Iterable[Dialogue], *, row_tokens: int, rows: int
) -> Tensor:
    """Return rows of chats as the model's template writes them, int64 `(rows, tokens)`.

    Every row is a chat from its beginning: one dialogue after another as its turns, cut where the
    row is full. Fewer rows when there are too few dialogues. Many a model never learnt to predict
    the template's marks: `template_marks` are to be left uncounted.

    Raises:
        CorpusError: If they do not fill one row.
    """
    filled: list[list[int]] = []
    messages: list[Message] = []
    for dialogue in dialogues:
        messages.append(Message("user", dialogue.prompt))
        ids = encode_prompt(model.tokenizer, messages)
        messages.append(Message("assistant", dialogue.answer))
        if len(ids) >= row_tokens:
            filled.append(ids[:row_tokens])
            messages = []
        if len(filled) == rows:
            break
    if not filled:
        raise CorpusError(
            f"The dialogues do not fill one row of '{row_tokens}' tokens. Expected more of them, "
            "or shorter rows; lower `--row-tokens`."
        )
    return torch.tensor(filled)


def template_marks(model: LoadedModel) -> list[int]:
    """Return the ids of special tokens, which is what a chat template's marks usually are."""
    return sorted(model.tokenizer.all_special_ids)


def perplexity_change(
    model: LoadedModel,
    neurons: NeuronSet,
    rows: Mapping[Language, Tensor],
    *,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
    kept: KeptLosses | None = None,
    uncounted: Sequence[int] = (),
) -> PerplexityChange:
    """Switch every language's neurons off in turn, and as many random ones, and measure all.

    Args:
        model: The model the set was made for.
        neurons: The set.
        rows: Per language of the set, token ids `(rows, tokens)` of held-out text.
        seed: Of the random neurons; they are drawn from all layers x neurons.
        progress: Called after each of the 2 x languages + 1 plans is measured.
        kept: Holds the losses of plans that an earlier run finished, and is told every other's.
        uncounted: Token ids that are read and not predicted.
    """
    losses: dict[str, list[float]] = {}
    for name, plan in _plans(neurons, seed):
        if kept is not None and name in kept.losses:
            losses[name] = list(kept.losses[name])
        else:
            losses[name] = [
                mean_nll_nats(model, rows[language], plan, uncounted=uncounted)
                for language in neurons.languages
            ]
            if kept is not None:
                kept.keep(name, losses[name])
        if progress is not None:
            progress()
    base = losses["none"]
    return PerplexityChange(
        languages=neurons.languages,
        base_nll_nats=tuple(base),
        change_nats=tuple(_minus(losses[f"own {one}"], base) for one in neurons.languages),
        random_change_nats=tuple(
            _minus(losses[f"random {one}"], base) for one in neurons.languages
        ),
        neuron_counts=tuple(len(neurons.neurons_of(one)) for one in neurons.languages),
    )


def _plans(neurons: NeuronSet, seed: int) -> Iterator[tuple[str, SteeringPlan]]:
    """Yield what is measured, each with a name; the random ones depend on seed and order alone."""
    yield "none", NO_STEERING
    generator = torch.Generator().manual_seed(seed)
    for language in neurons.languages:
        yield f"own {language}", deactivate(neurons, language)
        count = len(neurons.neurons_of(language))
        yield f"random {language}", _random_plan(neurons, count, generator)


def _minus(losses: Sequence[float], base: Sequence[float]) -> tuple[float, ...]:
    return tuple(loss - start for loss, start in zip(losses, base, strict=True))


def _random_plan(neurons: NeuronSet, count: int, generator: torch.Generator) -> SteeringPlan:
    width = neurons.metadata.neurons_per_layer
    flat = (
        torch.randperm(neurons.metadata.layers * width, generator=generator)[:count].sort().values
    )
    return deactivate_neurons(flat // width, flat % width)


def _cell(change: float) -> str:
    return f"{format_nats(change)} (x{math.exp(change):.2f})"


def _matrix_json(changes: Matrix) -> dict[str, object]:
    places = range(len(changes))
    return {
        "change_nats": [list(row) for row in changes],
        "ratio": [list(row) for row in ratios(changes)],
        "own_suffers_most": [row_dominates(changes, i) for i in places],
        "suffers_most_from_own": [column_dominates(changes, i) for i in places],
    }
