"""Makes the neuron set of a model that has none, while people chat unsteered.

One thread beside the page's: it asks and records through the engine like anybody else, gives way
to people within a token, and can be stopped and continued. The set is kept for the next start.
Knows the engine, not the components of the page.
"""

import functools
import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from steering.activation_stats import StatsPhase
from steering.building import SetOrigin, build_neuron_set
from steering.bundled import NEURON_SETS
from steering.chunks import ChunkOptions, model_state
from steering.contrastive import BATCH_ROWS
from steering.conversation import Message
from steering.corpus import hash_rows_read
from steering.engine import Engine
from steering.errors import NeuronSetFormatError, SettingsError, SteeringError, StoppedError
from steering.from_model import MadeCorpora, Questions, make_corpora
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.kept_sets import find_kept_set, kept_set_path
from steering.languages import LANGUAGES, Language
from steering.lape import LapeParameters
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet, OtherWeights
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.partial_results import PartialResults
from steering.recording import RecordingOptions, record
from steering.shipped_sets import find_shipped_set
from steering.steerer import check_set_fits_model
from steering.steering_plan import NO_STEERING
from steering.token_choice import Sampling
from steering.ui.badges import name_in
from steering.ui.strings import Told, enumerate_in, say
from steering.ui.wording import Words, saying, trouble

log = logging.getLogger(__name__)

# loading: the model is not there yet; measuring: how long a batch of answers takes; offered: waits
# for somebody to want it; ready: there is a set.
Stage: TypeAlias = Literal["loading", "measuring", "offered", "making", "stopping", "ready"]

# Those of the languages with prompts that most people speak; a model that commands fewer says so.
USUAL_LANGUAGES = tuple(
    LANGUAGES[code] for code in ("en", "zh", "hi", "es", "fr", "ar", "pt", "ru")
)
_PROMPTS = 120  # per language: half of what `build-set` asks, as somebody waits

_HEARTBEAT_S = 0.1
_MEASURED_S = 20.0  # a batch that takes longer is not timed to its end
_GIVES_WAY = 3  # times that a batch is begun anew for somebody who chats, before it is finished
_PASS_ROWS = 2  # rows of a recorded forward pass: people wait for its end
_SAVE_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Making:
    """Where the making of a set stands.

    Args:
        stage: See `Stage`.
        words: What is being done, what came of it, or what went wrong; None for nothing. People
            of several languages read it at once.
        fraction: How much is done, 0..1.
        seconds_left: About how long the rest takes; None before that is known.
    """

    stage: Stage = "loading"
    words: Words | None = None
    fraction: float = 0.0
    seconds_left: float | None = None


@dataclass(slots=True)
class _Pace:
    """How long things take, as measured; what is left is told from it.

    Args:
        batch_s: Seconds for a batch of answers.
        pass_s: Seconds for what is recorded of one batch.
        batches: How many there are.
        done: Batches of answers that there are.
        recorded: Share of the recording that is done, 0..1.
    """

    batch_s: float
    pass_s: float
    batches: int
    done: int = 0
    recorded: float = 0.0

    @property
    def is_measured(self) -> bool:
        """Say whether there are any times to tell from."""
        return self.batch_s > 0

    @property
    def left_s(self) -> float:
        """Return seconds to the end."""
        answers = (self.batches - self.done) * self.batch_s
        return answers + (1 - self.recorded) * self.batches * self.pass_s

    @property
    def fraction(self) -> float:
        """Return the share of the whole time that is over."""
        whole_s = max(1e-9, self.batches * (self.batch_s + self.pass_s))
        return min(1.0, max(0.0, 1 - self.left_s / whole_s))

    def note_batch(self, seconds: float) -> None:
        """Learn from a batch that was timed: the newest say most."""
        if not self.is_measured:
            return
        self.batch_s = 0.7 * self.batch_s + 0.3 * seconds


