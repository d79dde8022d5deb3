"""Draws a language's neurons and what fired in an answer, as HTML and SVG with a table beside it.

Colours are classes and hues, so that light and dark pages have their own; what a colour says stands
in words as well. All text from outside is escaped here. Knows cards and readings, not components.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape

from steering.activity import AnswerReading, TokenReading
from steering.languages import Language
from steering.report_card.card import LanguageCard, ReportCard, SharedPair
from steering.ui.badges import name_in
from steering.ui.strings import Told, as_html, in_locale, say
from steering.ui.wording import with_lead

_HEIGHT, _TOP, _BOTTOM = 150, 16, 20  # px of the bars' picture, and of what stands around them
_NUMBERED_LAYERS = 14  # more bars are too narrow for numbers on a phone
_LAYER_TICKS = 10
_BAR = 0.7  # of the width that a layer has
_ONSET = "▸"
_NONE = "–"
# Between letters that join, so that they keep their forms though they stand in two boxes.
_JOINER = "&zwj;"
_JOINING = ("ARABIC LETTER", "SYRIAC LETTER")


def language_html(card: ReportCard, language: Language, locale: str) -> str:
    """Return a language's neurons: how many, in which layers, shared with whom."""
    row = next(one for one in card.languages if one.language == language)
    name = name_in(language, locale)
    if not row.neurons:
        return in_locale(f"<p>{escape(say('inside_empty', locale, language=name))}</p>", locale)
    summary = say(
        "inside_summary", locale, language=name, count=f"{row.neurons:,}", own=f"{row.own:,}"
    )
    return in_locale(
        f'<p>{escape(summary)}</p><div class="inside-halves">'
        f"<section>{_layers_html(row, name, locale)}</section>"
        f"<section>{_sharing_html(card, row, locale)}</section></div>",
        locale,
    )


def _layers_html(row: LanguageCard, name: str, locale: str) -> str:
    counts = row.layer_counts
    peak = max(range(len(counts)), key=lambda layer: counts[layer])
    alt = say(
        "inside_layers_alt", locale, language=name, layers=len(counts), layer=peak,
        count=f"{counts[peak]:,}",
    )  # fmt: skip
    title = say("inside_layers_title", locale)
    table = _table(
        title,
        [say("inside_layer", locale), say("inside_neurons", locale)],
        [[str(layer), f"{count:,}"] for layer, count in enumerate(counts)],
    )
    return f"<h3>{escape(title)}</h3>{bars_svg(counts, alt)}{_unfolded(table, locale)}"


