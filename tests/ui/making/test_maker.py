"""Tests of finding and making a missing set, with an engine that answers by a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steering.errors import ModelLoadError
from steering.evaluation.calibrating import default_methods
from steering.from_model import Questions
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.kept_sets import kept_set_path
from steering.loading import LoadedModel
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet, OtherWeights
from steering.neuron_set_file import save_neuron_set
from steering.steering_plan import NO_STEERING
from steering.ui.making.maker import Making, SetMaker, Stage
from tests.scripted_answers import script_answers
from tests.texts import TEXTS
from tests.toy import EN, FR, JA, make_toy_set

WAIT_S = 120  # far above what anything here takes: other work may hold the processor
LANGUAGES = (EN, FR, JA)  # of 64 questions each: four batches
BATCHES = 12
ANSWER_TOKENS = Questions(LANGUAGES).max_new_tokens  # answers of the calibration are shorter


class AnsweringEngine:
    """Answers by a script; people wait as often as it is told."""

    def __init__(self, model: LoadedModel, *commanded: str) -> None:
        self._model = model
        self._ask = script_answers(*commanded)
        self.finished: list[Sequence[str]] = []
        self.tried: list[Sequence[str]] = []  # batches of the calibration
        self.begun = 0
        self.calls = 0
        self.interruptions = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def model(self, *, timeout_s: float | None = None) -> LoadedModel:
        if isinstance(self.error, ModelLoadError):
            raise self.error
        return self._model

    def has_waiting(self) -> bool:
        return self.is_running and self.interruptions > 0

    is_running = False

    def stream(
        self,
        request: GenerationRequest,
        *,
        heartbeat_s: float | None = None,
        pace_s: float = 0.0,
    ) -> Generator[ReplyUpdate, None, None]:
        if self.error is not None:
            raise self.error
        prompts = [conversation[-1].content for conversation in request.conversations]
        rows = len(prompts)
        is_asked = request.sampling.max_new_tokens > 1
        self.begun += is_asked
        self.is_running = is_asked
        try:
            while not self.gate.wait(0.01):
                yield ReplyUpdate(("",) * rows, (None,) * rows, ("",) * rows, 0)
            yield ReplyUpdate(("",) * rows, (None,) * rows, ("",) * rows, rows)
            is_tried = is_asked and request.sampling.max_new_tokens != ANSWER_TOKENS
            if is_asked:
                (self.tried if is_tried else self.finished).append(prompts)
            is_steered = {plan is not NO_STEERING for plan in request.plans} == {True}
            assert is_tried or not is_steered
            replies = TEXTS["fr"][:1] * rows if is_steered else self._ask(prompts)
            yield ReplyUpdate(
                tuple(replies), ("end",) * rows, ("",) * rows, 2 * rows, row_tokens=(2,) * rows
            )
        finally:
            self.interruptions -= self.has_waiting()
            self.is_running = False

    def call(self, function: Callable[[LoadedModel], object]) -> object:
        self.calls += 1
        return function(self._model)


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama", intermediate_size=256)


@pytest.fixture
def engine(model: LoadedModel) -> AnsweringEngine:
    return AnsweringEngine(model, "en", "fr", "ja")


def wait_for(maker: SetMaker, *stages: Stage) -> Making:
    end = time.monotonic() + WAIT_S
    while (state := maker.state()).stage not in stages:
        assert time.monotonic() < end, state
        time.sleep(0.01)
    return state


def uncalibrated(neurons: NeuronSet) -> NeuronSet:
    metadata = neurons.metadata.model_copy(update={"steering_method": ""})
    return replace(neurons, metadata=metadata)


def words_of(state: Making, locale: str = "en") -> str:
    assert state.words is not None
    return str(state.words(locale))


def offered(engine: AnsweringEngine, data: Path) -> SetMaker:
    maker = SetMaker(engine, data, LANGUAGES)  # type: ignore[arg-type]  # all that it needs
    maker.begin()
    wait_for(maker, "offered")
    engine.finished.clear()
    engine.begun = 0
    return maker


def test_without_a_set_one_is_offered_with_a_measured_time(
    engine: AnsweringEngine, tmp_path: Path
) -> None:
    engine.gate.clear()
    maker = SetMaker(engine, tmp_path, LANGUAGES)  # type: ignore[arg-type]  # all that it needs
    maker.begin()
    measuring = wait_for(maker, "measuring")
    time.sleep(0.2)
    engine.gate.set()
    state = wait_for(maker, "offered")

    assert measuring.seconds_left is None
    assert state.seconds_left is not None
    assert 0 < state.seconds_left < WAIT_S * BATCHES
    assert maker.neurons is None
    assert maker.languages == LANGUAGES
    assert not any(tmp_path.iterdir())  # nothing is written before somebody wants it


def test_while_nobody_looks_the_model_is_left_alone(
    engine: AnsweringEngine, tmp_path: Path
) -> None:
    maker = SetMaker(engine, tmp_path, LANGUAGES)  # type: ignore[arg-type]  # all that it needs
    maker.begin()
    time.sleep(0.2)
    assert engine.begun == 0

    assert wait_for(maker, "offered")
    assert engine.begun > 0


def test_a_slower_model_takes_longer(engine: AnsweringEngine, tmp_path: Path) -> None:
    quick = offered(engine, tmp_path).state().seconds_left

    def slow() -> bool:
        time.sleep(0.05)
        return True

    engine.gate.wait = lambda _=None: slow()  # type: ignore[method-assign]
    slower = offered(engine, tmp_path).state().seconds_left

    assert quick is not None
    assert slower is not None
    assert slower > quick + BATCHES * 0.04


def test_a_made_set_is_used_at_once_and_found_at_the_next_start(
    engine: AnsweringEngine, model: LoadedModel, tmp_path: Path
) -> None:
    maker = offered(engine, tmp_path)

    maker.start()
    state = wait_for(maker, "ready", "offered")

    assert state.stage == "ready", state
    assert "English 64 of 64" in words_of(state)
    assert "In a trial, " in words_of(state)
    assert words_of(state).endswith("Least reliable: English, Japanese.")
    assert len(engine.finished) == BATCHES
    assert engine.calls > BATCHES  # every recorded pass is one of the engine's
    made = maker.neurons
    assert made is not None
    assert made.languages == LANGUAGES
    assert set(made.residual_means) == {"text", "onset", "body"}
    assert engine.tried
    assert made.metadata.steering_method in default_methods(uncalibrated(made))
    assert make_plan(made, SteeringRequest(FR, source=EN)) is not NO_STEERING
    assert made.metadata.calibration.keys() == {"en", "fr", "ja"}
    path = kept_set_path(tmp_path, model.identity)
    assert list(path.parent.iterdir()) == [path]
    again = SetMaker(engine, tmp_path)  # type: ignore[arg-type]  # all that it needs
    again.begin()
    assert wait_for(again, "ready", "offered") == Making("ready")
    assert again.neurons is not None
    assert torch.equal(again.neurons.index, made.index)


def test_stop_keeps_what_there_is_and_going_on_asks_the_rest(
    engine: AnsweringEngine, tmp_path: Path
) -> None:
    maker = offered(engine, tmp_path)
    maker.start()
    while len(engine.finished) < 4:
        time.sleep(0.001)
    engine.gate.clear()
    maker.stop()
    engine.gate.set()
    stopped = wait_for(maker, "offered")
    asked = len(engine.finished)

    assert "Stopped" in words_of(stopped)
    assert maker.neurons is None
    maker.start()
    assert wait_for(maker, "ready", "offered").stage == "ready"
    assert len(engine.finished) <= BATCHES + 1
    assert len(engine.finished) > asked


def test_stop_in_the_calibration_keeps_what_was_tried(
    engine: AnsweringEngine, tmp_path: Path
) -> None:
    maker = offered(engine, tmp_path)
    maker.start()
    while len(engine.tried) < 4 and maker.state().stage == "making":
        time.sleep(0.001)
    engine.gate.clear()
    words = words_of(maker.state())
    maker.stop()
    engine.gate.set()
    wait_for(maker, "offered")
    before, engine.tried = engine.tried, []

    maker.start()
    assert wait_for(maker, "ready", "offered").stage == "ready"

    assert "Trying out how to steer it: " in words
    kept = {tuple(batch) for batch in before[:3]}  # the fourth may have been in the air
    assert not kept & {tuple(batch) for batch in engine.tried[:1]}
    assert len(engine.finished) == BATCHES


def test_progress_is_a_share_and_comes_to_its_end(engine: AnsweringEngine, tmp_path: Path) -> None:
    maker = offered(engine, tmp_path)
    maker.start()

    seen = []
    while (state := maker.state()).stage == "making":
        seen.append(state.fraction)
        time.sleep(0.002)

    assert state.stage == "ready"
    assert all(0 <= one <= 1 for one in seen)
    assert seen[-1] > 0.5


@pytest.mark.parametrize(("people", "begun"), [(1, 1), (3, 3), (50, 3)])
def test_a_batch_gives_way_to_people_but_not_for_ever(
    people: int, begun: int, engine: AnsweringEngine, tmp_path: Path
) -> None:
    maker = offered(engine, tmp_path)
    engine.interruptions = people

    replies = maker._ask(["Hello? Answer in French."])

    assert list(replies) == script_answers("fr")(["Hello? Answer in French."])
    assert engine.begun == begun + 1


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked(
    engine: AnsweringEngine, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    maker = offered(engine, blocked)

    maker.start()
    state = wait_for(maker, "offered")

    assert "set LANGSTEER_DATA to one" in words_of(state)
    assert engine.begun == 0


@pytest.mark.parametrize(
    ("commanded", "said"),
    [(("en",), "in '1' of the languages"), (("en", "fr"), "does not command them: Japanese 0")],
)
def test_languages_that_the_model_does_not_command_are_named(
    commanded: tuple[str, ...], said: str, model: LoadedModel, tmp_path: Path
) -> None:
    maker = offered(AnsweringEngine(model, *commanded), tmp_path)

    maker.start()
    state = wait_for(maker, "ready", "offered")

    assert state.stage == ("ready" if len(commanded) > 1 else "offered")
    assert said in words_of(state)
    assert words_of(state, "fr").startswith(
        "Réponses gardées : English 64 sur 64"
        if len(commanded) > 1
        else "Le jeu de neurones n’a pas pu être créé. The model answered"
    )


def test_an_unexpected_error_is_one_plain_sentence_and_it_can_be_tried_again(
    engine: AnsweringEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = offered(engine, tmp_path)
    engine.error = RuntimeError("a secret of the program")
    maker.start()
    state = wait_for(maker, "offered")
    engine.error = None
    maker.start()

    assert "Something went wrong" in words_of(state)
    assert "a secret of the program" in caplog.text
    assert wait_for(maker, "ready", "offered").stage == "ready"


def test_a_damaged_kept_set_is_said_and_another_is_offered(
    engine: AnsweringEngine, model: LoadedModel, tmp_path: Path
) -> None:
    path = kept_set_path(tmp_path, model.identity)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")

    state = offered(engine, tmp_path).state()

    assert str(path) in words_of(state)


def test_a_model_that_does_not_load_gets_no_offer(engine: AnsweringEngine, tmp_path: Path) -> None:
    engine.error = ModelLoadError("no such folder")
    maker = SetMaker(engine, tmp_path, LANGUAGES)  # type: ignore[arg-type]  # all that it needs

    maker.begin()
    time.sleep(0.1)
    maker.start()

    assert maker.state().stage == "loading"


def ship(folder: Path, model: LoadedModel, *, moved: float = 0.0) -> LoadedModel:
    """Ship a set of a model; return the model with norms that are so far from the set's."""
    norms = 7 + torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    neurons = make_toy_set(replace(model.identity, norm_weights=norms, model_id="org/shipped"))
    save_neuron_set(neurons, folder / "shipped.safetensors")
    identity = replace(model.identity, norm_weights=norms + moved)
    return replace(model, identity=identity)


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_the_set_that_ships_for_the_model_is_used_at_once(
    moved: float, load_tiny: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    model = ship(tmp_path, load_tiny("llama"), moved=moved)
    warnings: list[OtherWeights] = []
    maker = SetMaker(
        AnsweringEngine(model),
        tmp_path / "data",
        shipped=tmp_path,
        warnings=warnings,  # type: ignore[arg-type]  # all that it needs
    )
    assert maker.is_looking

    maker.begin()
    state = wait_for(maker, "ready", "offered")

    assert state == Making("ready")
    assert not maker.is_looking
    assert maker.path == tmp_path / "shipped.safetensors"
    assert maker.neurons is not None
    assert [one.made_for for one in warnings] == (["org/shipped"] if moved else [])


def test_a_set_that_was_made_here_comes_before_the_one_that_ships(
    load_tiny: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    model = ship(tmp_path, load_tiny("llama"))
    path = kept_set_path(tmp_path / "data", model.identity)
    save_neuron_set(make_toy_set(model.identity), path)
    maker = SetMaker(AnsweringEngine(model), tmp_path / "data", shipped=tmp_path)  # type: ignore[arg-type]  # all that it needs

    maker.begin()
    wait_for(maker, "ready", "offered")

    assert maker.path == path


def test_a_damaged_set_that_was_made_here_does_not_hide_the_one_that_ships(
    load_tiny: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    model = ship(tmp_path, load_tiny("llama"))
    path = kept_set_path(tmp_path / "data", model.identity)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    maker = SetMaker(AnsweringEngine(model), tmp_path / "data", shipped=tmp_path)  # type: ignore[arg-type]  # all that it needs

    maker.begin()
    wait_for(maker, "ready", "offered")

    assert maker.path == tmp_path / "shipped.safetensors"
