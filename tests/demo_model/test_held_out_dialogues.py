"""Held-out dialogues: one language each, a right answer each, and nothing that training shows."""

import random

import pytest

from demo_model.dialogues import sample_dialogue
from demo_model.grammar.language_pack import LANGUAGE_CODES
from demo_model.grammar.parsing import iter_parses, normal_form
from demo_model.held_out_dialogues import held_out_dialogues


@pytest.fixture(scope="module")
def training_turns() -> set[tuple[str, str]]:
    """Normal forms of question and answer of many training turns."""
    rng = random.Random(3)
    turns = [t for _ in range(4000) for t in sample_dialogue(rng, other_prompts={})]
    return {(normal_form(turn.question), normal_form(turn.answer)) for turn in turns}


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_they_are_new_to_training_and_of_one_language(
    code: str, training_turns: set[tuple[str, str]]
) -> None:
    dialogues = held_out_dialogues(60, language=code)

    assert len(dialogues) > 50
    for question, answer in dialogues:
        assert (normal_form(question), normal_form(answer)) not in training_turns
        asked = [found for found in iter_parses(question, side="ask") if found.language == code]
        replies = [found for found in iter_parses(answer, side="reply") if found.language == code]
        assert any(reply.answers(ask) for reply in replies for ask in asked), question


def test_they_are_different_ones_that_depend_on_the_seed_alone() -> None:
    dialogues = held_out_dialogues(200, language="fr", seed=0)

    assert dialogues == held_out_dialogues(200, language="fr", seed=0)
    assert dialogues[:20] == held_out_dialogues(20, language="fr", seed=0)
    assert dialogues != held_out_dialogues(200, language="fr", seed=1)
    assert len(set(dialogues)) == len(dialogues)
