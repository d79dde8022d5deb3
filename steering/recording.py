"""Records activation statistics of a model on text and on dialogues. Never changes the model.

A recording can be stopped at any moment and goes on where it was last saved; it can be shared by
several processes. Knows hooks and chunks, not what is done with the statistics.
Dimension key: see `activation_stats.py`.
"""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from steering.activation_stats import ActivationStats, PhaseStats, StatsPhase
from steering.architectures import Site
from steering.chunks import Chunk, ChunkOptions, Position, corpus_phases, iter_chunks
from steering.corpus import Corpus, Warn, iter_rows
from steering.errors import CorpusError, StoppedError
from steering.hooks import TensorEdit, attached, find_sites, input_device, noting_routing
from steering.languages import Language
from steering.partial_results import PartialResults, State
from steering.processes import Processes
from steering.running_sums import CountedPositions, RunningSums, SumName

if TYPE_CHECKING:
    from types import FrameType

    from steering.loading import LoadedModel

# (language, phase, positions counted since the last call)
Progress: TypeAlias = Callable[[Language, StatsPhase, int], None]

# Of the partial results; higher whenever `RunningSums.to_tensors` or the saved state changes, so
# that those of another version of the program are refused and not misread.
_SAVED_FORM = 2


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """How much is recorded, in which batches, and how it is kept safe.

    Args:
        chunks: Batches and the number of tokens.
        partial: Where to save on the way; None saves nothing.
        identity: Of the model and of everything else, beside the corpora, that sums depend on.
        save_every_s: Seconds between two savings.
        save_every_tokens: Counted positions between two savings; None for the clock alone.
        processes: Who records together.
        run_pass: Runs a forward pass, in the thread that owns the model where that is another.
    """

    chunks: ChunkOptions = field(default_factory=ChunkOptions)
    partial: PartialResults | None = None
    identity: str = ""
    save_every_s: float = 600.0
    save_every_tokens: int | None = None
    processes: Processes = field(default_factory=Processes)
    run_pass: Callable[[Callable[[], None]], object] = lambda run: run()


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded.

    Args:
        stats: The statistics.
        digests: Per corpus, in order, a hash of what was read of every language.
    """

    stats: ActivationStats
    digests: tuple[Mapping[Language, str], ...]


def record(
    model: LoadedModel,
    languages: Sequence[Language],
    corpora: Sequence[Corpus],
    *,
    options: RecordingOptions | None = None,
    progress: Progress | None = None,
    warn: Warn | None = None,
) -> Recording:
    """Record statistics of every language: phase `text` on text, `onset` and `body` on dialogues.

    Args:
        model: From `load_model`; it is not changed.
        languages: Their order is that of the statistics.
        corpora: At most one of text and one of dialogues.
        options: Amount, batches, savings and processes.
        progress: Called after every forward pass.
        warn: Told of everything that was left out or is less than was asked for.

    Raises:
        CorpusError: When a corpus cannot be read, or holds nothing usable in a language.
        StoppedError: After Ctrl-C or SIGTERM, when what there is was saved.
    """
    options = options or RecordingOptions()
    phases: dict[StatsPhase, dict[Language, PhaseStats]] = {}
    digests = []
    with _noticing_stops() as stop:
        _check_readable(corpora, languages)
        for corpus in corpora:
            read: dict[Language, str] = {}
            for language in languages:
                one = _LanguageRecording(model, corpus, language, options)
                one.run(stop, progress or (lambda *_: None), warn or (lambda _: None))
                read[language] = one.position.digest.hex()
                for phase, sums in one.gathered().items():
                    phases.setdefault(phase, {})[language] = sums.result()
            digests.append(read)
    return Recording(ActivationStats(tuple(languages), phases), tuple(digests))


def _check_readable(corpora: Sequence[Corpus], languages: Sequence[Language]) -> None:
    """Refuse a corpus whose last language cannot be read before hours are spent on the first."""
    for corpus in corpora:
        for language in languages:
            left_out: list[str] = []
            if next(iter_rows(corpus, language, warn=left_out.append), None) is None:
                reason = f" ({left_out[0]})" if left_out else ""
                raise CorpusError(
                    f"'{corpus.sources[language].label}' has no usable row for "
                    f"{language.english_name}{reason}. Expected some {corpus.kind}; repair it, or "
                    "name fewer `--languages`."
                )


class ChunkRecorder:
    """Runs forward passes and keeps the sums of what they show.

    Args:
        model: From `load_model`; it is not changed.
        phases: Those that the chunks have masks for.
    """

    def __init__(self, model: LoadedModel, phases: Sequence[StatsPhase]) -> None:
        """Start at zero."""
        identity = model.identity
        self._model = model
        self.sums = {
            phase: RunningSums(
                layers=identity.layers,
                neurons=identity.neurons_per_layer,
                hidden=identity.hidden_size,
                experts=identity.experts,
                vocabulary=int(model.model.config.get_text_config().vocab_size),
            )
            for phase in phases
        }

    def run(self, chunk: Chunk) -> None:
        """Run one forward pass, without the language-model head, and add what it shows."""
        network = self._model.model
        sites, device = find_sites(network), input_device(network)
        counted = {
            phase: CountedPositions.of(mask.to(device)) for phase, mask in chunk.masks.items()
        }
        edits: dict[Site, TensorEdit] = {
            "gate": lambda layer, x: self._add_gate(layer, x, counted),
            "value": lambda layer, x: self._add_sum("value", layer, x, counted),
            "residual": lambda layer, x: self._add_sum("residual", layer, x, counted),
        }
        attention = None if chunk.attention is None else chunk.attention.to(device)
        with (
            torch.inference_mode(),
            attached(sites, edits),
            noting_routing(sites, lambda layer, routed: self._add_routed(layer, routed, counted)),
        ):
            network.base_model(
                input_ids=chunk.ids.to(device), attention_mask=attention, use_cache=False
            )
        for phase, mask in chunk.masks.items():
            seen = self.sums[phase].token_id_count
            seen += torch.bincount(chunk.ids[mask], minlength=len(seen))

    def _add_gate(
        self, layer: int, activation: Tensor, counted: Mapping[StatsPhase, CountedPositions]
    ) -> None:
        for phase, positions in counted.items():
            here = positions.on(activation.device)
            self.sums[phase].add_active(layer, here.count_active(activation))
            self.sums[phase].add("gate", layer, here.sum(activation))

    def _add_routed(
        self, layer: int, is_routed: Tensor, counted: Mapping[StatsPhase, CountedPositions]
    ) -> None:
        for phase, positions in counted.items():
            here = positions.on(is_routed.device)
            self.sums[phase].add_routed(layer, here.count_active(is_routed))

    def _add_sum(
        self,
        name: SumName,
        layer: int,
        activation: Tensor,
        counted: Mapping[StatsPhase, CountedPositions],
    ) -> None:
        for phase, positions in counted.items():
            self.sums[phase].add(name, layer, positions.on(activation.device).sum(activation))


class _LanguageRecording:
    """One language of one corpus: where it stands and what it counted."""

    def __init__(
        self, model: LoadedModel, corpus: Corpus, language: Language, options: RecordingOptions
    ) -> None:
        self._model, self._corpus, self._language = model, corpus, language
        self._options = options
        self._recorder = ChunkRecorder(model, corpus_phases(corpus))
        self.position = Position()
        self._is_done = False
        processes = options.processes
        self._name = f"{corpus.kind}-{language}-{processes.rank}-of-{processes.count}"
        source = corpus.sources[language]
        about = (
            _SAVED_FORM,
            options.identity,
            options.chunks,
            corpus.name,
            corpus.column,
            source.state,
        )
        self._identity = hashlib.sha256(repr(about).encode()).hexdigest()

    def run(self, stop: threading.Event, progress: Progress, warn: Warn) -> None:
        """Record from where it stands to the end."""
        self._load(progress)
        if self._is_done:
            return
        first = next(iter(self._recorder.sums))
        saved_at, unsaved = time.monotonic(), 0
        for chunk in self._chunks(warn):
            if self._options.processes.takes(chunk.after.chunks - 1):
                self._options.run_pass(partial(self._recorder.run, chunk))
                counted = int(sum(mask.sum() for mask in chunk.masks.values()))
                unsaved += counted
                progress(self._language, first, counted)
            self.position = chunk.after
            limit = self._options.save_every_tokens
            is_due = time.monotonic() - saved_at > self._options.save_every_s
            if stop.is_set() or is_due or (limit is not None and unsaved >= limit):
                self._save()
                saved_at, unsaved = time.monotonic(), 0
            if stop.is_set():
                raise self._stopped()
        self._is_done = True
        self._save()

    def gathered(self) -> dict[StatsPhase, RunningSums]:
        """Return the sums of all processes together."""
        processes = self._options.processes
        if processes.count == 1:
            return self._recorder.sums
        for phase, sums in self._recorder.sums.items():
            rows = processes.gather(sums.to_tensors())
            total = RunningSums.zeros_like(rows[0])
            for row in rows:
                total.add_tensors(row)
            self._recorder.sums[phase] = total
        return self._recorder.sums

    def _chunks(self, warn: Warn) -> Iterator[Chunk]:
        try:
            yield from iter_chunks(
                self._model,
                self._corpus,
                self._language,
                options=self._options.chunks,
                start=self.position,
                warn=warn,
            )
        except CorpusError:  # a network that went away: what was counted so far stays
            self._save()
            raise

    def _load(self, progress: Progress) -> None:
        if self._options.partial is None:
            return
        self._options.partial.check_same_processes(self._options.processes.count)
        saved = self._options.partial.load(self._name, self._identity)
        if saved is None:
            return
        state, tensors = saved
        self.position, self._is_done = _read_state(state, tensors.pop("leftover"))
        for phase, sums in self._recorder.sums.items():
            sums.add_tensors(
                {
                    key.removeprefix(f"{phase}."): tensor
                    for key, tensor in tensors.items()
                    if key.startswith(f"{phase}.")
                }
            )
            progress(self._language, phase, int(sums.token_id_count.sum()))

    def _save(self) -> None:
        if self._options.partial is None:
            return
        tensors = {"leftover": torch.tensor(self.position.leftover, dtype=torch.int64)}
        for phase, sums in self._recorder.sums.items():
            tensors |= {f"{phase}.{key}": tensor for key, tensor in sums.to_tensors().items()}
        self._options.partial.save(
            self._name, self._identity, _write_state(self.position, is_done=self._is_done), tensors
        )

    def _stopped(self) -> StoppedError:
        where = f"{self._language.english_name} {self._corpus.kind}, {self.position.rows} rows"
        partial = self._options.partial
        if partial is None:
            return StoppedError(f"Stopped in {where}; nothing was saved.")
        return StoppedError(
            f"Stopped in {where}; what there is lies in '{partial.folder}'. Run the same command "
            "again to go on from there."
        )


def _write_state(position: Position, *, is_done: bool) -> State:
    return {
        "chunks": position.chunks,
        "rows": position.rows,
        "tokens": position.tokens,
        "digest": position.digest.hex(),
        "is_done": is_done,
    }


def _read_state(state: State, leftover: Tensor) -> tuple[Position, bool]:
    chunks, rows, tokens = (int(str(state[name])) for name in ("chunks", "rows", "tokens"))
    digest = bytes.fromhex(str(state["digest"]))
    position = Position(chunks, rows, tokens, digest, tuple(leftover.tolist()))
    return position, bool(state["is_done"])


@contextmanager
def _noticing_stops() -> Iterator[threading.Event]:
    """Set an event on the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts as usual.

    Signals can be handled in the main thread alone; elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
