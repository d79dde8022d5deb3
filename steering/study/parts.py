"""The parts of a study, and the folder where a finished part is kept so that it is measured once.

A part is kept with everything that it depends on (hashes and settings); one that was measured
with something else, or whose figures are gone, is measured again. Knows neither models nor pages.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

from steering.errors import SettingsError
from steering.whole_files import replacing

BlockKind: TypeAlias = Literal["words", "table", "figure"]
# Called with how much was done since the last call.
Progress: TypeAlias = Callable[[int], object]

REPORT_KIND = "langsteer report"
_FILE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a table or a figure of a part.

    Args:
        kind: Which of them.
        text: Words, a markdown table, or the figure's caption.
        figure: File name of a figure in the folder of figures; empty for others.
    """

    kind: BlockKind
    text: str
    figure: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a part found.

    Args:
        summary: A sentence or two for the top of the report.
        numbers: Everything measured, as JSON holds it.
        blocks: What the report shows, in order.
    """

    summary: str
    numbers: Mapping[str, object]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part that may have to be measured.

    Args:
        name: Of its file; letters alone.
        heading: In the report.
        settings: Name -> value or hash of everything that its numbers depend on.
        steps: How often its progress goes up by one.
        measure: Measures it, and writes its figures into a folder.
    """

    name: str
    heading: str
    settings: Mapping[str, str]
    steps: int
    measure: Callable[[Path, Progress], Finding]


@dataclass(frozen=True, slots=True)
class MeasuredPart:
    """A part with what it found.

    Args:
        name: See `Part`.
        heading: See `Part`.
        settings: See `Part`.
        finding: What it found.
        wall_s: How long it took.
        processor_s: How much processor time of this process that was.
    """

    name: str
    heading: str
    settings: Mapping[str, str]
    finding: Finding
    wall_s: float
    processor_s: float


class StudyFolder:
    """The folder of a report: the report's files, `figures/`, and a file of every finished part.

    Args:
        path: A new or empty folder, or that of a report, also of one that was not finished.

    Raises:
        SettingsError: If it holds something else, or cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.figures, self._parts = path, path / "figures", path / "parts"
        self.report = path / "report.json"
        _check_is_ours(path, self.report)

    def begin(self) -> None:
        """Make the folder and mark it as a report's, which is not finished.

        Raises:
            SettingsError: If it cannot be written to.
        """
        with _writing(self.path):
            for folder in (self.figures, self._parts):
                folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.report) as temporary:
                temporary.write_text(json.dumps({"kind": REPORT_KIND, "is_complete": False}))

    def take(self, part: Part) -> MeasuredPart | None:
        """Return a part that was kept, measured with the same settings, its figures still there."""
        try:
            kept = json.loads((self._parts / f"{part.name}.json").read_text("utf-8"))
            blocks = tuple(Block(**block) for block in kept["blocks"])
            is_same = kept["format"] == _FILE_FORMAT and kept["settings"] == dict(part.settings)
            if not is_same or kept["figures"] != self._hash_figures(blocks):
                return None
            finding = Finding(str(kept["summary"]), dict(kept["numbers"]), blocks)
            return _measured(part, finding, float(kept["wall_s"]), float(kept["processor_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def measure(self, part: Part, progress: Progress) -> MeasuredPart:
        """Measure a part and keep it.

        Raises:
            SettingsError: If it cannot be written.
        """
        wall, processor = time.perf_counter(), time.process_time()
        finding = part.measure(self.figures, progress)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        with _writing(self.path):
            content = {
                "format": _FILE_FORMAT,
                "settings": dict(part.settings),
                "wall_s": round(wall, 1),
                "processor_s": round(processor, 1),
                "figures": self._hash_figures(finding.blocks),
                "summary": finding.summary,
                "numbers": finding.numbers,
                "blocks": [asdict(block) for block in finding.blocks],
            }
            with replacing(self._parts / f"{part.name}.json") as temporary:
                temporary.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        kept = self.take(part)  # as JSON holds it: lists, keys of text
        return kept or _measured(part, finding, round(wall, 1), round(processor, 1))

    def write(self, name: str, text: str) -> None:
        """Write a file of the report.

        Raises:
            SettingsError: If it cannot be written.
        """
        with _writing(self.path), replacing(self.path / name) as temporary:
            temporary.write_text(text, "utf-8")

    def write_report(self, content: Mapping[str, object]) -> None:
        """Write report.json, which says that the report is whole.

        Raises:
            SettingsError: If it cannot be written.
        """
        self.write(self.report.name, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def remove_others(self, parts: Sequence[MeasuredPart]) -> None:
        """Delete figures that no part of the report shows, and kept parts that it does not have.

        An earlier report in the folder may have had more sets, or parts that were left out since.

        Raises:
            SettingsError: If one cannot be deleted.
        """
        shown = {block.figure for part in parts for block in part.finding.blocks if block.figure}
        kept = {f"{part.name}.json" for part in parts}
        with _writing(self.path):
            for folder, names in ((self.figures, shown), (self._parts, kept)):
                for path in folder.iterdir():
                    if path.name not in names and path.suffix in (".svg", ".json"):
                        path.unlink()

    def _hash_figures(self, blocks: Sequence[Block]) -> dict[str, str]:
        names = [block.figure for block in blocks if block.kind == "figure"]
        return {
            name: hashlib.sha256((self.figures / name).read_bytes()).hexdigest() for name in names
        }


def figure(folder: Path, name: str, caption: str, draw: Callable[[Path], None]) -> Block:
    """Draw a figure as `NAME.svg` and return its block."""
    path = folder / f"{name}.svg"
    draw(path)
    return Block("figure", caption, path.name)


def words_and_tables(markdown: str) -> list[Block]:
    """Return the paragraphs and tables of a text that has an empty line between them."""
    parts = [part.strip() for part in markdown.split("\n\n") if part.strip()]
    kinds = ["table" if part.startswith("|") else "words" for part in parts]
    return [Block(cast("BlockKind", kind), part) for kind, part in zip(kinds, parts, strict=True)]


def _measured(part: Part, finding: Finding, wall_s: float, processor_s: float) -> MeasuredPart:
    return MeasuredPart(part.name, part.heading, part.settings, finding, wall_s, processor_s)


def _check_is_ours(path: Path, report: Path) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        is_ours = json.loads(report.read_text("utf-8"))["kind"] == REPORT_KIND
    except (OSError, ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise SettingsError(
            f"'{path}' is there already and holds no report. Expected a new or empty folder, or "
            "one that `python -m steering report` wrote before; choose another `--out`."
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise SettingsError(
            f"Cannot write to '{path}': {err.strerror or err}. Expected a folder that can be "
            "written to, with space left; make room, or choose another `--out`."
        ) from err
