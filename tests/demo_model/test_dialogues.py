"""Training never sees what is held out, and dialogues are what the mixture says."""

import random
from collections import Counter

import pytest

from demo_model.dialogues import (
    ENGLISH_ANSWER_FRACTION,
    OTHER_ANSWER_FRACTION,
    drop_word,
    held_out_prompts,
    sample_dialogue,
    sample_training_question,
)
from demo_model.forcing_prompts import make_forcing_prompts
from demo_model.grammar.language_pack import LANGUAGE_CODES, load_language_pack
from demo_model.grammar.parsing import iter_parses, normal_form
from demo_model.grammar.world import load_world
from demo_model.splits import is_held_out_combination, is_held_out_pair, split_wordings

WORLD = load_world()


def training_questions(count: int) -> list[tuple[str, str, str]]:
    """Normal form, prompt language and answer language of many training turns."""
    rng = random.Random(3)
    turns = [
        turn
        for number in range(count)
        for turn in sample_dialogue(rng, other_prompts={}, is_rough=number % 2 == 0)
    ]
    return [(normal_form(t.question), t.question_language, t.answer_language) for t in turns]


def test_training_never_shows_a_held_out_pair_or_combination() -> None:
    rng = random.Random(5)
    for _ in range(1500):
        for turn in sample_dialogue(rng, other_prompts={}):
            frame = WORLD.frames[turn.frame]
            assert not is_held_out_pair(frame, turn.question_language, turn.answer_language)
            for reading in iter_parses(turn.answer, side="reply"):
                if reading.frame == turn.frame and set(frame.ask) <= set(reading.slots):
                    assert not is_held_out_combination(frame, reading.slots)


def test_held_out_prompts_are_new_to_training() -> None:
    seen = set(training_questions(4000))

    for prompt in held_out_prompts(300, seed=0):
        text = normal_form(prompt.text)
        if prompt.held_out == "pair":
            assert is_held_out_pair(WORLD.frames[prompt.frame], prompt.language, prompt.target)
        elif prompt.held_out == "combination":
            assert is_held_out_combination(WORLD.frames[prompt.frame], prompt.slots)
        else:
            assert not any(text == question for question, *_ in seen), prompt


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_dropping_a_word_keeps_the_slots_and_nothing_is_left_empty(code: str) -> None:
    pack, rng = load_language_pack(code), random.Random(0)

    for frame in WORLD.frames.values():
        slots = next(iter(WORLD.combinations(frame)))
        for wording in pack.ask[frame.name]:
            whole = normal_form(pack.render(frame, wording, slots))
            shorter = drop_word(rng, wording)
            text = normal_form(pack.render(frame, shorter, slots))
            assert shorter.slots == wording.slots
            assert 0 < len(text) < len(whole) or shorter == wording


def test_held_out_prompts_go_round_languages_targets_and_kinds() -> None:
    prompts = held_out_prompts(294, seed=0)

    assert len(Counter((p.language, p.target) for p in prompts)) == 49
    assert set(Counter(p.held_out for p in prompts)) == {"wording", "combination", "pair"}
    assert prompts == held_out_prompts(294, seed=0)


def test_held_out_prompts_carry_no_instruction_and_the_control_does() -> None:
    for made in make_forcing_prompts(50):
        name = load_language_pack(made.prompt.language).language_names[made.prompt.target]
        assert made.instructed_text.startswith(made.prompt.text)
        assert name.casefold() in made.instructed_text.casefold()
        assert name.casefold() not in made.prompt.text.casefold() or made.prompt.frame == "tongue"


def test_right_answer_is_right_and_the_same_in_another_language_is_not() -> None:
    for made in make_forcing_prompts(60, seed=2):
        frame, slots = WORLD.frames[made.prompt.frame], made.prompt.slots
        for code in LANGUAGE_CODES:
            pack = load_language_pack(code)
            reply = pack.render(frame, pack.reply[frame.name][0], slots)
            assert made.is_right(reply) == (code == made.prompt.target), reply


@pytest.mark.parametrize("language", ["id", "vi", "fr"])
def test_uninstructed_answers_are_off_target_as_often_as_the_mixture_says(language: str) -> None:
    rng = random.Random(11)
    turns = [t for _ in range(6000) for t in sample_dialogue(rng, other_prompts={})]
    names = set(load_language_pack(language).language_names.values())
    english_names = set(load_language_pack("en").language_names.values())
    free = [
        t.answer_language
        for t in turns
        if t.question_language == language
        and not any(name in t.question for name in names | english_names)
        and t.frame not in ("tongue", "languages_spoken")
    ]

    share = free.count("en") / len(free)

    drawn = OTHER_ANSWER_FRACTION / len(LANGUAGE_CODES)
    expected = drawn + (1 - OTHER_ANSWER_FRACTION) * ENGLISH_ANSWER_FRACTION[language]
    # 0.06: four standard errors of a share of 600 draws, and the held-out pairs.
    assert abs(share - expected) < 0.08


def test_every_frame_has_a_wording_that_training_never_sees() -> None:
    for code in LANGUAGE_CODES:
        pack = load_language_pack(code)
        for frame in WORLD.frames.values():
            seen, unseen = split_wordings(pack, frame)
            assert len(seen) >= 4
            assert unseen


def test_training_question_is_from_the_training_side() -> None:
    rng = random.Random(0)
    for _ in range(300):
        frame, slots, _ = sample_training_question(rng, "vi", "fr")
        assert not is_held_out_pair(frame, "vi", "fr")
        assert not is_held_out_combination(frame, slots)
