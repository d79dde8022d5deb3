"""Tests of the choices above all tabs: how they are laid out and read."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from steering.languages import LANGUAGES
from steering.methods import METHODS, WHOLE_ANSWER_METHODS
from steering.ui.asking import Chat
from steering.ui.choices import Choices, language_choices, lay_out_choices, open_with
from steering.ui.links import link_js, read_link
from tests.ui.test_links import FULL

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))


@pytest.fixture
def choices(chat: Chat) -> Choices:
    with gr.Blocks():
        return lay_out_choices(chat, has_set=True)


def read_values(choices: Choices, chat: Chat, **changes: object) -> Any:
    values = {name: getattr(component, "value", None) for name, component in choices.named()}
    return choices.read([*{**values, **changes}.values()], chat)


def test_a_links_values_are_those_that_a_wish_is_read_of(choices: Choices, chat: Chat) -> None:
    values, _ = read_link(FULL, None, chat)
    wish = read_values(choices, chat, **values)

    assert (wish.language, wish.level, wish.method) == (FR, "strong", FULL["method"])
    assert (wish.is_damped, wish.has_guard, wish.max_new_tokens) == (True, False, 7)
    assert (wish.temperature, wish.seed) == (0.5, 12)


def test_languages_are_named_in_both_ways_and_ordered_by_english_name() -> None:
    (first, second, third, _) = language_choices((JA, FR, EN))

    assert first == ("English", "en")
    assert second == ("français (French)", "fr")
    assert third == ("日本語 (Japanese)", "ja")


@pytest.mark.parametrize("has_set", [True, False])
def test_what_can_be_chosen_is_closed_until_the_link_is_read(has_set: bool, chat: Chat) -> None:
    with gr.Blocks():
        choices = lay_out_choices(chat, has_set=has_set)

    assert [component.interactive for component in choices.all()] == [False] * 8
    assert open_with({"seed": 7}, "seed") == gr.update(interactive=True, value=7)
    assert open_with({"seed": 7}, "level") == gr.update(interactive=True)


def test_the_components_as_they_are_laid_out_are_the_usual_wish(
    choices: Choices, chat: Chat
) -> None:
    wish = read_values(choices, chat)

    assert (wish.language, wish.level, wish.method) == (FR, "normal", "")
    assert (wish.is_damped, wish.has_guard, wish.max_new_tokens) == (False, True, 40)


def test_every_method_can_be_chosen(choices: Choices) -> None:
    assert [value for _, value in choices.method.choices] == ["", *WHOLE_ANSWER_METHODS, *METHODS]


def test_a_link_names_every_choice_in_the_order_of_its_components(choices: Choices) -> None:
    function = link_js()
    places = [function.index(f'"{name}"') for name in FULL]

    assert len(choices.all()) == len(FULL)
    assert places == sorted(places)
