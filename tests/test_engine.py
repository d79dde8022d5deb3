"""Tests of the engine: streaming, stopping, failing, and callers that leave or disagree."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from steering.batch import Batch
from steering.engine import Engine, EngineLoad
from steering.errors import (
    EngineClosedError,
    GenerationError,
    ModelLoadError,
    OutOfMemoryError,
    PlanError,
    QueueFullError,
)
from steering.generation import ReplyUpdate
from steering.jobs import GenerationRequest
from steering.loading import LoadedModel
from steering.steering_plan import NO_STEERING, PHASES, Edit, SteeringPlan
from tests.asking import WAIT_S, ask, decode, greedy_by_hand, running
from tests.toy import make_random_plan

LoadTiny = Callable[..., LoadedModel]

STEER = make_random_plan(1, *PHASES)
OUTSIDE = SteeringPlan(
    {("value", "onset", 99): Edit(torch.tensor([0]), torch.ones(1), torch.ones(1))}
)


@pytest.fixture
def model(load_tiny: LoadTiny) -> LoadedModel:
    return load_tiny("llama")


@pytest.fixture
def engine(model: LoadedModel) -> Iterator[Engine]:
    with running(lambda: model) as one:
        yield one


class Gate:
    """Counts a model's forward passes, and can hold one of them up until it is opened."""

    def __init__(self, model: nn.Module) -> None:
        self.passes = 0
        self.reached = threading.Event()
        self._opened = threading.Event()
        self._held = 0
        self._handle = model.register_forward_pre_hook(self._pass)

    def hold_pass(self, number: int) -> None:
        """Hold this pass up, counted from 1."""
        self._held = number

    def open(self) -> None:
        self._opened.set()

    def remove(self) -> None:
        self.open()
        self._handle.remove()

    def _pass(self, *_: object) -> None:
        self.passes += 1
        if self.passes == self._held:
            self.reached.set()
            assert self._opened.wait(WAIT_S)


@pytest.fixture
def gate(model: LoadedModel) -> Iterator[Gate]:
    one = Gate(model.model)
    yield one
    one.remove()


@torch.no_grad()
# Sampling.


def test_sampling_with_a_seed_repeats_and_with_another_does_not(engine: Engine) -> None:
    request = ask("Hello", tokens=16, temperature=1.5, seed=7)

    first, again = engine.reply(request), engine.reply(request)
    other = engine.reply(ask("Hello", tokens=16, temperature=1.5, seed=8))

    assert first == again
    assert other.texts != first.texts


def test_tiny_share_of_probability_is_greedy(engine: Engine) -> None:
    sampled = engine.reply(ask("Hello", temperature=1.5, top_p=1e-6))

    assert sampled == engine.reply(ask("Hello"))


# Streaming.


def test_stream_is_cumulative_and_ends_with_the_reply(engine: Engine, model: LoadedModel) -> None:
    updates = list(engine.stream(ask("Hello", tokens=12)))

    for earlier, later in pairwise(updates):
        assert later.texts[0].startswith(earlier.texts[0].rstrip("\ufffd"))
        assert later.new_tokens >= earlier.new_tokens
        assert earlier.finish_reasons == (None,)
    last = updates[-1]
    assert last.texts[0] == decode(model, greedy_by_hand(model, "Hello", tokens=12))
    assert (last.finish_reasons, last.notes, last.new_tokens) == (("length",), ("",), 12)
    assert last.settled == (len(last.texts[0]),)