def bars_svg(counts: Sequence[int], alt: str) -> str:
    """Return one bar per layer; widths are shares, so that letters keep their size on a phone."""
    step, tallest = 100 / len(counts), max(max(counts), 1)
    every = -(-len(counts) // _LAYER_TICKS)
    foot = _HEIGHT - _BOTTOM
    parts = []
    for layer, count in enumerate(counts):
        middle, height = step * (layer + 0.5), (foot - _TOP) * count / tallest
        parts.append(
            f'<rect class="bar" x="{middle - step * _BAR / 2:.2f}%" y="{foot - height:.1f}" '
            f'width="{step * _BAR:.2f}%" height="{height:.1f}"></rect>'
        )
        if len(counts) <= _NUMBERED_LAYERS:
            above = foot - height - 4
            parts.append(f'<text x="{middle:.2f}%" y="{above:.1f}">{count:,}</text>')
        if layer % every == 0:
            parts.append(f'<text x="{middle:.2f}%" y="{_HEIGHT - 5}">{layer}</text>')
    return (
        f'<svg class="bars" role="img" aria-label="{escape(alt)}" width="100%" '
        f'height="{_HEIGHT}">{"".join(parts)}'
        f'<line x1="0" x2="100%" y1="{foot}" y2="{foot}"></line></svg>'
    )


def _sharing_html(card: ReportCard, row: LanguageCard, locale: str) -> str:
    """Return the languages that share neurons, the one that shares most first: bars in a table."""
    shared = sorted(
        ((other, pair) for pair in card.pairs if (other := _other(pair, row.language))),
        key=lambda found: -found[1].shared,
    )
    name = escape(say("inside_sharing_title", locale))
    title = f"<h3>{name}</h3>"
    if not shared:
        return f"{title}<p>{escape(say('inside_sharing_none', locale))}</p>"
    rows = []
    for other, pair in shared:
        share = pair.shared / row.neurons
        rows.append(
            f'<tr><th scope="row"><bdi>{escape(name_in(other, locale))}</bdi></th>'
            f"<td>{pair.shared:,}</td>"
            f"<td>{share:.0%}</td>"
            '<td class="wide"><svg class="bars" width="100%" height="12" aria-hidden="true">'
            f'<rect class="bar" width="{share:.2%}" height="12"></rect></svg></td></tr>'
        )
    header = _header(
        [say(f"inside_{key}", locale) for key in ("other_name", "shared", "share")] + [""]
    )
    return f"{title}{_scrolling(name, header + ''.join(rows))}"


def reading_html(
    reading: AnswerReading, languages: Sequence[Language], *, note: str, locale: str
) -> str:
    """Return the tokens of an answer with what fired under each, a legend, and all as a table.

    Args:
        reading: What fired.
        languages: Of the set, in its order, which is that of the colours.
        note: How it was read, in words.
        locale: What it is said in.
    """
    hues = {language: 360 * place // len(languages) for place, language in enumerate(languages)}
    text = "".join(token.text for token in reading.tokens)
    tokens = [_token_html(reading.onset, hues, said=_ONSET)]
    for place, token in enumerate(reading.tokens):
        before = reading.tokens[place - 1].text[-1:] if place else ""
        after = reading.tokens[place + 1].text[:1] if place + 1 < len(reading.tokens) else ""
        tokens.append(_token_html(token, hues, said=_joined(before, token.text, after)))
    notes = [Told(note)]
    notes += [with_lead("left_out", reading.note, locale)] if reading.note else []
    said = "".join(f"<p>{one.html}</p>" for one in notes if one.said)
    return in_locale(
        f"{said}<p>{escape(say('inside_legend', locale))}</p>{_legend_html(reading, hues, locale)}"
        f'<div class="tokens" dir="{direction(text)}">{"".join(tokens)}</div>'
        f"{_unfolded(_reading_table(reading, languages, locale), locale)}",
        locale,
    )


def direction(text: str) -> str:
    """Return the direction of a text, that of its first letter."""
    for sign in text:
        kind = unicodedata.bidirectional(sign)
        if kind in ("R", "AL", "L"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def _token_html(token: TokenReading, hues: dict[Language, int], *, said: str) -> str:
    """Return a token over the code of what fired; *said* is HTML."""
    strongest = token.strongest
    if strongest is None:
        return (
            f'<span class="token"><span class="said">{said}</span>'
            f'<span class="code">{_NONE}</span></span>'
        )
    points = round(100 * token.excess[strongest])
    return (
        f'<span class="token fired" style="--hue:{hues[strongest]}" title="{strongest} +{points}">'
        f'<span class="said">{said}</span><span class="code">{strongest}</span></span>'
    )


def _joined(before: str, text: str, after: str) -> str:
    """Return a token's text as HTML; line ends are shown, and letters join over its ends."""
    shown = escape(text).replace("\n", "↵")
    first = _JOINER if _joins(before) and _joins(text[:1]) else ""
    last = _JOINER if _joins(text[-1:]) and _joins(after) else ""
    return f"{first}{shown}{last}"


def _joins(sign: str) -> bool:
    return bool(sign) and unicodedata.name(sign, "").startswith(_JOINING)


def _legend_html(reading: AnswerReading, hues: dict[Language, int], locale: str) -> str:
    """Return code, name and number of tokens of every language, those that fired first."""
    fired = [token.strongest for token in reading.tokens]
    order = sorted(hues, key=lambda language: -fired.count(language))
    items = [
        f'<li><span class="token fired" style="--hue:{hues[language]}">'
        f'<span class="code">{language}</span></span> '
        f"<bdi>{escape(name_in(language, locale))}</bdi>: {fired.count(language)}</li>"
        for language in order
    ]
    items.append(
        f'<li><span class="token"><span class="code">{_NONE}</span></span> '
        f"{escape(say('inside_nobody', locale))}: {fired.count(None)}</li>"
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _reading_table(reading: AnswerReading, languages: Sequence[Language], locale: str) -> str:
    """Return the excess of every language on every token, in points."""
    header = [say("inside_token", locale), say("inside_strongest", locale), *map(str, languages)]

    def rows() -> Iterator[list[str]]:
        for token in (reading.onset, *reading.tokens):
            strongest = token.strongest
            yield [
                token.text.replace("\n", "↵") if token is not reading.onset else _ONSET,
                name_in(strongest, locale) if strongest else _NONE,
                *(_points(token.excess.get(language)) for language in languages),
            ]

    return _table(say("inside_reading_table", locale), header, list(rows()))


def _points(excess: float | None) -> str:
    return _NONE if excess is None else f"{100 * excess:+.0f}"


def answer_html(title: str, text: str, line: str, locale: str) -> str:
    """Return an answer as it was said, under a title and over its line of HTML."""
    return in_locale(
        f'<h3>{escape(title)}</h3><div class="said-whole" lang="" dir="auto">{escape(text)}</div>'
        f"<p>{line}</p>",
        locale,
    )


def words_html(words: str | Told, locale: str) -> str:
    """Return a sentence that is read out when it comes."""
    return in_locale(f'<p role="status">{as_html(words)}</p>', locale) if words else ""


def _other(pair: SharedPair, language: Language) -> Language | None:
    """Return the other language of a pair that shares something with this one."""
    if language not in (pair.first, pair.second) or not pair.shared:
        return None
    return pair.second if pair.first == language else pair.first


def _unfolded(table: str, locale: str) -> str:
    return f"<details><summary>{escape(say('inside_as_table', locale))}</summary>{table}</details>"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that scrolls within itself; it can be scrolled by the keyboard as well."""
    body = "".join(
        f'<tr><th scope="row"><bdi>{escape(cells[0])}</bdi></th>'
        + "".join(f"<td><bdi>{escape(cell)}</bdi></td>" for cell in cells[1:])
        + "</tr>"
        for cells in rows
    )
    return _scrolling(escape(title), _header(header) + body)


def _scrolling(name: str, rows: str) -> str:
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{name}">'
        f"<table>{rows}</table></div>"
    )


def _header(names: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>"
                    for name in names)  # fmt: skip
    return f"<thead><tr>{cells}</tr></thead>"
