"""Shows three answers side by side as HTML: what was asked, the text, the badge, the speed.

Knows how far the answers are, not where they come from.
"""

from collections.abc import Sequence
from html import escape

from steering.languages import Language
from steering.ui.asking import Chat, notes_on
from steering.ui.badges import badge_html, name_in
from steering.ui.compare.colouring import SentenceReader, colour_html, legend_html
from steering.ui.compare.comparison import WAYS, Comparison, Question, Way
from steering.ui.strings import Told, in_locale, say


def empty_html(locale: str) -> str:
    """Return the three columns before anything was asked: what will stand in them."""
    hows = {
        "steered": say("how_steered_first", locale),
        "instructed": say("how_instructed_first", locale),
        "plain": say("how_plain", locale),
    }
    columns = [_column_html(way, hows[way], (), locale) for way in WAYS]
    return _page_html(columns, "", None, locale)


def comparison_html(
    comparison: Comparison, chat: Chat, readers: Sequence[SentenceReader], locale: str
) -> str:
    """Return the three answers as far as they are, and how quickly they come.

    Args:
        comparison: How far they are.
        chat: Judges those that are finished.
        readers: From `make_readers`.
        locale: What is said in.
    """
    columns = []
    for row, way in enumerate(WAYS):
        text = colour_html(readers[row].read(comparison.update.texts[row]), locale)
        line, speed = _line_html(comparison, row, chat, locale), _row_speed(comparison, row, locale)
        parts = (
            f'<div class="answer">{text}</div>',
            f'<p class="line">{line}</p>',
            f'<p class="facts">{escape(speed)}</p>',
        )
        columns.append(_column_html(way, _how(way, comparison.question, locale), parts, locale))
    speed = _batch_speed(comparison, locale)
    return _page_html(columns, speed, comparison.question.language, locale)


def _page_html(columns: Sequence[str], speed: str, language: Language | None, locale: str) -> str:
    facts = f'<p class="facts">{escape(speed)}</p>' if speed else ""
    return in_locale(
        f'<div class="columns">{"".join(columns)}</div>{facts}'
        f'<p class="facts">{escape(say("legend", locale))}</p>'
        f"{legend_html(language, locale)}",
        locale,
    )


def _column_html(way: Way, how: str, parts: Sequence[str], locale: str) -> str:
    heading = f"way-{way}"
    return (
        f'<section class="column {heading}" aria-labelledby="{heading}">'
        f'<h2 id="{heading}">{escape(say(f"way_{way}", locale))}</h2>'
        f'<p class="how">{escape(how)}</p>{"".join(parts)}</section>'
    )


def _how(way: Way, question: Question, locale: str) -> str:
    """Say what one way does to the question."""
    return say(
        f"how_{way}",
        locale,
        language=name_in(question.language, locale),
        level=say(f"level_{question.wish.level}", locale),
        instruction=question.instruction,
    )


def _line_html(comparison: Comparison, row: int, chat: Chat, locale: str) -> str:
    """Return the line under an answer: its badge and notes once it is finished."""
    update, wish = comparison.update, comparison.question.wish
    if update.finish_reasons[row] is None:
        return badge_html(None, [say("writing", locale)] if update.prompt_tokens else [], locale)
    notes: list[str | Told] = [*notes_on(update, row, locale)]
    if WAYS[row] == "steered" and wish.level == "off":
        notes.append(say("compare_off", locale))
    return chat.line_under(update.texts[row], wish, notes, locale)


def _row_speed(comparison: Comparison, row: int, locale: str) -> str:
    tokens = comparison.tokens(row)
    rate = f"{comparison.row_rate(row):.0f}"
    return say("compare_row_speed", locale, tokens=tokens, rate=rate) if tokens else ""


def _batch_speed(comparison: Comparison, locale: str) -> str:
    if comparison.first_token_s is None:
        return ""
    together = say(
        "compare_speed",
        locale,
        tokens=comparison.update.new_tokens,
        seconds=f"{comparison.seconds:.1f}",
        rate=f"{comparison.rate:.0f}",
    )
    first = say("compare_first_token", locale, first=f"{comparison.first_token_s:.2f}")
    return f"{together} {first}"
