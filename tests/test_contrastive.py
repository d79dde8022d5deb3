"""Dialogues made of nothing but the shipped prompts: answers in another language are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

import steering.contrastive
from steering.contrastive import MadeDialogues, make_dialogues
from steering.corpus_rows import Dialogue
from steering.generation import generate
from steering.languages import LANGUAGES
from steering.loading import LoadedModel

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
FRENCH, ENGLISH = "Il fait beau et je suis content aujourd'hui.", "I am happy that it is sunny."


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama")


def script(monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], str]) -> list[str]:
    """Let the model say what *answer* gives for the number of the prompt; return what is asked."""
    asked: list[str] = []

    def reply(_model: object, prompts: Sequence[str], **_: object) -> list[str]:
        asked.extend(prompts)
        return [answer(len(asked) - len(prompts) + i) for i in range(len(prompts))]

    monkeypatch.setattr(steering.contrastive, "generate", reply)
    return asked


def make(model: LoadedModel, limit: int) -> MadeDialogues:
    return make_dialogues(model, FR, languages=(EN, FR, JA), limit=limit)


def test_answers_in_another_language_are_left_out(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = script(monkeypatch, lambda i: FRENCH if i % 4 else ENGLISH)

    made = make(model, 20)

    assert (made.asked, made.on_target, made.warning) == (20, 15, "")
    assert made.dialogues == tuple(Dialogue(asked[i], FRENCH) for i in range(20) if i % 4)


def test_few_answers_on_target_are_said_and_none_keeps_them_all(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, lambda i: "" if i == 0 else FRENCH if i < 3 else ENGLISH)
    few = make(model, 20)
    script(monkeypatch, lambda i: "" if i == 0 else ENGLISH)
    none = make(model, 20)

    assert "only 2 of 20 answers were" in few.warning
    assert len(few.dialogues) == 2
    assert "all answers were kept all the same" in none.warning
    assert len(none.dialogues) == 19


def test_the_model_answers_the_instructed_prompt_unsteered(model: LoadedModel) -> None:
    steps: list[int] = []

    made = make_dialogues(
        model, JA, languages=(EN, FR), limit=3, max_new_tokens=5, progress=steps.append
    )

    assert sum(steps) == 3
    for dialogue in made.dialogues:
        assert dialogue.prompt.endswith(("Answer in Japanese.", "日本語で答えてください。"))
        assert dialogue.answer in generate(model, [dialogue.prompt])[0]
