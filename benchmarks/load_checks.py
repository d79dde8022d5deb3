"""Whether what many clients heard is what each would have heard alone.

An answer alone is the reference: greedy answers depend on nothing but the question, so any other
text is a fault, and this names it. Pure; knows no server.
"""

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

from benchmarks.load_clients import Heard, Question
from steering.detection import detect
from steering.languages import LANGUAGES, Language

# `error`: the server refused or failed. `lost`: the end is missing, of the stream or of the text.
# `duplicated`: something came twice. `mixed`: it is somebody else's answer, or in a language that
# somebody else asks for. `different`: another text than alone, for no reason named before.
# `wrong_language`: beside any of these, the detector says that it is off target.
Fault: TypeAlias = Literal["error", "lost", "duplicated", "mixed", "different", "wrong_language"]
FAULTS: tuple[Fault, ...] = (
    "error", "lost", "duplicated", "mixed", "different", "wrong_language",
)  # fmt: skip


def find_faults(
    heard: Heard,
    *,
    alone: Mapping[Question, Heard],
    others: Collection[str],
    languages: Collection[Language],
) -> list[Fault]:
    """Return what is wrong with an answer, or with the part that came before the client left.

    Args:
        heard: What came.
        alone: What came to each question from an idle server.
        others: Codes of the languages that other clients asked for meanwhile.
        languages: The languages in play.
    """
    if heard.error:
        return ["error"]
    reference = alone[heard.question]
    if heard.has_left:
        is_part = not is_steady(reference) or reference.text.startswith(heard.text)
        return [] if is_part else [_name_difference(heard, alone, others, languages)]
    faults: list[Fault] = []
    if heard.ends != 1:
        faults.append("duplicated" if heard.ends else "lost")
    if heard.text != reference.text:
        faults.append(_name_difference(heard, alone, others, languages))
    elif is_steady(reference) and not is_steady(heard):
        faults.append("duplicated")  # the text went back, and what followed came again
    if _language_off_target(heard, languages) is not None:
        faults.append("wrong_language")
    return faults


def is_steady(heard: Heard) -> bool:
    """Say whether every update kept what was there, as long as no guard has passages rewritten."""
    pairs = zip(heard.texts, heard.texts[1:], strict=False)
    return all(later.startswith(earlier) for earlier, later in pairs)


def _name_difference(
    heard: Heard,
    alone: Mapping[Question, Heard],
    others: Collection[str],
    languages: Collection[Language],
) -> Fault:
    text, expected = heard.text, alone[heard.question].text
    if text in {one.text for question, one in alone.items() if question != heard.question}:
        return "mixed"
    if _language_off_target(heard, languages) in others:
        return "mixed"
    if expected.startswith(text):
        return "lost"
    return "duplicated" if len(text) > len(expected) and _covers(text, expected) else "different"


def _language_off_target(heard: Heard, languages: Collection[Language]) -> str | None:
    """Return the code of the language that an answer is in against the wish; None if it is not.

    An empty code stands for none of the languages in play.
    """
    expected = LANGUAGES[heard.question.language]
    verdict = detect(heard.text, expected=expected, languages=list(languages))
    if verdict.verdict != "off_target":
        return None
    return "" if verdict.language is None else verdict.language.code


def _covers(text: str, expected: str) -> bool:
    """Say whether all of *expected* is in *text* in its order: something was only added."""
    letters = iter(text)
    return all(letter in letters for letter in expected)
