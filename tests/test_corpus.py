"""Tests of corpora: what is read, and that whatever cannot be read is named."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from steering.corpus import (
    Corpus,
    Dialogue,
    chain_hash,
    iter_dialogues,
    iter_rows,
    iter_text,
    open_corpus,
)
from steering.errors import CorpusError
from steering.languages import Language
from tests.toy import EN, FR, JA

LANGUAGES = (FR, EN)
TEXTS = st.text(min_size=1).filter(str.strip)


def write_text(folder: Path, **contents: str | bytes) -> Path:
    return write(folder, ".txt", contents)


def write(folder: Path, suffix: str, contents: dict[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for code, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{code}{suffix}").write_bytes(data)
    return folder


def open_dialogues(folder: Path, lines: bytes) -> Corpus:
    other = json.dumps({"prompt": "a", "answer": "b"})
    return open_corpus(
        write(folder, ".jsonl", {"fr": lines, "en": other}), LANGUAGES, kind="dialogues"
    )


def test_corpus_has_its_folders_name_and_a_source_per_language(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "mine", fr="un\n", en="one\n", ja="一\n")

    corpus = open_corpus(folder, LANGUAGES, kind="text")

    assert corpus.name == "mine"
    assert list(corpus.sources) == [FR, EN]
    assert [source.label for source in corpus.sources.values()] == ["fr.txt", "en.txt"]


def test_name_is_that_of_the_folder_even_when_it_is_given_as_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_text(tmp_path / "mine", fr="un", en="one"))

    assert open_corpus(Path("."), LANGUAGES, kind="text").name == "mine"


def test_text_is_its_lines_without_blank_ones_and_surrounding_space(tmp_path: Path) -> None:
    content = "\ufeffun\r\n\n  deux \n\t\nligne\u2028une\x85encore\ntrois"

    corpus = open_corpus(write_text(tmp_path, fr=content, en="x"), LANGUAGES, kind="text")

    assert list(iter_text(corpus, FR)) == ["un", "deux", "ligne\u2028une\x85encore", "trois"]


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"No folder '.*nowhere'.*such as 'fr.txt'"):
        open_corpus(tmp_path / "nowhere", LANGUAGES, kind="text")


@pytest.mark.parametrize("languages", [(), (FR,), (FR, FR)])
def test_fewer_than_two_languages_are_refused(
    languages: tuple[Language, ...], tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="Expected at least two different ones"):
        open_corpus(write_text(tmp_path, fr="un"), languages, kind="text")


def test_language_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr,en,fr'. Expected each once"):
        open_corpus(write_text(tmp_path, fr="un", en="one"), (FR, EN, FR), kind="text")


def test_all_problems_of_all_files_are_named_at_once(tmp_path: Path) -> None:
    folder = write_text(tmp_path, fr=" \n\n\t", en="x".encode("utf-16"))

    with pytest.raises(CorpusError) as caught:
        open_corpus(folder, (FR, JA, EN), kind="text")

    assert "'fr.txt' is empty" in str(caught.value)
    assert "'ja.txt' is missing" in str(caught.value)
    assert "'en.txt' is not UTF-8 but UTF-16" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_file_without_text_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr\.txt' is empty"):
        open_corpus(write_text(tmp_path, fr=content, en="x"), LANGUAGES, kind="text")


def test_utf_16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr\.txt' is not UTF-8 but UTF-16"):
        open_corpus(
            write_text(tmp_path, fr="bonjour".encode("utf-16"), en="x"), LANGUAGES, kind="text"
        )


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, en="x")
    (tmp_path / "fr.txt").mkdir()

    with pytest.raises(CorpusError, match=r"'fr\.txt' is missing"):
        open_corpus(tmp_path, LANGUAGES, kind="text")


def test_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, os.strerror(13))

    write_text(tmp_path, fr="un", en="x")
    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(CorpusError, match=r"'fr\.txt' cannot be opened \(Permission denied\)"):
        open_corpus(tmp_path, LANGUAGES, kind="text")


def test_dialogues_are_read_line_by_line(tmp_path: Path) -> None:
    rows = [
        {"prompt": " Salut ?", "answer": "Oui.\nNon."},
        {"prompt": "日本", "answer": "é", "more": 1},
    ]
    lines = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)

    corpus = open_dialogues(tmp_path, b"\xef\xbb\xbf" + lines.encode())

    assert list(iter_dialogues(corpus, FR)) == [
        Dialogue(" Salut ?", "Oui.\nNon."),
        Dialogue("日本", "é"),
    ]
    assert list(iter_dialogues(corpus, EN)) == [Dialogue("a", "b")]


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_any_dialogue_that_json_can_hold_comes_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = "\n".join(json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in rows)

    corpus = open_dialogues(tmp_path_factory.mktemp("corpus"), lines.encode())

    assert [(one.prompt, one.answer) for one in iter_dialogues(corpus, FR)] == rows


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON"),
        (b"[]", "no object"),
        (b"3", "no object"),
        (b"null", "no object"),
        (b'"text"', "no object"),
        (b'{"prompt": "a"}', "`answer` is empty"),
        (b'{"prompt": "a", "answer": "b"} x', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"prompt": "", "answer": "b"}', "`prompt` is empty"),
        (b'{"prompt": "a", "answer": " \\n"}', "`answer` is empty"),
        (b'{"prompt": "a", "answer": 3}', "`answer` is empty or no text"),
        (b'{"prompt": null, "answer": "b"}', "`prompt` is empty or no text"),
        (b'{"prompt": "a", "answer": "\\ud83d"}', "surrogate"),
    ],
)
def test_line_that_is_no_dialogue_is_left_out_with_its_file_and_number(
    line: bytes, problem: str, tmp_path: Path
) -> None:
    good, warnings = b'{"prompt": "a", "answer": "b"}', list[str]()
    corpus = open_dialogues(tmp_path, good + b"\n\n" + line + b"\n" + good)

    rows = list(iter_rows(corpus, FR, warn=warnings.append))

    assert rows == [(1, Dialogue("a", "b")), (4, Dialogue("a", "b"))]
    assert len(warnings) == 1
    assert "fr.jsonl:3" in warnings[0]
    assert problem in warnings[0]


def test_a_file_that_is_not_utf_8_is_refused_as_a_whole(tmp_path: Path) -> None:
    corpus = open_corpus(
        write_text(tmp_path, fr=b"un\ncaf\xe9\ntrois\n", en="x"), LANGUAGES, kind="text"
    )

    with pytest.raises(CorpusError, match=r"'fr\.txt:2' is not UTF-8: 'caf\ufffd'\. .*iconv"):
        list(iter_rows(corpus, FR))


def test_dialogues_that_are_not_utf_8_are_refused_as_a_whole(tmp_path: Path) -> None:
    corpus = open_dialogues(tmp_path, b'{"prompt": "caf\xe9", "answer": "b"}')

    with pytest.raises(CorpusError, match=r"'fr\.jsonl:1' is not UTF-8"):
        list(iter_rows(corpus, FR))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_text_and_dialogues_come_out_composed(form: str, tmp_path: Path) -> None:
    word = unicodedata.normalize(form, "Tiếng Việt")
    text = open_corpus(write_text(tmp_path / "text", fr=word, en="x"), LANGUAGES, kind="text")
    row = json.dumps({"prompt": word, "answer": word}, ensure_ascii=False).encode()
    dialogues = open_dialogues(tmp_path / "dialogues", row)

    assert list(iter_text(text, FR)) == ["Tiếng Việt"]
    assert list(iter_dialogues(dialogues, FR)) == [Dialogue("Tiếng Việt", "Tiếng Việt")]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_text_comes_from_any_kind_of_file_and_goes_on_anywhere(suffix: str, tmp_path: Path) -> None:
    for code, texts in {"fr": ["un", "deux", "trois"], "en": ["one"]}.items():
        write_rows(tmp_path / f"{code}{suffix}", texts)
    corpus = open_corpus(tmp_path, LANGUAGES, kind="text")

    rows = list(iter_rows(corpus, FR))

    assert rows == [(1, "un"), (2, "deux"), (3, "trois")]
    assert list(iter_rows(corpus, FR, start=2)) == rows[2:]


def write_rows(path: Path, texts: list[str]) -> None:
    if path.suffix == ".parquet":
        Dataset.from_dict({"text": texts}).to_parquet(path)
        return
    rows = [json.dumps({"text": text}) for text in texts] if path.suffix == ".jsonl" else texts
    path.write_text("\n".join(rows), encoding="utf-8")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a folder laid out like a hub dataset with one configuration per language."""
    folder = tmp_path / "owner" / "wiki"
    configurations = []
    for code, texts in {"fr": ["un", "deux"], "en": ["one"]}.items():
        (folder / code).mkdir(parents=True)
        Dataset.from_dict({"body": texts}).to_parquet(folder / code / "train.parquet")
        configurations.append(f"- config_name: v1.{code}\n  data_files: {code}/*.parquet\n")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(configurations)}---\n")
    return folder


