"""Verdicts on answers as CSV and JSON to keep.

Knows what was judged, not the page. A table that a spreadsheet opens is no program: text that one
would take for a formula gets an apostrophe before it; JSON has every text as it was.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from steering.neuron_set_file import hash_neuron_set
from steering.ui.asking import Chat, Wish
from steering.ui.results.live_check import Answered, Judged

# What all answers were made with, as JSON has it.
Settings: TypeAlias = Mapping[str, Any]

_FORMAT = "langsteer-verdicts/1"
_COLUMNS = (
    "text", "language", "target",
    "unsteered_verdict", "unsteered_language", "unsteered_ended", "unsteered_reply",
    "steered_verdict", "steered_language", "steered_ended", "steered_reply",
)  # fmt: skip
_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
_MARK = "\ufeff"  # without it a spreadsheet takes UTF-8 for something else


def describe_settings(chat: Chat, model: str, wish: Wish) -> Settings:
    """Return everything that the answers of a run are made with."""
    neurons = chat.set_in_use
    return {
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": model,
        "neuron_set_sha256": hash_neuron_set(neurons) if neurons else None,
        **chat.describe(wish, neurons),
    }


def to_csv(answered: Sequence[Answered]) -> str:
    """Return one row for each prompt; the file can be uploaded again."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for one in answered:
        writer.writerow([_harmless(str(cell or "")) for cell in _as_record(one).values()])
    return _MARK + out.getvalue()


def to_json(answered: Sequence[Answered], made_with: Settings) -> str:
    """Return the same with what it was made with."""
    content = {
        "format": _FORMAT,
        "made_with": dict(made_with),
        "verdicts": [_as_record(one) for one in answered],
    }
    return json.dumps(content, ensure_ascii=False, indent=1)


def _as_record(one: Answered) -> dict[str, str | None]:
    cells = (
        one.prompt.text, one.prompt.language.code, one.prompt.target.code,
        *_cells(one.unsteered), *_cells(one.steered),
    )  # fmt: skip
    return dict(zip(_COLUMNS, cells, strict=True))


def _cells(judged: Judged) -> tuple[str | None, ...]:
    language = judged.language.code if judged.language else None
    return judged.verdict, language, judged.ending, judged.reply


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA_BEGINS) else cell
