"""What the page does with a run of prompts: check, begin, answer, stop, settle, and read a file.

Errors become words here. Knows components, not how they are laid out or what is measured.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gradio as gr
from gradio.components import Component

from steering.evaluation.forcing import ForcingPrompt
from steering.ui.asking import Chat, Wish
from steering.ui.choices import Choices
from steering.ui.results.live_check import Answered, check_can_run, prompts_to_check, run_check
from steering.ui.results.live_html import answered_html, picked_html, progress_html, trouble_html
from steering.ui.results.own_prompts import LIMIT_BYTES, read_own_prompts
from steering.ui.results.verdicts import Settings, describe_settings, to_csv, to_json
from steering.ui.sessions import OpenSessions, StopSigns
from steering.ui.strings import label, locale_of
from steering.ui.uploading import read_upload
from steering.ui.wording import Refusal, errors_in_words, tell

Updates: TypeAlias = dict[Any, Any]
Values: TypeAlias = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class RunParts:
    """The components that listeners use."""

    choices: Choices
    examples: gr.Button
    pick: gr.Button
    own: gr.Button
    stop: gr.Button
    info: gr.HTML  # of the file that was picked
    progress: gr.HTML
    shown: gr.HTML
    as_csv: gr.Button
    as_json: gr.Button
    picked: gr.State  # prompts of the file
    asked: gr.State  # prompts of the running or last run
    wish: gr.State  # how it is steered
    run: gr.State  # its id; empty when none runs
    answered: gr.State  # what came of it
    made_with: gr.State  # its settings, to keep beside the verdicts

    def begun(self) -> list[Component]:
        """Return what changes when a run begins."""
        return [
            self.examples, self.own, self.stop, self.asked, self.wish, self.run, self.answered,
            self.made_with, self.progress, self.shown, self.as_csv, self.as_json,
        ]  # fmt: skip

    def settled(self) -> list[Component]:
        """Return what changes when it has ended."""
        return [self.examples, self.own, self.stop, self.run, self.as_csv, self.as_json]


class LiveRuns:
    """The listeners of one page's runs; holds its components, and which runs are to stop."""

    def __init__(self, parts: RunParts, chat: Chat, model: str) -> None:
        self._parts, self._chat, self._model = parts, chat, model
        self._stops = StopSigns()
        self._sessions = OpenSessions()

    def check_examples(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse a run of the prompts that are offered, where it could show nothing."""
        self._check(values, self._examples(), request)

    def check_own(self, values: Values, request: gr.Request | None = None) -> None:
        """Refuse the same of a file's prompts."""
        self._check(values, values[self._parts.picked], request)

    def begin_examples(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Begin a run of the prompts that are offered; it is checked already."""
        return self._begin(values, self._examples(), request)

    def begin_own(self, values: Values, request: gr.Request | None = None) -> Updates:
        """Begin a run of a file's prompts."""
        return self._begin(values, values[self._parts.picked], request)

    def answer(
        self,
        asked: Sequence[ForcingPrompt],
        wish: Wish,
        run: str,
        request: gr.Request | None = None,
    ) -> Iterator[Updates]:
        """Answer the prompts; show how far it is all the time, and what came as it comes.

        What goes wrong stands beside that: an error raised here would pass by.
        """
        parts, chat, locale = self._parts, self._chat, locale_of(request)
        shown = 0
        try:
            for standing in run_check(
                chat, asked, wish, is_stopped=lambda: self._stops.is_asked(run)
            ):
                progress = progress_html(standing, is_ready=chat.engine.is_ready, locale=locale)
                updates: Updates = {parts.progress: progress}
                if len(standing.answered) > shown:
                    shown = len(standing.answered)
                    updates[parts.answered] = standing.answered
                    updates[parts.shown] = answered_html(
                        standing.answered, level=wish.level, languages=chat.languages, locale=locale
                    )
                yield updates
        except Exception as err:
            yield {parts.progress: trouble_html(tell("failed_run", err, locale), locale)}
        finally:
            self._stops.take_down(run)

    def stop(self, run: str) -> Updates:
        """Ask the run to stop; it says so itself."""
        if not run:
            return {self._parts.stop: gr.Button(visible=False)}
        self._stops.ask(run)
        return {self._parts.stop: gr.Button(label("stopping"), interactive=False)}

    def give_up(self, request: gr.Request | None = None) -> None:
        """Let the session ask again where a run could not even begin."""
        self._sessions.leave(request)

    def settle(
        self,
        answered: Sequence[Answered],
        picked: Sequence[ForcingPrompt],
        run: str,
        request: gr.Request | None = None,
    ) -> Updates:
        """Make ready for the next run, whether this one ended well or not."""
        self._stops.take_down(run)
        self._sessions.leave(request)
        parts = self._parts
        return {
            parts.examples: gr.Button(interactive=True),
            parts.own: gr.Button(interactive=bool(picked)),
            parts.stop: gr.Button(label("stop"), visible=False, interactive=True),
            parts.run: "",
            parts.as_csv: gr.Button(visible=bool(answered)),
            parts.as_json: gr.Button(visible=bool(answered)),
        }

    def read_file(self, told: str | None, request: gr.Request | None = None) -> Updates:
        """Read the file that a person picked, or say why it cannot be asked.

        A run that goes on keeps its own prompts.
        """
        parts, locale = self._parts, locale_of(request)
        try:
            upload = read_upload(told, limit_bytes=LIMIT_BYTES)
            if upload is None:
                return {parts.info: gr.skip()}
            read = read_own_prompts(upload, targets=self._chat.languages)
        except Exception as err:
            return {
                parts.picked: (),
                parts.info: trouble_html(tell("failed_file", err, locale), locale),
                parts.own: gr.Button(interactive=False),
            }
        return {
            parts.picked: read.prompts,
            parts.info: picked_html(upload.name, read.prompts, read.notes, locale),
            parts.own: gr.Button(interactive=True),
        }

    def as_csv(self, answered: Sequence[Answered]) -> str:
        """Return the verdicts as a table to keep."""
        return to_csv(answered)

    def as_json(self, answered: Sequence[Answered], made_with: Settings) -> str:
        """Return the verdicts with their settings to keep."""
        return to_json(answered, made_with)

    def _examples(self) -> list[ForcingPrompt]:
        return prompts_to_check(self._model, self._chat.languages)

    def _check(
        self, values: Values, prompts: Sequence[ForcingPrompt], request: gr.Request | None
    ) -> None:
        with errors_in_words("failed_ask", locale_of(request)):
            if values[self._parts.run]:
                raise Refusal("live_running")
            check_can_run(self._chat, self._read_wish(values), prompts)
            self._sessions.enter(request)

    def _begin(
        self, values: Values, prompts: Sequence[ForcingPrompt], request: gr.Request | None
    ) -> Updates:
        parts = self._parts
        with errors_in_words("failed_ask", locale_of(request)):
            wish = self._read_wish(values)
            return {
                parts.examples: gr.Button(interactive=False),
                parts.own: gr.Button(interactive=False),
                parts.stop: gr.Button(visible=True),
                parts.asked: tuple(prompts),
                parts.wish: wish,
                parts.run: uuid.uuid4().hex,
                parts.answered: (),
                parts.made_with: describe_settings(self._chat, self._model, wish),
                parts.progress: "",
                parts.shown: "",
                parts.as_csv: gr.Button(visible=False),
                parts.as_json: gr.Button(visible=False),
            }

    def _read_wish(self, values: Values) -> Wish:
        choices = self._parts.choices
        return choices.read([values[component] for component in choices.all()], self._chat)
