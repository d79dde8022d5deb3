"""The grammar's files fit each other, and every sentence they make parses back."""

import random
import re

import pytest

from demo_model.grammar.language_pack import LANGUAGE_CODES, load_language_pack
from demo_model.grammar.parsing import Parse, iter_parses, normal_form, parse
from demo_model.grammar.world import load_world

WORLD = load_world()
SENTENCES_PER_WORDING = 3


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_language_has_every_frame_with_several_wordings(code: str) -> None:
    pack = load_language_pack(code)

    assert len(WORLD.frames) >= 40
    assert list(pack.ask) == list(WORLD.frames) == list(pack.reply)
    assert min(len(wordings) for wordings in pack.ask.values()) >= 5


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_language_has_a_word_for_every_value(code: str) -> None:
    words = load_language_pack(code).words
    written_as_they_are = {"digit", "few", "count", "name"}

    for category, values in WORLD.categories.items():
        if category not in written_as_they_are:
            assert tuple(words[category]) == values


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_questions_use_the_asked_slots_and_replies_known_ones(code: str) -> None:
    pack = load_language_pack(code)

    for name, frame in WORLD.frames.items():
        assert all(wording.slots == set(frame.ask) for wording in pack.ask[name])
        known = set(frame.ask) | set(frame.derive)
        assert all(wording.slots <= known for wording in pack.reply[name])


@pytest.mark.parametrize("side", ["ask", "reply"])
@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_every_wording_parses_back_to_its_language_and_frame_alone(code: str, side: str) -> None:
    pack, rng = load_language_pack(code), random.Random(7)
    wordings = pack.ask if side == "ask" else pack.reply

    for name, frame in WORLD.frames.items():
        combinations = list(WORLD.combinations(frame))
        for wording in wordings[name]:
            for slots in rng.sample(combinations, min(SENTENCES_PER_WORDING, len(combinations))):
                text = pack.render(frame, wording, slots)
                readings = list(iter_parses(text, side=side))
                assert {(r.language, r.frame) for r in readings} == {(code, name)}, text
                assert any(r.slots.items() <= slots.items() for r in readings), text


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_rendered_text_has_no_template_left_and_starts_with_a_capital(code: str) -> None:
    pack, rng = load_language_pack(code), random.Random(1)

    for name, frame in WORLD.frames.items():
        slots = rng.choice(list(WORLD.combinations(frame)))
        for wording in (*pack.ask[name], *pack.reply[name]):
            text = pack.render(frame, wording, slots)
            assert not re.search(r"[{}]|\s\s|^\s|\s$", text), text
            first = next(letter for letter in text if letter.isalnum())
            assert not first.islower(), text


@pytest.mark.parametrize(
    ("code", "frame", "slots", "expected"),
    [
        ("fr", "colour", {"thing": "sky"}, "Le ciel est bleu"),
        ("fr", "colour", {"thing": "snow"}, "La neige est blanche"),
        ("fr", "capital", {"country": "japan"}, "La capitale du Japon est Tokyo"),
        ("es", "colour", {"thing": "snow"}, "La nieve es blanca"),
        ("en", "story", {"animal": "elephant"}, "there was an elephant who"),
        ("en", "price", {"food": "apple"}, "The price of an apple is 1 euro."),
        ("ja", "order", {"n": "3", "food": "coffee"}, "3杯"),
        ("zh", "order", {"n": "3", "food": "coffee"}, "3杯咖啡"),
        ("id", "order", {"n": "3", "food": "apple"}, "3 buah apel"),
        ("vi", "order", {"n": "3", "food": "apple"}, "3 quả táo"),
    ],
)
def test_grammar_is_right(code: str, frame: str, slots: dict[str, str], expected: str) -> None:
    """Articles, agreement, contraction and counters, one example each."""
    pack, row = load_language_pack(code), WORLD.frames[frame]
    complete = WORLD.complete(row, slots)
    assert complete is not None

    texts = [pack.render(row, wording, complete) for wording in pack.reply[frame]]

    assert any(expected.casefold() in text.casefold() for text in texts), texts


@pytest.mark.parametrize(
    "text",
    ["", "...", "asdf", "The cat is is on the sofa.", "Le chat est", "Le neige est blanc."],
)
def test_text_outside_the_grammar_does_not_parse(text: str) -> None:
    assert parse(text, side="reply") is None


def test_case_punctuation_and_spacing_do_not_matter() -> None:
    found = parse("the cat is on the sofa it is sleeping", side="reply")

    assert found == Parse("en", "reply", "where_animal", {"animal": "cat", "place": "sofa"})


def test_a_false_reply_parses_but_does_not_answer() -> None:
    question = parse("Where is the cat?", side="ask")
    wrong = parse("The cat is in the garden. It is sleeping.")
    right_in_french = parse("Le chat est sur le canapé. Il dort.")
    assert question is not None
    assert wrong is not None

    assert not wrong.answers(question)
    assert right_in_french is None or right_in_french.answers(question)


def test_a_reply_in_another_language_answers_the_same_question() -> None:
    frame = WORLD.frames["capital"]
    slots = WORLD.complete(frame, {"country": "japan"})
    assert slots is not None
    question = parse("What is the capital of Japan?", side="ask")
    assert question is not None

    for code in LANGUAGE_CODES:
        pack = load_language_pack(code)
        reply = parse(pack.render(frame, pack.reply["capital"][0], slots))
        assert reply is not None
        assert reply.language == code
        assert reply.answers(question)


def test_questions_without_sense_are_not_made() -> None:
    frame = WORLD.frames["bigger"]

    assert WORLD.complete(frame, {"animal": "cat", "other": "cat"}) is None
    assert WORLD.complete(WORLD.frames["minus"], {"a": "2", "b": "5"}) is None


def test_normal_form_keeps_letters_and_plus() -> None:
    assert normal_form("  ¿Qué hora es? 2 + 3") == "quéhoraes2+3"
