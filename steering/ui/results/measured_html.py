"""Shows measured results as HTML: big numbers, bars by language, their tables, and where from.

Knows words and numbers, not files or components.
"""

from collections.abc import Sequence
from html import escape

from steering.evaluation.proportions import Proportion
from steering.languages import LANGUAGES
from steering.ui.badges import name_in
from steering.ui.results.charts import Bar, BarGroup, draw_bars
from steering.ui.results.measured import INSTRUCTED, STEERED, UNSTEERED, Measured, Results
from steering.ui.results.tables import folded, table_html
from steering.ui.strings import Told, direction_of, in_locale, say

# Condition -> key of its name, and class of its colour.
NAMES = {UNSTEERED: "results_unsteered", INSTRUCTED: "results_asked", STEERED: "results_steered"}
KINDS = {UNSTEERED: "before", INSTRUCTED: "words", STEERED: "after"}

_SHORT = 10  # digits of a hash, for people


def results_html(results: Results, *, warnings: Sequence[str], locale: str) -> str:
    """Return everything that is said of results.

    Args:
        results: From `read_results`.
        warnings: Why they may not hold for what is loaded, in words.
        locale: What it is said in.
    """
    summary = _summary(results, locale)
    parts = [
        f"<h2>{escape(say('results_title', locale))}</h2>",
        *(f'<p class="trouble">✗ {escape(warning)}</p>' for warning in warnings),
        cards_html([_card(one, locale) for one in results.shown]),
        f"<p>{escape(summary)}</p>",
        f"<h3>{escape(say('results_by_language', locale))}</h3>",
        draw_bars(_groups(results, locale), summary=summary),
        folded(say("results_table_languages", locale), _language_table(results, locale)),
        folded(say("results_table_methods", locale), _method_table(results, locale)),
        folded(say("results_source", locale), _source_html(results, locale)),
        f'<p class="note">{escape(_measured(results, locale))}</p>',
    ]
    return in_locale("".join(parts), locale)


def cards_html(cards: Sequence[tuple[str, str, str, str]]) -> str:
    """Return numbers to be seen first: class, name, number and what is to be known of each."""
    shown = "".join(
        f'<div class="card card-{kind}"><dt>{escape(name)}</dt>'
        f"<dd><b>{escape(number)}</b><span>{escape(about)}</span></dd></div>"
        for kind, name, number, about in cards
    )
    return f'<dl class="cards">{shown}</dl>'


def percent(rate: float) -> str:
    """Return a rate for people: in whole percent, but such that little is not called nothing."""
    is_near_end = 0 < rate < 0.015 or 0.985 < rate < 1
    return f"{rate:.1%}" if is_near_end else f"{rate:.0%}"


def nothing_html(file: str | None, command: str, locale: str) -> str:
    """Say that there are no results, and how to make some.

    Args:
        file: Which there would be; None where the set has no place of its own.
        command: That makes it.
        locale: What it is said in.
    """
    title = f"<h2>{escape(say('results_title', locale))}</h2>"
    if file is None:
        return in_locale(f"{title}<p>{escape(say('results_no_place', locale))}</p>", locale)
    words = escape(say("results_none", locale, file=file))
    return in_locale(f"{title}<p>{words}</p>{_code_html(command)}", locale)


def unread_html(told: Told, locale: str) -> str:
    """Say why there is nothing to show."""
    title = f"<h2>{escape(say('results_title', locale))}</h2>"
    return in_locale(f'{title}<p class="trouble">✗ {told.html}</p>', locale)


def _card(one: Measured, locale: str) -> tuple[str, str, str, str]:
    about = say(
        "results_card", locale,
        count=one.off_target.successes, n=one.off_target.trials, interval=_span(one.off_target),
    )  # fmt: skip
    name = say(NAMES[one.name], locale)
    return KINDS[one.name], name, percent(one.off_target.rate), about


def _span(share: Proportion) -> str:
    low, high = share.interval()
    # In one line, and from left to right within a line of Arabic too.
    return f"\u2066{low:.1%}\u00a0–\u00a0{high:.1%}\u2069"


