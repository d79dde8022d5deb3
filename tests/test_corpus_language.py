"""A corpus in other languages than its files say is refused; a right one never is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steering.corpus import Corpus, open_corpus
from steering.corpus_language import check_corpus_languages
from steering.errors import CorpusError
from steering.languages import LANGUAGES
from tests.texts import TEXTS

PAIR = (LANGUAGES["en"], LANGUAGES["fr"])


def corpus_of(folder: Path, **lines: list[str]) -> Corpus:
    for code, own in lines.items():
        (folder / f"{code}.txt").write_text("\n".join(own), encoding="utf-8")
    return open_corpus(folder, [LANGUAGES[code] for code in lines], kind="text")


def many(code: str, count: int = 100) -> list[str]:
    return [TEXTS[code][number % len(TEXTS[code])] for number in range(count)]


@pytest.mark.parametrize("code", sorted(set(TEXTS) - {"en"}))
def test_text_in_its_language_passes(code: str, tmp_path: Path) -> None:
    check_corpus_languages(corpus_of(tmp_path, en=many("en"), **{code: many(code)}))


def test_english_in_the_french_file_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, en=many("en"), fr=many("en"))

    with pytest.raises(CorpusError, match=r"'fr\.txt' is 100% .* mostly English\. .*any-language"):
        check_corpus_languages(corpus)


@pytest.mark.parametrize(("share", "is_refused"), [(0.02, False), (0.2, True)])
def test_a_few_percent_of_other_lines_are_too_many(
    share: float, is_refused: bool, tmp_path: Path
) -> None:
    others = round(100 * share)
    corpus = corpus_of(tmp_path, en=many("en"), fr=many("fr", 100 - others) + many("es", others))

    if is_refused:
        with pytest.raises(CorpusError, match=r"'fr\.txt' .* mostly Spanish"):
            check_corpus_languages(corpus)
    else:
        check_corpus_languages(corpus)


def test_every_wrong_file_is_named_at_once(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, en=many("fr"), fr=many("en"))

    with pytest.raises(CorpusError, match=r"'en\.txt' is .* French; 'fr\.txt' is .* English"):
        check_corpus_languages(corpus)


def test_a_file_in_another_script_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, en=many("en"), ja=many("ko"))

    with pytest.raises(CorpusError, match=r"'ja\.txt' is 100% .* Korean"):
        check_corpus_languages(corpus)


def test_of_dialogues_the_answers_count(tmp_path: Path) -> None:
    for code, asked, answered in (("en", "fr", "en"), ("fr", "en", "fr")):
        rows = zip(many(asked), many(answered), strict=True)
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in rows]
        (tmp_path / f"{code}.jsonl").write_text("\n".join(lines), encoding="utf-8")

    check_corpus_languages(open_corpus(tmp_path, PAIR, kind="dialogues"))


def test_short_lines_and_few_lines_say_nothing(tmp_path: Path) -> None:
    check_corpus_languages(corpus_of(tmp_path, en=["OK", "Yes!"] * 50, fr=many("en", 5)))
