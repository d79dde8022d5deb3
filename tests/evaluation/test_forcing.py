"""Language forcing is counted as its definition says, on a real tiny model and on given replies."""

from collections.abc import Callable

import pytest

from steering.conversation import Message
from steering.evaluation.forcing import (
    Condition,
    ForcingPrompt,
    ForcingResult,
    judge_reply,
    run_forcing,
)
from steering.generation import generate_conversations
from steering.languages import LANGUAGES
from steering.loading import LoadedModel
from steering.steering_plan import NO_STEERING
from steering.token_choice import Sampling

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
FRENCH = "Le chat est sur le canapé. Il dort."
ENGLISH = "The cat is on the sofa. It is sleeping."


def prompt(target: object = FR, *, answer: str | None = FRENCH) -> ForcingPrompt:
    is_right = None if answer is None else lambda reply: reply == answer
    return ForcingPrompt("Where is the cat?", "Where is the cat? In French.", EN, target, is_right)  # type: ignore[arg-type]


def result(*replies: str, answer: str | None = FRENCH) -> ForcingResult:
    outcomes = [judge_reply(prompt(answer=answer), r, languages=(EN, FR, JA)) for r in replies]
    return ForcingResult("x", tuple(outcomes))


def test_reply_in_the_chosen_language_and_right_counts_for_both() -> None:
    both = result(FRENCH)

    assert both.lfs.rate == 1
    assert both.content is not None
    assert both.content.rate == 1


def test_reply_in_the_chosen_language_but_wrong_counts_for_the_language_alone() -> None:
    wrong = result("Le chien est dans le jardin. Il a l'air content.")

    assert wrong.lfs.rate == 1
    assert wrong.content is not None
    assert wrong.content.rate == 0


def test_right_text_in_another_language_counts_for_nothing() -> None:
    off = result(ENGLISH, answer=ENGLISH)

    assert off.lfs.rate == 0
    assert off.content is not None
    assert off.content.rate == 0


def test_without_a_check_content_is_unknown_not_zero() -> None:
    unknown = result(FRENCH, answer=None)

    assert unknown.content is None
    assert unknown.to_json()["content"] is None


def test_json_has_the_agreed_keys() -> None:
    numbers = result(FRENCH, ENGLISH).to_json()

    assert {"lfs", "content", "harmonic", "n", "lfs_interval", "by_language"} <= numbers.keys()
    assert numbers["lfs"] == 0.5
    assert numbers["by_language"] == {"fr": {"lfs": 0.5, "content": 0.5, "n": 2}}


def test_prompts_in_the_chosen_language_are_counted_apart() -> None:
    own = ForcingPrompt("Où est le chat ?", "", FR, FR, lambda reply: reply == FRENCH)
    outcomes = [judge_reply(one, FRENCH, languages=(EN, FR, JA)) for one in (own, prompt(JA))]

    numbers = ForcingResult("x", tuple(outcomes)).to_json()

    assert numbers["own_language"] == {"lfs": 1.0, "content": 1.0, "n": 1}


@pytest.mark.parametrize("batch_rows", [1, 2, 5])
def test_replies_are_those_of_the_model_whatever_the_batch(
    load_tiny: Callable[..., LoadedModel], batch_rows: int
) -> None:
    model = load_tiny("llama")
    prompts = [
        ForcingPrompt(text, text + " !", EN, target, None)
        for text, target in (("a", FR), ("bb", JA), ("ccc cc", EN))
    ]
    sampling = Sampling(max_new_tokens=6)

    for is_instructed in (False, True):
        condition = Condition("x", lambda _: NO_STEERING, is_instructed=is_instructed)
        got = run_forcing(
            model, prompts, condition, languages=(EN, FR, JA), sampling=sampling,
            batch_rows=batch_rows,
        )  # fmt: skip
        for outcome in got.outcomes:
            text = outcome.prompt.instructed_text if is_instructed else outcome.prompt.text
            alone = generate_conversations(
                model, [(Message("user", text),)], plans=[NO_STEERING], sampling=sampling
            )
            assert outcome.reply == alone[0]
