"""Tests of the guard: what is written again, what is left alone, and that it always ends."""

from __future__ import annotations

import itertools
import pickle  # noqa: TID251 - a spec goes to a process of our own, as ZeroGPU sends it
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from steering.countable_text import split_sentences
from steering.detection import detect, identify_reply
from steering.errors import PlanError
from steering.guard import _CERTAIN, Guard, GuardSpec, Rewrite, make_guard, sentence_end_ids
from steering.languages import LANGUAGES, Language
from steering.loading import BUNDLED_FOLDER
from steering.methods import SteeringRequest, make_plan
from steering.neuron_set import NeuronSet
from steering.steering_plan import SteeringPlan
from tests.plans import effects
from tests.scripted_writing import FIFTEEN, Writing, cut, from_attempts, joined, write
from tests.texts import TEXTS
from tests.toy import FR, JA

SEVEN = tuple(LANGUAGES[code] for code in ("en", "zh", "fr", "es", "vi", "id", "ja"))
LONG = {
    "en": "The old cat sleeps on the sofa of the living room all day.",
    "fr": "Le vieux chat dort toute la journée sur le canapé du salon.",
    "es": "El gato viejo duerme todo el día en el sofá de la sala.",
    "vi": "Con mèo già ngủ cả ngày trên ghế trong phòng khách.",
    "id": "Kucing tua itu tidur sepanjang hari di atas sofa ruang tamu.",
    "ja": "年をとった猫は一日中居間のソファで寝ています。",
    "zh": "那只老猫整天在客厅的沙发上睡觉，从来不出门。",
}
PAIRS = [(target, other) for target in LONG for other in LONG if other != target]


def sentences_of(code: str) -> list[str]:
    return [sentence for text in TEXTS[code] for sentence in split_sentences(text)]


@cache
def clear_sentences_of(code: str) -> list[str]:
    """Those that are more likely in their own language than in another ("Duerme." is not)."""
    return [
        sentence
        for sentence in sentences_of(code)
        if identify_reply(sentence, languages=FIFTEEN).language == LANGUAGES[code]
    ]


def off_target_sentences(text: str, target: str) -> list[str]:
    """Those that the guard is to be certain of: within a script it asks for more than `detect`."""
    reply = detect(text, expected=LANGUAGES[target], languages=FIFTEEN, unit="sentence")
    return [
        line.text
        for line in reply.lines
        if line.verdict == "off_target"
        and (
            line.confidence >= _CERTAIN
            or line.language is None
            or line.language.script != LANGUAGES[target].script
        )
    ]


# What is in the target language is left alone.


@pytest.mark.parametrize("languages", [SEVEN, FIFTEEN])
@pytest.mark.parametrize("between", [" ", "\n", "\n\n- "])
@pytest.mark.parametrize("code", TEXTS)
def test_text_on_target_is_never_touched(
    code: str, between: str, languages: Sequence[Language]
) -> None:
    """Also Chinese and Japanese, whose sentences have no space between them in `TEXTS`."""
    text = between.join(TEXTS[code])

    made = write(from_attempts([[text]]), code, languages=languages)

    assert made.guard.rewrites == ()
    assert made.text == text
    assert set(made.rungs) == {0}


