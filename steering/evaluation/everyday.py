"""The shipped everyday prompts as evaluation prompts, for models that have none of their own.

Nobody can tell whether an answer to them is right, only in which language it is. Knows no model.
"""

from collections.abc import Sequence
from math import lcm

from steering.evaluation.forcing import ForcingPrompt
from steering.everyday_prompts import (
    PROMPTS_TO_MEASURE,
    PROMPTS_TO_TUNE,
    everyday_languages,
    everyday_prompts,
    instruction,
)
from steering.languages import Language


def everyday_forcing_prompts(
    languages: Sequence[Language], *, count: int, numbers: range = PROMPTS_TO_MEASURE
) -> list[ForcingPrompt]:
    """Return *count* prompts; targets go round, then the languages asked in, then the prompts.

    Args:
        languages: The targets; prompts are in those of them that have a list, else in English.
        count: How many.
        numbers: Which of each language's prompts; they come again when *count* exceeds them.
    """
    asked = _languages_to_ask_in(languages)
    pairs = [
        (asked[(lap + place) % len(asked)], target)
        for lap in range(len(asked))
        for place, target in enumerate(languages)
    ]
    return [
        _forcing_prompt(*pairs[number % len(pairs)], numbers[number // len(pairs) % len(numbers)])
        for number in range(count)
    ]


def everyday_tuning_prompts(
    languages: Sequence[Language], *, per_language: int
) -> list[ForcingPrompt]:
    """Return prompts to calibrate on, without repeats; no evaluation uses them.

    Every prompt is in another language than its answer, where there is one. Targets take turns,
    and each target's prompts go round the languages and the questions together, so that the first
    few are spread over all of them.

    Args:
        languages: The targets; prompts are in those of them that have a list, else in English.
        per_language: How many for each target, as far as there are as many.
    """
    asked = _languages_to_ask_in(languages)
    prompts: list[ForcingPrompt] = []
    for turn in range(per_language):
        for place, target in enumerate(languages):
            others = [one for one in asked if one != target] or asked
            if turn >= len(others) * len(PROMPTS_TO_TUNE):
                continue
            lap = turn // lcm(len(others), len(PROMPTS_TO_TUNE))
            number = PROMPTS_TO_TUNE[(2 * place + turn + lap) % len(PROMPTS_TO_TUNE)]
            language = others[(place + turn) % len(others)]
            prompts.append(_forcing_prompt(language, target, number))
    return prompts


def everyday_conversations(
    languages: Sequence[Language], *, count: int, turns: int
) -> list[list[ForcingPrompt]]:
    """Return conversations whose target changes in the middle; at least two languages."""
    asked = _languages_to_ask_in(languages)
    return [
        [
            _forcing_prompt(
                asked[(number + number // len(languages)) % len(asked)],
                languages[(number + (turn >= turns // 2)) % len(languages)],
                PROMPTS_TO_MEASURE[(number // len(asked) * turns + turn) % len(PROMPTS_TO_MEASURE)],
            )
            for turn in range(turns)
        ]
        for number in range(count)
    ]


def _languages_to_ask_in(languages: Sequence[Language]) -> list[Language]:
    """Return those of the languages that there are prompts in, or English."""
    known = everyday_languages()
    return [one for one in known if one in languages] or [one for one in known if one.code == "en"]


def _forcing_prompt(language: Language, target: Language, number: int) -> ForcingPrompt:
    text = everyday_prompts(language)[number]
    return ForcingPrompt(
        text=text,
        instructed_text=f"{text} {instruction(target, in_english=True)}",
        language=language,
        target=target,
    )
