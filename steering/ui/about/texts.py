"""What the page says about itself, as HTML: what it is, its limits, privacy, and its origin.

Knows words and neuron sets, not components or the model.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.languages import Language
from steering.loading import BUNDLED_MODEL
from steering.neuron_set import NeuronSet, StrengthLevel
from steering.neuron_set_file import hash_neuron_set
from steering.report_card.facts import collect_facts, plain
from steering.ui.badges import name_in
from steering.ui.strings import say

_ELSEWHERE = "neurons.safetensors"  # what a file is called whose place is nobody's business
_RIGHT_TO_LEFT = ("ar",)

# The sections by key, with the keys of what they say.
_WHAT = ("about_what_pick", "about_what_how", "about_what_check")
_PRIVACY = (
    "about_privacy_server", "about_privacy_browser", "about_privacy_requests",
    "about_privacy_link", "about_privacy_operator",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SetFile:
    """Where a neuron set lies, and its hash.

    Args:
        name: Its path within the project, or a name in its place.
        sha256: Hexadecimal digits.
    """

    name: str
    sha256: str


def about_html(model: str, languages: Sequence[Language], locale: str = "en") -> str:
    """Return what stands before the table of facts.

    Args:
        model: Its name.
        languages: Those that can be chosen.
        locale: Of whoever reads.
    """
    first = "about_limits_toy" if model == BUNDLED_MODEL else "about_limits_model"
    names = ", ".join(name_in(language, locale) for language in languages) or "–"
    limits = [
        say(first, locale),
        say("about_limits_languages", locale, languages=names),
        say("about_limits_strength", locale),
        say("about_limits_detector", locale),
        *([say("about_limits_grammar", locale)] if model == BUNDLED_MODEL else []),
        say("about_limits_translated", locale),
    ]
    sections = (
        _heading("about_what", locale) + "".join(_paragraph(say(key, locale)) for key in _WHAT),
        _heading("about_limits", locale) + _list(limits),
        _heading("about_privacy", locale) + _list([say(key, locale) for key in _PRIVACY]),
    )
    return _in_locale("".join(f"<section>{section}</section>" for section in sections), locale)


def origin_html(neurons: NeuronSet | None, locale: str = "en") -> str:
    """Return the facts about model and neuron set as a table; a sentence where there is no set."""
    heading = _heading("about_origin", locale)
    if neurons is None:
        return _in_locale(heading + _paragraph(say("about_origin_none", locale)), locale)
    facts = {**set_facts(neurons), "file SHA-256": find_set_file(neurons).sha256}
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    head = "".join(
        f'<th scope="col">{escape(say(key, locale))}</th>' for key in ("about_fact", "about_value")
    )
    table = (
        f'<div class="about-facts" tabindex="0" role="region" '
        f'aria-label="{escape(say("about_origin", locale))}"><table>'
        f'<thead><tr>{head}</tr></thead><tbody lang="en" dir="ltr">{rows}</tbody></table></div>'
    )
    return _in_locale(heading + table, locale)


def api_html(problem: str = "", locale: str = "en") -> str:
    """Return what stands before the programs.

    Args:
        problem: Why the choices make no sense, in words; empty if they do.
        locale: Of whoever reads.
    """
    said = f"<p>{escape(say('about_api_intro', locale))}</p>"
    words = say("about_api_problem", locale, problem=problem) if problem else ""
    trouble = f'<p role="status" class="trouble">{escape(words)}</p>'
    return _in_locale(_heading("about_api", locale) + said + trouble, locale)


def set_facts(neurons: NeuronSet) -> dict[str, str]:
    """Return name -> value of what a set was made from, what was counted, and how hard it pushes.

    A missing date or licence is named as such, so that nobody takes it for forgotten here.
    """
    about = neurons.metadata
    facts = collect_facts(neurons)
    ending = {name: facts.pop(name, "not stated") for name in ("created", "licence")}
    facts["neurons selected"] = (
        f"{len(neurons.layer):,} of {about.layers * about.neurons_per_layer:,}"
    )
    facts["languages"] = ", ".join(
        f"{language.english_name} ({language.code})" for language in neurons.languages
    )
    for phase, counts in about.token_counts.items():
        each = (f"{code} {counts[code]:,}" for code in about.languages)
        facts[f"tokens counted, {phase}"] = ", ".join(each)
    facts["calibrated strengths"] = _numbers(about.strengths) or "not measured"
    for code, strengths in about.language_strengths.items():
        facts[f"calibrated strengths, {code}"] = _numbers(strengths)
    return {name: plain(value) for name, value in (facts | ending).items()}


@functools.lru_cache(maxsize=2)  # a set of a large model takes a second
def find_set_file(neurons: NeuronSet) -> SetFile:
    """Return where a set lies if it comes with the program, else a name, and its hash."""
    sha256 = hash_neuron_set(neurons)
    for path in (BUNDLED_NEURON_SET, BUNDLED_PAPER_SET):
        if path.is_file() and _hash_file(path) == sha256:
            return SetFile(f"{path.parent.name}/{path.name}", sha256)
    return SetFile(_ELSEWHERE, sha256)


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _numbers(strengths: Mapping[StrengthLevel, float]) -> str:
    return ", ".join(f"{level} {value:g}" for level, value in strengths.items())


def _in_locale(html: str, locale: str) -> str:
    direction = "rtl" if locale in _RIGHT_TO_LEFT else "ltr"
    return f'<div class="about" lang="{locale}" dir="{direction}">{html}</div>'


def _heading(key: str, locale: str) -> str:
    return f"<h2>{escape(say(key, locale))}</h2>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