@pytest.mark.parametrize(
    "alien",
    [
        "```python\n# This is a comment in plain English. It is long.\nprint('The end.')\n```",
        "```\nThe fence is open to the end. All of this is code, whatever it says.",
        "Voici le code : `this is the way to write it. Or not.` et c'est tout.",
        "Le film « The Long Way Home. And back » est très drôle, il me plaît.",
        'Le film "The End. Of the World?" est très drôle, il me plaît.',
        "Allez voir https://example.com/this/is/the/english/page.html?the=way pour le reste.",
        "Écrivez à the.person.of.the.house@example.org pour le reste.",
        "Le film Star Wars: The Empire Strikes Back est sorti au cinéma en 1980.",
        "Elle a beaucoup aimé The Old Man And The Sea, The Two Towers et The Long Way Home.",
        "The Beatles étaient un groupe de musique très connu dans le monde.",
        "12 + 30 = 42. 1.5 x 2.5 = 3.75. 1980. 2001! 42?",
        "😀 🎉! 👍🏽. ...",
        "M. Dupont est né en 1980 av. J.-C. avec 3.5 kg de riz.",
    ],
)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_code_names_quotes_and_numbers_are_left_alone(alien: str, place: str) -> None:
    before = "" if place == "first" else LONG["fr"]
    after = "" if place == "last" else "Il dort sur la table de la cuisine."
    text = "\n".join(part for part in (before, alien, after) if part)

    made = write(from_attempts([[text]]), "fr")

    assert made.guard.rewrites == ()
    assert made.text == text


def test_what_code_and_quotes_hold_is_written_again_outside_of_them() -> None:
    """The opposite of the test above: the same words would not be left alone as speech."""
    for speech in (
        "This is a comment in plain English. It is long.",
        "The fence is open to the end. All of this is code, whatever it says.",
        "This is the way to write it. Or not.",
        "The long way home. And back there is nothing to see.",
    ):
        made = write(from_attempts([[speech, LONG["fr"]]]), "fr")

        assert made.text == LONG["fr"]


def test_code_after_a_fence_is_judged_again_once_the_fence_is_closed() -> None:
    code = "```\nThis is the code of the old house.\n```\n"

    made = write(from_attempts([[LONG["fr"] + "\n"], [code], [LONG["en"], "Il dort."]]), "fr")

    assert made.text == f"{LONG['fr']}\n{code}Il dort."


# Drift.


@pytest.mark.parametrize(("target", "other"), PAIRS)
def test_a_sentence_in_another_language_is_written_again(target: str, other: str) -> None:
    own = TEXTS[target]
    first, wrong, right, last = joined(own[0], LONG[other], LONG[target], own[1])

    made = write(from_attempts([[first], [wrong, right], [last]]), target, languages=SEVEN)

    assert made.text == first + right + last
    (rewrite,) = made.guard.rewrites
    assert (rewrite.attempt, rewrite.is_kept) == (1, False)
    assert rewrite.language == LANGUAGES[other]
    assert rewrite.text == LONG[other]
    assert rewrite.tokens == len(cut(wrong))
    assert made.tail(rewrite.start) == (right + last).strip()


@pytest.mark.parametrize(("target", "other"), PAIRS)
def test_drift_at_the_beginning_is_seen_before_the_sentence_ends(target: str, other: str) -> None:
    made = write(from_attempts([[LONG[other], LONG[target]]]), target, languages=SEVEN)

    assert made.text == LONG[target]
    (rewrite,) = made.guard.rewrites
    assert rewrite.start == 0
    assert LONG[other].startswith(rewrite.text)
    assert len(rewrite.text) < 0.8 * len(LONG[other])


def test_the_plan_is_harder_until_the_passage_is_on_target() -> None:
    first, wrong, right, last = joined(TEXTS["fr"][0], LONG["en"], LONG["fr"], TEXTS["fr"][1])

    made = write(from_attempts([[first], [wrong, wrong, right], [last]]), "fr")

    assert made.text == first + right + last
    assert [rewrite.attempt for rewrite in made.guard.rewrites] == [1, 2]
    rungs = [rung for place, rung in enumerate(made.rungs) if rung != made.rungs[place - 1]]
    assert rungs == [1, 2, 0]
    assert made.rungs.count(2) == len(cut(right))


def test_a_short_word_before_drift_is_not_lost() -> None:
    made = write(from_attempts([["Oui."], [f" {LONG['en']}", f" {LONG['fr']}"]]), "fr")

    assert made.text == f"Oui. {LONG['fr']}"


