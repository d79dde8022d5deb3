"""Shows a run of prompts as HTML: how far it is, counts, bars by language, prompt by prompt.

Counts, not rates: of eight prompts a percentage would promise what nobody knows. Knows words and
verdicts, not the engine or components.
"""

from collections.abc import Callable, Sequence
from html import escape

from steering.evaluation.forcing import ForcingPrompt
from steering.languages import Language
from steering.ui.badges import badge_html, judge_answer, name_in
from steering.ui.results.charts import Bar, BarGroup, draw_bars
from steering.ui.results.live_check import Answered, Judged, Standing
from steering.ui.results.measured_html import cards_html
from steering.ui.results.own_prompts import MOST_PROMPTS
from steering.ui.results.tables import Cell, folded, table_html
from steering.ui.strings import Told, enumerate_in, in_locale, say
from steering.ui.wording import with_lead

_SHOWN_LETTERS = 400  # of a text in the table; the files to keep have all


def intro_html(locale: str) -> str:
    """Return what stands above the buttons of a run."""
    return in_locale(
        f"<h2>{escape(say('live_title', locale))}</h2>"
        f"<p>{escape(say('live_intro', locale))}</p>"
        f'<p class="note">{escape(say("own_formats", locale, most=MOST_PROMPTS))}</p>',
        locale,
    )


def picked_html(
    name: str, prompts: Sequence[ForcingPrompt], notes: Sequence[str], locale: str
) -> str:
    """Return what a file holds, and what was left out of it."""
    targets = sorted({prompt.target for prompt in prompts})
    words = say(
        "own_read", locale,
        name=name, count=len(prompts),
        languages=enumerate_in(locale, (name_in(one, locale) for one in targets)),
    )  # fmt: skip
    told = with_lead("file_notes", " ".join(notes), locale)
    said = f'<p class="note">{told.html}</p>' if notes else ""
    return in_locale(f'<p role="status">✓ {escape(words)}</p>{said}', locale)


def progress_html(standing: Standing, *, is_ready: bool, locale: str) -> str:
    """Return the bar and what is being done; a run that is over with some left was stopped.

    Args:
        standing: Of the run.
        is_ready: Whether the model is loaded.
        locale: What it is said in.
    """
    done, total = len(standing.answered), standing.total
    over = "live_done" if done == total else "live_stopped"
    key = over if standing.is_over else "live_progress"
    words = say(key, locale, done=done, total=total)
    if not standing.is_over and not is_ready:
        words = say("loading", locale)
    elif not standing.is_over and standing.place:
        words = f"{words} {say('waiting', locale, place=standing.place)}"
    bar = (
        f'<progress max="1" value="{standing.fraction:.3f}" '
        f'aria-label="{escape(say("live_bar", locale))}"></progress>'
    )
    return in_locale(f'{bar}<p role="status">{escape(words)}</p>', locale)


def trouble_html(told: Told, locale: str) -> str:
    """Return what went wrong, read out at once."""
    return in_locale(f'<p class="trouble" role="alert">✗ {told.html}</p>', locale)


def answered_html(
    answered: Sequence[Answered], *, level: str, languages: Sequence[Language], locale: str
) -> str:
    """Return what came of the prompts that are answered; nothing while there are none.

    Args:
        answered: Prompts with their answers.
        level: How strongly they were steered.
        languages: The languages in play.
        locale: What it is said in.
    """
    if not answered:
        return ""
    steered = f"{say('results_steered', locale)} ({say(f'level_{level}', locale)})"
    names = (say("results_unsteered", locale), steered)
    summary = say(
        "live_summary", locale,
        unsteered=_strays(answered, _unsteered), steered=_strays(answered, _steered),
        n=len(answered),
    )  # fmt: skip
    parts = [
        f"<h3>{escape(say('live_off_target', locale))}</h3>",
        cards_html(
            [
                _card("before", names[0], [one.unsteered for one in answered], locale),
                _card("after", names[1], [one.steered for one in answered], locale),
            ]
        ),
        f"<p>{escape(summary)}</p>",
        draw_bars(_groups(answered, names, locale), summary=summary),
        folded(say("results_table_languages", locale), _language_table(answered, names, locale)),
        f"<h3>{escape(say('live_table', locale))}</h3>",
        _prompt_table(answered, names, languages, locale),
    ]
    return in_locale("".join(parts), locale)


def _unsteered(one: Answered) -> Judged:
    return one.unsteered


def _steered(one: Answered) -> Judged:
    return one.steered


def _strays(answered: Sequence[Answered], choose: Callable[[Answered], Judged]) -> int:
    return sum(choose(one).verdict == "off_target" for one in answered)


def _card(kind: str, name: str, judged: Sequence[Judged], locale: str) -> tuple[str, str, str, str]:
    strays = sum(one.verdict == "off_target" for one in judged)
    undecided = sum(one.verdict in ("too_short", "no_language") for one in judged)
    about = say("live_undecided", locale, count=undecided) if undecided else ""
    return kind, name, say("count_of", locale, count=strays, n=len(judged)), about


def _groups(answered: Sequence[Answered], names: tuple[str, str], locale: str) -> list[BarGroup]:
    groups = []
    for target, own in _by_target(answered):
        bars = []
        for kind, name, choose in zip(
            ("before", "after"), names, (_unsteered, _steered), strict=True
        ):
            count = _strays(own, choose)
            text = say("count_of", locale, count=count, n=len(own))
            bars.append(Bar(kind, name, text, count / len(own)))
        groups.append(BarGroup(name_in(target, locale), bars))
    return groups


def _by_target(answered: Sequence[Answered]) -> list[tuple[Language, list[Answered]]]:
    targets = sorted({one.prompt.target for one in answered})
    return [
        (target, [one for one in answered if one.prompt.target == target]) for target in targets
    ]


def _language_table(answered: Sequence[Answered], names: tuple[str, str], locale: str) -> str:
    rows = [
        [
            name_in(target, locale),
            *(
                say("count_of", locale, count=_strays(own, choose), n=len(own))
                for choose in (_unsteered, _steered)
            ),
        ]
        for target, own in _by_target(answered)
    ]
    columns = [say("column_language", locale), *names]
    return table_html(say("live_off_target", locale), columns, rows)


def _prompt_table(
    answered: Sequence[Answered],
    names: tuple[str, str],
    languages: Sequence[Language],
    locale: str,
) -> str:
    rows: list[list[str | Cell]] = [
        [
            Cell(_shorten(one.prompt.text), language=one.prompt.language.code),
            name_in(one.prompt.target, locale),
            *(
                _answer_cell(one, judged, languages, locale)
                for judged in (one.unsteered, one.steered)
            ),
        ]
        for one in answered
    ]
    columns = [say("column_prompt", locale), say("column_target", locale), *names]
    return table_html(say("live_table", locale), columns, rows)


def _answer_cell(one: Answered, judged: Judged, languages: Sequence[Language], locale: str) -> Cell:
    """Return the verdict by sign and words, and the answer under it."""
    badge = judge_answer(judged.reply, chosen=one.prompt.target, languages=languages, locale=locale)
    ending = judged.ending
    note = say(f"ended_{ending}", locale) if ending in ("stopped", "length", "time") else ""
    language = f' lang="{judged.language.code}"' if judged.language else ""
    reply = f'<p{language} dir="auto">{escape(_shorten(judged.reply))}</p>'
    return Cell("", html=f"{badge_html(badge, [note], locale)}{reply}")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]} …"
