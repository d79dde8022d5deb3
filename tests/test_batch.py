"""Tests of rows that are answered together: whatever the others do, a row is as if alone.

Random batches are in float64, where rows of a batch and a row alone differ by rounding of the
sixteenth digit, so that no two tokens are ever equally likely by accident. The families are in
float32, as some cannot hide padding in float64 (transformers 5.23).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steering.answer import Answer
from steering.batch import Batch, answer_all
from steering.conversation import Message
from steering.generation import make_answers
from steering.hooks import count_hooks
from steering.languages import Language
from steering.loading import LoadedModel
from steering.methods import SteeringRequest, make_plan
from steering.steerer import steered
from steering.steering_plan import NO_STEERING, PHASES, SteeringPlan, TokenBias
from steering.token_choice import Sampling
from tests.asking import decode, greedy_by_hand
from tests.toy import FR, TOY_LANGUAGES, make_random_plan, make_toy_set

LoadTiny = Callable[..., LoadedModel]

PLANS = (
    NO_STEERING,
    make_random_plan(1, *PHASES),
    make_random_plan(2, "onset"),
    make_random_plan(3, "start", "body"),
    SteeringPlan({}, token_bias=TokenBias(FR, 3.0, torch.linspace(-4, 4, 300))),
)
METHODS = (
    "lape", "lape/gate/every", "diffmean", "redirect", "tokens@5",
    "lape@1+subspace/L0-1@1+subspace/L1/body@1+tokens@5",
)  # fmt: skip
TEXTS = ("Hello there", "a", "語", "What is this?", "0123456789" * 3)


@pytest.fixture
def double(load_tiny: LoadTiny) -> Iterator[LoadedModel]:
    model = load_tiny("llama")
    model.model.double()
    yield model
    model.model.float()  # other tests share it


def make_answer(
    model: LoadedModel,
    text: str = "Hello",
    *,
    plan: SteeringPlan = NO_STEERING,
    tokens: int = 12,
    temperature: float = 0.0,
    seed: int = 0,
) -> Answer:
    sampling = Sampling(tokens, temperature=temperature, seed=seed)
    conversation = (Message("user", text),)
    return make_answers(model, [conversation], plans=[plan], sampling=sampling)[0]


def text_alone(model: LoadedModel, answer: Answer) -> str:
    answer_all(model, [answer])
    return answer.view().text


class TakeBack:
    """A guard that has the end of an answer written again once, with another plan."""

    rewrites = ()
    settled = 0
    has_given_up = False

    def __init__(
        self, *, at: int, to: int, plan: SteeringPlan, first: SteeringPlan = NO_STEERING
    ) -> None:
        self.plan = first
        self._at, self._to, self._then = at, to, plan

    def is_due(self, _token: int, tokens: int) -> bool:
        return tokens == self._at

    def read(self, _text: str, tokens: int, *, is_over: bool, token_id: int) -> int | None:
        if tokens != self._at and not (is_over and self._at > 99):
            return None
        self._at, self.plan = -1, self._then
        return self._to


@dataclass(frozen=True)
class Row:
    """One request of a random batch: when it comes, what it wants, and when it is cancelled."""

    comes_at: int
    text: str
    plan: SteeringPlan
    temperature: float
    seed: int
    tokens: int
    cancelled_after: int | None
    taken_back: tuple[int, int] | None = None  # at so many tokens, to so many

    def make(self, model: LoadedModel) -> Answer:
        answer = make_answer(
            model,
            self.text,
            plan=self.plan,
            tokens=self.tokens,
            temperature=self.temperature,
            seed=self.seed,
        )
        if self.taken_back is not None:
            at, to = self.taken_back
            guard = TakeBack(at=at, to=min(to, at - 1), plan=PLANS[1], first=self.plan)
            answer._guard = guard  # type: ignore[assignment]  # scripted
        return answer


def plan_of(language: Language | None, strength: float, method: str) -> SteeringPlan:
    neurons = make_toy_set()
    return make_plan(neurons, SteeringRequest(language, method, strength, source=FR))


REQUESTS = st.builds(
    plan_of,
    language=st.sampled_from((*TOY_LANGUAGES, None)),
    strength=st.sampled_from((0.0, 0.3, 1.0, 2.5, 40.0)),
    method=st.sampled_from(METHODS),
)
ROWS = st.builds(
    Row,
    comes_at=st.integers(0, 9),
    text=st.sampled_from(TEXTS),
    plan=REQUESTS | st.sampled_from(PLANS),
    temperature=st.sampled_from((0.0, 0.0, 0.7, 2.0)),
    seed=st.integers(0, 3),
    tokens=st.integers(1, 12),
    cancelled_after=st.one_of(st.none(), st.integers(1, 6)),
    taken_back=st.one_of(st.none(), st.tuples(st.integers(1, 8), st.integers(0, 7))),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ROWS, min_size=1, max_size=7))
def test_rows_of_a_batch_are_as_if_alone(double: LoadedModel, rows: Sequence[Row]) -> None:
    """Whatever languages, methods and strengths they ask for, and whenever they come and go."""
    answers = [row.make(double) for row in rows]
    batch = Batch(double)
    for step in range(30):
        new = [a for a, row in zip(answers, rows, strict=True) if row.comes_at == step]
        if new:
            batch.add(new)
        for answer, row in zip(answers, rows, strict=True):
            if row.cancelled_after is not None and answer.view().tokens >= row.cancelled_after:
                answer.stop("stopped")
        batch.drop(lambda answer: answer.is_over)
        if batch.answers:
            batch.step()
            batch.drop(lambda answer: answer.is_over)
    batch.pause()

    assert count_hooks(double.model) == 0
    for row, answer in zip(rows, answers, strict=True):
        alone = row.make(double)
        answer_all(double, [alone])
        if answer.view().reason != "stopped":
            assert answer.choice.ids == alone.choice.ids
            assert answer.view() == alone.view()
        elif row.taken_back is None:
            ids = answer.choice.ids
            assert ids == alone.choice.ids[: len(ids)]
            assert answer.view().tokens == row.cancelled_after


def test_greedy_rows_of_every_family_are_those_of_decoding_by_hand(
    family: str, load_tiny: LoadTiny
) -> None:
    model = load_tiny(family)
    answers = [make_answer(model, text, tokens=6) for text in TEXTS]
    batch = Batch(model)

    batch.add(answers[:3])
    batch.step()
    batch.add(answers[3:])
    while batch.answers:
        batch.step()
        batch.drop(lambda answer: answer.is_over)

    for text, answer in zip(TEXTS, answers, strict=True):
        assert answer.view().text == decode(model, greedy_by_hand(model, text, tokens=6))


@pytest.mark.parametrize(("at", "to"), [(1, 0), (5, 0), (5, 3), (12, 11), (12, 4), (100, 2)])
def test_what_is_taken_back_is_as_if_never_written(
    at: int, to: int, family: str, load_tiny: LoadTiny
) -> None:
    """Of every family; the last case takes back at the end of the answer."""
    model = load_tiny(family)
    rows = [make_answer(model, text) for text in TEXTS[:3]]
    alone = [text_alone(model, make_answer(model, text)) for text in TEXTS[:3]]
    rows[1]._guard = TakeBack(at=at, to=to, plan=NO_STEERING)  # type: ignore[assignment]  # scripted

    answer_all(model, rows)

    assert [row.view().text for row in rows] == alone


def test_answer_written_again_from_its_beginning_is_steered_at_the_onset(
    double: LoadedModel,
) -> None:
    harder = make_random_plan(1, "onset", "start", "body")
    answer = make_answer(double)
    answer._guard = TakeBack(at=6, to=0, plan=harder)  # type: ignore[assignment]  # scripted

    answer_all(double, [answer])

    assert answer.view().text == text_alone(double, make_answer(double, plan=harder))
    assert answer.view().text != text_alone(double, make_answer(double))


@torch.no_grad()
def continue_by_hand(
    model: LoadedModel, ids: list[int], plan: SteeringPlan, *, tokens: int
) -> list[int]:
    """Greedy decoding without a cache, with the plan's onset at the last of *ids*."""
    ids, onset = list(ids), len(ids) - 1
    with steered(model.model, [plan]) as clock:
        clock.start_at(onset)
        for _ in range(tokens):
            logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("to", [1, 2, 5])