def test_sentences_too_short_to_judge_are_judged_together() -> None:
    short = ["Good day.", " Good dog.", " Red car."]
    assert not off_target_sentences("".join(short), "fr")

    script = [[one, LONG["fr"]] for one in short]
    made = write(from_attempts([*script, [f" {LONG['fr']}"]]), "fr", max_tokens=200)

    assert made.guard.rewrites[0].start == 0
    assert made.guard.rewrites[0].text == "".join(short)
    assert made.text.startswith(LONG["fr"])


def test_a_short_answer_is_judged_as_the_evaluation_does() -> None:
    reply = "Good night."
    assert detect(reply, expected=FR, languages=FIFTEEN).verdict == "too_short"
    assert identify_reply(reply, languages=FIFTEEN).language != FR

    made = write(from_attempts([[reply, "Bonne nuit."]]), "fr")

    assert made.text == "Bonne nuit."
    assert len(made.guard.rewrites) == 1


def test_going_back_behind_a_passage_moves_its_record_and_counts_on() -> None:
    """The first sentence turns out to be off target only when the answer is over."""
    first = [LONG["en"], "Good day.", LONG["fr"]]
    second = [f" {LONG['en']}", f" {LONG['en']}", " Merci."]

    made = write(from_attempts([first, second]), "fr")

    assert made.text == f"{LONG['fr']} Merci."
    assert made.guard.rewrites[3].text == "Good day. Merci."
    end = len(LONG["fr"])
    assert [rewrite.start for rewrite in made.guard.rewrites] == [0, 0, 0, 0, end, end]
    assert [rewrite.attempt for rewrite in made.guard.rewrites] == [1, 1, 2, 2, 1, 2]


def test_mixed_text_is_undecided_for_so_long_and_judged_at_the_end() -> None:
    usual, harder = SteeringPlan({}), SteeringPlan({})
    guard = Guard(GuardSpec(JA, SEVEN, (harder, harder)), usual, frozenset())
    assert guard.read(LONG["en"], 20, is_over=False) == 0
    mixed = "ねこ dogs e。"  # four and five letters

    number = 0
    while guard.plan is harder and number < 99:
        number += 1
        assert guard.read(mixed * number, 5 * number, is_over=False) is None

    assert guard.plan is usual
    assert number == 300 // 9 + 1
    assert guard.read(mixed * number, 5 * number, is_over=True) == 0


def test_a_passage_that_becomes_code_is_done() -> None:
    last = f"{TEXTS['fr'][1]} "
    script = [[f"{LONG['fr']}\n"], [LONG["en"], "```\nprint(1)\n```\n"], [last]]

    made = write(from_attempts(script), "fr")

    assert len(made.guard.rewrites) == 1
    assert set(made.rungs[-len(cut(last)) :]) == {0}


def test_a_word_alone_is_an_answer() -> None:
    for word in ("Paris", "OK", "42", "東", "NASA!"):
        made = write(from_attempts([[word, LONG["fr"]]]), "fr")

        assert made.text == word


def test_han_beside_kana_is_japanese() -> None:
    text = "東京の人口は多いです。人口密集都市。高層建築物多数。"

    made = write(from_attempts([[text, "x"]]), "ja", languages=SEVEN)

    assert made.text == text
    assert made.guard.rewrites == ()


def test_text_without_sentence_ends_is_looked_at_all_the_same() -> None:
    endless = " and then the dog of the house goes to the old table with the cat" * 20

    made = write(from_attempts([[LONG["fr"]], [endless, f" {LONG['fr']}"]]), "fr")

    assert made.text == f"{LONG['fr']} {LONG['fr']}"
    assert made.written < 150


# It always ends.


@pytest.mark.parametrize("harder", [0, 1, 3])
def test_what_never_is_on_target_is_kept_and_said(harder: int) -> None:
    first, wrong, last = joined(TEXTS["fr"][0], LONG["en"], TEXTS["fr"][1])

    made = write(from_attempts([[first], [wrong], [last]]), "fr", harder=harder)

    assert made.text == first + wrong + last
    *dropped, kept = made.guard.rewrites
    assert [rewrite.attempt for rewrite in dropped] == list(range(1, harder + 1))
    assert not any(rewrite.is_kept for rewrite in dropped)
    assert kept == Rewrite(
        len(first), LONG["en"], LANGUAGES["en"], len(cut(wrong)), harder + 1, True
    )
    assert made.tail(kept.start).startswith(kept.text)
    assert made.rungs[-len(cut(last)) :] == [0] * len(cut(last))


