"""Tests of a person's own prompts: the file that is picked, its refusals, and verdicts to keep."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import replace

import pytest

from steering.errors import CorpusError
from steering.languages import LANGUAGES
from steering.ui.asking import Chat, Wish
from steering.ui.results.live_check import Answered, run_check
from steering.ui.results.own_prompts import LIMIT_BYTES, MOST_PROMPTS, read_own_prompts
from steering.ui.results.verdicts import describe_settings, to_csv, to_json
from steering.ui.uploading import Upload, read_upload
from steering.ui.wording import Refusal

FR, JA = LANGUAGES["fr"], LANGUAGES["ja"]
TABLE = b"text,target,language\nWhere is the cat?,fr,en\nWho?,ja,en\n"


def tell(name: str, content: bytes | None, size: int | None = None) -> str:
    """What the browser tells of a file."""
    shown = None if content is None else base64.b64encode(content).decode()
    told = len(content or b"") if size is None else size
    return json.dumps({"name": name, "size": told, "content": shown})


def read(content: bytes, name: str = "p.csv") -> list[tuple[str, str]]:
    prompts = read_own_prompts(Upload(name, content), targets=[FR, JA]).prompts
    return [(prompt.text, prompt.target.code) for prompt in prompts]


def test_a_file_arrives_as_the_browser_read_it() -> None:
    assert read_upload(tell("p.csv", TABLE), limit_bytes=LIMIT_BYTES) == Upload("p.csv", TABLE)
    assert read_upload(tell("p.csv", b""), limit_bytes=LIMIT_BYTES) == Upload("p.csv", b"")


@pytest.mark.parametrize("told", [None, ""])
def test_nothing_picked_is_nothing(told: str | None) -> None:
    assert read_upload(told, limit_bytes=LIMIT_BYTES) is None


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("{broken", "could not be read"),
        ("[1]", "could not be read"),
        ("[" * 100_000, "could not be read"),
        ('{"name": "x", "size": 1}', "could not be read"),
        ('{"name": "x", "size": 1, "content": "no base64!"}', "could not be read"),
        (tell("x.csv", None), "The browser could not read 'x.csv'"),
        (tell("x.csv", None, 2_000_000), "'x.csv' has '2,000,000' bytes. Expected at most 1,000,"),
        (tell("x.csv", b"x" * 1_000_001, 5), "Expected at most 1,000,000"),
    ],
)
def test_what_is_no_file_of_that_size_is_refused(told: str, problem: str) -> None:
    with pytest.raises(Refusal, match=problem):
        read_upload(told, limit_bytes=LIMIT_BYTES)


def test_prompts_of_every_shape_are_read() -> None:
    expected = [("Where is the cat?", "fr"), ("Who?", "ja")]
    rows = [{"prompt": text, "target": target} for text, target in expected]

    assert read(TABLE) == expected
    assert read("\n".join(map(json.dumps, rows)).encode(), "p.jsonl") == expected
    assert read(b"Who?\n", "en.txt") == [("Who?", "fr"), ("Who?", "ja")]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", b"", "it is empty"),
        ("p.csv", b"\n \n", "it is empty"),
        ("p.csv", b"\x89PNG\r\n\x1a\n\x00\x00", "is no text"),
        ("p.csv", b"text,target\n\xff\xfe,fr\n", "'p.csv:2' is not UTF-8"),
        ("p.csv", b"a,b\n1,2\n", "is no file of prompts"),
        ("p.csv", b"text,target\nWho?\n", "1 cells for 2 columns"),
        ("p.csv", b"text,target\nWho is it?,xx\n", r"for an unknown language: 'xx' \(1\)"),
        ("p.csv", b"text,target\nWho is it?,de\n", r"one that cannot be chosen: 'de' \(1\)"),
        ("p.csv", b"text,target\n" + b"Who is it?,fr\n" * 201, "'201' prompts"),
        ("p.jsonl", b'{"prompt": "Who?"}\n', "it has no 'target'"),
        ("p.jsonl", b'{"prompt": "' + b"a" * 20_001 + b'", "target": "fr"}\n', "'20,001' char"),
        ("p.csv", b"text,target\n" + b"a" * 200_000 + b",fr\n", "field larger than"),
    ],
)
def test_a_wrong_file_is_refused_in_words(name: str, content: bytes, problem: str) -> None:
    with pytest.raises((CorpusError, Refusal), match=problem):
        read(content, name)


def test_as_many_prompts_as_may_be_are_read() -> None:
    assert len(read(b"text,target\n" + b"Who is it?,fr\n" * MOST_PROMPTS)) == MOST_PROMPTS


@pytest.fixture
def answered(chat: Chat) -> tuple[Answered, ...]:
    prompts = read_own_prompts(Upload("p.csv", TABLE), targets=[FR, JA]).prompts
    return list(run_check(chat, prompts, Wish(None)))[-1].answered


def test_verdicts_as_a_table_can_be_read_again_as_prompts(answered: tuple[Answered, ...]) -> None:
    table = to_csv(answered)
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))

    assert table.startswith("\ufeff")
    assert rows[0]["unsteered_verdict"] == "off_target"
    assert rows[0]["unsteered_language"] == "en"
    assert rows[0]["steered_verdict"] == "on_target"
    assert rows[0]["steered_reply"].startswith("Le chat dort")
    assert read(table.encode()) == [("Where is the cat?", "fr"), ("Who?", "ja")]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t"])
def test_a_reply_is_no_formula_of_a_spreadsheet(answered: tuple[Answered, ...], begin: str) -> None:
    one = answered[0]
    evil = replace(one, steered=replace(one.steered, reply=f"{begin}HYPERLINK(1)"))

    (row,) = csv.DictReader(io.StringIO(to_csv([evil]).removeprefix("\ufeff")))

    assert row["steered_reply"] == f"'{begin}HYPERLINK(1)"
    assert json.loads(to_json([evil], {}))["verdicts"][0]["steered_reply"][0] == begin


def test_verdicts_as_json_say_what_they_were_made_with(
    answered: tuple[Answered, ...], chat: Chat
) -> None:
    wish = Wish(None, "strong", seed=5)

    kept = json.loads(to_json(answered, describe_settings(chat, "org/x", wish)))

    assert len(kept["verdicts"]) == 2
    made_with = kept["made_with"]
    assert (made_with["model"], made_with["steering"], made_with["seed"]) == ("org/x", "strong", 5)
    assert len(made_with["neuron_set_sha256"]) == 64
    assert made_with["method"]