class SetMaker:
    """Finds or makes the set of the engine's model; all of it in threads of its own."""

    def __init__(
        self,
        engine: Engine,
        data: Path,
        languages: Sequence[Language] = (),
        *,
        shipped: Path = NEURON_SETS,
        warnings: list[OtherWeights] | None = None,
    ) -> None:
        """Name where sets are kept and looked for; nothing is begun yet.

        Args:
            engine: Loads the model.
            data: Where sets that were made here are kept.
            languages: Of a new set; the usual ones when empty.
            shipped: Where the sets lie that ship with the program.
            warnings: Gets what is to be said of a set that is found.
        """
        self._engine, self._data, self._shipped = engine, data, shipped
        self._warnings = [] if warnings is None else warnings
        self._path: Path | None = None
        self._questions = Questions(tuple(languages) or USUAL_LANGUAGES, _PROMPTS)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._is_seen = threading.Event()  # before somebody looks, nothing is measured
        self._state = Making()
        self._neurons: NeuronSet | None = None
        self._pace = _Pace(0.0, 0.0, 1)  # no times until they are measured

    @property
    def languages(self) -> tuple[Language, ...]:
        """Return the languages that a new set would be made for."""
        return self._questions.languages

    @property
    def questions(self) -> int:
        """Return how many questions the model would be asked in every language."""
        return len(self._questions.prompts()[self.languages[0]])

    @property
    def neurons(self) -> NeuronSet | None:
        """Return the set once there is one."""
        return self._neurons

    @property
    def path(self) -> Path | None:
        """Return where the set lies that is used; None while there is none."""
        return self._path

    @property
    def is_looking(self) -> bool:
        """Say whether it is not known yet if there is a set."""
        with self._lock:
            return self._state.stage == "loading"

    def state(self) -> Making:
        """Return where it stands."""
        self._is_seen.set()
        with self._lock:
            state, pace = self._state, self._pace
        if not pace.is_measured or state.stage not in ("making", "stopping", "offered"):
            return state
        if state.stage == "offered":
            return replace(state, seconds_left=pace.left_s)
        return replace(state, fraction=pace.fraction, seconds_left=pace.left_s)

    def begin(self) -> None:
        """Wait for the model in a thread; find its set, or measure how long making one takes.

        It is measured when somebody looks: a program that only answers needs no set.
        """
        self._run(self._find_or_measure)

    def start(self) -> None:
        """Make the set, or go on with it; does nothing unless it is offered."""
        with self._lock:
            if self._state.stage != "offered":
                return
            self._stop.clear()
            self._state = Making("making", saying("making_begins"))
        self._run(self._make)

    def stop(self) -> None:
        """Ask the making to stop; what there is is kept."""
        with self._lock:
            if self._state.stage == "making":
                self._state = replace(self._state, stage="stopping", words=saying("stopping"))
                self._stop.set()

    def _run(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="langsteer-set", daemon=True).start()

    def _become(self, stage: Stage, words: Words | None = None) -> None:
        with self._lock:
            self._state = Making(stage, words)

    def _find_or_measure(self) -> None:
        try:
            model = self._engine.model()
        except Exception:  # the page's status says why
            return None
        words = None
        for find in (self._use_kept, self._use_shipped):
            try:
                if find(model):
                    return self._become("ready")
            except (SteeringError, OSError) as err:  # a damaged file is replaced by what is made
                log.warning("%s", err)
                words = trouble("failed_kept_set", NeuronSetFormatError(str(err)))
        try:
            self._become("measuring")
            self._is_seen.wait()
            self._pace = self._measure()
        except Exception as err:
            words = trouble("failed_measuring", err)
        return self._become("offered", words)

    def _use_kept(self, model: LoadedModel) -> bool:
        """Use the set that was made here for the model, if there is one."""
        found = find_kept_set(self._data, model.identity)
        if found is None:
            return False
        self._use(found, kept_set_path(self._data, model.identity), model)
        return True

    def _use_shipped(self, model: LoadedModel) -> bool:
        """Use the set that ships for the model, if there is one."""
        shipped = find_shipped_set(model.identity, self._shipped)
        if shipped is None:
            return False
        self._use(load_neuron_set(shipped.path), shipped.path, model)
        log.info("Using the neuron set '%s'.", shipped.path)
        return True

    def _use(self, neurons: NeuronSet, path: Path, model: LoadedModel) -> None:
        if (warning := check_set_fits_model(neurons, model)) is not None:
            log.warning("%s", warning)
            self._warnings.append(warning)
        self._path, self._neurons = path, neurons

    def _measure(self) -> _Pace:
        """Time one batch of answers, and one forward pass over its prompts."""
        by_language = self._questions.prompts()
        prompts = by_language[self.languages[0]][:BATCH_ROWS]
        batches = sum(-(-len(asked) // BATCH_ROWS) for asked in by_language.values())
        pass_s = min(self._time_reply(prompts, tokens=1) for _ in range(2))  # the first warms up
        batch_s = self._time_reply(prompts, tokens=self._questions.max_new_tokens)
        # Recorded are prompts with their answers, then answers alone: about three such passes.
        return _Pace(batch_s, 3 * pass_s, batches)

    def _time_reply(self, prompts: Sequence[str], *, tokens: int) -> float:
        """Return the seconds that a batch takes, told from its beginning where it takes long."""
        began = time.monotonic()
        with closing(self._stream(prompts, tokens)) as updates:
            for update in updates:
                if not update.new_tokens:
                    continue
                took, steps = time.monotonic() - began, update.new_tokens / len(prompts)
                if None in update.finish_reasons and (
                    took > _MEASURED_S or self._engine.has_waiting()
                ):
                    return took * tokens / max(1.0, steps)
        return time.monotonic() - began

    def _make(self) -> None:
        try:
            words = self._build(self._engine.model())
        except StoppedError:
            self._become("offered", saying("making_stopped"))
        except Exception as err:
            self._become("offered", trouble("failed_making", err))
        else:
            self._become("ready", words)

    def _build(self, model: LoadedModel) -> Words:
        """Make the set, keep it and use it; return what to say of it."""
        path = kept_set_path(self._data, model.identity)
        _make_folder(path.parent)
        # Of other questions nothing can be used, so that they have another folder.
        asked = f"{model_state(model)} {self._questions}"
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        partial = PartialResults(path.with_name(f"{path.stem}-{digest}.partial"))
        self._pace.done, self._pace.recorded = 0, 0.0
        answered: Counter[Language] = Counter()

        def note(language: Language, answers: int) -> None:
            answered[language] += answers
            self._pace.done += 1
            self._say(saying("making_asking", language=language, count=answered[language]))

        made = make_corpora(
            model, self._questions, partial.folder / "answers", ask=self._ask, progress=note
        )
        neurons = self._record(model, made, partial)
        self._check_stop()
        save_neuron_set(neurons, path)
        partial.remove()
        self._use(neurons, path, model)
        return functools.partial(_what_came, made)

    def _record(self, model: LoadedModel, made: MadeCorpora, partial: PartialResults) -> NeuronSet:
        passes = sum(made.made[one].on_target / _PASS_ROWS + 2 for one in made.languages)
        step = 1 / max(1.0, passes)

        def note(language: Language, _phase: StatsPhase, _tokens: int) -> None:
            self._pace.recorded = min(1.0, self._pace.recorded + step)
            self._say(saying("making_recording", language=language))

        recording = record(
            model,
            made.languages,
            made.corpora,
            options=RecordingOptions(
                ChunkOptions(batch_rows=_PASS_ROWS),
                partial,
                model_state(model),
                save_every_s=_SAVE_EVERY_S,
                run_pass=self._run_pass,
            ),
            progress=note,
        )
        return build_neuron_set(
            model.identity,
            recording.stats,
            phase="text",
            parameters=LapeParameters(),
            origin=SetOrigin(made.corpora[0].name, hash_rows_read(made.corpora, recording.digests)),
        )

    def _ask(self, prompts: Sequence[str]) -> Sequence[str]:
        """Return the replies to one batch, begun anew when somebody who chats came between."""
        began = time.monotonic()
        for attempt in range(_GIVES_WAY + 1):
            replies = self._try_to_ask(prompts, gives_way=attempt < _GIVES_WAY)
            if replies is not None:
                self._pace.note_batch(time.monotonic() - began)
                return replies
        raise AssertionError("the last attempt gives no way")

    def _try_to_ask(self, prompts: Sequence[str], *, gives_way: bool) -> Sequence[str] | None:
        while self._engine.has_waiting():
            self._check_stop()
            time.sleep(_HEARTBEAT_S)
        texts: Sequence[str] = ()
        with closing(self._stream(prompts, self._questions.max_new_tokens)) as updates:
            for update in updates:
                self._check_stop()
                is_running = update.new_tokens > 0 and None in update.finish_reasons
                if gives_way and is_running and self._engine.has_waiting():
                    return None
                texts = update.texts
        return texts

    def _stream(self, prompts: Sequence[str], tokens: int) -> Generator[ReplyUpdate, None, None]:
        request = GenerationRequest(
            tuple((Message("user", prompt),) for prompt in prompts),
            (NO_STEERING,) * len(prompts),
            Sampling(max_new_tokens=tokens),
        )
        return self._engine.stream(request, heartbeat_s=_HEARTBEAT_S)

    def _run_pass(self, run: Callable[[], None]) -> None:
        self._check_stop()
        self._engine.call(lambda _: run())

    def _say(self, words: Words) -> None:
        with self._lock:
            if self._state.stage == "making":
                self._state = replace(self._state, words=words)

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError("Stopped on the page.")


def _what_came(made: MadeCorpora, locale: str) -> Told:
    """Say which answers were kept, and which languages were left out."""
    rest = [language for language in made.made if language not in made.languages]
    said = say("making_kept", locale, counts=_counts(made, made.languages, locale))
    if rest:
        said += " " + say("making_left_out", locale, counts=_counts(made, rest, locale))
    return Told(said)


def _counts(made: MadeCorpora, languages: Sequence[Language], locale: str) -> str:
    return enumerate_in(
        locale,
        (
            say(
                "making_count", locale,
                language=name_in(one, locale), count=made.made[one].on_target,
                asked=made.made[one].asked,
            )
            for one in languages
        ),
    )  # fmt: skip


def _make_folder(folder: Path) -> None:
    """Make the folder that the set is kept in, before anything slow happens."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SettingsError(
            f"Cannot keep a neuron set in '{folder}': {err.strerror}. Expected a folder that can "
            "be written to; set LANGSTEER_DATA to one and start again."
        ) from err