def test_dataset_has_a_configuration_per_language(dataset: Path) -> None:
    corpus = open_corpus(dataset, LANGUAGES, kind="text", configuration="v1.{code}", column="body")

    assert corpus.name == "wiki (v1.{code})"
    assert list(iter_text(corpus, FR)) == ["un", "deux"]
    assert list(iter_text(corpus, EN)) == ["one"]


def test_the_sign_that_models_write_for_half_a_character_is_text(tmp_path: Path) -> None:
    corpus = open_corpus(write_text(tmp_path, fr="un \ufffd", en="x"), LANGUAGES, kind="text")

    assert list(iter_text(corpus, FR)) == ["un \ufffd"]


def test_column_that_is_not_there_is_named_with_those_that_are(dataset: Path) -> None:
    corpus, warnings = (
        open_corpus(dataset, LANGUAGES, kind="text", configuration="v1.{code}"),
        list[str](),
    )

    assert list(iter_rows(corpus, EN, warn=warnings.append)) == []
    assert "has no `text`, only: body" in warnings[0]


def test_many_bad_rows_are_told_once_and_a_file_of_nothing_else_is_refused(tmp_path: Path) -> None:
    good, warnings = '{"prompt": "a", "answer": "b"}', list[str]()
    some_bad = open_dialogues(tmp_path, "\n".join([good, *["{}"] * 1500, good]).encode())

    assert len(list(iter_rows(some_bad, FR, warn=warnings.append))) == 2
    assert len(warnings) == 20
    assert warnings[-1].endswith("more of them are not told")

    (tmp_path / "fr.jsonl").write_text("{}\n" * 1500 + good)
    with pytest.raises(CorpusError, match="begins with 1001 rows that cannot be used"):
        list(iter_rows(some_bad, FR))


