"""The choices that all tabs share: which language, how strongly, and what is under "Advanced".

Lays their components out, reads what a link or a browser wishes at first, and makes such a link.
Knows languages, methods and words, not what is done with a choice.
"""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from steering.errors import SteeringError, UnknownLanguageError
from steering.languages import Language, parse_language
from steering.methods import METHODS, parse_method
from steering.ui.asking import LEVELS, NO_LANGUAGE, Chat, Wish
from steering.ui.share_link import offer_link
from steering.ui.strings import Told, label, locale_of, preferred_codes, say
from steering.ui.wording import Refusal, tell

_STEPS = 0.1  # of the slider of creativity
_MOST_CREATIVE = 1.5
_SHOWN_LETTERS = 40  # of what a link says, where that is wrong

# What a component is called in a link.
_NAMES = {
    "language": "lang",
    "level": "steering",
    "method": "method",
    "is_damped": "damp",
    "has_guard": "guard",
    "max_new_tokens": "length",
    "temperature": "creativity",
    "seed": "seed",
}
# Of the browser: a choice's value as it stands in a link.
_AS_TEXT = "value => String(typeof value === 'boolean' ? +value : value)"


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
            [(label("method_own"), ""), *((name, name) for name in METHODS)],
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
            0.0, _MOST_CREATIVE, value=0.0, step=_STEPS,
            label=label("creativity"), info=label("creativity_info"), interactive=False,
            min_width=180,
        )  # fmt: skip
        seed = gr.Number(
            value=0, precision=0, minimum=0, maximum=2**31 - 1,
            label=label("seed"), info=label("seed_info"), interactive=False, min_width=120,
        )  # fmt: skip
    return method, is_damped, has_guard, length, creativity, seed


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


def first_choice(languages: Sequence[Language], wanted: Sequence[str] = ()) -> str:
    """Return the first wanted language that there is, else French, else one that is not English."""
    codes = [*(language.code for language in languages), NO_LANGUAGE]
    preferred = (*wanted, "fr", *(code for code in codes if code != "en"))
    return next(code for code in preferred if code in codes)


def read_wishes(
    request: gr.Request | None, chat: Chat, kept: object = None
) -> tuple[dict[str, Any], list[Told]]:
    """Return what `read_link` does of the link and the browser that a request names."""
    if request is None:
        return read_link({}, None, chat, kept=kept)
    link, accepted = dict(request.query_params), request.headers.get("accept-language")
    return read_link(link, accepted, chat, locale=locale_of(request), kept=kept)


def read_link(
    query: Mapping[str, str],
    accept_language: str | None,
    chat: Chat,
    *,
    locale: str = "en",
    kept: object = None,
) -> tuple[dict[str, Any], list[Told]]:
    """Return the values that a link and a browser wish at first, and what is wrong with them.

    Args:
        query: The link's, such as `{"lang": "fr"}`; what it does not name is left out.
        accept_language: The browser's header, for the language where the link has none.
        chat: Says which languages there are.
        locale: Of whoever reads the problems.
        kept: What the browser has kept, from `keep_js`: it holds where the link says nothing that
            can be. It comes from a browser, so anything may be there.

    Returns:
        Values by name as in `Choices`, and problems with what the link says in them; what is wrong
        is left out.
    """
    problems: list[Told] = []
    found: dict[str, Any] = {}
    for name, short in _NAMES.items():
        asked = query.get(short, "").strip()
        if asked or (name == "method" and short in query):  # the model's own has no name
            try:
                found[name] = _read_value(name, asked, chat)
                continue
            except (SteeringError, ValueError) as err:
                problems.append(_problem(f"?{short}={query[short][:_SHOWN_LETTERS]}", err, locale))
        if isinstance(kept, Mapping) and short in kept:
            with contextlib.suppress(SteeringError, ValueError):  # of another day or model
                found[name] = _read_value(name, str(kept[short]), chat)
    if "language" not in found:
        found["language"] = first_choice(chat.languages, preferred_codes(accept_language))
    return found, problems


def open_with(wished: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the update that lets people choose, beginning with what `read_link` found if it did.

    Args:
        wished: The first of what `read_link` returns.
        name: The component's, as in `Choices`.
    """
    value = {"value": wished[name]} if name in wished else {}
    return gr.update(interactive=True, **value)


def _read_value(name: str, text: str, chat: Chat) -> Any:
    """Return one value of a link.

    Raises:
        SteeringError: If it is not among those that there are.
        ValueError: If it is no number of the range.
    """
    if name == "language":
        return _read_language(text, chat)
    if name == "level":
        return chat.read_wish("", text).level
    if name == "method":
        if text:
            parse_method(text)
        return text
    if name in ("is_damped", "has_guard"):
        if text not in ("0", "1"):
            raise ValueError(text)
        return text == "1"
    number = float(text) if name == "temperature" else int(text)
    limits = {"max_new_tokens": (1, chat.max_new_tokens), "temperature": (0, _MOST_CREATIVE)}
    low, high = limits.get(name, (0, 2**31 - 1))
    if not low <= number <= high:
        raise ValueError(text)
    return number


def _read_language(text: str, chat: Chat) -> str:
    if text.lower() == NO_LANGUAGE:
        return NO_LANGUAGE
    try:
        return parse_language(text, known=chat.languages).code
    except UnknownLanguageError as err:
        if not chat.languages:
            raise
        codes = ", ".join(sorted(language.code for language in chat.languages))
        raise Refusal("link_language", language=text[:_SHOWN_LETTERS], languages=codes) from err


def _problem(asked: str, err: Exception, locale: str) -> Told:
    """Say what is wrong with a value of a link; the page goes on without it."""
    if not isinstance(err, SteeringError):
        return Told(say("link_problem", locale, asked=asked, problem=say("link_value", locale)))
    told = tell("link_value", err, locale)
    return Told(say("link_problem", locale, asked=asked, problem=told.said), told.english)


def _whole(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, (int, float)) else otherwise


def link_js() -> str:
    """Return the function of the browser that makes a link of the choices' values."""
    return (
        f"(...values) => {{ const query = new URLSearchParams(); const asText = {_AS_TEXT}; "
        f"{json.dumps(list(_NAMES.values()))}.forEach((name, place) => {{ "
        "if (values[place] !== null) query.set(name, asText(values[place])); }); "
        "return location.origin + location.pathname + '?' + query; }"
    )


def keep_js(name: str) -> str:
    """Return the function of the browser that adds one choice to what is kept of them.

    It also writes it into the address, which holds again after a reload: in this window alone.

    Args:
        name: The component's, as in `Choices`.
    """
    short = json.dumps(_NAMES[name])
    return (
        f"(value, kept) => {{ const all = {{...kept}}, address = new URL(location); "
        f"delete all[{short}]; address.searchParams.delete({short}); "
        f"if (value !== null) {{ all[{short}] = ({_AS_TEXT})(value); "
        f"address.searchParams.set({short}, all[{short}]); }} "
        "if (address.href !== location.href) "
        "try { history.replaceState(history.state, '', address); } catch {} "  # Safari counts them
        "return all; }"
    )