def _summary(results: Results, locale: str) -> str:
    shown = results.conditions
    sentences = [
        say(
            "results_summary", locale,
            unsteered=percent(shown[UNSTEERED].off_target.rate),
            steered=percent(shown[STEERED].off_target.rate),
            n=shown[STEERED].off_target.trials,
        )
    ]  # fmt: skip
    if INSTRUCTED in shown:
        rate = percent(shown[INSTRUCTED].off_target.rate)
        sentences.append(say("results_summary_asked", locale, asked=rate))
    if results.own_language:
        sentences.append(say("results_own_language", locale, count=results.own_language))
    return " ".join(sentences)


def _groups(results: Results, locale: str) -> list[BarGroup]:
    groups = []
    for code in results.languages:
        bars = []
        for one in results.shown:
            share = one.by_language.get(code, Proportion(0, 0))
            bars.append(
                Bar(
                    KINDS[one.name], say(NAMES[one.name], locale), percent(share.rate),
                    share.rate, share.interval(),
                )
            )  # fmt: skip
        groups.append(BarGroup(_language_name(code, locale), bars))
    return groups


def _language_table(results: Results, locale: str) -> str:
    columns = [
        say("column_language", locale),
        *(say(NAMES[one.name], locale) for one in results.shown),
    ]
    rows = [
        [
            _language_name(code, locale),
            *(_numbers(one.by_language.get(code), locale) for one in results.shown),
        ]
        for code in results.languages
    ]
    return table_html(say("results_by_language", locale), columns, rows)


def _method_table(results: Results, locale: str) -> str:
    columns = [
        say(key, locale) for key in ("column_condition", "column_off_target", "column_right")
    ]
    rows = [
        [
            one.name + (f" ({say(NAMES[one.name], locale)})" if one.name in NAMES else ""),
            _numbers(one.off_target, locale),
            "-" if one.right_rate is None else f"{one.right_rate:.1%}",
        ]
        for one in results.conditions.values()
    ]
    return table_html(say("results_table_methods", locale), columns, rows)


def _numbers(share: Proportion | None, locale: str) -> str:
    if share is None:
        return "-"
    counts = say("count_of", locale, count=share.successes, n=share.trials)
    return f"{share.rate:.1%} ({_span(share)}); {counts}"


def _measured(results: Results, locale: str) -> str:
    unknown = say("results_not_recorded", locale)
    return say(
        "results_measured", locale,
        model=results.model,
        date=results.made_at.date().isoformat() if results.made_at else unknown,
        commit=results.commit[:_SHORT] if results.commit else unknown,
    )  # fmt: skip


def _source_html(results: Results, locale: str) -> str:
    unknown = say("results_not_recorded", locale)
    facts = {
        "model": results.model,
        "made_at": results.made_at.isoformat() if results.made_at else unknown,
        "version": results.version or unknown,
        "commit": results.commit or unknown,
        "neuron_set_sha256": results.neuron_set_sha256 or unknown,
        "temperature": f"{results.temperature:g}",
    }
    shown = "".join(
        f"<li><code>{name}</code>: {escape(fact)}{_added_html(results, name, locale)}</li>"
        for name, fact in facts.items()
    )
    command = f"{_code_html(results.command)}{_added_html(results, 'command', locale)}"
    # The names of the facts are English, as in the file.
    return f'<ul dir="ltr">{shown}</ul>{command if results.command else ""}'


def _added_html(results: Results, name: str, locale: str) -> str:
    """Say where a fact is from that was not recorded when it was measured."""
    if name not in results.added_later:
        return ""
    words = say("results_added_later", locale, source=results.added_later[name])
    return f'<div class="note" lang="{locale}" dir="{direction_of(locale)}">({escape(words)})</div>'


def _code_html(command: str | None) -> str:
    return f'<pre tabindex="0" lang="en" dir="ltr"><code>{escape(command or "")}</code></pre>'


def _language_name(code: str, locale: str) -> str:
    return name_in(LANGUAGES[code], locale) if code in LANGUAGES else code
