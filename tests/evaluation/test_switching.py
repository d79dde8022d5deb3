"""Conversations are answered turn by turn, each with its own plan and the replies before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from steering.conversation import Message
from steering.evaluation.forcing import Condition, ForcingOutcome, ForcingPrompt
from steering.evaluation.switching import SwitchingResult, run_switching
from steering.generation import generate_conversations
from steering.languages import LANGUAGES, Language
from steering.loading import LoadedModel
from steering.steering_plan import SteeringPlan
from steering.token_choice import Sampling
from tests.toy import make_random_plan

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
SHORT = Sampling(max_new_tokens=6)


def asked(text: str, target: Language) -> ForcingPrompt:
    return ForcingPrompt(text, f"{text} Answer.", EN, target)


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama")


def test_every_turn_reads_the_replies_before_it_and_has_its_own_plan(model: LoadedModel) -> None:
    plans = {FR: make_random_plan(1, "onset"), JA: make_random_plan(2, "onset")}
    first, second = asked("one", FR), asked("two", JA)

    result = run_switching(
        model,
        [[first, second], [asked("three", FR), asked("four", JA)]],
        Condition("x", lambda prompt: plans[prompt.target]),
        languages=(EN, FR, JA),
        sampling=SHORT,
        batch_rows=1,
    )

    def reply(plan: SteeringPlan, *texts: str) -> str:
        roles = ("user", "assistant", "user")
        messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]  # type: ignore[arg-type]  # literals
        return generate_conversations(model, [messages], plans=[plan], sampling=SHORT)[0]

    one = reply(plans[FR], "one")
    assert result.turns[0][0].reply == one
    assert result.turns[1][0].reply == reply(plans[JA], "one", one, "two")
    assert len(result.turns[1]) == 2
    assert result.switch_turn == 1


def outcome(is_forced: bool, *, target: Language = FR) -> ForcingOutcome:
    return ForcingOutcome(asked("?", target), "", None, is_forced=is_forced, is_right=is_forced)


def test_success_is_counted_per_turn_and_from_the_switch_on() -> None:
    turns = (
        (outcome(True), outcome(True)),
        (outcome(False), outcome(True)),
        (outcome(True), outcome(True)),
    )

    result = SwitchingResult("x", 1, turns)

    numbers = result.to_json()
    assert numbers["lfs_by_turn"] == [1.0, 0.5, 1.0]
    assert numbers["lfs_at_switch"] == 0.5
    assert numbers["lfs_after_switch"] == 0.75
    assert numbers["content_by_turn"] == [1.0, 0.5, 1.0]
    assert numbers["n"] == 2
