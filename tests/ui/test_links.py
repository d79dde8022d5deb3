"""Tests of what a link, a browser and what it has kept wish of the choices."""

from __future__ import annotations

import gradio as gr
import pytest

from steering.languages import LANGUAGES
from steering.ui.asking import NO_LANGUAGE, Chat
from steering.ui.links import first_choice, read_link, read_wishes
from steering.ui.strings import read_strings

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))
FULL = {
    "lang": "fr", "steering": "strong", "method": "lape@5+diffmean/L1@1", "damp": "1",
    "guard": "0", "length": "7", "creativity": "0.5", "seed": "12",
}  # fmt: skip


def test_a_whole_link_sets_every_choice(chat: Chat) -> None:
    values, problems = read_link(FULL, "ja", chat)

    assert problems == []
    assert values == {
        "language": "fr", "level": "strong", "method": "lape@5+diffmean/L1@1", "is_damped": True,
        "has_guard": False, "max_new_tokens": 7, "temperature": 0.5, "seed": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"lang": "xx"}, "xx"),
        ({"lang": "vi"}, "vi"),  # known, but not of this set
        ({"lang": "fr,en"}, "fr,en"),
        ({"steering": "<script>alert(1)</script>"}, "<script>alert(1)</script>"),
        ({"steering": "brutal"}, "brutal"),
        ({"method": "magic"}, "magic"),
        ({"method": "lape'; drop"}, "lape'; drop"),
        ({"damp": "yes"}, "yes"),
        ({"guard": "2"}, "2"),
        ({"length": "-3"}, "-3"),
        ({"length": "0"}, "0"),
        ({"length": "41"}, "41"),
        ({"length": "many"}, "many"),
        ({"creativity": "9"}, "9"),
        ({"creativity": "nan"}, "nan"),
        ({"seed": "-1"}, "-1"),
        ({"seed": "1.7"}, "1.7"),
        ({"length": "12.9"}, "12.9"),
        ({"seed": "inf"}, "inf"),
        ({"seed": "1" * 400}, "1" * 40),
    ],
)
def test_what_a_link_says_wrongly_is_named_and_left_out(
    query: dict[str, str], named: str, chat: Chat
) -> None:
    values, problems = read_link(query, None, chat)

    assert values == {"language": "fr"}
    (problem,) = problems
    ((name, _),) = query.items()
    assert str(problem).startswith(f"?{name}={named}: ")
    assert len(str(problem)) < 600


def test_what_the_browser_has_kept_holds_where_the_link_says_nothing(chat: Chat) -> None:
    kept = {"lang": "ja", "steering": "strong", "guard": "0", "seed": "7"}
    values = {"language": "ja", "level": "strong", "has_guard": False, "seed": 7}

    assert read_link({}, "fr", chat, kept=kept) == (values, [])
    assert read_link({"lang": "en"}, "fr", chat, kept=kept) == ({**values, "language": "en"}, [])


@pytest.mark.parametrize(
    "kept",
    [{"lang": "xx", "steering": "enormous", "seed": None, "length": [3]}, None, "x", ["lang"]],
)
def test_what_was_kept_for_another_model_or_is_broken_is_left_out_in_silence(
    kept: object, chat: Chat
) -> None:
    assert read_link({}, "ja", chat, kept=kept) == ({"language": "ja"}, [])


def test_what_was_kept_holds_where_the_link_is_wrong(chat: Chat) -> None:
    values, problems = read_link({"lang": "xx"}, "fr", chat, kept={"lang": "ja"})

    assert values["language"] == "ja"
    assert len(problems) == 1


def test_a_link_can_name_the_models_own_method(chat: Chat) -> None:
    values, _ = read_link({"method": ""}, None, chat, kept={"method": "lape"})

    assert values["method"] == ""


def test_all_problems_of_a_link_are_named_and_the_rest_of_it_counts(chat: Chat) -> None:
    values, problems = read_link({**FULL, "lang": "xx", "length": "-3"}, "ja", chat)

    assert len(problems) == 2
    assert values["language"] == "ja"
    assert values["level"] == "strong"
    assert "max_new_tokens" not in values


def test_a_number_that_makes_no_sense_is_told_in_the_readers_language(chat: Chat) -> None:
    _, (problem,) = read_link({"length": "-3"}, None, chat, locale="ja")

    assert str(problem) == f"?length=-3：{read_strings()['link_value']['ja']}"


def test_an_unknown_language_of_a_link_is_told_in_the_readers_language(chat: Chat) -> None:
    _, (problem,) = read_link({"lang": "xx"}, None, chat, locale="fr")

    assert str(problem) == (
        "?lang=xx : La langue « xx » n’existe pas ici. Il y a : en, fr, ja, sw, th. "
        "Une autre a été choisie."
    )


def test_what_the_library_says_of_a_link_is_led_by_the_readers_language(chat: Chat) -> None:
    _, (problem,) = read_link({"method": "<magic>"}, None, chat, locale="ar")

    said, english = problem.html.split('<span lang="en" dir="ltr">')
    assert read_strings()["link_value"]["ar"] in said
    assert "Unknown steering method '&lt;magic&gt;'" in english


@pytest.mark.parametrize("query", [{}, {"lang": " "}, {"__theme": "dark"}, {"length": ""}])
def test_what_a_link_does_not_say_is_left_as_it_is(query: dict[str, str], chat: Chat) -> None:
    assert read_link(query, None, chat) == ({"language": "fr"}, [])


@pytest.mark.parametrize(
    ("query", "header", "code"),
    [
        ({}, "ja,fr;q=0.5", "ja"),
        ({}, "vi,ja;q=0.5", "ja"),
        ({}, "en-GB", "en"),
        ({}, "vi", "fr"),
        ({}, None, "fr"),
        ({"lang": "ja"}, "en", "ja"),
        ({"lang": "JA"}, "en", "ja"),
        ({"lang": "none"}, "en", NO_LANGUAGE),
        ({"lang": "xx"}, "en", "en"),
    ],
)
def test_the_link_decides_the_first_language_then_the_browser(
    query: dict[str, str], header: str | None, code: str, chat: Chat
) -> None:
    headers = {} if header is None else {"accept-language": header}
    request = gr.Request(query_params=query, headers=headers)

    assert read_link(query, header, chat)[0]["language"] == code
    assert read_wishes(request, chat) == read_link(query, header, chat)


def test_nobody_who_asks_wishes_for_what_was_kept(chat: Chat) -> None:
    assert read_wishes(None, chat, {"lang": "ja"}) == ({"language": "ja"}, [])


def test_without_the_languages_that_are_wanted_none_is_chosen() -> None:
    assert first_choice((EN,)) == NO_LANGUAGE
    assert first_choice(()) == NO_LANGUAGE