def test_updates_come_while_the_model_is_still_writing(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(3)
    stream = engine.stream(ask("Hello", tokens=50))

    while (update := next(stream)).new_tokens < 2:
        pass

    assert update.finish_reasons == (None,)
    assert gate.reached.wait(WAIT_S)
    assert gate.passes == 3
    stream.close()


def test_updates_keep_the_pace_and_the_last_comes_at_once(engine: Engine) -> None:
    began = time.monotonic()
    updates = list(engine.stream(ask("Hello", tokens=60), pace_s=30.0))

    assert time.monotonic() - began < 20
    assert len(updates) <= 2
    assert updates[-1].new_tokens == 60


def test_heartbeat_comes_while_nothing_happens(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(1)
    stream = engine.stream(ask("Hello", tokens=2), heartbeat_s=0.01)

    waiting = [next(stream) for _ in range(4)]
    gate.open()
    updates = list(stream)

    assert {update.new_tokens for update in waiting} == {0}
    assert {update.finish_reasons for update in waiting} == {(None,)}
    assert updates[-1] == engine.reply(ask("Hello", tokens=2))


def test_the_first_token_does_not_wait_for_the_pace_after_a_heartbeat(
    engine: Engine, gate: Gate
) -> None:
    gate.hold_pass(1)
    stream = engine.stream(ask("Hello", tokens=500), heartbeat_s=0.01, pace_s=30.0)
    next(stream)
    gate.open()
    first = next(update for update in stream if update.new_tokens)
    stream.close()

    assert first.finish_reasons == (None,)


def test_tokens_are_told_of_each_row(engine: Engine) -> None:
    update = engine.reply(ask("Hello", "b", tokens=5))

    assert update.row_tokens == (5, 5)
    assert update.new_tokens == 10


def test_notes_are_those_of_each_row(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama", max_position_embeddings=64)

    with running(lambda: model) as engine:
        update = engine.reply(ask("a" * 90, "b", tokens=5))

    assert "were left out" in update.notes[0]
    assert update.notes[1] == ""


def test_closed_stream_stops_the_model_within_one_token(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(4)
    stream = engine.stream(ask("Hello", tokens=500))
    while next(stream).new_tokens < 3:
        pass
    assert gate.reached.wait(WAIT_S)

    stream.close()
    gate.open()
    engine.reply(ask("b", tokens=1))  # its one pass comes after the last of the closed one

    assert gate.passes == 4 + 1


def test_caller_that_stops_reading_stops_the_model(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(3)
    for update in engine.stream(ask("Hello", tokens=500)):
        if update.new_tokens == 2:
            break
    assert gate.reached.wait(WAIT_S)
    gate.open()

    engine.reply(ask("b", tokens=1))

    assert gate.passes == 3 + 1


def test_stream_that_is_closed_while_it_waits_never_runs(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.reply, ask("a", tokens=2))
        assert gate.reached.wait(WAIT_S)
        waiting = engine.stream(ask("b", "c", tokens=5), heartbeat_s=0.01)
        heartbeat = next(waiting)
        waiting.close()
        gate.open()
        assert first.result(WAIT_S).new_tokens == 2

    assert heartbeat == ReplyUpdate(("", ""), (None, None), ("", ""), 0, place=1)
    engine.reply(ask("a", tokens=1))
    assert gate.passes == 2 + 1


# Plans.


def test_twin_rows_are_plain_and_steered(engine: Engine) -> None:
    both = engine.reply(ask("Hello", "Hello", plans=(NO_STEERING, STEER)))

    assert both.texts[0] == engine.reply(ask("Hello")).texts[0]
    assert both.texts[1] == engine.reply(ask("Hello", plans=(STEER,))).texts[0]
    assert both.texts[0] != both.texts[1]


def test_steering_of_a_request_is_gone_at_the_next(engine: Engine, model: LoadedModel) -> None:
    before = engine.reply(ask("Hello"))

    engine.reply(ask("Hello", plans=(STEER,)))
    stream = engine.stream(ask("Hello", plans=(STEER,), tokens=200))
    next(stream)
    stream.close()

    assert engine.reply(ask("Hello")) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


def test_parallel_requests_do_not_mix(engine: Engine) -> None:
    requests = [
        ask(text, plans=(plan,), temperature=temperature, seed=seed)
        for seed, (text, plan, temperature) in enumerate(
            [("Hello", NO_STEERING, 0), ("Hello", STEER, 0), ("xyz", STEER, 1), ("xyz", STEER, 1)]
        )
    ]
    alone = [engine.reply(request) for request in requests]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(engine.reply, requests * 3))

    assert together == alone * 3
    assert len({reply.texts for reply in alone}) == 4


# Failures.


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (ask("Hello", plans=(OUTSIDE,)), PlanError, "layer '99'"),
        (ask("Hello", plans=(STEER,) * 2), PlanError, "'2' steering plans for 1"),
        (ask("a", "b", "c", plans=(STEER,) * 2), PlanError, "'2' steering plans for 3"),
        (replace(ask("Hello"), guards=(None,) * 2), PlanError, "'2' guards for 1"),
        (ask("a", ""), GenerationError, "it is empty"),
        (ask("a", tokens=5000), GenerationError, "leaves no room"),
        (GenerationRequest((), ()), GenerationError, "'0' conversations"),
        (GenerationRequest((), (NO_STEERING,)), GenerationError, "'0' conversations"),
        (GenerationRequest(((),), (NO_STEERING,)), GenerationError, "it is empty"),
    ],
)
def test_failure_arrives_at_the_caller_and_the_engine_goes_on(
    bad: GenerationRequest, error: type[Exception], message: str, engine: Engine
) -> None:
    before = engine.reply(ask("Hello"))

    with pytest.raises(error, match=message):
        engine.reply(bad)

    assert engine.reply(ask("Hello")) == before


def test_crash_in_the_middle_arrives_as_itself_and_the_engine_goes_on(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = ZeroDivisionError("in the model")
    calls = []

    def fail_at_third(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise crash

    handle = model.model.register_forward_pre_hook(fail_at_third)
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            engine.reply(ask("Hello", plans=(STEER,)))
        after = engine.reply(ask("Hello"))
    finally:
        handle.remove()

    assert caught.value is crash
    assert after.texts[0] == decode(model, greedy_by_hand(model, "Hello", tokens=12))


def test_failed_load_is_raised_at_every_request(model: LoadedModel) -> None:
    error = ModelLoadError("no such model")

    def fail() -> LoadedModel:
        raise error

    with running(fail) as engine:
        for _ in range(2):
            with pytest.raises(ModelLoadError) as caught:
                engine.reply(ask("Hello"))
            assert caught.value is error
        with pytest.raises(ModelLoadError):
            engine.model(timeout_s=WAIT_S)

        assert engine.is_ready


def test_request_before_the_model_is_loaded_waits_for_it(model: LoadedModel) -> None:
    loading = threading.Event()

    def load_late() -> LoadedModel:
        assert loading.wait(WAIT_S)
        return model

    with running(load_late) as engine, ThreadPoolExecutor(1) as pool:
        assert not engine.is_ready
        with pytest.raises(GenerationError, match=r"still loading after '0\.01' s"):
            engine.model(timeout_s=0.01)
        reply = pool.submit(engine.reply, ask("Hello", tokens=3))
        loading.set()

        assert reply.result(WAIT_S).new_tokens == 3
        assert engine.model(timeout_s=WAIT_S) is model
        assert engine.is_ready


def test_full_queue_is_refused_at_once_and_opens_again(model: LoadedModel, gate: Gate) -> None:
    gate.hold_pass(1)
    with running(lambda: model, max_waiting=2) as engine, ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(engine.reply, ask("a", tokens=2))]
        assert gate.reached.wait(WAIT_S)
        accepted += [pool.submit(engine.reply, ask("a", tokens=2)) for _ in range(2)]
        while engine.load().waiting < 2:
            time.sleep(0.001)

        with pytest.raises(QueueFullError, match="'2' people are waiting already"):
            engine.reply(ask("b"))

        gate.open()
        assert {reply.result(WAIT_S).new_tokens for reply in accepted} == {2}
        assert engine.reply(ask("b", tokens=1)).new_tokens == 1


# Other work in the engine's thread.


def test_a_function_runs_between_replies_in_the_thread_of_the_model(
    model: LoadedModel, engine: Engine, gate: Gate
) -> None:
    gate.hold_pass(1)
    with ThreadPoolExecutor(2) as pool:
        reply = pool.submit(engine.reply, ask("a", tokens=20))
        assert gate.reached.wait(WAIT_S)
        assert not engine.has_waiting()
        called = pool.submit(
            engine.call, lambda given: (given, threading.current_thread(), gate.passes)
        )
        while not engine.has_waiting():
            time.sleep(0.001)
        assert not called.done()
        gate.open()

        *what, passes = called.result(WAIT_S)
        assert what == [model, engine._thread]
        assert passes < 20
        assert reply.result(WAIT_S).new_tokens == 20
    assert not engine.has_waiting()


def test_what_a_function_raises_belongs_to_its_caller(engine: Engine) -> None:
    def fail(_model: LoadedModel) -> None:
        raise PlanError("ours")

    with pytest.raises(PlanError, match="ours"):
        engine.call(fail)

    assert engine.reply(ask("Hello", tokens=1)).new_tokens == 1


# Closing.


def test_closing_lets_running_and_waiting_requests_finish(model: LoadedModel, gate: Gate) -> None:
    gate.hold_pass(1)
    engine = Engine(lambda: model)
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(engine.reply, ask("a", tokens=2))]
        assert gate.reached.wait(WAIT_S)
        replies.append(pool.submit(engine.reply, ask("a", tokens=2)))
        while engine.load().waiting < 1:
            time.sleep(0.001)
        closing = pool.submit(engine.close, timeout_s=WAIT_S)
        gate.open()
        closing.result(WAIT_S)

    assert [reply.result(0).new_tokens for reply in replies] == [2, 2]
    assert not engine._thread.is_alive()


def test_request_after_closing_is_refused_and_does_not_wait(model: LoadedModel) -> None:
    engine = Engine(lambda: model)
    engine.close(timeout_s=WAIT_S)
    engine.close(timeout_s=WAIT_S)

    with pytest.raises(EngineClosedError, match="This engine is closed"):
        next(engine.stream(ask("Hello"), heartbeat_s=0.01))


def test_closing_cancels_what_is_not_finished_in_time(model: LoadedModel, gate: Gate) -> None:
    gate.hold_pass(2)
    engine = Engine(lambda: model, max_rows=1)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(engine.reply, ask("Hello", tokens=500))
        assert gate.reached.wait(WAIT_S)
        waiting = pool.submit(engine.reply, ask("a", tokens=1))
        while engine.load().waiting < 1:
            time.sleep(0.001)

        engine.close(timeout_s=0.05)
        gate.open()

        assert running.result(WAIT_S).finish_reasons == ("stopped",)
        assert running.result(WAIT_S).new_tokens in (2, 3)
        with pytest.raises(EngineClosedError, match="ends before your turn"):
            waiting.result(WAIT_S)
    engine.close(timeout_s=WAIT_S)
    assert not engine._thread.is_alive()


# Together.


def test_requests_are_answered_together_as_if_alone(
    model: LoadedModel, engine: Engine, gate: Gate
) -> None:
    requests = [ask(text, tokens=12) for text in ("Hello", "a", "xyz")]
    alone = [engine.reply(request) for request in requests]
    gate.hold_pass(gate.passes + 2)
    before = gate.passes
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(engine.reply, requests[0])]
        assert gate.reached.wait(WAIT_S)
        replies += [pool.submit(engine.reply, request) for request in requests[1:]]
        while engine.load().waiting < 2:
            time.sleep(0.001)
        assert engine.load().running_rows == 1
        gate.open()
        assert [reply.result(WAIT_S) for reply in replies] == alone
    assert gate.passes - before <= 1 + 11 + 2 + 11  # and not three times twelve
    assert engine.load() == EngineLoad(0, 0, 0, hooks=1)  # the gate's


def test_request_waits_where_there_are_no_rows_left_and_says_its_place(
    model: LoadedModel, gate: Gate
) -> None:
    gate.hold_pass(2)
    with running(lambda: model, max_rows=2) as engine, ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.reply, ask("a", "b", tokens=3))
        assert gate.reached.wait(WAIT_S)
        streams = [engine.stream(ask("c", tokens=2), heartbeat_s=0.01) for _ in range(2)]
        places = [next(stream).place for stream in streams]
        streams[0].close()
        moved_up = next(streams[1]).place
        gate.open()

        assert (places, moved_up) == ([1, 2], 1)
        assert list(streams[1])[-1].new_tokens == 2
        assert first.result(WAIT_S).new_tokens == 6


