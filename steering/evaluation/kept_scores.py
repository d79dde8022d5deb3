"""Keeps the score of every reply of a calibration in a JSON file, so that a killed run resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from steering.errors import SettingsError
from steering.evaluation.reply_scores import ReplyScore
from steering.whole_files import replacing

_FILE_FORMAT = "langsteer-calibration-3"


class KeptScores:
    """Scores per method and strength, then per number of the prompt."""

    def __init__(self, path: Path | None, identity: str) -> None:
        """Read what an earlier run of the same calibration left.

        Args:
            path: The file; None keeps scores in memory alone.
            identity: Of everything that a score depends on beside method, strength and prompt.

        Raises:
            SettingsError: If the file is damaged or belongs to another calibration.
        """
        self._path, self._identity = path, identity
        self._scores: dict[str, dict[str, ReplyScore]] = {}
        if path is not None and path.exists():
            self._scores = _read(path, identity)

    def find(self, method: str, strength: float) -> Mapping[str, ReplyScore]:
        """Return what is known of a method at a strength, by number of the prompt."""
        return self._scores.get(_name(method, strength), {})

    def add(self, method: str, strength: float, scores: Mapping[str, ReplyScore]) -> None:
        """Add the scores of one batch and write the file.

        Raises:
            SettingsError: If it cannot be written.
        """
        self._scores.setdefault(_name(method, strength), {}).update(scores)
        if self._path is None:
            return
        content = {
            "format": _FILE_FORMAT,
            "identity": self._identity,
            "scores": {
                name: {number: _to_row(score) for number, score in of_prompts.items()}
                for name, of_prompts in self._scores.items()
            },
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(content) + "\n", "utf-8")
        except OSError as err:
            raise SettingsError(
                f"Cannot write '{self._path}': {err.strerror}. Expected space and a folder that "
                "can be written to; make room and run the same command again to go on from there."
            ) from err


def _read(path: Path, identity: str) -> dict[str, dict[str, ReplyScore]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        is_same = content["format"] == _FILE_FORMAT and content["identity"] == identity
        scores = {
            name: {number: _from_row(row) for number, row in of_prompts.items()}
            for name, of_prompts in content["scores"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
            RecursionError):  # fmt: skip
        is_same, scores = False, {}
    if not is_same:
        raise SettingsError(
            f"'{path}' holds measurements of another set or other prompts, or is damaged. Expected "
            "those of this command; delete it to measure again."
        )
    return scores


def _name(method: str, strength: float) -> str:
    return f"{method} {strength}"


def _to_row(score: ReplyScore) -> list[object]:
    flags = (score.is_forced, score.is_pure, score.is_looping)
    return [*map(int, flags), score.tokens, score.nll_nats]


def _from_row(row: list[object]) -> ReplyScore:
    is_forced, is_pure, is_looping, tokens, nats = row
    return ReplyScore(
        bool(is_forced),
        bool(is_pure),
        bool(is_looping),
        int(str(tokens)),
        None if nats is None else float(str(nats)),
    )
