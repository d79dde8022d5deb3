"""Makes the neuron set of a model that has none, while people chat unsteered.

One thread beside the page's: it asks, records and calibrates through the engine like anybody else,
gives way to people within a token, and can be stopped and continued. The set is kept for the next
start.
Knows the engine, not the components of the page.
"""

import functools
import hashlib
import itertools
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
from steering.evaluation.calibrating import (
    DEFAULT_METHODS,
    CalibrationProgress,
    CalibrationSettings,
    Reply,
    Runner,
    SteeredQuestion,
    calibrate_set,
    tuning_prompts,
    with_calibration,
)
from steering.evaluation.calibration import Calibration, expected_answers
from steering.evaluation.forcing import ForcingOutcome
from steering.evaluation.proportions import Proportion
from steering.evaluation.quality import reply_nll_nats
from steering.ffn_columns import with_column_norms
from steering.from_model import MadeCorpora, Questions, make_corpora
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.kept_sets import find_kept_set, kept_set_path
from steering.languages import LANGUAGES, Language
from steering.lape import LapeParameters
from steering.loading import LoadedModel
from steering.neuron_set import NeuronSet, OtherWeights
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.pace import Pace, Work
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
        self._questions = Questions(tuple(languages) or USUAL_LANGUAGES)
        self._calibration = CalibrationSettings()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._is_seen = threading.Event()  # before somebody looks, nothing is measured
        self._state = Making()
        self._neurons: NeuronSet | None = None
        self._answers = sum(map(len, self._questions.prompts().values()))
        tuned_on = len(tuning_prompts(self.languages))
        self._pace = Pace(
            {
                "answering": self._answers,
                "recording": self._answers,
                "calibrating": expected_answers(len(DEFAULT_METHODS), tuned_on),
            },
            answer_tokens=self._questions.max_new_tokens,
            calibration_tokens=self._calibration.max_new_tokens,
        )
        self._timed_at = time.monotonic()

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
            state, left, fraction = self._state, self._pace.left_s, self._pace.fraction
        if left is None or state.stage not in ("making", "stopping", "offered"):
            return state
        if state.stage == "offered":
            return replace(state, seconds_left=left)
        return replace(state, fraction=fraction, seconds_left=left)

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
            self._measure()
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

    def _measure(self) -> None:
        """Time one batch of answers, and one forward pass over its prompts."""
        prompts = self._questions.prompts()[self.languages[0]][:BATCH_ROWS]
        pass_s = min(self._time_reply(prompts, tokens=1) for _ in range(2))  # the first warms up
        batch_s = self._time_reply(prompts, tokens=self._questions.max_new_tokens)
        tokens = self._calibration.max_new_tokens / self._questions.max_new_tokens
        with self._lock:
            self._pace.guess("answering", batch_s / len(prompts))
            # Prompts with their answers, then answers alone: about three such passes.
            self._pace.guess("recording", 3 * pass_s / len(prompts))
            # And after its answers the likelihood of each: about two.
            self._pace.guess("calibrating", (tokens * batch_s + 2 * pass_s) / len(prompts))

    def _time_reply(self, prompts: Sequence[str], *, tokens: int) -> float:
        """Return the seconds that a batch takes, told from its beginning where it takes long."""
        began = time.monotonic()
        with closing(self._stream(_unsteered(prompts, tokens))) as updates:
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
        asked = f"{model_state(model)} {self._questions} {self._calibration}"
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        partial = PartialResults(path.with_name(f"{path.stem}-{digest}.partial"))
        with self._lock:
            self._pace.begin_anew()
            self._timed_at = time.monotonic()
        answered: Counter[Language] = Counter()

        def note(language: Language, answers: int) -> None:
            answered[language] += answers
            self._advance("answering", answered.total(), self._answers)
            self._say(saying("making_asking", language=language, count=answered[language]))

        made = make_corpora(
            model, self._questions, partial.folder / "answers", ask=self._ask, progress=note
        )
        neurons = self._record(model, made, partial)
        found = self._calibrate(model, neurons, partial)
        self._check_stop()
        neurons = with_calibration(neurons, found)
        save_neuron_set(neurons, path)
        partial.remove()
        self._use(neurons, path, model)
        short = found.short_of(self._calibration.goal.wanted_success)
        return functools.partial(_what_came, made, found.total.success, short)

    def _record(self, model: LoadedModel, made: MadeCorpora, partial: PartialResults) -> NeuronSet:
        passes = sum(made.made[one].on_target / _PASS_ROWS + 2 for one in made.languages)
        done = itertools.count(1)

        def note(language: Language, _phase: StatsPhase, _tokens: int) -> None:
            share = min(1.0, next(done) / max(1.0, passes))
            self._advance("recording", share * self._answers, self._answers)
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
        neurons = build_neuron_set(
            model.identity,
            recording.stats,
            phase="text",
            parameters=LapeParameters(),
            origin=SetOrigin(made.corpora[0].name, hash_rows_read(made.corpora, recording.digests)),
        )
        return self._engine.call(lambda loaded: with_column_norms(neurons, loaded))

    def _calibrate(
        self, model: LoadedModel, neurons: NeuronSet, partial: PartialResults
    ) -> Calibration:
        def note(at: CalibrationProgress) -> None:
            self._advance("calibrating", at.answers, at.total)
            self._say(saying("making_calibrating", count=at.answers, total=at.total))

        self._advance("recording", self._answers, self._answers)
        return calibrate_set(
            model,
            neurons,
            tuning_prompts(neurons.languages),
            settings=self._calibration,
            kept=partial.folder / "calibration.json",
            runner=Runner(self._ask_steered, self._score),
            progress=note,
        )

    def _ask(self, prompts: Sequence[str]) -> Sequence[str]:
        """Return the replies to one batch of prompts, unsteered."""
        return self._answer(_unsteered(prompts, self._questions.max_new_tokens)).texts

    def _ask_steered(self, questions: Sequence[SteeredQuestion]) -> Sequence[Reply]:
        """Return the replies to one batch of the calibration."""
        request = GenerationRequest(
            tuple((Message("user", question.text),) for question in questions),
            tuple(question.plan for question in questions),
            questions[0].sampling,
        )
        update = self._answer(request)
        return list(map(Reply, update.texts, update.row_tokens))

    def _score(self, outcomes: Sequence[ForcingOutcome]) -> list[float | None]:
        """Return the likelihood of every reply, a few at a time: people wait for each pass."""
        losses: list[float | None] = []
        for start in range(0, len(outcomes), _PASS_ROWS):
            self._check_stop()
            few = outcomes[start : start + _PASS_ROWS]
            losses += self._engine.call(functools.partial(reply_nll_nats, outcomes=few))
        return losses

    def _answer(self, request: GenerationRequest) -> ReplyUpdate:
        """Return the answers to one batch; start over if a chat message interrupts it."""
        for attempt in range(_GIVES_WAY + 1):
            answers = self._try_to_answer(request, gives_way=attempt < _GIVES_WAY)
            if answers is not None:
                return answers
        raise AssertionError("the last attempt gives no way")

    def _try_to_answer(self, request: GenerationRequest, *, gives_way: bool) -> ReplyUpdate | None:
        while self._engine.has_waiting():
            self._check_stop()
            time.sleep(_HEARTBEAT_S)
        update: ReplyUpdate | None = None
        with closing(self._stream(request)) as updates:
            for update in updates:
                self._check_stop()
                is_running = update.new_tokens > 0 and None in update.finish_reasons
                if gives_way and is_running and self._engine.has_waiting():
                    return None
        return update

    def _stream(self, request: GenerationRequest) -> Generator[ReplyUpdate, None, None]:
        return self._engine.stream(request, heartbeat_s=_HEARTBEAT_S)

    def _advance(self, work: Work, done: float, total: float) -> None:
        """Take note of how far a kind of work is, and of how long it took."""
        with self._lock:
            now = time.monotonic()
            self._pace.advance(work, done, total, seconds=now - self._timed_at)
            self._timed_at = now

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


def _unsteered(prompts: Sequence[str], tokens: int) -> GenerationRequest:
    return GenerationRequest(
        tuple((Message("user", prompt),) for prompt in prompts),
        (NO_STEERING,) * len(prompts),
        Sampling(max_new_tokens=tokens),
    )


def _what_came(
    made: MadeCorpora, success: Proportion, short: Sequence[Language], locale: str
) -> Told:
    """Say which answers were kept, which languages were left out, and what to expect."""
    rest = [language for language in made.made if language not in made.languages]
    said = [say("making_kept", locale, counts=_counts(made, made.languages, locale))]
    if rest:
        said.append(say("making_left_out", locale, counts=_counts(made, rest, locale)))
    said.append(say("making_expect", locale, count=success.successes, asked=success.trials))
    if short:
        names = enumerate_in(locale, (name_in(language, locale) for language in short))
        said.append(say("making_short", locale, languages=names))
    return Told(" ".join(said))


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
