"""The everyday prompts as evaluation prompts: spread evenly, and never those a set is built on."""

from __future__ import annotations

from collections import Counter

from steering.evaluation.everyday import everyday_conversations, everyday_forcing_prompts
from steering.everyday_prompts import PROMPTS_TO_RECORD, PROMPTS_TO_TUNE, everyday_prompts
from steering.languages import LANGUAGES

EN, FR, JA, KA = (LANGUAGES[code] for code in ("en", "fr", "ja", "ka"))


def test_pairs_go_round_and_a_prompt_comes_once() -> None:
    prompts = everyday_forcing_prompts((EN, FR, JA), count=90)

    pairs = Counter((prompt.language, prompt.target) for prompt in prompts)
    assert len(pairs) == 9
    assert set(pairs.values()) == {10}
    assert len({(prompt.text, prompt.target) for prompt in prompts}) == 90


def test_measuring_and_tuning_and_recording_use_different_prompts() -> None:
    measured = {prompt.text for prompt in everyday_forcing_prompts((EN, FR), count=200)}
    tuned = {
        prompt.text
        for prompt in everyday_forcing_prompts((EN, FR), count=200, numbers=PROMPTS_TO_TUNE)
    }
    recorded = {everyday_prompts(one)[number] for one in (EN, FR) for number in PROMPTS_TO_RECORD}

    assert not measured & tuned
    assert not (measured | tuned) & recorded


def test_instruction_is_in_the_control_alone() -> None:
    (prompt,) = everyday_forcing_prompts((FR, JA), count=1)

    assert prompt.instructed_text == f"{prompt.text} Answer in French."


def test_target_without_prompts_of_its_own_is_asked_for_in_others() -> None:
    prompts = everyday_forcing_prompts((KA,), count=3)

    assert {prompt.target for prompt in prompts} == {KA}
    assert {prompt.language for prompt in prompts} == {EN}


def test_conversations_change_their_target_in_the_middle() -> None:
    for turns, first in ((2, 1), (5, 2)):
        for conversation in everyday_conversations((EN, FR, JA), count=6, turns=turns):
            targets = [prompt.target for prompt in conversation]
            assert len(set(targets[:first])) == len(set(targets[first:])) == 1
            assert targets[0] != targets[-1]
            assert len({prompt.text for prompt in conversation}) == turns
