"""The numbers of a condition are those of its replies, together, by language, and by prompt."""

from __future__ import annotations

import pytest

from steering.evaluation.forcing import ForcingPrompt, ForcingResult, judge_reply
from steering.evaluation.forcing_measures import JudgedReplies, Referees, judge_condition
from steering.languages import LANGUAGES

DE, EN, FR, JA, RU = (LANGUAGES[code] for code in ("de", "en", "fr", "ja", "ru"))
ALL = [DE, EN, FR, JA, RU]
FRENCH = "Le chat dort sur le canapé du salon."
ASKED = [
    ForcingPrompt("Who?", "", EN, FR, source="a", gold=("le chat",)),
    ForcingPrompt("Who?", "", EN, FR, source="b", gold=("un chien",)),
    ForcingPrompt("Who?", "", EN, RU, source="a"),
    ForcingPrompt("Who?", "", EN, JA, source="a"),
]
REPLIES = [FRENCH, "The cat sleeps on the sofa.", "Кошка спит на house диване дома.", "来" * 12]


def judge(replies: list[str]) -> JudgedReplies:
    outcomes = tuple(
        judge_reply(prompt, reply, languages=ALL)
        for prompt, reply in zip(ASKED, replies, strict=True)
    )
    referees = Referees(
        lambda line: "fr" if "chat" in line else "ru" if "диване" in line else "en",
        frozenset({"house"}),
    )
    return judge_condition(
        ForcingResult("x", outcomes), languages=ALL, referees=referees, nll_nats={0: 1.0, 1: 3.0}
    )


def test_each_measure_counts_what_its_name_says() -> None:
    found = {name: one.value for name, one in judge(REPLIES).measures().items()}

    assert found["lfs"] == pytest.approx(3 / 4)  # Han is Japanese where Chinese is not in play
    # fr: sources a 1 and b 0, so 1/2; ru 1; ja 0 (the identifier says English).
    assert found["lpr_lid176"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["wpr"] == 0  # "house" in the Russian reply, which passes by line
    assert found["own_words"] == pytest.approx(2 / 3)
    assert found["looping"] == pytest.approx(1 / 4)
    assert found["nll_nats"] == 2
    assert found["recall"] == pytest.approx((1 + 0) / 2)
    assert "right" not in found


def test_numbers_by_language_are_of_its_replies_alone() -> None:
    rows = judge(REPLIES).of_target(FR).measures()

    assert rows["lfs"].n == 2
    assert rows["lpr_lid176"].value == pytest.approx(0.5)
    assert "wpr" not in rows


def test_a_difference_is_taken_prompt_by_prompt_where_both_have_a_number() -> None:
    ours, theirs = judge([FRENCH, FRENCH, *REPLIES[2:]]), judge(REPLIES)

    found = ours.minus(theirs)

    assert found["lfs"].value == pytest.approx(1 / 4)
    assert found["nll_nats"].n == 2
    assert found["looping"].interval == (0, 0)
    assert "right" not in found


def test_without_an_identifier_its_rates_are_absent() -> None:
    outcome = judge_reply(ASKED[0], FRENCH, languages=ALL)

    rows = judge_condition(
        ForcingResult("x", (outcome,)), languages=ALL, referees=Referees()
    ).measures()

    assert not {"lpr_lid176", "wpr", "nll_nats"} & rows.keys()
    assert rows["lpr"].value == 1