def test_an_answer_whose_first_passage_fails_is_given_up_at_its_first_words() -> None:
    """All that follows is left alone, also the rest of that sentence."""
    made = write(lambda number, _: f" {LONG['en']}" if number < 12 else "", "fr", harder=2)

    *dropped, kept = made.guard.rewrites
    assert [rewrite.attempt for rewrite in dropped] == [1, 2, 3]
    assert (kept.start, kept.attempt, kept.is_kept) == (0, 4, True)
    assert set(made.rungs[-len(cut(made.text)) :]) == {0}
    assert all(len(one.text) < 0.8 * len(LONG["en"]) for one in dropped)
    assert made.guard.has_given_up
    assert made.text.count(LONG["en"]) == 12
    assert made.looks < 40


def test_an_answer_that_began_on_target_is_given_up_at_the_second_passage_that_fails() -> None:
    first, wrong, again = joined(TEXTS["fr"][0], LONG["en"], TEXTS["fr"][1])
    lines = [first, wrong, again, wrong, wrong, again]

    made = write(from_attempts([[line] for line in lines]), "fr", harder=2)

    assert [rewrite.attempt for rewrite in made.guard.rewrites] == [1, 2, 3, 1, 2, 3, 4]
    kept = [rewrite for rewrite in made.guard.rewrites if rewrite.is_kept]
    assert [one.text for one in kept] == [LONG["en"], ""]
    assert made.guard.has_given_up
    assert made.text == "".join(lines)


def test_a_guard_that_gave_up_is_not_asked_again() -> None:
    guard = Guard(make_spec(), SteeringPlan({}), frozenset({7}))
    usual = guard.plan
    text = LONG["en"]

    assert [guard.read(text, 15, is_over=False) for _ in range(3)] == [0, 0, None]

    assert guard.has_given_up
    assert guard.plan is usual
    assert not any(guard.is_due(token, tokens) for token in (5, 7) for tokens in range(15, 200))
    assert guard.read(f"{text} {text}", 30, is_over=True) is None
    assert len(guard.rewrites) == 3


# What may be shown before a sentence ends.


@pytest.mark.parametrize("code", LONG)
def test_the_first_words_are_released_long_before_their_sentence_ends(code: str) -> None:
    made = write(from_attempts([[LONG[code]]]), code)

    shown = next(text for text in made.settled if text)
    assert LONG[code].startswith(shown)
    assert len(shown) <= 0.4 * len(LONG[code])


def test_first_words_that_leave_a_doubt_are_looked_at_again_before_the_sentence_ends() -> None:
    doubt = "As an AI language model, I do not have the ability to see the old city of Rome today."

    made = write(from_attempts([[doubt, LONG["fr"]]]), "fr")

    (rewrite,) = made.guard.rewrites
    assert len(rewrite.text) < 0.6 * len(doubt)


@pytest.mark.parametrize(("target", "other"), PAIRS)
def test_no_word_in_another_language_is_released(target: str, other: str) -> None:
    made = write(from_attempts([[LONG[other], LONG[target]]]), target, languages=SEVEN)

    assert made.text == LONG[target]
    assert all(LONG[target].startswith(text) for text in made.settled)


@pytest.mark.parametrize("code", TEXTS)
def test_what_was_released_is_the_beginning_of_all_that_follows(code: str) -> None:
    other, between = "fr" if code == "en" else "en", "" if code in ("zh", "ja") else " "
    own = [text + between for text in TEXTS[code]]
    script = [*([text] for text in own[:4]), [LONG[other], own[4]]]

    made = write(from_attempts(script), code)

    assert len(made.guard.rewrites) == 1
    assert made.settled == sorted(made.settled, key=len)
    assert all(made.text.startswith(text) for text in made.settled)


