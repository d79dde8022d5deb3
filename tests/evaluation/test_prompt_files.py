"""Prompt files: each format is recognised, read as it is, and refused by line."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from steering.errors import CorpusError
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.prompt_files import parse_prompts, read_prompts, sample_evenly
from steering.languages import LANGUAGES

DE, EN, FR, JA = (LANGUAGES[code] for code in ("de", "en", "fr", "ja"))
OURS = {"prompt": "Where do owls sleep?", "language": "en", "target": "fr"}
MONOLINGUAL = "prompt,source,language\n"
CROSSLINGUAL = "prompt,location,phrasing,language,source\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_own_format_is_read_with_and_without_an_instruction(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", lines(OURS, OURS | {"instructed": "En français : owls?"}))

    read = read_prompts(path, targets=[FR])

    assert read.format == "jsonl"
    assert read.notes == ()
    assert read.prompts == (
        ForcingPrompt(OURS["prompt"], "Where do owls sleep? Answer in French.", EN, FR),
        ForcingPrompt(OURS["prompt"], "En français : owls?", EN, FR),
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_the_kind_of_line_end_do_not_matter(
    tmp_path: Path, mark: str, end: str
) -> None:
    ours = write(tmp_path / "p.jsonl", mark + (lines(OURS) + "\n" + lines(OURS)).replace("\n", end))
    clas = write(tmp_path / "fr.txt", mark + f"Où dort le hibou ?{end}{end}Qui chante ?{end}")
    lcb = write(tmp_path / "lcb.csv", mark + f"prompt,source,language{end}Où ?,mine,fr{end}")

    assert [len(read_prompts(p, targets=[FR]).prompts) for p in (ours, clas, lcb)] == [2, 2, 1]
    assert read_prompts(lcb, targets=[FR]).prompts[0].text == "Où ?"


def test_a_line_separator_within_a_prompt_does_not_end_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", lines(OURS | {"prompt": "One\u2028two\x85three"}))

    assert read_prompts(path, targets=[FR]).prompts[0].text == "One\u2028two\x85three"


def test_questions_of_clas_bench_are_asked_with_every_target_also_their_own(
    tmp_path: Path,
) -> None:
    write(tmp_path / "fr.txt", " Qui chante le matin ? \n")
    write(tmp_path / "de.txt", "Wer singt am Morgen?\nUnd abends?\n")
    write(tmp_path / "._de.txt", b"\x00\xff")  # what a Mac leaves beside a file

    read = read_prompts(tmp_path, targets=[FR, JA, FR])

    assert read.format == "clas-bench"
    assert [(p.text, p.language, p.target) for p in read.prompts] == [
        ("Wer singt am Morgen?", DE, FR),
        ("Wer singt am Morgen?", DE, JA),
        ("Und abends?", DE, FR),
        ("Und abends?", DE, JA),
        ("Qui chante le matin ?", FR, FR),
        ("Qui chante le matin ?", FR, JA),
    ]
    assert read.prompts[1].instructed_text == "Wer singt am Morgen? Answer in Japanese."
    assert read.prompts[1].is_right is None


def test_one_file_of_clas_bench_has_its_language_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "ja.txt", "誰が歌いますか。\n")

    assert read_prompts(path, targets=[EN]).prompts[0].language == JA


def test_of_clas_bench_no_more_is_asked_than_the_benchmark_asks(tmp_path: Path) -> None:
    write(tmp_path / "fr.txt", "".join(f"Question {n} ?\n" for n in range(73)))

    read = read_prompts(tmp_path, targets=[EN])

    assert [read.prompts[0].text, read.prompts[-1].text] == ["Question 0 ?", "Question 69 ?"]
    assert read.notes == ("Left out, beyond the first 70 of a language: 'fr' (3); 3 in all.",)


def test_monolingual_rows_of_lcb_want_their_own_language(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", MONOLINGUAL + '"Écris une liste :\nun, ""deux"".\n",mine,fr\n')

    read = read_prompts(path, targets=[FR])

    assert read.format == "lcb"
    text = 'Écris une liste :\nun, "deux".'
    asked = ForcingPrompt(text, f"{text} Answer in French.", FR, FR, source="mine")
    assert read.prompts == (asked,)
    assert read.notes == ()


def test_crosslingual_rows_of_lcb_are_english_and_ask_for_the_language_themselves(
    tmp_path: Path,
) -> None:
    row = "Use French. Name a bird.,Start,use {language_requested},fr,mine\n"

    read = read_prompts(write(tmp_path / "fr.csv", CROSSLINGUAL + row), targets=[FR])

    text = "Use French. Name a bird."
    assert read.prompts == (ForcingPrompt(text, text, EN, FR, source="mine"),)
    assert read.notes == (
        "Prompts that already ask for the language, with no instruction added: 1.",
    )


def test_folders_of_lcb_are_read_whatever_their_depth(tmp_path: Path) -> None:
    write(tmp_path / "monolingual" / "mine" / "fr.csv", MONOLINGUAL + "Qui ?,mine,fr\n")
    write(tmp_path / "crosslingual" / "mine" / "de.csv", CROSSLINGUAL + "Hi in German,,,de,mine\n")

    read = read_prompts(tmp_path, targets=[DE, FR])

    assert [(p.language, p.target) for p in read.prompts] == [(EN, DE), (FR, FR)]


def test_what_cannot_be_asked_is_left_out_and_counted(tmp_path: Path) -> None:
    unknown = [OURS | {"language": code} for code in ("ur", "af", "ur")]
    rows = [OURS, *unknown, OURS | {"target": "tl"}, OURS | {"target": "ja"}]

    read = read_prompts(write(tmp_path / "p.jsonl", lines(*rows)), targets=[FR])

    assert len(read.prompts) == 1
    assert read.notes == (
        "Left out, in an unknown language: 'af' (1), 'ur' (2); 3 in all.",
        "Left out, for an unknown language: 'tl' (1); 1 in all.",
        "Left out, for one that cannot be chosen: 'ja' (1); 1 in all.",
    )


def test_languages_of_clas_bench_that_are_unknown_are_left_out_by_question(tmp_path: Path) -> None:
    write(tmp_path / "fr.txt", "Qui ?\n")
    write(tmp_path / "af.txt", "Wie?\nWat?\n")

    read = read_prompts(tmp_path, targets=[FR, EN])

    assert [p.target for p in read.prompts] == [FR, EN]
    assert read.notes == ("Left out, in an unknown language: 'af' (2); 2 in all.",)


def test_no_more_than_eight_unknown_languages_are_listed(tmp_path: Path) -> None:
    rows = [OURS | {"language": f"q{letter}"} for letter in "abcdefghi"]

    (note,) = read_prompts(write(tmp_path / "p.jsonl", lines(OURS, *rows)), targets=[FR]).notes

    assert note.endswith("'qh' (1), ...; 9 in all.")


def test_a_file_of_which_nothing_can_be_asked_is_refused_with_the_reasons(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", lines(OURS | {"target": "jp"}))

    with pytest.raises(
        CorpusError, match=r"for an unknown language: 'jp' \(1\).*chosen \(fr, de\)"
    ):
        read_prompts(path, targets=[FR, DE])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.jsonl", lines(OURS) + "{broken\n", "it is no JSON from character 2 on"),
        ("p.jsonl", lines(OURS) + '["a"]\n', "it is no object in "),
        ("p.jsonl", lines(OURS) + lines({"prompt": "a", "language": "en"}), "it has no 'target'"),
        ("p.jsonl", lines(OURS) + lines(OURS | {"prompt": "  "}), "empty or non-text"),
        ("p.jsonl", lines(OURS) + lines(OURS | {"target": 3}), "empty or non-text"),
        ("p.jsonl", lines(OURS) + lines(OURS | {"instructed": ""}), "empty or non-text"),
        (
            "p.jsonl",
            lines(OURS) + '{"prompt": "\\ud83d", "language": "en", "target": "fr"}',
            "non-",
        ),
        ("p.jsonl", lines(OURS) + "[" * 100_000, "cannot be read as JSON|is no JSON"),
        ("p.jsonl", lines(OURS) + "9" * 100_000, "cannot be read as JSON"),
        ("fr.txt", b"Qui ?\n\xff\n", "is not UTF-8"),
        ("p.csv", MONOLINGUAL + "Qui ?,mine\n", "2 cells for 3 columns"),
        ("p.csv", MONOLINGUAL + " ,mine,fr\n", "empty `prompt` or `language`"),
        ("p.csv", MONOLINGUAL + "Qui ?,mine,\n", "empty `prompt` or `language`"),
        ("p.csv", MONOLINGUAL + '"Qui ?,mine,fr\n', "unexpected end of data"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, name: str, content: str | bytes, problem: str) -> None:
    path = write(tmp_path / name, content)

    with pytest.raises(CorpusError, match=rf"{path}:2' .*({problem})"):
        read_prompts(path, targets=[FR])


def test_a_bad_row_of_csv_is_named_by_its_own_line_behind_longer_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", MONOLINGUAL + '"a\nb\nc",mine,fr\n\nonly one cell\n')

    with pytest.raises(CorpusError, match=r"p\.csv:6' is not a prompt \(1 cells"):
        read_prompts(path, targets=[FR])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", ""),
        ("p.json", "[]"),
        ("notes.txt", "Qui ?\n"),
        ("fr.txt", "\n"),
        ("p.csv", "model,completion,task,source,language\nx,y,z,mine,fr\n"),
        ("p.csv", "prompt,language,target\nWho?,en,fr\n"),
        ("p.bin", "\x00" * 200_000),
    ],
)
def test_other_files_are_refused_with_the_formats(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content)

    with pytest.raises(CorpusError, match=r"is no file of prompts.*CLaS-Bench.*Confusion"):
        read_prompts(path, targets=[FR])


def test_a_folder_of_both_or_of_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"0 \.txt, 0 \.csv and 0 mgsm"):
        read_prompts(tmp_path, targets=[FR])

    write(tmp_path / "fr.txt", "Qui ?\n")
    write(tmp_path / "deep" / "fr.csv", MONOLINGUAL + "Qui ?,mine,fr\n")

    with pytest.raises(CorpusError, match=r"1 \.txt, 1 \.csv"):
        read_prompts(tmp_path, targets=[FR])


def test_a_table_without_the_columns_is_named_among_others(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", MONOLINGUAL + "Qui ?,mine,fr\n")
    write(tmp_path / "b.csv", "source,language\nmine,fr\n")

    with pytest.raises(CorpusError, match=r"b\.csv' has no column `prompt`"):
        read_prompts(tmp_path, targets=[FR])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"Cannot read '.*none\.jsonl' \(No such file"):
        read_prompts(tmp_path / "none.jsonl", targets=[FR])


def table(*rows: tuple[str, ...], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_plain_table_is_read_whatever_its_columns_are_divided_by(
    tmp_path: Path, delimiter: str
) -> None:
    text = 'Where, oh; where\tare\n"they"?'
    content = table(
        ("Target", " Text", "note", "language"), ("fr", text, "x", "en"), ("ja", "Who?", "", "en"),
        delimiter=delimiter,
    )  # fmt: skip

    read = read_prompts(write(tmp_path / "p.csv", content), targets=[FR, JA])

    assert read.format == "csv"
    assert [(p.text, p.language, p.target) for p in read.prompts] == [
        (text, EN, FR),
        ("Who?", EN, JA),
    ]
    assert read.notes == ()


def test_a_language_that_a_file_does_not_name_is_guessed_and_that_is_said(tmp_path: Path) -> None:
    texts = ("Où est le chat de la voisine ?", "犬は何を食べますか。")
    plain = write(tmp_path / "p.csv", table(("text", "target"), *((text, "en") for text in texts)))
    rows = [{"prompt": text, "target": "en"} for text in texts]

    for path in (plain, write(tmp_path / "p.jsonl", lines(*rows))):
        read = read_prompts(path, targets=[EN])

        assert [p.language for p in read.prompts] == [FR, JA]
        assert read.notes == ("In a language that was guessed, as the file does not name it: 2.",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (table(("text", "target"), ("Who?",)), "1 cells for 2 columns"),
        (table(("text", "target"), ("", "fr")), "an empty `text` or `target`"),
        (table(("text", "target"), ("Who?", " ")), "an empty `text` or `target`"),
        ('text,target\n"Who?,fr\n', "unexpected end of data"),
    ],
)
def test_a_bad_row_of_a_plain_table_is_named(tmp_path: Path, content: str, problem: str) -> None:
    path = write(tmp_path / "p.csv", content)

    with pytest.raises(CorpusError, match=rf"{path}:2' is not a prompt \({problem}"):
        read_prompts(path, targets=[FR])


def test_a_quotation_mark_in_the_names_of_the_columns_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", 'text,"target\nWho?,fr"\n')

    with pytest.raises(CorpusError, match="names of the columns go on"):
        read_prompts(path, targets=[FR])


def test_content_without_a_file_is_read_the_same_and_called_by_its_name() -> None:
    assert len(parse_prompts(lines(OURS).encode(), name="p.jsonl", targets=[FR]).prompts) == 1
    with pytest.raises(CorpusError, match=r"^'p\.csv:2' is not UTF-8"):
        parse_prompts(b"text,target\n\xff,fr\n", name="p.csv", targets=[FR])


def multiq(tmp_path: Path) -> Path:
    rows = ["id,language,prompt,domain", "q1,en,Who is it?,x", "q1,fr,Qui est-ce ?,x",
            "q2,ja,誰ですか,x", '"q3",xx,?,x']  # fmt: skip
    return write(tmp_path / "multiq.csv", "\n".join(rows) + "\n")


def test_multiq_asks_every_prompt_for_every_other_target(tmp_path: Path) -> None:
    read = read_prompts(multiq(tmp_path), targets=[FR, JA])

    assert read.format == "multiq"
    pairs = [(EN, FR), (EN, JA), (FR, JA), (JA, FR)]
    assert [(p.language, p.target) for p in read.prompts] == pairs
    assert read.prompts[0].instructed_text == "Who is it? Answer in French."
    assert "'xx' (1)" in read.notes[0]


XQUAD = {
    "id": "1",
    "context": {"en": "The Norse came.", "fr": "Les Normands."},
    "question": {"en": "Who came?", "fr": "Qui ?"},
    "answer": {"en": "Norse", "fr": "Normands", "de": "Normannen"},
}


def test_xquad_is_asked_in_english_and_answered_in_another_language(tmp_path: Path) -> None:
    read = read_prompts(write(tmp_path / "x.jsonl", lines(XQUAD)), targets=[EN, FR, DE, JA])

    assert read.format == "xquad"
    assert [(p.target, p.gold) for p in read.prompts] == [(FR, ("Normands",)), (DE, ("Normannen",))]
    assert {p.text for p in read.prompts} == {"The Norse came.\n\nWho came?"}
    assert {p.language for p in read.prompts} == {EN}


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"answer": "Norse"}, "`answer`"), ({"question": {"fr": "Qui ?"}}, "has no 'en'")],
)
def test_a_bad_line_of_xquad_is_named(
    tmp_path: Path, change: dict[str, object], expected: str
) -> None:
    path = write(tmp_path / "x.jsonl", lines(XQUAD, XQUAD | change))

    with pytest.raises(CorpusError, match=rf"x\.jsonl:2.*{expected}"):
        read_prompts(path, targets=[FR])


def test_mgsm_is_asked_and_answered_in_the_language_of_its_file(tmp_path: Path) -> None:
    write(tmp_path / "mgsm_fr.tsv", "Combien font 2 et 3 ?\t5\nEt 999 et 1 ?\t1,000\n")
    write(tmp_path / "mgsm_ja.tsv", "2たす3は？\t5\n")

    read = read_prompts(tmp_path, targets=[FR, JA])

    assert read.format == "mgsm"
    assert [(p.language, p.target) for p in read.prompts] == [(FR, FR), (FR, FR), (JA, JA)]
    thousand = read.prompts[1].is_right
    assert thousand is not None
    assert thousand("Cela fait 1 000.")
    assert not thousand("Cela fait 1.")
    assert len(read_prompts(tmp_path / "mgsm_ja.tsv", targets=[JA]).prompts) == 1


def test_a_line_of_mgsm_without_a_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mgsm_fr.tsv", "Combien ?\t5\nCombien ?\tcinq\n")

    with pytest.raises(CorpusError, match=r"mgsm_fr\.tsv:2"):
        read_prompts(path, targets=[FR])


def test_prompts_are_drawn_evenly_and_the_same_for_the_same_seed() -> None:
    many = [
        ForcingPrompt(f"{source} {n}", "", language, target, source=source)
        for source, times in (("a", 50), ("b", 4))
        for language in (EN, FR)
        for target in (DE, JA)
        for n in range(times)
    ]

    drawn = sample_evenly(many, 16, seed=1)

    groups = Counter((p.source, p.language, p.target) for p in drawn)
    assert set(groups.values()) == {2}
    assert len(groups) == 8
    assert drawn == sample_evenly(many, 16, seed=1) != sample_evenly(many, 16, seed=2)
    assert sorted(drawn, key=many.index) == drawn
    assert len(sample_evenly(many, 100, seed=1)) == 100
    assert sample_evenly(many, 1000, seed=1) == many
