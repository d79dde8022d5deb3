"""Calibration keeps the best of its candidates, gives up the rest early, and finds the cliff."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from steering.evaluation.calibration import (
    FIRST_PROMPTS,
    INSTRUCTION,
    SEARCH_PROMPTS,
    Calibration,
    Goal,
    Step,
    calibrate,
)
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.proportions import Proportion
from steering.evaluation.reply_scores import Measured, ReplyScore, choose_best
from steering.evaluation.strength_levels import choose_levels
from steering.languages import LANGUAGES, Language

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))


def prompts(*targets: Language, each: int = 24) -> list[ForcingPrompt]:
    return [
        ForcingPrompt(f"Hello {number}?", f"Hello {number}? Answer.", EN, target)
        for number in range(each)
        for target in targets
    ]


@dataclass
class Scripted:
    """Answers as a script says: a rate of success, of loops and a loss per method and strength.

    Args:
        rate: (method, strength, target) -> share of replies in the language.
        loops: (method, strength) -> share of looping replies.
        nats: (method, strength) -> likelihood.
        tokens: Length of the replies of a method.
        mixes: Share of replies of a method with words of another language.
        gets_purer: Whether these are gone above strength 1.
    """

    rate: Callable[[str, float, Language], float]
    loops: Callable[[str, float], float] = lambda _method, _strength: 0.0
    nats: Callable[[str, float], float] = lambda _method, _strength: 1.0
    tokens: Mapping[str, int] = field(default_factory=dict)
    mixes: Mapping[str, float] = field(default_factory=dict)
    gets_purer: bool = False
    asked: dict[tuple[str, float], list[ForcingPrompt]] = field(default_factory=dict)

    def __call__(
        self, method: str, strength: float, asked: Sequence[ForcingPrompt]
    ) -> list[ReplyScore]:
        assert asked
        known = self.asked.setdefault((method, strength), [])
        scores = []
        for prompt in asked:
            if prompt not in known:
                known.append(prompt)
            # Spread evenly: of any first n replies, rate x n are in the language.
            number, rate = (
                int(prompt.text.split()[1][:-1]),
                self.rate(method, strength, prompt.target),
            )
            is_forced = math.floor((number + 1) * rate + 1e-9) > math.floor(number * rate + 1e-9)
            loops = self.loops(method, strength)
            is_looping = math.floor((number + 1) * loops + 1e-9) > math.floor(number * loops + 1e-9)
            length = self.tokens.get(method, 20)
            mixed = 0.0 if self.gets_purer and strength > 1 else self.mixes.get(method, 0.0)
            is_pure = math.floor((number + 1) * mixed + 1e-9) == math.floor(number * mixed + 1e-9)
            scores.append(
                ReplyScore(is_forced, is_pure, is_looping, length, self.nats(method, strength))
            )
        return scores

    def answers(self, method: str) -> int:
        return sum(len(asked) for (name, _), asked in self.asked.items() if name == method)


def cliff(starts: Mapping[Language, float], *, edge: float = 10.0) -> Scripted:
    """Succeed from a strength on; every unit of strength costs quality, more beyond the edge."""
    return Scripted(
        lambda _, strength, target: min(1.0, strength / starts[target]),
        nats=lambda _, strength: 1 + 0.1 * strength + (5.0 if strength > edge else 0.0),
    )


def of_methods(rates: Mapping[str, float], **more: object) -> Scripted:
    return Scripted(lambda method, *_: rates.get(method, 1.0), **more)  # type: ignore[arg-type]  # of the class


def run_cliff(scripted: Scripted, *targets: Language) -> Calibration:
    goal = Goal(strengths=(0.5, 1.0, 2.0, 3.0))
    return calibrate(scripted, prompts(*targets, each=100), methods=["lape"], goal=goal)


def test_normal_is_the_smallest_strength_that_reaches_the_wanted_success() -> None:
    found = run_cliff(cliff({FR: 1.3, JA: 2.4}), FR, JA)

    assert not found.is_shared
    assert 1.28 <= found.levels[FR]["normal"] <= 1.5
    assert 2.37 <= found.levels[JA]["normal"] <= 2.5


def test_levels_rise_and_gentle_does_most_of_it() -> None:
    found = run_cliff(cliff({FR: 1.3}), FR)

    levels = found.levels[FR]
    assert levels["gentle"] < levels["normal"] <= levels["strong"]
    assert found.curves[FR][levels["gentle"]].success.rate >= 0.79


def test_strong_stops_where_replies_break() -> None:
    safe, broken = run_cliff(cliff({FR: 0.5}), FR), run_cliff(cliff({FR: 0.5}, edge=0.6), FR)

    assert safe.levels[FR]["strong"] > broken.levels[FR]["strong"]
    assert broken.levels[FR]["strong"] <= 0.6


def test_strong_stops_where_replies_loop() -> None:
    loops = cliff({FR: 0.5})
    loops.loops = lambda _, strength: 0.5 if strength > 0.6 else 0.0

    assert run_cliff(loops, FR).levels[FR]["strong"] <= 0.6


def test_the_method_with_the_most_success_is_kept_whatever_it_costs() -> None:
    scripted = of_methods({"weak": 0.5}, nats=lambda method, _: 5.0 if method == "good" else 1.0)

    found = calibrate(scripted, prompts(FR, JA), methods=["weak", "good"])

    assert found.method == "good"
    assert [one.method for one in found.rejected] == ["weak"]


def test_within_a_tie_the_method_that_loops_least_is_kept_then_the_likelier() -> None:
    loops = {"a": 0.3, "b": 0.0, "c": 0.0}
    nats = {"a": 0.5, "b": 2.0, "c": 1.9}
    scripted = of_methods(
        {}, loops=lambda name, _: loops.get(name, 0), nats=lambda name, _: nats.get(name, 1)
    )

    found = calibrate(scripted, prompts(FR, JA), methods=["a", "b", "c"])

    assert found.method == "c"
    assert {one.method: one.reason for one in found.rejected} == {
        "a": "looping",
        "b": "likelihood",
    }


def test_success_beyond_what_is_wanted_counts_no_more() -> None:
    scripted = of_methods(
        {"all": 1.0, "enough": 0.9}, nats=lambda name, _: 2.0 if name == "all" else 1.0
    )

    found = calibrate(
        scripted, prompts(FR, JA), methods=["all", "enough"], goal=Goal(wanted_success=0.9)
    )

    assert found.method == "enough"


def test_answers_of_half_the_length_are_no_good() -> None:
    scripted = of_methods({}, tokens={"short": 5}, nats=lambda name, _: len(name) / 10)

    found = calibrate(scripted, prompts(FR, JA), methods=["short", "usual long"])

    assert found.method == "usual long"
    assert [(one.method, one.reason) for one in found.rejected] == [("short", "length")]


def test_a_hopeless_method_leaves_at_once_and_a_third_of_the_others_goes_on() -> None:
    rates = {"none": 0.0, **{f"m{n}": 1.0 for n in range(7)}}
    scripted = of_methods(rates, nats=lambda name, _: {"m0": 1, "m1": 2, "m2": 3}.get(name, 9))

    found = calibrate(scripted, prompts(FR, JA), methods=list(rates))

    assert found.method == "m0"
    assert found.rejected[0].method == "none"
    assert found.rejected[0].reason == "hopeless"
    answers = {name: scripted.answers(name) for name in rates if name != "m0"}
    assert answers.pop("m1") == answers.pop("m2") == SEARCH_PROMPTS
    assert set(answers.values()) == {FIRST_PROMPTS}


def test_one_method_is_not_searched_for() -> None:
    scripted = of_methods({})

    calibrate(scripted, prompts(FR, JA, each=20), methods=["only"], goal=Goal(strengths=(1.0,)))

    assert scripted.answers("only") == 40


def test_with_few_prompts_languages_share_their_strengths() -> None:
    scripted = Scripted(lambda _method, strength, _target: 1.0 if strength > 0.7 else 0.4)

    found = calibrate(scripted, prompts(FR, JA, EN, each=16), methods=["lape"])

    assert found.is_shared
    shared = {"gentle": 0.8, "normal": 1.0, "strong": 1.4}
    assert found.levels == {FR: shared, JA: shared, EN: shared}
    assert found.usual_levels == shared
    assert {s for _, s in scripted.asked} == {0.6, 0.8, 1.0, 1.4}  # 1.2 is not needed
    assert all(point.success.trials == 16 for point in found.curves[FR].values())


def test_a_shared_normal_moves_only_for_what_is_better_beyond_a_tie() -> None:
    def at(strong: float) -> float:
        scripted = Scripted(
            lambda _method, strength, _target: strong if strength > 1 else 0.75 * strength,
        )
        found = calibrate(scripted, prompts(FR, JA, each=20), methods=["lape"])
        return found.levels[FR]["normal"]

    assert at(strong=1.0) == 1.4
    assert at(strong=0.78) == 1.0


def test_a_shared_normal_is_not_raised_for_purer_words() -> None:
    scripted = of_methods({}, mixes={"lape": 0.2}, gets_purer=True)

    found = calibrate(scripted, prompts(FR, JA, each=20), methods=["lape"])

    assert found.levels[FR]["normal"] == 1.0


def test_a_shared_normal_gives_way_to_loops_even_where_a_purer_strength_does_not_loop() -> None:
    scripted = Scripted(
        lambda *_: 1.0,
        loops=lambda _, strength: 0.4 if strength >= 1 else 0.0,
        mixes={"lape": 0.15},
    )

    found = calibrate(scripted, prompts(FR, JA, each=20), methods=["lape"])

    assert found.levels[FR]["normal"] == 0.6


def test_a_shared_strong_falls_back_where_it_breaks() -> None:
    scripted = Scripted(lambda *_: 1.0, loops=lambda _, strength: 0.5 if strength > 1 else 0.0)

    found = calibrate(scripted, prompts(FR, JA, each=20), methods=["lape"])

    assert found.levels[FR] == {"gentle": 0.6, "normal": 1.0, "strong": 1.0}


@pytest.mark.parametrize(("rescued", "kept"), [(1.0, "lape+tokens@5"), (0.6, "lape")])
def test_a_rescue_is_tried_only_where_success_falls_short_and_kept_if_it_pays(
    rescued: float, kept: str
) -> None:
    scripted = of_methods(
        {"lape": 0.6, "lape+tokens@5": rescued}, nats=lambda name, _: 1 + len(name) / 100
    )

    found = calibrate(scripted, prompts(FR, JA), methods=["lape"], goal=Goal(rescue="tokens@5"))

    assert found.method == kept
    (other,) = found.rejected
    assert {found.method, other.method} == {"lape", "lape+tokens@5"}


def test_no_rescue_without_need() -> None:
    scripted = of_methods({})

    calibrate(scripted, prompts(FR, JA), methods=["lape"], goal=Goal(rescue="tokens@5"))

    assert {name for name, _ in scripted.asked} == {INSTRUCTION, "lape"}


def test_languages_that_fall_short_are_named_and_the_instruction_stands_beside() -> None:
    scripted = Scripted(
        lambda method, _, target: 0.5 if target == JA and method != INSTRUCTION else 1.0
    )

    found = calibrate(scripted, prompts(FR, JA, each=10), methods=["lape"])

    assert found.short_of(0.99) == [JA]
    assert found.instructed[JA].success == Proportion(10, 10)
    assert found.total.success == Proportion(15, 20)
    assert found.total_instructed.success == Proportion(20, 20)


def test_what_is_left_shrinks_to_nothing() -> None:
    steps: list[Step] = []
    asked: list[int] = []
    scripted = of_methods({"none": 0.0})

    def measure(method: str, strength: float, some: Sequence[ForcingPrompt]) -> list[ReplyScore]:
        asked.append(len(some))
        return scripted(method, strength, some)

    calibrate(
        measure, prompts(FR, JA, each=20), methods=["none", "a", "b", "c"], notice=steps.append
    )

    assert steps[0].method == INSTRUCTION
    assert len(steps) == len(asked)
    assert steps[0].answers_left >= sum(asked)
    assert all(step.answers_left >= now for step, now in zip(steps, asked, strict=True))
    assert steps[-1].answers_left == asked[-1]


def test_a_success_that_is_never_reached_gives_the_most_there_is() -> None:
    curve = {
        1.0: Measured(Proportion(3, 10), 1.0),
        2.0: Measured(Proportion(6, 10), 2.0),
        3.0: Measured(Proportion(6, 10), 1.5),
        4.0: Measured(Proportion(1, 10), float("inf")),
    }

    assert choose_levels(curve, 0.99) == {"gentle": 2.0, "normal": 3.0, "strong": 3.0}


def test_margin_goes_on_as_far_as_nothing_of_the_success_is_lost() -> None:
    rates = {0.5: 90, 1.0: 99, 1.25: 99, 1.5: 99, 2.0: 97}
    curve = {s: Measured(Proportion(rate, 100), 1.0) for s, rate in rates.items()}

    assert choose_levels(curve, 0.99)["normal"] == 1.0
    assert choose_levels(curve, 0.99, margin=1.3)["normal"] == 1.25
    assert choose_levels(curve, 0.99, margin=3)["normal"] == 1.5
    assert choose_levels(curve, 0.99, margin=3)["gentle"] == 0.5


def test_a_share_between_two_counts_is_rounded_down() -> None:
    curve = {
        1.0: Measured(Proportion(96, 98), 1.0),
        2.0: Measured(Proportion(97, 98), 1.0),
        3.0: Measured(Proportion(98, 98), 1.0),
    }

    assert choose_levels(curve, 0.99)["normal"] == 2.0
    assert choose_levels(curve, 1.0)["normal"] == 3.0


def test_usual_levels_are_the_median_of_the_languages() -> None:
    levels = [{"gentle": g, "normal": g + 1, "strong": g + 2} for g in (1.0, 2.0, 9.0)]
    nothing = Measured(Proportion(0, 0), 0.0)
    by_language = dict(zip((EN, FR, JA), levels, strict=True))
    found = Calibration("lape", by_language, {}, {}, (), False, nothing, nothing)  # type: ignore[arg-type]  # the three levels

    assert found.usual_levels == {"gentle": 2.0, "normal": 3.0, "strong": 4.0}


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_normal_reaches_what_is_wanted_wherever_the_curve_does(wanted: float) -> None:
    curve = {s / 4: Measured(Proportion(min(100, 25 * s // 2), 100), 1.0) for s in range(1, 12)}

    assert curve[choose_levels(curve, wanted)["normal"]].success.rate >= wanted


def test_the_best_of_equals_is_the_first() -> None:
    same = Measured(Proportion(9, 10), 1.0, Proportion(0, 10), 20)

    best, reasons = choose_best({"a": same, "b": same}, wanted_success=0.99)

    assert (best, reasons) == ("a", {"b": "likelihood"})


def test_words_of_another_language_weigh_more_than_likelihood_and_less_than_success() -> None:
    def point(success: int, pure: int, nats: float) -> Measured:
        return Measured(Proportion(success, 48), nats, Proportion(0, 48), 20, Proportion(pure, 48))

    points = {"likely": point(48, 30, 1.0), "pure": point(47, 46, 1.5), "weak": point(24, 48, 0.5)}

    best, reasons = choose_best(points, wanted_success=0.99)

    assert (best, reasons) == ("pure", {"likely": "words", "weak": "success"})


def test_a_method_that_mixes_languages_is_given_up() -> None:
    scripted = of_methods({}, mixes={"mixing": 0.5}, nats=lambda name, _: float(name != "mixing"))

    found = calibrate(scripted, prompts(FR, JA), methods=["mixing", "lape"])

    assert found.method == "lape"
    assert [(one.method, one.reason) for one in found.rejected] == [("mixing", "words")]
    assert found.total.pure == Proportion(48, 48)


def test_replies_without_a_token_have_no_likelihood() -> None:
    empty, one = ReplyScore(False, False, False, 0, None), ReplyScore(True, True, False, 8, 2.0)

    assert Measured.of([empty, one]).quality_nats == 2.0
    assert Measured.of([empty]).quality_nats == math.inf