def test_dataset_that_changes_is_another_one(dataset: Path) -> None:
    def state() -> str:
        corpus = open_corpus(dataset, LANGUAGES, kind="text", configuration="v1.{code}")
        return corpus.sources[FR].state

    before = state()
    assert state() == before
    Dataset.from_dict({"body": ["autre"]}).to_parquet(dataset / "fr" / "train.parquet")

    assert state() != before


def test_configuration_that_is_not_there_is_refused(dataset: Path) -> None:
    corpus = open_corpus(dataset, LANGUAGES, kind="text", configuration="v2.{code}")

    with pytest.raises(CorpusError, match=r"Cannot read '.*v2\.fr' after 0 rows"):
        list(iter_text(corpus, FR))


def test_configuration_without_a_place_for_the_code_is_refused(dataset: Path) -> None:
    with pytest.raises(CorpusError, match=r"Expected '\{code\}' in it"):
        open_corpus(dataset, LANGUAGES, kind="text", configuration="v1.fr")


def test_hash_of_what_was_read_depends_on_every_row_and_their_order() -> None:
    def chained(*rows: str | Dialogue) -> bytes:
        digest = bytes(32)
        for row in rows:
            digest = chain_hash(digest, row)
        return digest

    rows = ("ab", "c", Dialogue("a", "b"))
    others = [("a", "bc", rows[2]), rows[::-1], rows[:2], ("ab", "c", Dialogue("b", "a"))]
    assert len({chained(*rows), *(chained(*other) for other in others)}) == 5


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Parce que."},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Rien."},
]
CONVERSATIONS = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Parce que."}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": MESSAGES},
        {"conversations": CONVERSATIONS},
        {"id": 1, "messages": MESSAGES},
        {"prompt": "Why?", "prompt_id": 1, "messages": MESSAGES},
        {"prompt": None, "messages": MESSAGES},
        {"messages": None, "conversations": CONVERSATIONS},
        {"prompt": "Why?", "answer": "Parce que.", "messages": MESSAGES[2:]},
    ],
)
def test_of_a_chat_the_first_question_and_its_answer_are_read(
    tmp_path: Path, row: dict[str, object]
) -> None:
    corpus = open_dialogues(tmp_path, json.dumps(row).encode())

    assert list(iter_dialogues(corpus, FR)) == [Dialogue("Why?", "Parce que.")]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_chats_are_read_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        for code in ("fr", "en"):
            Dataset.from_list([{"messages": MESSAGES}]).to_parquet(tmp_path / f"{code}.parquet")
    else:
        lines = json.dumps({"messages": MESSAGES})
        write(tmp_path, suffix, {"fr": lines, "en": lines})

    corpus = open_corpus(tmp_path, LANGUAGES, kind="dialogues")

    assert list(iter_dialogues(corpus, FR)) == [Dialogue("Why?", "Parce que.")]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "Why?",
        ["Why?", "Parce que."],
        MESSAGES[:2],
        MESSAGES[2:4],
        [{"role": "user", "content": "Why?"}, {"role": "tool", "content": "Parce que."}],
    ],
)
def test_a_chat_without_a_question_and_its_answer_is_left_out(
    tmp_path: Path, messages: object
) -> None:
    corpus = open_dialogues(tmp_path, json.dumps({"messages": messages}).encode())
    told: list[str] = []

    assert list(iter_rows(corpus, FR, warn=told.append)) == []
    assert "its `messages` have no user question" in told[0]


@pytest.mark.parametrize("content", ["", " ", None, 3])
def test_a_chat_whose_answer_is_no_text_is_left_out(tmp_path: Path, content: object) -> None:
    messages = [MESSAGES[1], {"role": "assistant", "content": content}]
    corpus = open_dialogues(tmp_path, json.dumps({"messages": messages}).encode())
    told: list[str] = []

    assert list(iter_rows(corpus, FR, warn=told.append)) == []
    assert "its `content` is empty or no text" in told[0]
