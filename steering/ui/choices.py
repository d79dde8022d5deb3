"""The choices that all tabs share: which language, how strongly, and what is under "Advanced".

Lays their components out and reads them. Knows languages, methods and words, not what is done with
a choice, nor how a link says it (`links.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from steering.languages import Language
from steering.methods import METHODS, WHOLE_ANSWER_METHODS
from steering.ui.asking import LEVELS, NO_LANGUAGE, Chat, Wish
from steering.ui.links import MOST_CREATIVE, first_choice, link_js
from steering.ui.share_link import offer_link
from steering.ui.strings import label

_STEPS = 0.1  # of the slider of creativity


@dataclass(frozen=True, slots=True)
class Choices:
    """The components, named as in `Wish`."""

    language: gr.Dropdown
    level: gr.Radio
    method: gr.Dropdown
    is_damped: gr.Checkbox
    has_guard: gr.Checkbox
    max_new_tokens: gr.Slider
    temperature: gr.Slider
    seed: gr.Number

    def all(self) -> list[Component]:
        """Return them in the order in which `read` takes their values."""
        return [component for _, component in self.named()]

    def named(self) -> list[tuple[str, Component]]:
        """Return names and components, in the order of `all`."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def changes(self) -> list[Callable[..., Dependency]]:
        """Return the events of their changes, by a person or a listener."""
        return [
            self.language.change, self.level.change, self.method.change, self.is_damped.change,
            self.has_guard.change, self.max_new_tokens.change, self.temperature.change,
            self.seed.change,
        ]  # fmt: skip

    def chosen(self) -> dict[str, list[Callable[..., Dependency]]]:
        """Return the events of a person's own choices, by the components' names."""
        length, creativity = self.max_new_tokens, self.temperature
        return {
            "language": [self.language.input],
            "level": [self.level.input],
            "method": [self.method.input],
            "is_damped": [self.is_damped.input],
            "has_guard": [self.has_guard.input],
            "max_new_tokens": [length.input, length.release],  # also when it is set back
            "temperature": [creativity.input, creativity.release],
            "seed": [self.seed.input],
        }

    def steering(self) -> list[Component]:
        """Return those that mean something only where there is a neuron set."""
        return [self.language, self.level, self.method, self.is_damped, self.has_guard]

    def read(self, values: Sequence[Any], chat: Chat) -> Wish:
        """Return the wish that the components' values stand for.

        Args:
            values: In the order of `all`.
            chat: Says which languages and lengths there are.

        Raises:
            SteeringError: In words for the person.
        """
        named = dict(zip((field.name for field in fields(self)), values, strict=True))
        rest = Wish(
            None,
            method=str(named["method"] or ""),
            is_damped=bool(named["is_damped"]),
            has_guard=bool(named["has_guard"]),
            max_new_tokens=_whole(named["max_new_tokens"], chat.max_new_tokens),
            temperature=float(named["temperature"] or 0.0),
            seed=_whole(named["seed"], 0),
        )
        language, level = named["language"], named["level"]
        return chat.read_wish(str(language or NO_LANGUAGE), str(level or "normal"), rest)


def lay_out_choices(chat: Chat, *, has_set: bool) -> Choices:
    """Make the components, all closed until it is known what a link and the browser wish.

    Args:
        chat: Says which languages and lengths there are.
        has_set: Without one, nobody can choose a language until there is one.
    """
    languages = chat.languages if has_set else ()
    with gr.Row(elem_id="choices"):
        language = gr.Dropdown(
            language_choices(languages),
            value=first_choice(languages),
            label=label("answer_language"),
            filterable=True,
            min_width=220,
            interactive=False,
            elem_id="language",
        )
        level = gr.Radio(
            [(label(f"level_{level}"), level) for level in LEVELS],
            value="normal",
            label=label("steering"),
            min_width=280,
            interactive=False,
            elem_id="level",
        )
    with gr.Accordion(label("advanced"), open=False, elem_id="advanced"):
        choices = Choices(language, level, *_lay_out_advanced(chat))
        offer_link(choices.all(), link_js())
    return choices


def _lay_out_advanced(
    chat: Chat,
) -> tuple[gr.Dropdown, gr.Checkbox, gr.Checkbox, gr.Slider, gr.Slider, gr.Number]:
    with gr.Row():
        method = gr.Dropdown(
            [
                (label("method_own"), ""),
                *((name, name) for name in (*WHOLE_ANSWER_METHODS, *METHODS)),
            ],
            value="",
            label=label("method"),
            info=label("method_info"),
            allow_custom_value=True,
            interactive=False,
            min_width=220,
        )
        with gr.Column(min_width=220):
            has_guard = gr.Checkbox(value=True, label=label("guard"), interactive=False)
            is_damped = gr.Checkbox(label=label("damping"), interactive=False)
    with gr.Row():
        length = gr.Slider(
            1, chat.max_new_tokens, value=chat.max_new_tokens, step=1,
            label=label("length"), info=label("length_info"), interactive=False, min_width=180,
        )  # fmt: skip
        creativity = gr.Slider(
            0.0, MOST_CREATIVE, value=0.0, step=_STEPS,
            label=label("creativity"), info=label("creativity_info"), interactive=False,
            min_width=180,
        )  # fmt: skip
        seed = gr.Number(
            value=0, precision=0, minimum=0, maximum=2**31 - 1,
            label=label("seed"), info=label("seed_info"), interactive=False, min_width=120,
        )  # fmt: skip
    return method, is_damped, has_guard, length, creativity, seed


def open_with(wished: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the update that lets people choose, beginning with what a link or the browser wishes.

    Args:
        wished: From `read_wishes`.
        name: The component's, as in `Choices`.
    """
    value = {"value": wished[name]} if name in wished else {}
    return gr.update(interactive=True, **value)


def language_choices(languages: Sequence[Language]) -> list[tuple[Any, str]]:
    """Return label and code of every choice, by English name, then the choice of none."""
    named: list[tuple[Any, str]] = [
        (
            language.english_name
            if language.native_name == language.english_name
            else f"{language.native_name} ({language.english_name})",
            language.code,
        )
        for language in sorted(languages, key=lambda language: language.english_name)
    ]
    return [*named, (label("no_language"), NO_LANGUAGE)]


def _whole(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, (int, float)) else otherwise