def test_a_long_sentence_is_released_piece_by_piece() -> None:
    endless = " et puis le chien de la maison va vers la vieille table avec le chat" * 6

    made = write(from_attempts([[endless]]), "fr")

    sizes = sorted({len(text) for text in made.settled})
    assert len(sizes) > 5
    assert max(b - a for a, b in itertools.pairwise(sizes)) < 100


def test_a_sentence_that_turns_after_its_first_words_keeps_them() -> None:
    begun, turned, right = (
        "Le vieux chat",
        f" and {LONG['en']}",
        " dort toute la journée au soleil.",
    )

    made = write(from_attempts([[begun], [turned, right]]), "fr")

    (rewrite,) = made.guard.rewrites
    assert made.text == begun + right
    assert rewrite.start == len(begun)
    assert all(made.text.startswith(text) for text in made.settled)


def test_an_answer_that_becomes_nothing_is_written_again() -> None:
    made = write(from_attempts([[LONG["en"], "", LONG["fr"]]]), "fr")

    assert made.text == LONG["fr"]
    assert [rewrite.start for rewrite in made.guard.rewrites] == [0, 0]


def test_an_answer_that_stays_nothing_is_written_as_it_was_at_first() -> None:
    made = write(from_attempts([[LONG["en"], ""]]), "fr")

    assert made.text == LONG["en"]
    assert [rewrite.is_kept for rewrite in made.guard.rewrites] == [False] * 4 + [True]


def test_what_pushes_made_worse_is_not_what_stays() -> None:
    worse = "the the the the the the the the the the the the."

    made = write(from_attempts([[LONG["en"], worse], [f" {LONG['en']}"]]), "fr", harder=2)

    assert made.text == f"{LONG['en']} {LONG['en']}"


# Properties.

_SCRIPTS = st.lists(
    st.tuples(st.sampled_from(sorted(LONG)), st.integers(0, 29), st.integers(0, 3)),
    min_size=1,
    max_size=6,
)


def _script(target: str, parts: list[tuple[str, int, int]]) -> list[list[str]]:
    """Per part: from which rung on it is in the target language, and in which before.

    Three parts drift at most, which the guard has attempts for.
    """
    made: list[list[str]] = []
    drifting = 0
    for code, place, rung in parts:
        rung = rung if code != target and drifting < 3 else 0
        drifting += rung > 0
        own = clear_sentences_of(target)
        wrong = LONG[code] if place % 2 else sentences_of(code)[place]
        made.append([f" {wrong}"] * rung + [f" {own[place % len(own)]}"])
    return made


@settings(deadline=None, max_examples=60)
@given(target=st.sampled_from(sorted(LONG)), parts=_SCRIPTS)
def test_nothing_off_target_stays_where_an_attempt_was_on_target(
    target: str, parts: list[tuple[str, int, int]]
) -> None:
    made = write(from_attempts(_script(target, parts)), target, max_tokens=4000)

    assert off_target_sentences(made.text, target) == []
    whole = identify_reply(made.text, languages=FIFTEEN)
    assert whole.language == LANGUAGES[target] or whole.letters < 6
    assert not any(rewrite.is_kept for rewrite in made.guard.rewrites)


