"""Appends replies to a JSONL file as they are written, so that a killed run resumes from there.

The first line says what the replies depend on; a file of another model, set or prompts is refused.
A reply is found again by its condition and the number of its prompt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steering.errors import SettingsError
from steering.evaluation.forcing import ForcingPrompt, WrittenReply, judge_reply
from steering.guard import Rewrite
from steering.languages import LANGUAGES, Language
from steering.whole_files import replacing

# What a damaged line can raise: bad JSON, a missing field, a huge number, thousands of brackets.
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_FILE_FORMAT = "langsteer-replies"
_VERSION = 1


class KeptReplies:
    """The replies of a run and their likelihoods, in memory and, if wanted, in a file.

    Args:
        path: The file; None keeps them in memory alone.
        about: What a reply depends on beside condition and prompt -> its hash or value; the names
            appear in messages.
        prompts: What is asked; a reply's number is its prompt's place here.
        languages: Those that `judge_reply` chooses from, for what a line says beside the reply.
    """

    def __init__(
        self,
        path: Path | None,
        about: Mapping[str, str],
        *,
        prompts: Sequence[ForcingPrompt],
        languages: Sequence[Language],
    ) -> None:
        self._path, self._about = path, dict(about)
        self._prompts, self._languages = prompts, languages
        self._replies: dict[str, dict[int, WrittenReply]] = {}
        self._nll_nats: dict[str, dict[int, float]] = {}

    def replies(self, condition: str) -> Mapping[int, WrittenReply]:
        """Return the replies under a condition, by number of the prompt."""
        return self._replies.get(condition, {})

    def nll_nats(self, condition: str) -> Mapping[int, float]:
        """Return the likelihoods under a condition, by number of the prompt."""
        return self._nll_nats.get(condition, {})

    def load(self) -> int:
        """Read what an earlier run left, cut off a half-written last line, and count the replies.

        Raises:
            SettingsError: If the file is damaged, or of another command.
        """
        if self._path is None:
            return 0
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
        except OSError as err:
            raise self._refuse(f"cannot be read ({err.strerror})") from err
        whole, newline, rest = content.rpartition(b"\n")
        if not newline:
            if rest and not rest.startswith(b'{"format"'):
                raise self._refuse("is damaged, or holds something else")
            self._write_header()
            return 0
        self._read(whole.decode("utf-8", "replace").split("\n"))
        if rest:
            os.truncate(self._path, len(whole) + 1)
        return sum(map(len, self._replies.values()))

    def keep(self, condition: str, replies: Sequence[WrittenReply]) -> None:
        """Add replies and append them to the file.

        Raises:
            SettingsError: If it cannot be written; what was there before is still there.
        """
        self._replies.setdefault(condition, {}).update({one.number: one for one in replies})
        self._append(self._reply_line(condition, one) for one in replies)

    def keep_nll(self, condition: str, losses: Mapping[int, float]) -> None:
        """Add likelihoods and append them to the file.

        Raises:
            SettingsError: As `keep`.
        """
        self._nll_nats.setdefault(condition, {}).update(losses)
        self._append(
            {"condition": condition, "number": number, "nll_nats": loss}
            for number, loss in losses.items()
        )

    def remove(self) -> None:
        """Delete the file, when the whole result is written elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _reply_line(self, condition: str, reply: WrittenReply) -> dict[str, object]:
        prompt = self._prompts[reply.number]
        judged = judge_reply(prompt, reply.text, languages=self._languages)
        line: dict[str, object] = {
            "condition": condition,
            "number": reply.number,
            "prompt": prompt.text,
            "prompt_language": str(prompt.language),
            "target": str(prompt.target),
            "reply": reply.text,
            "reply_language": judged.language and str(judged.language),
            "is_right": judged.is_right,
            "tokens": reply.tokens,
        }
        if reply.rewrites:
            line["rewrites"] = [
                {**asdict(one), "language": one.language and str(one.language)}
                for one in reply.rewrites
            ]
        return line

    def _append(self, lines: Iterable[Mapping[str, object]]) -> None:
        if self._path is None:
            return
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text.encode("utf-8", "replace").decode("utf-8"))
        except OSError as err:
            raise self._not_written(err) from err

    def _write_header(self) -> None:
        header = {"format": _FILE_FORMAT, "version": _VERSION, "about": self._about}
        if self._path is None:
            return
        try:
            with replacing(self._path) as temporary:
                temporary.write_text(json.dumps(header, ensure_ascii=False) + "\n", "utf-8")
        except OSError as err:
            raise self._not_written(err) from err

    def _read(self, lines: Sequence[str]) -> None:
        try:
            header = json.loads(lines[0])
            is_ours = header["format"] == _FILE_FORMAT and header["version"] == _VERSION
            about = dict(header["about"])
        except _DAMAGED:
            is_ours, about = False, {}
        if not is_ours:
            raise self._refuse("is damaged, or holds something else")
        if other := [name for name, value in self._about.items() if about.get(name) != value]:
            raise self._refuse(f"was begun with another {' and another '.join(other)}")
        for number, line in enumerate(lines[1:], start=2):
            try:
                self._take(json.loads(line))
            except _DAMAGED as err:
                raise self._refuse(f"is damaged in line {number}") from err

    def _take(self, row: dict[str, Any]) -> None:
        condition, number = str(row["condition"]), int(row["number"])
        if not 0 <= number < len(self._prompts):
            raise ValueError(number)
        if "nll_nats" in row:
            self._nll_nats.setdefault(condition, {})[number] = float(row["nll_nats"])
            return
        rewrites = tuple(
            Rewrite(**{**one, "language": LANGUAGES.get(one["language"])})
            for one in row.get("rewrites", ())
        )
        self._replies.setdefault(condition, {})[number] = WrittenReply(
            number, str(row["reply"]), int(row["tokens"]), rewrites
        )

    def _refuse(self, problem: str) -> SettingsError:
        return SettingsError(
            f"Cannot resume: '{self._path}' {problem}. Expected the replies of this very command; "
            "run that command again, name another file, or delete this one to begin anew."
        )

    def _not_written(self, err: OSError) -> SettingsError:
        return SettingsError(
            f"Cannot write '{self._path}': {err.strerror}. Expected space and a folder that can "
            "be written to; make room and run the same command again to resume."
        )
