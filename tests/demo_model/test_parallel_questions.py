"""The parallel questions say the same in every language, and their answers are right."""

import json

import pytest

from demo_model.grammar.language_pack import LANGUAGE_CODES
from demo_model.grammar.parsing import Parse, iter_parses
from demo_model.grammar.world import load_world
from demo_model.parallel_questions import QUESTIONS_FILE, iter_questions, render_questions
from steering.evaluation.parallel_prompts import holds_answer, read_parallel_prompts

ROWS = [json.loads(line) for line in QUESTIONS_FILE.read_text(encoding="utf-8").splitlines()]


def test_the_file_is_what_the_grammar_makes() -> None:
    assert QUESTIONS_FILE.read_text(encoding="utf-8") == render_questions(), (
        "stale: run `python -m demo_model.parallel_questions`"
    )


def test_it_is_read_with_seven_languages_and_answers_to_everything() -> None:
    read = read_parallel_prompts(QUESTIONS_FILE)

    assert tuple(map(str, read.languages)) == LANGUAGE_CODES
    assert read.has_answers
    assert len(read.prompts) >= 100
    topics = [row["topic"] for row in ROWS]
    assert len(set(topics)) == len(load_world().frames) - 1  # all but what it does not know
    assert len(set(topics[:50])) == 50  # the first questions alone are of many topics
    assert len({json.dumps(row["prompt"]) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("code", LANGUAGE_CODES)
def test_questions_and_answers_are_read_by_the_grammar_as_what_they_are_meant_to_be(
    code: str,
) -> None:
    for row in iter_questions():
        topic, asked = str(row["topic"]), dict(row["asked"])  # type: ignore[call-overload]
        question = Parse(code, "ask", topic, asked)
        prompt, answers = row["prompt"][code], row["answer"][code]  # type: ignore[index]
        readings = list(iter_parses(prompt, side="ask"))
        assert any(
            one.language == code and one.frame == topic and one.slots == asked for one in readings
        ), prompt
        for answer in answers:
            assert any(
                found.language == code and found.answers(question)
                for found in iter_parses(answer, side="reply")
            ), answer
            assert holds_answer(answer, answers)


def test_an_answer_to_another_question_of_the_topic_is_wrong() -> None:
    by_topic: dict[str, list[dict[str, dict[str, list[str]]]]] = {}
    for row in ROWS:
        by_topic.setdefault(row["topic"], []).append(row)
    capitals = by_topic["capital"]

    for code in LANGUAGE_CODES:
        assert not holds_answer(capitals[0]["answer"][code][0], capitals[1]["answer"][code])
