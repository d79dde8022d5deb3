"""A finished part is kept and taken again, and only where nothing it depends on has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steering.errors import SettingsError
from steering.study.parts import Block, Finding, Part, StudyFolder, figure, words_and_tables


def draw(path: Path) -> None:
    path.write_text("<svg/>")


def make_part(done: list[str], *, settings: dict[str, str] | None = None) -> Part:
    def measure(folder: Path, progress: Callable[[int], object]) -> Finding:
        done.append("measured")
        progress(1)
        drawn = figure(folder, "bars", "Some bars.", draw)
        return Finding("All is well.", {"rates": (0.5, 1.0)}, (Block("words", "Hello."), drawn))

    return Part("forcing", "Language forcing", settings or {"set": "1", "seed": "0"}, 1, measure)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    made = StudyFolder(tmp_path / "new" / "report")
    made.begin()
    return made


def test_a_finished_part_is_taken_as_it_was_measured(folder: StudyFolder) -> None:
    done: list[str] = []
    assert folder.take(make_part(done)) is None

    measured = folder.measure(make_part(done), lambda _: None)
    taken = StudyFolder(folder.path).take(make_part(done))

    assert taken == measured
    assert done == ["measured"]
    assert measured.finding.numbers == {"rates": [0.5, 1.0]}
    assert (folder.figures / "bars.svg").read_text() == "<svg/>"


@pytest.mark.parametrize(
    "settings", [{"set": "2", "seed": "0"}, {"set": "1"}, {"set": "1", "seed": "0", "more": ""}]
)
def test_with_other_settings_it_is_measured_again(
    folder: StudyFolder, settings: dict[str, str]
) -> None:
    folder.measure(make_part([]), lambda _: None)

    assert folder.take(make_part([])) is not None
    assert folder.take(make_part([], settings=settings)) is None


@pytest.mark.parametrize("damage", ["figure gone", "figure changed", "cut", "no object", "format"])
def test_what_is_damaged_is_measured_again(folder: StudyFolder, damage: str) -> None:
    folder.measure(make_part([]), lambda _: None)
    kept, drawn = folder.path / "parts/forcing.json", folder.figures / "bars.svg"
    text = kept.read_text()
    changes: dict[str, Callable[[], object]] = {
        "figure gone": drawn.unlink,
        "figure changed": lambda: drawn.write_text("<svg></svg>"),
        "cut": lambda: kept.write_text(text[:-9]),
        "no object": lambda: kept.write_text("[]"),
        "format": lambda: kept.write_text(json.dumps(json.loads(text) | {"format": 0})),
    }

    changes[damage]()

    assert folder.take(make_part([])) is None


def test_what_no_part_shows_is_deleted_and_nothing_else(folder: StudyFolder) -> None:
    measured = folder.measure(make_part([]), lambda _: None)
    for stale in ("figures/old.svg", "figures/mine.txt", "parts/old.json"):
        (folder.path / stale).write_text("x")

    folder.remove_others([measured])

    left = sorted(path.name for path in folder.path.rglob("*") if path.is_file())
    assert left == ["bars.svg", "forcing.json", "mine.txt", "report.json"]
    assert folder.take(make_part([])) == measured


def test_a_part_that_fails_leaves_nothing(folder: StudyFolder) -> None:
    def fail(*_: object) -> Finding:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.measure(replace(make_part([]), measure=fail), lambda _: None)

    assert not list((folder.path / "parts").iterdir())


@pytest.mark.parametrize(
    "content",
    [{"a.txt": ""}, {"report.json": "{}"}, {"report.json": '["langsteer report"]'}, {"parts": ""}],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(SettingsError, match=r"holds no report.*choose another"):
        StudyFolder(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(content)


def test_a_new_an_empty_and_a_begun_folder_are_taken(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    StudyFolder(tmp_path).begin()
    assert json.loads((tmp_path / "report.json").read_text())["is_complete"] is False
    StudyFolder(tmp_path).begin()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="holds no report"):
        StudyFolder(tmp_path / "file")
    with pytest.raises(SettingsError, match="Cannot write"):
        StudyFolder(tmp_path / "file" / "below").begin()


def test_paragraphs_and_tables_are_told_apart() -> None:
    blocks = words_and_tables("Words.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nMore.\n")

    assert [block.kind for block in blocks] == ["words", "table", "words"]
    assert blocks[1].text.splitlines()[2] == "| 1 | 2 |"
