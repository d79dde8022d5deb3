"""Tests of the prompts that come with the program, and of the order they are asked in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from steering.detection import identify_reply, is_decided
from steering.errors import SettingsError, UnknownLanguageError
from steering.everyday_prompts import (
    contrastive_prompts,
    everyday_languages,
    everyday_prompts,
    instruction,
)
from steering.languages import LANGUAGES, Language

ROOT = Path(__file__).resolve().parent.parent
EVERYDAY = everyday_languages()
TARGETS = [LANGUAGES[code] for code in ("fr", "ja", "en", "nl")]
DE, EN, FR, NL, TH, ZH = (LANGUAGES[code] for code in ("de", "en", "fr", "nl", "th", "zh"))
ALL = 15 * 60

# A prompt is one short sentence. N-grams take "¿Cómo puedo empezar a aprender a dibujar?" for
# Portuguese and leave "Why do cats purr?" undecided; at most 2 of 60 in a language as measured.
MOST_UNDECIDED = 3
ENDS = {"ar": ("؟", "."), "hi": ("?", "।"), "ja": ("？", "。"), "zh": ("？", "。")}
LATIN = re.compile(r"[A-Za-z]")

each_language = pytest.mark.parametrize("language", EVERYDAY, ids=str)


def count_prompt_languages(limit: int, *languages: Language) -> Counter[str]:
    chosen = contrastive_prompts(FR, prompt_languages=languages or None, limit=limit)
    return Counter(prompt.language.code for prompt in chosen)


def test_languages_are_the_fifteen_by_code() -> None:
    assert " ".join(map(str, EVERYDAY)) == "ar de en es fr hi id it ja ko pt ru tr vi zh"


@each_language
def test_every_list_has_sixty_different_stripped_lines(language: Language) -> None:
    prompts = everyday_prompts(language)

    assert len(prompts) == len(set(prompts)) == 60
    for prompt in prompts:
        assert prompt == " ".join(prompt.split())
        assert 5 < len(prompt) < 80


@each_language
def test_prompts_are_in_their_language(language: Language) -> None:
    prompts = everyday_prompts(language)
    guesses = {prompt: identify_reply(prompt, languages=EVERYDAY) for prompt in prompts}

    doubtful = [
        (prompt, str(guess.language))
        for prompt, guess in guesses.items()
        if guess.language != language or not is_decided(guess)
    ]

    assert len(doubtful) <= MOST_UNDECIDED, doubtful


@each_language
def test_prompts_end_as_sentences_of_their_language_do(language: Language) -> None:
    ends = ENDS.get(language.code, ("?", "."))

    assert [p for p in everyday_prompts(language) if not p.endswith(ends)] == []


@each_language
def test_languages_of_other_scripts_have_no_latin_letters(language: Language) -> None:
    if language.script == "Latn":
        assert all(LATIN.search(prompt) for prompt in everyday_prompts(language))
    else:
        assert [p for p in everyday_prompts(language) if LATIN.search(p)] == []


def test_spanish_questions_are_opened() -> None:
    for prompt in everyday_prompts(LANGUAGES["es"]):
        assert prompt.count("¿") == prompt.count("?")


def test_lists_are_parallel() -> None:
    """A line that slipped shows where a question stands beside a request in most languages."""
    rows = list(zip(*(everyday_prompts(language) for language in EVERYDAY), strict=True))

    requests = [number for number, row in enumerate(rows) if sum(is_request(p) for p in row) > 7]

    assert requests == [6, 16, 26, 36, 46]
    for number, row in enumerate(rows):
        assert all(is_request(prompt) for prompt in row) or number not in requests


def is_request(prompt: str) -> bool:
    return not re.search(r"[?？؟]", prompt)


@each_language
def test_no_prompt_names_a_language(language: Language) -> None:
    names = {one.english_name for one in EVERYDAY} | {one.native_name for one in EVERYDAY}

    text = " ".join(everyday_prompts(language)).lower()

    assert [name for name in names if re.search(rf"\b{name.lower()}\b", text)] == []


def test_language_without_prompts_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UnknownLanguageError,
        match=r"No everyday prompts in 'th'.* one of: ar, de, .*, vi, zh; .* add a list",
    ):
        everyday_prompts(TH)


@each_language
def test_instruction_is_in_english_or_in_the_language_itself(language: Language) -> None:
    own = instruction(language, in_english=False)

    assert instruction(language, in_english=True) == f"Answer in {language.english_name}."
    assert own == own.strip()
    assert own.endswith((".", "。", "।"))
    if language != EN:  # "Answer in English." has too few letters, and is compared above
        assert identify_reply(own, languages=EVERYDAY).language == language


def test_own_instructions_differ() -> None:
    assert len({instruction(language, in_english=False) for language in EVERYDAY}) == 15


def test_language_without_an_own_sentence_is_asked_for_in_english() -> None:
    assert instruction(NL, in_english=False) == "Answer in Dutch."


def test_all_prompts_in_all_languages_come_once() -> None:
    chosen = contrastive_prompts(FR)

    assert len(chosen) == ALL
    assert len({(prompt.language, prompt.number) for prompt in chosen}) == ALL


def test_text_is_the_prompt_and_the_instruction_for_the_target() -> None:
    sentences = [instruction(ZH, in_english=in_english) for in_english in (True, False)]

    for prompt in contrastive_prompts(ZH):
        asked = everyday_prompts(prompt.language)[prompt.number]
        assert prompt.text in [f"{asked} {sentence}" for sentence in sentences]


@pytest.mark.parametrize("languages", [None, [DE], [EN, ZH], [DE, FR, EN, ZH]], ids=str)
@pytest.mark.parametrize("limit", [None, 1, 37], ids=str)
def test_targets_differ_in_the_instruction_only(
    languages: list[Language] | None, limit: int | None
) -> None:
    places = [
        [
            (prompt.language, prompt.number)
            for prompt in contrastive_prompts(target, prompt_languages=languages, limit=limit)
        ]
        for target in TARGETS
    ]

    assert all(row == places[0] for row in places)


def test_kind_of_instruction_at_a_place_is_the_same_for_every_target() -> None:
    french, japanese = (
        [prompt.text.endswith(f"Answer in {target.english_name}.") for prompt in chosen]
        for target in TARGETS[:2]
        for chosen in [contrastive_prompts(target)]
    )

    assert french == japanese


@pytest.mark.parametrize("limit", [1, 7, 15, 16, 44, 60, 61, 200, 899, ALL, ALL + 1])
def test_limit_gives_that_many_spread_evenly(limit: int) -> None:
    chosen = contrastive_prompts(FR, limit=limit)
    languages = Counter(prompt.language for prompt in chosen)
    numbers = Counter(prompt.number for prompt in chosen)

    assert len(chosen) == min(limit, ALL)
    assert chosen == contrastive_prompts(FR)[:limit]
    assert spread(languages, of=15) <= 1
    assert spread(numbers, of=60) <= 1


def spread(counts: Counter[int] | Counter[Language], *, of: int) -> int:
    """The most minus the least, where what never came counts as zero."""
    return max(counts.values()) - (min(counts.values()) if len(counts) == of else 0)


@pytest.mark.parametrize("count", range(1, 16))
def test_any_number_of_languages_comes_evenly_and_completely(count: int) -> None:
    languages = EVERYDAY[:count]
    chosen = contrastive_prompts(FR, prompt_languages=languages)

    assert len({(prompt.language, prompt.number) for prompt in chosen}) == count * 60
    assert set(count_prompt_languages(count * 7, *languages).values()) == {7}
    assert all(a.number != b.number for a, b in pairwise(chosen))


@pytest.mark.parametrize("languages", [None, [DE, FR], [DE, FR, ZH], [DE, EN, FR, ZH]], ids=str)
def test_half_of_the_instructions_of_each_prompt_language_are_in_english(
    languages: list[Language] | None,
) -> None:
    chosen = contrastive_prompts(FR, prompt_languages=languages, limit=60)

    asked = Counter(p.language for p in chosen if p.text.endswith("Answer in French."))

    given = languages or EVERYDAY
    for language in given:  # of an odd number, one more or one less
        assert abs(2 * asked[language] - 60 // len(given)) <= 1


def test_order_and_repetition_of_prompt_languages_do_not_matter() -> None:
    assert contrastive_prompts(FR, prompt_languages=[ZH, DE, ZH]) == contrastive_prompts(
        FR, prompt_languages=[DE, ZH]
    )


def test_prompt_languages_without_prompts_are_left_out() -> None:
    assert count_prompt_languages(10, TH, DE, NL, ZH) == {"de": 5, "zh": 5}


@pytest.mark.parametrize(("languages", "named"), [([TH, NL], "th,nl"), ([], "")])
def test_no_prompt_language_with_prompts_is_refused(languages: list[Language], named: str) -> None:
    with pytest.raises(UnknownLanguageError, match=f"No everyday prompts in '{named}'"):
        contrastive_prompts(FR, prompt_languages=languages)


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(SettingsError, match=f"limit of prompts is '{limit}'. Expected at least 1"):
        contrastive_prompts(FR, limit=limit)


def test_import_steering_does_not_load_yaml() -> None:
    code = "import sys, steering; print('yaml' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "False"
