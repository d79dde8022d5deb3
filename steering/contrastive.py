"""Makes the dialogues that onset statistics are recorded on, with no data but the shipped prompts.

The same prompts in all languages, each with the instruction to answer in the target; the model
writes the answer itself, and answers in another language are left out. But for these, only the
language of the answer differs between targets. Knows neither files nor statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering.corpus import Dialogue
from steering.detection import identify_reply
from steering.everyday_prompts import PROMPTS_TO_RECORD, contrastive_prompts
from steering.generation import Sampling, generate
from steering.languages import Language

if TYPE_CHECKING:
    from steering.loading import LoadedModel

_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class MadeDialogues:
    """The dialogues of one target language.

    Args:
        dialogues: Prompts with instruction, and the model's answers.
        asked: How many prompts were asked.
        on_target: How many answers were in the target language.
    """

    dialogues: tuple[Dialogue, ...]
    asked: int
    on_target: int

    @property
    def warning(self) -> str:
        """Say in words what is doubtful about them; empty when nothing is."""
        if self.on_target * 2 >= self.asked:
            return ""
        kept = "those were kept" if self.on_target else "all answers were kept all the same"
        return (
            f"only {self.on_target} of {self.asked} answers were in the language that the prompt "
            f"asked for ({kept}); statistics of them say little"
        )


def make_dialogues(
    model: LoadedModel,
    target: Language,
    *,
    languages: Sequence[Language],
    limit: int,
    max_new_tokens: int = 48,
    progress: Callable[[int], object] | None = None,
) -> MadeDialogues:
    """Ask the shipped prompts for answers in a language and keep those that are in it.

    Args:
        model: From `load_model`, not steered.
        target: The language to answer in.
        languages: Those of the prompts, and those the detector chooses from.
        limit: How many prompts.
        max_new_tokens: Length of an answer.
        progress: Called with the number of answers since the last call.
    """
    asked = contrastive_prompts(
        target, prompt_languages=languages, numbers=PROMPTS_TO_RECORD, limit=limit
    )
    sampling = Sampling(max_new_tokens=max_new_tokens)
    answered: list[Dialogue] = []
    for start in range(0, len(asked), _BATCH_ROWS):
        prompts = [prompt.text for prompt in asked[start : start + _BATCH_ROWS]]
        replies = generate(model, prompts, sampling=sampling)
        answered += [
            Dialogue(prompt, reply)
            for prompt, reply in zip(prompts, replies, strict=True)
            if reply.strip()
        ]
        if progress is not None:
            progress(len(prompts))
    on_target = [
        row
        for row in answered
        if identify_reply(row.answer, languages=languages).language == target
    ]
    return MadeDialogues(tuple(on_target or answered), len(asked), len(on_target))
