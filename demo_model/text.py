"""Natural text for the first stage of training: one UTF-8 file per language, one text a line.

Knows nothing of dialogues. The last lines of every file are kept away from training, so that the
perplexity of the model can be measured on them.
"""

from collections.abc import Iterable
from pathlib import Path

from demo_model.grammar.language_pack import LANGUAGE_CODES

HELD_OUT_LINES = 2500


def read_lines(folder: Path) -> dict[str, list[str]]:
    """Return the non-empty lines of `<folder>/<code>.txt` for every language.

    Raises:
        SystemExit: If a file is missing, with the names of all missing ones.
    """
    missing = [code for code in LANGUAGE_CODES if not (folder / f"{code}.txt").is_file()]
    if missing:
        names = ", ".join(f"{code}.txt" for code in missing)
        raise SystemExit(f"error: '{folder}' has no {names}; expected one UTF-8 file per language.")
    return {
        code: [line for line in _file_lines(folder / f"{code}.txt") if line]
        for code in LANGUAGE_CODES
    }


def _file_lines(path: Path) -> Iterable[str]:
    return (line.strip() for line in path.read_text(encoding="utf-8").splitlines())


def training_lines(folder: Path) -> dict[str, list[str]]:
    """Return the lines that training may see."""
    lines = read_lines(folder)
    if short := [code for code, rows in lines.items() if len(rows) <= HELD_OUT_LINES]:
        raise SystemExit(
            f"error: '{folder}/{short[0]}.txt' has {len(lines[short[0]])} lines. Expected more "
            f"than {HELD_OUT_LINES}, the number that is kept away from training."
        )
    return {code: rows[:-HELD_OUT_LINES] for code, rows in lines.items()}


def held_out_lines(folder: Path) -> dict[str, list[str]]:
    """Return the lines that training never sees."""
    return {code: lines[-HELD_OUT_LINES:] for code, lines in read_lines(folder).items()}
