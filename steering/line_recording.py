"""Records the mean activations of single lines, for the ways of choosing that need more than sums.

All of it is held in memory, lines x layers x neurons numbers of four bytes, so this is for small
models or few lines: a hundred lines in each of seven languages take 17 MB of the bundled model
(6 x 1,024 neurons) and 0.99 GB of one of 32 x 11,008.
Knows hooks and chunks, not how neurons are chosen.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steering.activation_stats import StatsPhase
from steering.chunks import ChunkOptions, Position, corpus_phases, iter_chunks
from steering.conversation import context_tokens
from steering.corpus import Corpus, iter_text
from steering.errors import CorpusError, StatsError
from steering.hooks import attached, find_sites, input_device
from steering.languages import Language
from steering.neuron_choice import LineMeans

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_ROW_TOKENS = 2048  # of a line; what is longer is cut
_MOST_BYTES = 8 * 10**9


def record_line_means(
    model: LoadedModel,
    languages: Sequence[Language],
    corpus: Corpus,
    *,
    phase: StatsPhase,
    lines: int,
    batch_rows: int = 8,
    progress: Callable[[int], object] | None = None,
) -> LineMeans:
    """Record the mean activation of every neuron at the gate site, line by line.

    Args:
        model: From `load_model`; it is not changed.
        languages: Their order is that of the result.
        corpus: Text, of which a line's mean is over all of its tokens but special ones; or
            dialogues, of which it is over the positions of the phase.
        phase: One that the corpus is recorded in.
        lines: The first lines of each language are taken, as many of them or fewer.
        batch_rows: Rows per forward pass; changes speed and memory alone.
        progress: Called with the number of lines recorded since the last call.

    Raises:
        StatsError: If the corpus is not of the phase, or the result would be too large.
        CorpusError: If a language has no usable line.
    """
    if phase not in corpus_phases(corpus):
        raise StatsError(
            f"Phase '{phase}' is not one of '{corpus.name}', which is {corpus.kind}. Expected one "
            f"of: {', '.join(corpus_phases(corpus))}; record single lines of another corpus."
        )
    _check_size(model, lines * len(languages))
    means, language_of = [], []
    for place, language in enumerate(languages):
        own = 0
        for ids, counted in _rows(model, corpus, language, phase, lines, batch_rows):
            found = _means_of(model, ids, counted)[: lines - own]
            means.append(found)
            own += len(found)
            if progress is not None:
                progress(len(found))
            if own == lines:
                break
        if not own:
            raise CorpusError(
                f"'{corpus.sources[language].label}' has '0' usable lines for "
                f"{language.english_name}. Expected some; repair it, or name fewer `--languages`."
            )
        language_of += [place] * own
    return LineMeans(tuple(languages), torch.tensor(language_of), torch.cat(means))


def _rows(
    model: LoadedModel,
    corpus: Corpus,
    language: Language,
    phase: StatsPhase,
    lines: int,
    batch_rows: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ids padded to the right and which positions count, int64 and bool `(B, T)`."""
    if corpus.kind == "dialogues":
        options = ChunkOptions(batch_rows)
        for chunk in iter_chunks(model, corpus, language, options=options, start=Position()):
            yield chunk.ids, chunk.masks[phase]
        return
    tokenizer, limit = model.tokenizer, min(context_tokens(model), _ROW_TOKENS)
    special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
    texts = islice(iter_text(corpus, language), lines)
    while batch := list(islice(texts, batch_rows)):
        encoded = tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
        rows = [torch.tensor(ids[:limit], dtype=torch.int64) for ids in encoded if ids]
        if not rows:
            continue
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
        is_there = torch.arange(ids.shape[1]) < lengths
        yield ids, is_there & ~torch.isin(ids, special)


def _means_of(model: LoadedModel, ids: Tensor, counted: Tensor) -> Tensor:
    """Return the means of rows in which anything counts, float32 `(rows, layers, neurons)`.

    Needs no attention mask: padding to the right changes no earlier position.
    """
    network = model.model
    sites, device = find_sites(network), input_device(network)
    by_layer: dict[int, Tensor] = {}

    def note(layer: int, activation: Tensor) -> None:
        weight_BT = counted.to(activation.device).float()
        sums_BN = torch.einsum("btn,bt->bn", activation.float(), weight_BT)
        by_layer[layer] = (sums_BN / weight_BT.sum(dim=1, keepdim=True)).cpu()

    with torch.inference_mode(), attached(sites, {"gate": note}):
        network.base_model(input_ids=ids.to(device), use_cache=False)
    means_BLN = torch.stack([by_layer[layer] for layer in sorted(by_layer)], dim=1)
    return means_BLN[counted.any(dim=1)].clone()


def _check_size(model: LoadedModel, lines: int) -> None:
    identity = model.identity
    size = 4 * lines * identity.layers * identity.neurons_per_layer
    if size > _MOST_BYTES:
        raise StatsError(
            f"Means of '{lines}' lines of {identity.layers} x {identity.neurons_per_layer} neurons "
            f"take {size / 1e9:.1f} GB of memory. Expected at most {_MOST_BYTES / 1e9:.0f}; use "
            "fewer `--lines`, or a way that reads sums alone (lape, lap, lave, random)."
        )