@settings(deadline=None, max_examples=60)
@given(
    target=st.sampled_from(sorted(LONG)),
    parts=st.lists(
        st.lists(st.sampled_from([text for code in LONG for text in sentences_of(code)[:12]]),
                 min_size=1, max_size=4),
        min_size=1,
        max_size=7,
    ),
    harder=st.integers(0, 3),
)  # fmt: skip
def test_whatever_is_written_it_ends_and_the_record_is_true(
    target: str, parts: list[list[str]], harder: int
) -> None:
    script = [[f" {one}" for one in attempts] for attempts in parts]

    made = write(from_attempts(script), target, harder=harder, max_tokens=9000)

    dropped = [rewrite for rewrite in made.guard.rewrites if not rewrite.is_kept]
    assert len(dropped) <= 3 * harder + (harder > 0)  # what stays was written first
    assert len(made.gone_back) == len(dropped)
    for rewrite, (before, after) in zip(dropped, made.gone_back, strict=True):
        assert before == after + before[len(after) :]
        assert rewrite.text == before[len(after) :].strip()
    assert made.written == len(cut(made.text)) + sum(rewrite.tokens for rewrite in dropped) or (
        made.text == ""
    )
    for rewrite in made.guard.rewrites:
        assert 0 <= rewrite.start <= len(made.text)
        assert not rewrite.is_kept or made.tail(rewrite.start).startswith(rewrite.text)


@settings(deadline=None, max_examples=150)
@given(
    shown=st.lists(
        st.tuples(st.text(st.characters(), max_size=40), st.integers(0, 200), st.booleans()),
        max_size=12,
    )
)
def test_no_text_is_an_error(shown: list[tuple[str, int, bool]]) -> None:
    """Texts need not even go on from one another."""
    guard = Guard(GuardSpec(FR, FIFTEEN, (SteeringPlan({}),) * 2), SteeringPlan({}), frozenset())

    kept = [guard.read(text, tokens, is_over=is_over) for text, tokens, is_over in shown]

    assert sum(keep is not None for keep in kept) <= 7


@pytest.mark.parametrize("code", ["ja", "hi", "fr"])
def test_a_character_that_is_still_to_come_does_no_harm(code: str) -> None:
    rng = random.Random(0)
    script = from_attempts([[f"{text} "] for text in TEXTS[code]] + [[LONG["en"], TEXTS[code][0]]])

    plain = write(script, code)
    partial = write(script, code, show=lambda text: text + "\ufffd" * rng.randint(0, 2))

    assert partial.text == plain.text
    assert partial.guard.rewrites == plain.guard.rewrites
    assert len(plain.guard.rewrites) == 1


# When it is asked.


def test_it_is_asked_seldom() -> None:
    """Once near the beginning, then where a sentence ends."""
    text = " ".join(TEXTS["fr"])

    made = write(from_attempts([[text]]), "fr")

    sentences = len(split_sentences(text))
    assert sentences <= made.looks <= sentences + 8


def make_spec() -> GuardSpec:
    return GuardSpec(FR, SEVEN, (SteeringPlan({}),))


def test_it_is_due_at_ends_and_for_the_first_words() -> None:
    guard = Guard(make_spec(), SteeringPlan({}), frozenset({7}))

    assert [guard.is_due(token, tokens) for token, tokens in ((5, 0), (5, 1), (7, 0))] == [
        False, True, True,
    ]  # fmt: skip
    assert guard.read("Le chat est sur le canapé", 9, is_over=False) is None
    assert [guard.is_due(token, tokens) for token, tokens in ((5, 10), (5, 40), (7, 10))] == [
        False, True, True,
    ]  # fmt: skip


@cache
def bundled_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(BUNDLED_FOLDER)
    return tokenizer