def test_request_of_more_rows_than_there_are_runs_alone(model: LoadedModel) -> None:
    with running(lambda: model, max_rows=2) as engine:
        assert engine.reply(ask("a", "b", "c", tokens=2)).new_tokens == 6


def test_time_limit_ends_an_answer(engine: Engine, gate: Gate) -> None:
    gate.hold_pass(3)
    request = replace(ask("Hello", tokens=500), time_limit_s=0.05)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(engine.reply, request)
        assert gate.reached.wait(WAIT_S)
        time.sleep(0.06)
        gate.open()

        assert reply.result(WAIT_S).finish_reasons == ("time",)
        assert reply.result(WAIT_S).new_tokens == 3


def test_full_memory_ends_the_longest_request_and_no_other(
    engine: Engine, model: LoadedModel
) -> None:
    """The fourth pass over two rows runs out of memory half way through the layers."""
    alone = engine.reply(ask("a", tokens=20))
    passes = 0

    def fail_once(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal passes
        is_of_both = args[0].shape[:2] == (2, 1)
        passes += is_of_both
        if is_of_both and passes == 4:
            raise torch.OutOfMemoryError("full")

    handle = model.model.model.layers[1].register_forward_pre_hook(fail_once)
    try:
        with ThreadPoolExecutor(2) as pool:
            long = pool.submit(engine.reply, ask("Hello there, this is long", tokens=400))
            while engine.load().running_rows < 1:
                time.sleep(0.001)
            short = pool.submit(engine.reply, ask("a", tokens=20))
            assert short.result(WAIT_S) == alone
            with pytest.raises(OutOfMemoryError, match="Write a shorter message"):
                long.result(WAIT_S)
    finally:
        handle.remove()
    assert passes == 4
    assert engine.reply(ask("a", tokens=20)) == alone


def test_row_that_cannot_be_freed_for_want_of_memory_does_not_end_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "_map_cache", fail)
        with ThreadPoolExecutor(2) as pool:
            replies = [pool.submit(engine.reply, ask("a", tokens=n)) for n in (3, 60)]
            outcomes = [reply.exception(WAIT_S) for reply in replies]

    assert any(outcomes) or engine.load().running_requests == 0
    assert engine.reply(ask("a", tokens=2)).new_tokens == 2


def test_small_requests_pass_one_that_needs_more_rows_than_are_free(
    model: LoadedModel, gate: Gate
) -> None:
    gate.hold_pass(2)
    with running(lambda: model, max_rows=2) as engine, ThreadPoolExecutor(3) as pool:
        first = pool.submit(engine.reply, ask("a", tokens=40))
        assert gate.reached.wait(WAIT_S)
        large = pool.submit(engine.reply, ask("b", "c", tokens=2))
        while engine.load().waiting < 1:
            time.sleep(0.001)
        small = pool.submit(engine.reply, ask("d", tokens=1))
        while engine.load().waiting < 2:
            time.sleep(0.001)
        gate.open()

        assert small.result(WAIT_S).new_tokens == 1
        assert first.result(WAIT_S).new_tokens == 40
        assert large.result(WAIT_S).new_tokens == 4
