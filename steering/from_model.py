"""Makes the corpora of a neuron set with nothing but the chat model itself.

The model answers the shipped everyday prompts in every language. Answers in the language that was
asked for become dialogues and, on their own, text; a language in which there are too few is left
out. Every batch of answers is saved, so that a run can be stopped at any moment and goes on.
Knows how to ask, not what is recorded on the answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from steering.chunks import model_state
from steering.contrastive import (
    BATCH_ROWS,
    Ask,
    MadeDialogues,
    choose_prompts,
    keep_answers,
    make_ask,
)
from steering.corpus import Corpus, check_languages, hold_dialogues
from steering.errors import CorpusError, StoppedError
from steering.everyday_prompts import everyday_languages
from steering.languages import Language
from steering.partial_results import PartialResults
from steering.processes import Processes

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# (language, answers since the last call)
AnswerProgress: TypeAlias = Callable[[Language, int], object]

_CORPUS_NAME = "everyday prompts, answered by the model"


@dataclass(frozen=True, slots=True)
class Questions:
    """What the model is asked.

    Args:
        languages: To answer in.
        per_language: Most prompts per language.
        max_new_tokens: Length of an answer.
    """

    languages: tuple[Language, ...]
    per_language: int = 64  # with 32 tokens each: 8 minutes for 8 languages at 35 tokens/s
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        """Refuse languages that nothing could be found by comparing."""
        check_languages(self.languages)

    def prompts(self) -> dict[Language, list[str]]:
        """Return what is asked, per language to answer in; fewer where there are not as many.

        The prompts are in those of the languages that there are prompts in, or else in all such.
        """
        known = everyday_languages()
        languages = [one for one in self.languages if one in known] or known
        return {
            target: choose_prompts(target, languages=languages, limit=self.per_language)
            for target in self.languages
        }


@dataclass(frozen=True, slots=True)
class MadeCorpora:
    """What the model said, and in which languages.

    Args:
        corpora: Its answers as text, and as dialogues.
        languages: Those that it commands, in the order of the questions.
        made: Per language of the questions, what was asked and kept.
    """

    corpora: tuple[Corpus, ...]
    languages: tuple[Language, ...]
    made: Mapping[Language, MadeDialogues]

    @property
    def summary(self) -> str:
        """Say in one or two sentences what was kept and what was left out."""
        kept = _counts({one: self.made[one] for one in self.languages})
        return f"Answers kept: {kept}. {self.left_out}".rstrip()

    @property
    def left_out(self) -> str:
        """Name the languages that were left out; empty without any."""
        rest = {one: made for one, made in self.made.items() if one not in self.languages}
        return f"Left out, as the model does not command them: {_counts(rest)}." if rest else ""


def make_corpora(
    model: LoadedModel,
    questions: Questions,
    folder: Path,
    *,
    ask: Ask | None = None,
    processes: Processes | None = None,
    progress: AnswerProgress | None = None,
) -> MadeCorpora:
    """Let a model answer, and return what is worth recording on.

    Args:
        model: From `load_model`, not steered.
        questions: What to ask.
        folder: Where the answers are saved on the way, and read from when the same is asked again.
        ask: Asks one batch of prompts; greedily in this thread when omitted.
        processes: Who asks together; batches are shared out.
        progress: Called after every batch, also after one that was saved before.

    Raises:
        CorpusError: If the model commands fewer than two of the languages.
        SettingsError: If the folder cannot be written to or holds answers to other questions.
        StoppedError: After Ctrl-C; all batches but the last are saved.
    """
    prompts = questions.prompts()
    asking = _Asking(
        ask=ask or make_ask(model, max_new_tokens=questions.max_new_tokens),
        partial=PartialResults(folder),
        identity=f"{model_state(model)} {questions.max_new_tokens} {BATCH_ROWS}",
        processes=processes or Processes(),
        progress=progress or (lambda *_: None),
    )
    made = {
        target: keep_answers(
            asked, asking.replies(target, asked), target=target, languages=questions.languages
        )
        for target, asked in prompts.items()
    }
    languages = tuple(target for target in made if made[target].is_commanded)
    if len(languages) < 2:
        raise CorpusError(
            f"The model answered in '{len(languages)}' of the languages that it was asked for "
            f"({_counts(made)}). Expected at least two with a quarter of the answers in them; use "
            "a chat model that speaks several, name others, or record on text of your own."
        )
    dialogues = {target: made[target].dialogues for target in languages}
    text = hold_dialogues(_CORPUS_NAME, dialogues, kind="text")
    chats = hold_dialogues(_CORPUS_NAME, dialogues, kind="dialogues")
    return MadeCorpora((text, chats), languages, made)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Asks batch by batch, and saves every one.

    The identity is all that answers depend on beside what is asked.
    """

    ask: Ask
    partial: PartialResults
    identity: str
    processes: Processes
    progress: AnswerProgress

    def replies(self, target: Language, prompts: Sequence[str]) -> list[str]:
        """Return the reply to every prompt, of all processes together."""
        name = f"answers-{target}-{self.processes.rank}-of-{self.processes.count}"
        identity = hashlib.sha256(repr((self.identity, prompts)).encode()).hexdigest()
        self.partial.check_same_processes(self.processes.count)
        saved = self.partial.load(name, identity)
        batches = cast("dict[str, list[str]]", dict(saved[0])) if saved else {}
        for number, start in enumerate(range(0, len(prompts), BATCH_ROWS)):
            if not self.processes.takes(number):
                continue
            batch = prompts[start : start + BATCH_ROWS]
            if str(number) not in batches:
                batches[str(number)] = list(self._ask(batch, target, start))
                self.partial.save(name, identity, batches, {})
            self.progress(target, len(batch))
        parts = self.processes.gather_values(batches)
        whole = {int(number): part[number] for part in parts for number in part}
        return [reply for number in sorted(whole) for reply in whole[number]]

    def _ask(self, batch: Sequence[str], target: Language, start: int) -> Sequence[str]:
        try:
            return self.ask(batch)
        except KeyboardInterrupt:
            raise StoppedError(
                f"Stopped after {start} answers in {target.english_name}; what there is lies in "
                f"'{self.partial.folder}'. Run the same command again to go on from there."
            ) from None


def _counts(made: Mapping[Language, MadeDialogues]) -> str:
    return ", ".join(
        f"{target.english_name} {one.on_target} of {one.asked}" for target, one in made.items()
    )
