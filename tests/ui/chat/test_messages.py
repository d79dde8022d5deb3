"""Tests of the way from the conversation to the Chatbot and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.conversation import Message
from steering.countable_text import split_sentences
from steering.ui.chat import messages
from steering.ui.chat.messages import (
    ShownMessage,
    Stray,
    show_answer,
    show_question,
    show_written,
    to_plain,
)

QUESTION = show_question("Where is the cat?")
ANSWER = show_answer("Le chat dort.", "<span>✓ French</span>")


def test_blocks_give_the_words_without_the_line_under_them() -> None:
    assert to_plain([QUESTION, ANSWER]) == [
        Message("user", "Where is the cat?"),
        Message("assistant", "Le chat dort."),
    ]


def test_plain_strings_give_the_same_as_blocks() -> None:
    shown = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Salut"}]

    assert to_plain(shown) == [Message("user", "Hi"), Message("assistant", "Salut")]


@pytest.mark.parametrize(
    "shown",
    [
        {"role": "assistant", "content": "thinking", "metadata": {"title": "A thought"}},
        {"role": "user", "content": [{"type": "file", "file": {"path": "a.png"}}]},
        {"role": "user", "content": {"type": "component", "component": "image"}},
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": ""},
    ],
)
def test_what_is_not_said_is_left_out(shown: ShownMessage) -> None:
    assert to_plain([shown]) == []


def test_no_history_is_no_conversation() -> None:
    assert to_plain(None) == []


def test_content_may_be_a_list_of_strings() -> None:
    assert to_plain([{"role": "user", "content": ["Hi"]}]) == [Message("user", "Hi")]


@given(st.text(alphabet="ab<>&;!#[]()`\n 鱼lt3mp", min_size=1))
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert to_plain([show_question(text)]) == [Message("user", text)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "<\u200bimg src=x onerror=alert(1)>"),
        ("see ![a](http://b/c.png)", "see !\u200b[a](http://b/c.png)"),
        ("`a < b & c` is < c & d", "`a <\u200b b & c` is <\u200b c &amp; d"),
        ("```\n<b>&\n```\n<b>&", "```\n<\u200bb>&\n```\n<\u200bb>&amp;"),
        ("&lt;b>", "&amp;lt;b>"),
    ],
)
def test_tags_and_pictures_show_as_they_are_written_and_are_none(text: str, shown: str) -> None:
    assert messages.escape_tags(text) == shown
    assert messages.unescape_tags(shown) == text


def test_a_history_is_cut_at_its_last_question() -> None:
    history = [QUESTION, ANSWER, QUESTION, ANSWER]

    assert messages.up_to_question(history) == history[:3]
    assert messages.before_question(history) == history[:2]
    assert messages.up_to_question([]) == messages.before_question([]) == []


def test_questions_without_an_answer_are_left_out_but_the_last() -> None:
    said = [
        Message("user", "stopped at once"),
        Message("user", "one"),
        Message("assistant", "un"),
        Message("user", "two"),
    ]

    assert messages.answerable(said) == said[1:]
    assert messages.answerable([]) == []


@given(st.text(alphabet="ab<>&;!#[]()`.\n 鱼'\"-", min_size=1), st.sets(st.integers(0, 9)))
def test_a_marked_answer_is_still_what_was_said(text: str, places: set[int]) -> None:
    sentences = split_sentences(text)
    strays = [Stray(s, "it's <b>") for place, s in enumerate(sentences) if place in places]

    assert to_plain([show_answer(text, "badge", strays)]) == [Message("assistant", text)]


def test_a_mark_leaves_the_lines_beginning_and_code_alone() -> None:
    text = "- The cat sleeps.\n`The dog.` Oui."
    strays = [Stray("- The cat sleeps.", "English"), Stray("`The dog.`", "English")]

    shown = show_answer(text, "", strays)["content"][0]["text"]

    assert shown == (
        '- <mark class="stray">The cat sleeps.</mark><span class="why"> ✗ English</span>\n'
        "`The dog.` Oui."
    )


@pytest.mark.parametrize(
    "text",
    [
        "\\`<img src=x onerror=alert(1)>`",
        "x ```\n\n<img src=x>",
        "`\n`<img src=x>",
        "~~~\n```\n~~~\n<form action=x>",
        "- a\n\n  ```\n<b>",
        "<!-- a -->",
    ],
)
def test_no_tag_is_left_wherever_markdown_may_see_code(text: str) -> None:
    (block,) = show_question(text)["content"]

    assert re.search(r"<[a-zA-Z/!?]", block["text"]) is None
    assert to_plain([show_question(text)]) == [Message("user", text)]


@given(st.text(alphabet="ab<>&;!#[]()`\n 鱼-*1.", min_size=1), st.integers(0, 40))
def test_what_is_dimmed_comes_back_as_it_was(text: str, settled: int) -> None:
    shown = show_written(text, "Writing …", "en", settled=settled)

    assert to_plain([shown]) == [Message("assistant", text)]


@pytest.mark.parametrize(
    ("text", "settled", "shown"),
    [
        ("Le chat dort", 12, "Le chat dort"),
        ("Le chat dort", 7, 'Le chat<span class="unsettled"> dort</span>'),
        ("- Un\n- Deux\n", 0, '- <span class="unsettled">Un</span>\n- <span class="unsettled">'
                               "Deux</span>\n"),
        ("Un `a b` c", 0, 'Un `a b`<span class="unsettled"> c</span>'),
        ("```\nx = 1", 0, "```\nx = 1"),
    ],
)  # fmt: skip
def test_what_is_not_settled_is_dimmed_line_by_line_but_for_code(
    text: str, settled: int, shown: str
) -> None:
    made = show_written(text, "Writing …", "en", settled=settled)

    assert made["content"][0]["text"] == shown
