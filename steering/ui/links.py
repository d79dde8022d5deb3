"""What a link says of the choices, and what a browser keeps of them: how it is read and made.

Knows the names and values of choices, not their components.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from steering.errors import SteeringError, UnknownLanguageError
from steering.languages import Language, parse_language
from steering.methods import parse_method
from steering.ui.asking import NO_LANGUAGE, Chat
from steering.ui.strings import Told, locale_of, preferred_codes, say
from steering.ui.wording import Refusal, tell

MOST_CREATIVE = 1.5  # temperature

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
    limits = {"max_new_tokens": (1, chat.max_new_tokens), "temperature": (0, MOST_CREATIVE)}
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
