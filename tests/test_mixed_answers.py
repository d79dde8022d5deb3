"""Answers in two languages are off target, and what isn't language changes no verdict."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.detection import detect, language_of_prompt
from steering.languages import LANGUAGES
from tests.texts import TEXTS

FIFTEEN = [LANGUAGES[code] for code in TEXTS]
ENGLISH = {
    "preamble": "Of course, here is what you asked me to write: ",
    "closing": " I hope that this answers your question about the cat!",
    "middle": " However, the neighbours are not so happy with it. ",
}
CODES = sorted(set(TEXTS) - {"en"})


def paragraph(code: str) -> str:
    return " ".join(TEXTS[code][:4])


def verdict_of(text: str, code: str) -> str:
    return detect(text, expected=LANGUAGES[code], languages=FIFTEEN).verdict


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("place", ENGLISH)
@pytest.mark.parametrize("gap", ["", "\n\n"])
def test_an_english_sentence_is_seen_wherever_it_stands(code: str, place: str, gap: str) -> None:
    own, english = paragraph(code), ENGLISH[place]
    half = len(TEXTS[code][0]) + 1
    text = {
        "preamble": f"{english}{gap}{own}",
        "closing": f"{own}{gap}{english}",
        "middle": f"{own[:half]}{gap}{english}{gap}{own[half:]}",
    }[place]

    verdict = detect(text, expected=LANGUAGES[code], languages=FIFTEEN)

    assert verdict.verdict == "off_target"
    off = [one.text for one in verdict.sentences if one.verdict == "off_target"]
    assert off
    assert all(one.strip(" :!.") in english for one in off)


@pytest.mark.parametrize("code", TEXTS)
def test_a_paragraph_in_one_language_is_on_target(code: str) -> None:
    assert verdict_of(paragraph(code), code) == "on_target"


NOT_LANGUAGE = {
    "thoughts": "<think>\nThe person wants to know about the cat. I should be brief.\n</think>\n",
    "thoughts on a line": "<think>The person wants to know about the cat.</think> ",
    "imports": "import numpy as np\nfrom pathlib import Path\n\n",
    "loop": "for item in list_of_things:\n    print(item)\n    total = total + the_price\n\n",
    "stack trace": (
        'Traceback (most recent call last):\n  File "start.py", line 3, in <module>\n'
        "ValueError: could not convert the string to a number\n\n"
    ),
    "query": "SELECT name FROM customers\nWHERE city = 'Paris'\n\n",
    "shell": "$ sudo apt install the-package\npip install requests\n\n",
    "data": '{\n  "name": "the old cat",\n  "colour": "black"\n}\n\n',
    "page": "<p>\n<a href='x'>\n</a>\n</p>\n\n",
    "display": "$$\nf(x) = \\frac{a + b}{c} \\quad \\text{for all the values}\n$$\n",
    "titles": "1. The Return of the King\n2. Gone with the Wind\n3. The Big Sleep\n\n",
    "names": "Nairobi, Kenya\nLima, Peru\nOslo, Norway\n\n",
    "address": "https://example.com/this/is/the/english/page?what=the&how=that\n",
    "fence": "```python\n# this is the comment of the code\nreturn the_value\n```\n",
}


@pytest.mark.parametrize("code", TEXTS)
@pytest.mark.parametrize("name", NOT_LANGUAGE)
def test_what_is_not_language_changes_no_verdict(code: str, name: str) -> None:
    assert verdict_of(NOT_LANGUAGE[name] + paragraph(code), code) == "on_target"
    assert verdict_of(f"{paragraph(code)}\n{NOT_LANGUAGE[name]}", code) == "on_target"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["imports", "loop", "stack trace", "query", "data"])
def test_the_language_of_a_prompt_is_that_of_the_question_behind_its_code(
    code: str, name: str
) -> None:
    text = NOT_LANGUAGE[name] + TEXTS[code][1]

    assert language_of_prompt(text, languages=FIFTEEN) in (LANGUAGES[code], None)


@pytest.mark.parametrize(
    "text",
    [
        "From the house to the lake it is a short walk.",
        "If you like cats, come and see them.",
        "Return the book before Monday, please.",
        "Where do we meet tomorrow?",
        "For most people this is enough.",
        "Make a list of what you need and bring it.",
        "Update your calendar when you know the day.",
        "Import taxes are high this year, they say.",
        "I have $5 and you have $10, so we have enough money.",
    ],
)
def test_prose_is_not_taken_for_code(text: str) -> None:
    assert verdict_of(text, "en") == "on_target"
    assert verdict_of(text, "fr") == "off_target"


@pytest.mark.parametrize(
    "text",
    [
        "大阪府大阪市中央区大手前二丁目",
        "二〇二四年四月一日午前九時開始",
        "入場無料・予約不要",
    ],
)
def test_japanese_without_kana_is_never_off_target_for_japanese(text: str) -> None:
    assert verdict_of(text, "ja") in ("on_target", "too_short")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("用React和TypeScript写前端，用PostgreSQL保存数据。", "zh"),
        ("Docker ComposeとKubernetesを使って開発します。", "ja"),
        ("Мы используем Docker, Redis и PostgreSQL.", "ru"),
        ("نستخدم Visual Studio Code مع Docker.", "ar"),
        ("React Native로 앱을 만들고 Firebase를 씁니다.", "ko"),
        ("हम Visual Studio Code और Docker से काम करते हैं।", "hi"),
    ],
)
def test_product_names_do_not_outvote_the_grammar(text: str, code: str) -> None:
    assert verdict_of(text, code) == "on_target"


@given(
    st.sampled_from(sorted(TEXTS)),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from([" ", "  ", "\n", "\n\n", "\u00a0"]),
)
def test_form_and_white_space_change_no_verdict(code: str, form: str, space: str) -> None:
    text = unicodedata.normalize(form, space.join(TEXTS[code][:4]))

    assert verdict_of(f"{space}{text}{space}", code) == "on_target"
