"""What the page says about itself, as HTML: what it is, its limits, privacy, and its origin.

Knows words and neuron sets, not components or the model.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from steering.bundled import NEURON_SETS
from steering.languages import Language
from steering.loading import BUNDLED_MODEL
from steering.neuron_set import NeuronSet, StrengthLevel
from steering.neuron_set_file import hash_neuron_set
from steering.report_card.facts import collect_facts, plain
from steering.ui.badges import name_in
from steering.ui.strings import Told, enumerate_in, in_locale, say

_CLASS = "about"
_BUNDLED_CARD = "demo_model/README.md"
_ELSEWHERE = "neurons.safetensors"  # what a file is called whose place is nobody's business

# Name of a fact -> key of its name in the page's languages; others keep the name that they have.
_FACT_NAMES = {
    "model": "fact_model", "revision": "fact_revision", "architecture": "fact_architecture",
    "tokenizer": "fact_tokenizer", "imported": "fact_imported", "corpus": "fact_corpus",
    "corpus SHA-256": "fact_corpus_hash", "selection": "fact_selection", "holds": "fact_holds",
    "steering": "fact_steering", "measured": "fact_measured", "created": "fact_created",
    "licence": "fact_licence", "neurons selected": "fact_selected", "languages": "fact_languages",
    "tokens counted": "fact_tokens", "calibrated strengths": "fact_strengths",
    "file SHA-256": "fact_file_hash",
}  # fmt: skip
_FACT_VALUES = {"not stated": "fact_not_stated", "not measured": "fact_not_measured"}

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
    names = enumerate_in(locale, (name_in(language, locale) for language in languages)) or "–"
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
    shown = "".join(f"<section>{section}</section>" for section in sections)
    return in_locale(shown, locale, name=_CLASS)


def origin_html(neurons: NeuronSet | None, locale: str = "en") -> str:
    """Return the facts about model and neuron set as a table; a sentence where there is no set."""
    heading = _heading("about_origin", locale)
    if neurons is None:
        none = _paragraph(say("about_origin_none", locale))
        return in_locale(heading + none, locale, name=_CLASS)
    facts = {**set_facts(neurons), "file SHA-256": find_set_file(neurons).sha256}
    rows = "".join(
        f'<tr><th scope="row">{_name_html(name, locale)}</th>'
        f"<td>{_value_html(value, locale)}</td></tr>"
        for name, value in facts.items()
    )
    head = "".join(
        f'<th scope="col">{escape(say(key, locale))}</th>' for key in ("about_fact", "about_value")
    )
    table = (
        f'<div class="about-facts" tabindex="0" role="region" '
        f'aria-label="{escape(say("about_origin", locale))}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    notes = [say("about_origin_note", locale)] if "not stated" in facts.values() else []
    if neurons.metadata.model_id == BUNDLED_MODEL:
        notes.append(say("about_origin_bundled", locale, file=_BUNDLED_CARD))
    shown = heading + table + "".join(map(_paragraph, notes))
    return in_locale(shown, locale, name=_CLASS)


def api_html(problem: Told | None = None, locale: str = "en") -> str:
    """Return what stands before the programs.

    Args:
        problem: Why the choices make no sense; None if they do.
        locale: Of whoever reads.
    """
    said = f"<p>{escape(say('about_api_intro', locale))}</p>"
    trouble = f'<p role="status" class="trouble">{problem.html if problem else ""}</p>'
    below = _paragraph(say("about_api_below", locale)) if problem else ""
    shown = _heading("about_api", locale) + said + trouble + below
    return in_locale(shown, locale, name=_CLASS)


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
    for path in sorted(NEURON_SETS.glob("*.safetensors")):
        if _hash_file(path) == sha256:
            return SetFile(f"{path.parent.name}/{path.name}", sha256)
    return SetFile(_ELSEWHERE, sha256)


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _numbers(strengths: Mapping[StrengthLevel, float]) -> str:
    return ", ".join(f"{level} {value:g}" for level, value in strengths.items())


def _name_html(name: str, locale: str) -> str:
    """Return the name of a fact; behind a comma stands what it is of, such as a language's code."""
    fact, comma, of = name.partition(", ")
    if fact not in _FACT_NAMES:
        return f'<bdi lang="en">{escape(name)}</bdi>'
    behind = f" (<bdi>{escape(of)}</bdi>)" if comma else ""
    return f"{escape(say(_FACT_NAMES[fact], locale))}{behind}"


def _value_html(value: str, locale: str) -> str:
    """Return the value of a fact, as the set's file has it, or that it has none."""
    if value in _FACT_VALUES:
        return escape(say(_FACT_VALUES[value], locale))
    return f'<bdi lang="en">{escape(value)}</bdi>'


def _heading(key: str, locale: str) -> str:
    return f"<h2>{escape(say(key, locale))}</h2>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
