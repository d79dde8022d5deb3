"""Held-out texts: one language each, a right answer each, and nothing that training shows."""

import random

import pytest

from demo_model.dialogues import sample_dialogue
from demo_model.grammar.language_pack import LANGUAGE_CODES
from demo_model.grammar.parsing import iter_parses, normal_form
from demo_model.held_out_text import held_out_texts


@pytest.fixture(scope="module")
def training_turns() -> set[str]:
    """Normal forms of question and answer of many training turns without instruction."""
    rng = random.Random(3)
    turns = [t for _ in range(4000) for t in sample_dialogue(rng, other_prompts={})]
    return {normal_form(f"{turn.question} {turn.answer}") for turn in turns}


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_texts_are_new_to_training_and_of_one_language(code: str, training_turns: set[str]) -> None:
    texts = held_out_texts(60, language=code)

    assert len(texts) > 50
    assert not any(normal_form(text) in training_turns for text in texts)
    for text in texts:
        cuts = [place for place, sign in enumerate(text) if sign == " "]
        readings = [reading for cut in cuts for reading in iter_parses(text[cut:], side="reply")]
        assert any(reading.language == code for reading in readings), text


def test_texts_are_different_ones_that_depend_on_the_seed_alone() -> None:
    texts = held_out_texts(200, language="fr", seed=0)

    assert texts == held_out_texts(200, language="fr", seed=0)
    assert texts[:20] == held_out_texts(20, language="fr", seed=0)
    assert texts != held_out_texts(200, language="fr", seed=1)
    assert len(set(texts)) == len(texts)
