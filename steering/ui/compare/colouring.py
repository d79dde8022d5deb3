"""Says of every sentence of an answer which language it is in, and shows that as HTML.

Each is wanted, in another language, or too short to tell; said by sign and words beside the colour.
Sentences are judged by the rules of `detection.py`, one by one. Knows no chat and no model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Literal

from steering.countable_text import countable_text, find_open_fence, split_lines, split_sentences
from steering.detection import Verdict, judge_guess, languages_in_play
from steering.identification import identify_text
from steering.languages import Language
from steering.ui.badges import name_in
from steering.ui.strings import say
from steering.unicode_scripts import count_scripts, is_japanese

# `blank` has no words: code, numbers, addresses.
Kind = Literal["wanted", "other", "unsure", "blank"]

_KINDS: dict[Verdict, Kind] = {
    "on_target": "wanted",
    "off_target": "other",
    "too_short": "unsure",
    "no_language": "blank",
}
SIGNS: dict[Kind, str] = {"wanted": "✓", "other": "✗", "unsure": "·"}


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it was written, with the space around it.

    Args:
        text: All sentences of a line, put together, are the line.
        kind: What is known of its language.
        language: None where that is not decided, or is none of the languages in play.
    """

    text: str
    kind: Kind
    language: Language | None = None


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line of an answer that is not blank."""

    sentences: tuple[Sentence, ...]
    is_code: bool = False


class SentenceReader:
    """Reads one answer again and again while it is written; what it has judged it remembers.

    Args:
        chosen: The language that was asked for.
        languages: The languages in play.
    """

    def __init__(self, chosen: Language, languages: Sequence[Language]) -> None:
        self._chosen = chosen
        self._in_play = languages_in_play(chosen, languages)
        self._judged: dict[tuple[str, bool], Sentence] = {}

    def read(self, text: str) -> list[Paragraph]:
        """Return the paragraphs of an answer, blank lines left out."""
        has_kana = is_japanese(count_scripts(countable_text(text)))
        paragraphs, fence = [], ""
        for line in split_lines(text):
            after = find_open_fence(line, before=fence)
            if fence or after:
                paragraphs.append(Paragraph((Sentence(line, "blank"),), is_code=True))
            elif line.strip():
                sentences = (self._judge(piece, has_kana=has_kana) for piece in cut_sentences(line))
                paragraphs.append(Paragraph(tuple(sentences)))
            fence = after
        return paragraphs

    def _judge(self, piece: str, *, has_kana: bool) -> Sentence:
        if (piece, has_kana) not in self._judged:
            guess = identify_text(
                countable_text(piece), languages=self._in_play, has_kana_around=has_kana
            )
            kind = _KINDS[judge_guess(guess, self._chosen)]
            language = guess.language if kind in ("wanted", "other") else None
            self._judged[piece, has_kana] = Sentence(piece, kind, language)
        return self._judged[piece, has_kana]


def cut_sentences(line: str) -> Iterator[str]:
    """Cut a line into sentences, with nothing left out: what is between two goes to the first."""
    starts, at = [], 0
    for sentence in split_sentences(line):
        starts.append(line.index(sentence, at))
        at = starts[-1] + len(sentence)
    for start, end in zip([0, *starts[1:]], [*starts[1:], len(line)], strict=True):
        yield line[start:end]


def colour_html(paragraphs: Sequence[Paragraph], locale: str) -> str:
    """Return an answer as HTML: every sentence in its colour, every run of a kind with its words.

    Args:
        paragraphs: From `SentenceReader.read`; escaped here.
        locale: What the words are in.
    """
    return "".join(_paragraph_html(paragraph, locale) for paragraph in paragraphs)


def legend_html(chosen: Language | None, locale: str) -> str:
    """Return what the colours mean, in words.

    Args:
        chosen: The language that was asked for, if that is known yet.
        locale: What it is said in.
    """
    wanted = say("legend_wanted", locale)
    if chosen is not None:
        wanted += f" ({name_in(chosen, locale)})"
    words: dict[Kind, str] = {
        "wanted": wanted,
        "other": say("legend_other", locale),
        "unsure": say("legend_unsure", locale),
    }
    items = [
        f'<li><span class="said said-{kind}">{SIGNS[kind]} {escape(text)}</span></li>'
        for kind, text in words.items()
    ]
    items.append(f"<li>{escape(say('legend_blank', locale))}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _paragraph_html(paragraph: Paragraph, locale: str) -> str:
    if paragraph.is_code:
        return f'<p class="code" dir="ltr">{escape(paragraph.sentences[0].text)}</p>'
    runs = groupby(paragraph.sentences, key=lambda one: (one.kind, one.language))
    parts = [
        "".join(map(_sentence_html, run)) + _words_html(kind, language, locale)
        for (kind, language), run in runs
    ]
    return f'<p dir="auto">{"".join(parts)}</p>'


def _sentence_html(sentence: Sentence) -> str:
    if sentence.kind == "blank":
        return escape(sentence.text)
    said = sentence.text.strip()
    before, _, after = sentence.text.partition(said)
    language = f' lang="{sentence.language.code}"' if sentence.language else ""
    shown = f'<span class="said said-{sentence.kind}"{language}>{escape(said)}</span>'
    return f"{before}{shown}{after}"


def _words_html(kind: Kind, language: Language | None, locale: str) -> str:
    """Say what a run of sentences is in; the words have a direction of their own."""
    if kind == "blank":
        return ""
    words = say("cannot_tell", locale) if kind == "unsure" else name_in(language, locale)
    return f'<bdi class="in-words">{SIGNS[kind]} {escape(words)}</bdi> '