@pytest.mark.parametrize("sign", [".", "!", "?", "。", "！", "？", "…", "؟", "।", "\n"])
def test_every_sign_that_ends_a_sentence_ends_with_such_a_token(
    sign: str, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    for tokenizer in (byte_tokenizer, bundled_tokenizer()):
        ends = sentence_end_ids(tokenizer)
        for text in (f"été{sign}", f"猫{sign}", sign):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert set(ids) & ends, (text, tokenizer.convert_ids_to_tokens(ids))
            assert ids[-1] in ends or sign in tokenizer.decode(ids[-1:])


def test_few_tokens_end_a_sentence_and_they_are_looked_at_once() -> None:
    tokenizer = bundled_tokenizer()
    ends = sentence_end_ids(tokenizer)

    assert sentence_end_ids(tokenizer) is ends
    assert len(ends) < 0.02 * len(tokenizer)
    words = tokenizer("Le chat dort, et la table est là", add_special_tokens=False)["input_ids"]
    assert not ends & set(words)


# What is harder.


def test_harder_is_the_strongest_level_then_beyond_it_with_a_bias(toy_set: NeuronSet) -> None:
    own = {"strengths": {"gentle": 0.5, "normal": 1.0, "strong": 2.0}, "steering_method": "lape@1"}
    tuned = replace(toy_set, metadata=toy_set.metadata.model_copy(update=own))

    def ladder(strength: object) -> list[tuple[object, float | None]]:
        guard = make_guard(tuned, SteeringRequest(FR, strength=strength))  # type: ignore[arg-type]
        assert guard is not None
        assert (guard.target, guard.languages) == (FR, toy_set.languages)
        return [
            (effects(plan), plan.token_bias and plan.token_bias.bound_nats) for plan in guard.harder
        ]

    def at(strength: float) -> object:
        return effects(make_plan(tuned, SteeringRequest(FR, "lape@1", strength)))

    for below in ("normal", 1.5, "gentle", 0.0):
        assert ladder(below) == [(at(2.0), None), (at(3.0), 30.0)]
    assert ladder("strong") == [(at(3.0), None), (at(3.0), 30.0)]
    assert ladder(3.0) == [(at(4.5), None), (at(4.5), 30.0)]


def test_the_bias_is_added_to_that_of_the_method(toy_set: NeuronSet) -> None:
    guard = make_guard(toy_set, SteeringRequest(JA, "lape@1+tokens@5", "strong"))

    assert guard is not None
    bounds = [plan.token_bias.bound_nats for plan in guard.harder if plan.token_bias]
    assert bounds == pytest.approx([10.5, 40.5])


def test_a_set_without_log_odds_compares_scripts(toy_set: NeuronSet) -> None:
    guard = make_guard(replace(toy_set, token_log_odds=None), SteeringRequest(JA))

    assert guard is not None
    assert guard.harder[-1].token_bias is not None
    assert guard.harder[-1].token_bias.log_odds is None


def test_no_language_needs_no_guard(toy_set: NeuronSet) -> None:
    assert make_guard(toy_set, SteeringRequest(None)) is None


def test_a_request_that_makes_no_sense_is_refused(toy_set: NeuronSet) -> None:
    with pytest.raises(PlanError, match="'guess'"):
        make_guard(toy_set, SteeringRequest(FR, "guess"))


def test_plans_are_made_once_per_request(toy_set: NeuronSet) -> None:
    first, second = (make_guard(toy_set, SteeringRequest(FR, "lape")) for _ in range(2))
    other = make_guard(toy_set, SteeringRequest(JA, "lape"))

    assert first is not None
    assert second is not None
    assert other is not None
    assert first.harder is second.harder
    assert effects(other.harder[0]) != effects(first.harder[0])


def test_a_spec_can_go_to_another_process(toy_set: NeuronSet) -> None:
    guard = make_guard(toy_set, SteeringRequest(FR, "lape+diffmean"))
    assert guard is not None

    copy = pickle.loads(pickle.dumps(guard))  # noqa: S301 - our own bytes

    assert (copy.target, copy.languages) == (guard.target, guard.languages)
    assert len(copy.harder) == len(guard.harder) == 2
    for one, other in zip(copy.harder, guard.harder, strict=True):
        assert effects(one) == effects(other)
        assert (one.token_bias is None) == (other.token_bias is None)
        if one.token_bias is not None and one.token_bias.log_odds is not None:
            assert torch.equal(one.token_bias.log_odds, other.token_bias.log_odds)


def test_rewrites_are_those_of_one_answer() -> None:
    made: list[Writing] = [write(from_attempts([[LONG["en"], LONG["fr"]]]), "fr") for _ in range(2)]

    assert [len(one.guard.rewrites) for one in made] == [1, 1]
