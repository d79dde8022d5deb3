"""Makes the dialogues that onset statistics are recorded on, with no data but the shipped prompts.

The same prompts in all languages, each with the instruction to answer in the target; the model
writes the answer itself, and answers in another language are left out. But for these, only the
language of the answer differs between targets. Knows neither files nor statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from steering.corpus_rows import Dialogue
from steering.detection import detect
from steering.everyday_prompts import PROMPTS_TO_RECORD, contrastive_prompts
from steering.generation import generate
from steering.languages import Language
from steering.looping import is_looping
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# Prompts -> replies, one batch.
Ask: TypeAlias = Callable[[Sequence[str]], Sequence[str]]

BATCH_ROWS = 16  # prompts that are asked at once; another number may change an answer's last bits
# A model that answers a smaller share of prompts in a language, without looping, can't handle it.
# Qwen2.5-Coder-0.5B: 35 and 50% in Turkish and Hindi, in which it babbles; 70 to 98% in 13 others.
COMMANDED_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class MadeDialogues:
    """The dialogues of one target language.

    Args:
        dialogues: Prompts with instruction, and the model's answers.
        asked: How many prompts were asked.
        on_target: How many answers were in the target language and didn't loop.
    """

    dialogues: tuple[Dialogue, ...]
    asked: int
    on_target: int

    @property
    def is_commanded(self) -> bool:
        """Say whether the model answers in the language at all when it is asked to."""
        return self.on_target > 0 and self.on_target >= COMMANDED_SHARE * self.asked

    @property
    def warning(self) -> str:
        """Say in words what is doubtful about them; empty when nothing is."""
        if self.on_target * 2 >= self.asked:
            return ""
        kept = "those were kept" if self.on_target else "all answers were kept all the same"
        return (
            f"only {self.on_target} of {self.asked} answers were in the language that the prompt "
            f"asked for and didn't repeat themselves ({kept}); statistics of them say little"
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
    prompts = choose_prompts(target, languages=languages, limit=limit)
    ask = make_ask(model, max_new_tokens=max_new_tokens)
    replies: list[str] = []
    for start in range(0, len(prompts), BATCH_ROWS):
        batch = prompts[start : start + BATCH_ROWS]
        replies += ask(batch)
        if progress is not None:
            progress(len(batch))
    return keep_answers(prompts, replies, target=target, languages=languages)


def choose_prompts(target: Language, *, languages: Sequence[Language], limit: int) -> list[str]:
    """Return what is asked: shipped prompts in some languages, with the instruction."""
    chosen = contrastive_prompts(
        target, prompt_languages=languages, numbers=PROMPTS_TO_RECORD, limit=limit
    )
    return [prompt.text for prompt in chosen]


def make_ask(model: LoadedModel, *, max_new_tokens: int) -> Ask:
    """Return what asks a model, greedily."""
    sampling = Sampling(max_new_tokens=max_new_tokens)
    return lambda prompts: generate(model, prompts, sampling=sampling)


def keep_answers(
    prompts: Sequence[str],
    replies: Sequence[str],
    *,
    target: Language,
    languages: Sequence[Language],
) -> MadeDialogues:
    """Keep the answers that are in a language and don't loop; all that say anything when none is.

    A model that has too little of a language repeats itself in it, and statistics of that make
    steered answers repeat themselves as well.

    Args:
        prompts: What was asked.
        replies: One per prompt.
        target: The language that was asked for.
        languages: Those the detector chooses from, beside the target and English.
    """
    answered = [
        Dialogue(prompt, reply)
        for prompt, reply in zip(prompts, replies, strict=True)
        if reply.strip()
    ]
    on_target = [
        row
        for row in answered
        if detect(row.answer, expected=target, languages=languages).language == target
        and not is_looping(row.answer)
    ]
    return MadeDialogues(tuple(on_target or answered), len(prompts), len(on_target))