def test_passage_written_again_has_an_onset_of_its_own(to: int, double: LoadedModel) -> None:
    harder = make_random_plan(1, "onset", "start", "body")
    plain = make_answer(double, tokens=9)
    answer_all(double, [plain])
    answer = make_answer(double, tokens=9)
    answer._guard = TakeBack(at=6, to=to, plan=harder)  # type: ignore[assignment]  # scripted

    answer_all(double, [answer])

    kept = plain.choice.ids[: len(plain.prompt.token_ids) + to]
    assert answer.choice.ids == continue_by_hand(double, kept, harder, tokens=9 - to)
    assert answer.choice.ids != plain.choice.ids


def test_stop_text_ends_an_answer_and_is_not_in_it(double: LoadedModel) -> None:
    whole = text_alone(double, make_answer(double, tokens=30))
    stop = whole[5:8]
    answers = [make_answer(double, tokens=30), make_answer(double, tokens=30)]
    object.__setattr__(answers[0].sampling, "stop", (stop, "never said"))

    answer_all(double, answers)

    assert answers[0].view().text == whole[: whole.index(stop)]
    assert answers[0].view().reason == "end"
    assert answers[1].view().text == whole


def test_text_that_may_be_the_beginning_of_a_stop_text_is_not_settled(double: LoadedModel) -> None:
    answer = make_answer(double, tokens=30)
    object.__setattr__(answer.sampling, "stop", ("xyz",))
    batch = Batch(double)
    batch.add([answer])

    seen = []
    for text, settled in (("ab", 2), ("abx", 2), ("abxy", 2), ("abxyq", 5), ("xx", 1)):
        answer._ids[:] = double.tokenizer(text, add_special_tokens=False)["input_ids"]
        seen.append((answer.view().text, answer.view().settled, settled))

    assert all(found == expected for _, found, expected in seen), seen


def test_penalty_of_the_models_own_settings_counts_the_rows_own_tokens(
    double: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = text_alone(double, make_answer(double, tokens=20))
    monkeypatch.setattr(double.model.generation_config, "repetition_penalty", 3.0)
    answers = [make_answer(double, text, tokens=20) for text in TEXTS[:3]]

    answer_all(double, answers)

    for text, answer in zip(TEXTS, answers, strict=False):
        alone = make_answer(double, text, tokens=20)
        assert answer.view().text == text_alone(double, alone)
        written = answer.choice.ids[len(answer.prompt.token_ids) :]
        assert len(set(written)) > len(written) // 2
    assert text_alone(double, make_answer(double, tokens=20)) != plain
