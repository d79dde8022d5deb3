"""The prompts that come with the program: the same everyday questions in fifteen languages.

With them a chat model's answers in every language can be recorded and compared, without any data:
a prompt and a sentence that asks for the answer's language, where only that sentence differs.
The text lies in `everyday_prompts.yaml`. Knows nothing of models, answers or recording.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import lcm
from pathlib import Path

import yaml

from steering.errors import SettingsError, UnknownLanguageError
from steering.languages import LANGUAGES, Language

# What a set is built on, its strengths are tuned on, and it is measured on must not be the same:
# places in every language's list.
PROMPTS_TO_RECORD = range(30)
PROMPTS_TO_TUNE = range(30, 45)
PROMPTS_TO_MEASURE = range(45, 60)

_FILE = Path(__file__).with_name("everyday_prompts.yaml")


@dataclass(frozen=True, slots=True)
class ContrastivePrompt:
    """A prompt that ends with the request to answer in a language.

    Args:
        text: The prompt, a space, and the instruction.
        language: Language of the prompt; the instruction may be in another.
        number: Place of the prompt in the list of its language, from 0; the same in all languages.
    """

    text: str
    language: Language
    number: int


@dataclass(frozen=True, slots=True)
class _Lists:
    """What the file holds; the prompts by language, in the order of their codes."""

    prompts: dict[Language, tuple[str, ...]]
    instructions: dict[Language, str]


def everyday_languages() -> tuple[Language, ...]:
    """Return the languages that there are prompts in, by code."""
    return tuple(_read_lists().prompts)


def everyday_prompts(language: Language) -> tuple[str, ...]:
    """Return the prompts in a language; the n-th means the same in every language.

    Raises:
        UnknownLanguageError: If there are none, naming the languages that have some.
    """
    prompts = _read_lists().prompts
    if language not in prompts:
        raise UnknownLanguageError(_no_prompts(language))
    return prompts[language]


def instruction(target: Language, *, in_english: bool) -> str:
    """Return the sentence that asks for an answer in a language.

    Args:
        target: The language of the answer; any, also one without prompts.
        in_english: In English ("Answer in French."), or in the target language itself, which
            falls back to English for a language without a sentence of its own.
    """
    english = f"Answer in {target.english_name}."
    return english if in_english else _read_lists().instructions.get(target, english)


def contrastive_prompts(
    target: Language,
    *,
    prompt_languages: Sequence[Language] | None = None,
    numbers: range = range(60),
    limit: int | None = None,
) -> list[ContrastivePrompt]:
    """Return prompts in several languages that all ask for an answer in one.

    The languages take turns while the number of the prompt advances, so that the first n prompts
    are spread evenly over languages and over prompts. Which prompts, in which languages and
    order, does not depend on the target: prompts at the same place differ in the instruction only.
    The instruction is in English or in the target language, by turns in each prompt language.

    Args:
        target: The language of the answer; any.
        prompt_languages: Languages of the prompts, in any order; those without prompts are left
            out. All that have prompts when omitted.
        numbers: Which of each language's prompts.
        limit: The most prompts to return, at least 1; every prompt in every language when omitted.

    Raises:
        UnknownLanguageError: If none of the prompt languages has prompts.
        SettingsError: If the limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise SettingsError(
            f"The limit of prompts is '{limit}'. Expected at least 1; raise or omit it."
        )
    languages = _choose_languages(prompt_languages)
    sentences = [instruction(target, in_english=in_english) for in_english in (True, False)]
    chosen = []
    for place, turn in _take_turns(len(languages), len(numbers))[:limit]:
        number = numbers[turn]
        # Not by number alone: two languages would then have one kind of sentence each.
        sentence = sentences[(place + number // len(languages)) % 2]
        prompt = everyday_prompts(languages[place])[number]
        chosen.append(ContrastivePrompt(f"{prompt} {sentence}", languages[place], number))
    return chosen


def _take_turns(languages: int, prompts: int) -> list[tuple[int, int]]:
    """Order all pairs of a language and a prompt such that both change at every step.

    Both go round; after a whole lap the same pairs would return, so prompts move up by one.
    """
    lap = lcm(languages, prompts)
    turns = range(languages * prompts)
    return [(turn % languages, (turn + turn // lap) % prompts) for turn in turns]


def _choose_languages(given: Sequence[Language] | None) -> list[Language]:
    """Sort those of the given languages that have prompts, each once."""
    known = everyday_languages()
    chosen = [language for language in known if given is None or language in given]
    if not chosen:
        raise UnknownLanguageError(_no_prompts(*(given or ())))
    return chosen


def _no_prompts(*languages: Language) -> str:
    known = ", ".join(map(str, everyday_languages()))
    return (
        f"No everyday prompts in '{','.join(map(str, languages))}'. Expected one of: {known}; "
        f"name one of these, or add a list to '{_FILE.name}'."
    )


@cache
def _read_lists() -> _Lists:
    content = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    prompts, instructions = content["prompts"], content["instructions"]
    return _Lists(
        {LANGUAGES[code]: tuple(prompts[code]) for code in sorted(prompts)},
        {LANGUAGES[code]: sentence for code, sentence in instructions.items()},
    )
