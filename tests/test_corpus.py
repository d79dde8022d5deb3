"""Tests of corpora: what is read, and that whatever cannot be read is named."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.corpus import Corpus, Dialogue, iter_dialogues, iter_text, open_corpus
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
        write(folder, ".jsonl", {"fr": lines, "en": other}), LANGUAGES, suffix=".jsonl"
    )


def test_corpus_has_its_folders_name_its_files_and_a_hash(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "mine", fr="un\n", en="one\n", ja="一\n")

    corpus = open_corpus(folder, LANGUAGES, suffix=".txt")

    assert corpus.name == "mine"
    assert corpus.files == {FR: folder / "fr.txt", EN: folder / "en.txt"}
    assert corpus.sha256 == hashlib.sha256(b"fr\nun\nen\none\n").hexdigest()


def test_name_is_that_of_the_folder_even_when_it_is_given_as_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_text(tmp_path / "mine", fr="un", en="one"))

    assert open_corpus(Path("."), LANGUAGES, suffix=".txt").name == "mine"


@pytest.mark.parametrize(
    ("languages", "fr"), [((EN, FR), "un"), ((FR, JA), "un"), ((FR, EN), "deux")]
)
def test_hash_depends_on_the_languages_their_order_and_every_byte(
    languages: tuple[Language, ...], fr: str, tmp_path: Path
) -> None:
    one = open_corpus(write_text(tmp_path / "a", fr="un", en="x"), LANGUAGES, suffix=".txt")

    other = open_corpus(write_text(tmp_path / "b", fr=fr, en="x", ja="x"), languages, suffix=".txt")

    assert one.sha256 != other.sha256


def test_text_is_its_lines_without_blank_ones_and_surrounding_space(tmp_path: Path) -> None:
    content = "\ufeffun\r\n\n  deux \n\t\nligne\u2028une\x85encore\ntrois"

    corpus = open_corpus(write_text(tmp_path, fr=content, en="x"), LANGUAGES, suffix=".txt")

    assert list(iter_text(corpus, FR)) == ["un", "deux", "ligne\u2028une\x85encore", "trois"]


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"No folder '.*nowhere'.*such as 'fr.txt'"):
        open_corpus(tmp_path / "nowhere", LANGUAGES, suffix=".txt")


@pytest.mark.parametrize("languages", [(), (FR,), (FR, FR)])
def test_fewer_than_two_languages_are_refused(
    languages: tuple[Language, ...], tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="Expected at least two different ones"):
        open_corpus(write_text(tmp_path, fr="un"), languages, suffix=".txt")


def test_language_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr,en,fr'. Expected each once"):
        open_corpus(write_text(tmp_path, fr="un", en="one"), (FR, EN, FR), suffix=".txt")


def test_all_problems_of_all_files_are_named_at_once(tmp_path: Path) -> None:
    folder = write_text(tmp_path, fr=" \n\n\t", en=b"good\n" * 9000 + b"caf\xe9\n")

    with pytest.raises(CorpusError) as caught:
        open_corpus(folder, (FR, JA, EN), suffix=".txt")

    assert "'fr.txt' is empty" in str(caught.value)
    assert "'ja.txt' is missing" in str(caught.value)
    assert "'en.txt' is not UTF-8 in line 9001" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_file_without_text_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr\.txt' is empty"):
        open_corpus(write_text(tmp_path, fr=content, en="x"), LANGUAGES, suffix=".txt")


def test_utf_16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'fr\.txt' is not UTF-8 in line 1"):
        open_corpus(
            write_text(tmp_path, fr="bonjour".encode("utf-16"), en="x"), LANGUAGES, suffix=".txt"
        )


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, en="x")
    (tmp_path / "fr.txt").mkdir()

    with pytest.raises(CorpusError, match=r"'fr\.txt' is missing"):
        open_corpus(tmp_path, LANGUAGES, suffix=".txt")


def test_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, os.strerror(13))

    write_text(tmp_path, fr="un", en="x")
    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(CorpusError, match=r"'fr\.txt' cannot be opened \(Permission denied\)"):
        open_corpus(tmp_path, LANGUAGES, suffix=".txt")


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
        (b"{", "not a dialogue"),
        (b"[]", "not a dialogue"),
        (b"3", "not a dialogue"),
        (b"null", "not a dialogue"),
        (b'"text"', "not a dialogue"),
        (b'{"prompt": "a"}', "not a dialogue .*answer"),
        (b'{"prompt": "a", "answer": "b"} x', "not a dialogue"),
        (b"[" * 100_000, "not a dialogue"),
        (b'{"prompt": "", "answer": "b"}', "an empty or non-text"),
        (b'{"prompt": "a", "answer": " \\n"}', "an empty or non-text"),
        (b'{"prompt": "a", "answer": 3}', "an empty or non-text"),
        (b'{"prompt": null, "answer": "b"}', "an empty or non-text"),
        (b'{"prompt": "a", "answer": "\\ud83d"}', "an empty or non-text"),
    ],
)
def test_line_that_is_no_dialogue_is_refused_with_its_file_and_number(
    line: bytes, problem: str, tmp_path: Path
) -> None:
    good = b'{"prompt": "a", "answer": "b"}'
    corpus = open_dialogues(tmp_path, good + b"\n\n" + line + b"\n" + good)

    with pytest.raises(CorpusError, match=rf"fr\.jsonl:3' .*{problem}"):
        list(iter_dialogues(corpus, FR))
