"""Files of parallel prompts are read, or refused with the number of the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steering.errors import CorpusError
from steering.evaluation.parallel_prompts import holds_answer, read_parallel_prompts
from tests.toy import EN, FR, JA

GOOD = {
    "prompt": {"en": "Where is the cat?", "fr": "Où est le chat ?"},
    "answer": {"en": "On the sofa.", "fr": ["Sur le canapé.", "Au jardin."]},
}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "prompts.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_is_read_line_by_line_with_all_answers(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "", {**GOOD, "topic": "cats"})

    read = read_parallel_prompts(path)

    assert read.languages == (EN, FR)
    assert read.has_answers
    assert len(read.prompts) == 2
    assert read.prompts[1].texts == {EN: "Where is the cat?", FR: "Où est le chat ?"}
    assert read.prompts[1].answers == {EN: ("On the sofa.",), FR: ("Sur le canapé.", "Au jardin.")}


def test_prompts_without_answers_are_read_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": {"ja": "猫は？", "en": "And the cat?"}})

    read = read_parallel_prompts(path)

    assert read.languages == (JA, EN)
    assert not read.has_answers
    assert read.prompts[0].answers == {}


def test_a_byte_order_mark_and_a_region_of_a_language_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    row = json.dumps({"prompt": {"en-GB": "Hi", "FR": "Salut"}})
    path.write_text("\ufeff" + row + "\r\n", encoding="utf-8")

    assert read_parallel_prompts(path).languages == (EN, FR)


def test_languages_may_come_in_another_order_in_later_lines(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {"prompt": {"fr": "a", "en": "b"}, "answer": GOOD["answer"]})

    assert read_parallel_prompts(path).prompts[1].texts[EN] == "b"


WITH_JA = {one: dict.fromkeys(["en", "fr", "ja"], "x") for one in ("prompt", "answer")}
BAD = {
    "no JSON": ("{", "no JSON"),
    "deep": ("[" * 100_000, "no JSON"),
    "a list": (["en"], "no `prompt`"),
    "no prompt": ({"answer": GOOD["answer"]}, "no `prompt`"),
    "a text as prompt": ({"prompt": "hello"}, "no `prompt`"),
    "one language": ({"prompt": {"en": "hello"}}, "in '1' language, where two"),
    "no language": ({"prompt": {}}, "in '0' language"),
    "unknown code": ({"prompt": {"en": "a", "xx": "b"}}, "not known: Unknown language 'xx'"),
    "the list of codes goes on": ({"prompt": {"en": "a", "xx": "b"}}, ", .... Expected one object"),
    "near code": ({"prompt": {"en": "a", "jp": "b"}}, "Did you mean 'ja'"),
    "a language twice": ({"prompt": {"en": "a", "en-GB": "b"}}, "'en' twice"),
    "an empty prompt": ({"prompt": {"en": "a", "fr": "  "}}, "`prompt` in 'fr' is empty"),
    "a number as prompt": ({"prompt": {"en": "a", "fr": 3}}, "`prompt` in 'fr' is empty or no"),
    "half a pair": ('{"prompt": {"en": "a", "fr": "\\ud83d"}}', "surrogate"),
    "answers as an empty list": ({**GOOD, "answer": []}, "`answer` is no object"),
    "an empty text as answers": ({**GOOD, "answer": ""}, "`answer` is no object"),
    "false as answers": ({**GOOD, "answer": False}, "`answer` is no object"),
    "an answer as text": ({**GOOD, "answer": "sofa"}, "`answer` is no object"),
    "an answer missing": ({**GOOD, "answer": {"en": "a"}}, "`answer` lacks 'fr'"),
    "an empty answer": ({**GOOD, "answer": {"en": "a", "fr": ""}}, "`answer` in 'fr' is empty"),
    "an empty list": ({**GOOD, "answer": {"en": "a", "fr": []}}, "empty list"),
    "punctuation": ({**GOOD, "answer": {"en": "a", "fr": "?!"}}, "nothing but punctuation"),
    "unknown answer": ({**GOOD, "answer": {"en": "a", "fr": "b", "qq": "c"}}, "'qq'"),
    "a language missing": (
        {"prompt": {"en": "a", "ja": "b"}, "answer": {"en": "a", "ja": "b"}},
        "lacks 'fr', as line 1 has",
    ),
    "a language more": (WITH_JA, "has 'ja', as line 1 has not"),
    "no answer beside others": ({"prompt": GOOD["prompt"]}, "has no `answer`, line 1 has one"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "problem"), BAD.values(), ids=BAD)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, row: object, problem: str) -> None:
    path = write(tmp_path, GOOD, "", row)

    with pytest.raises(CorpusError) as refused:
        read_parallel_prompts(path)

    message = str(refused.value)
    assert f"{path}:3' is no prompt" in message
    assert problem in message
    assert "repair or remove the line." in message


def test_an_answer_where_the_first_line_has_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": GOOD["prompt"]}, GOOD)

    with pytest.raises(CorpusError, match=r":2' .*has `answer`, line 1 has none"):
        read_parallel_prompts(path)


@pytest.mark.parametrize("answer", ["", [], 0])
def test_an_empty_answer_of_another_kind_is_not_taken_for_none(
    tmp_path: Path, answer: object
) -> None:
    with pytest.raises(CorpusError, match="`answer` is no object"):
        read_parallel_prompts(write(tmp_path, {**GOOD, "answer": answer}))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)

    with pytest.raises(CorpusError, match="is empty"):
        read_parallel_prompts(path)


def test_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": {"fr": "O\xf9"}}')

    with pytest.raises(CorpusError, match=r":2' is not UTF-8"):
        read_parallel_prompts(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(CorpusError, match="Cannot read"):
            read_parallel_prompts(path)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It is Paris.", "Paris"),
        ("PARIS", "paris"),
        ("the cat has 4 legs", "4"),
        ("Cela fait 4.", "4"),
        ("それは4本です。", "4"),
        ("答えは東京です。", "東京"),
        ("L\u2019eau, c'est bon", "l'eau"),
        ("Il est sur le  canapé !", "sur le canape\u0301"),
        ("14 and 4", "4"),
        ("Sur le canapé. Il dort.", "Sur le canapé. Il dort."),
    ],
)
def test_a_reply_holds_an_answer_as_whole_words(reply: str, answer: str) -> None:
    assert holds_answer(reply, [answer])


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It is 14.", "4"),
        ("Parisian", "Paris"),
        ("comparison", "paris"),
        ("", "Paris"),
        ("Rome", "Paris"),
        ("Sur le canapé.", "Sur le canapé. Il dort."),
    ],
)
def test_a_part_of_a_word_or_number_is_no_answer(reply: str, answer: str) -> None:
    assert not holds_answer(reply, [answer])


def test_any_of_the_answers_will_do() -> None:
    assert holds_answer("in the garden", ["on the sofa", "in the garden"])
    assert not holds_answer("in the garden", [])
