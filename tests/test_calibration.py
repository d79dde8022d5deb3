"""Calibration finds the cliff that it is given, and calls its levels by what they do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from steering.calibration import Calibration, Measured, calibrate, choose_levels
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.proportions import Proportion
from steering.languages import LANGUAGES, Language

EN, FR, JA = (LANGUAGES[code] for code in ("en", "fr", "ja"))


def prompts(target: Language) -> list[ForcingPrompt]:
    return [ForcingPrompt("Hello?", "Hello? Answer.", EN, target)]


class Cliff:
    """Succeeds from a strength on; every unit of strength costs quality, more beyond the edge."""

    def __init__(self, starts: dict[Language, float], *, edge: float = 10.0) -> None:
        self.starts, self.edge, self.calls = starts, edge, 0

    def __call__(
        self, method: str, strength: float, target: Language, asked: Sequence[ForcingPrompt]
    ) -> Measured:
        self.calls += 1
        assert asked
        starts = self.starts[target] * (2 if method == "weak" else 1)
        rate = 1.0 if strength >= starts else strength / starts
        broken = 5.0 if strength > self.edge else 0.0
        return Measured(Proportion(round(100 * rate), 100), 1 + 0.1 * strength + broken)


def run(cliff: Cliff, *methods: str) -> Calibration:
    asked = {target: prompts(target) for target in cliff.starts}
    return calibrate(cliff, asked, methods=methods or ("lape",), coarse=(0.5, 1.0, 2.0, 3.0))


def test_normal_is_the_smallest_strength_that_reaches_the_wanted_success() -> None:
    found = run(Cliff({FR: 1.3, JA: 2.4}))

    assert 1.29 <= found.levels[FR]["normal"] <= 1.5
    assert 2.37 <= found.levels[JA]["normal"] <= 2.5


def test_levels_rise_and_gentle_does_most_of_it() -> None:
    cliff = Cliff({FR: 1.3})

    found = run(cliff)

    levels = found.levels[FR]
    assert levels["gentle"] < levels["normal"] <= levels["strong"]
    assert cliff("lape", levels["gentle"], FR, prompts(FR)).success.rate >= 0.79


def test_strong_stops_where_replies_break() -> None:
    safe, broken = run(Cliff({FR: 0.5})), run(Cliff({FR: 0.5}, edge=0.6))

    assert safe.levels[FR]["strong"] > broken.levels[FR]["strong"]
    assert broken.levels[FR]["strong"] <= 0.6


def test_the_method_that_lacks_least_success_is_kept_then_the_better_quality() -> None:
    found = run(Cliff({FR: 2.5, JA: 1.0}), "weak", "lape")

    assert found.method == "lape"
    assert list(found.others) == ["weak"]
    assert run(Cliff({FR: 0.4}), "weak", "lape").method == "lape"  # reaches it with less push


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


def test_refining_costs_few_measurements_and_only_for_the_kept_method() -> None:
    cliff = Cliff({FR: 1.3, JA: 2.4})

    run(cliff, "weak", "lape")

    assert cliff.calls <= 2 * 2 * 4 + 2 * 4


def test_usual_levels_are_the_median_of_the_languages() -> None:
    levels = [{"gentle": g, "normal": g + 1, "strong": g + 2} for g in (1.0, 2.0, 9.0)]
    found = Calibration("lape", dict(zip((EN, FR, JA), levels, strict=True)), {})  # type: ignore[arg-type]  # the three levels

    assert found.usual_levels == {"gentle": 2.0, "normal": 3.0, "strong": 4.0}


@pytest.mark.parametrize("wanted", [0.5, 0.9, 1.0])
def test_normal_reaches_what_is_wanted_wherever_the_curve_does(wanted: float) -> None:
    curve = {s / 4: Measured(Proportion(min(100, 25 * s // 2), 100), 1.0) for s in range(1, 12)}

    assert curve[choose_levels(curve, wanted)["normal"]].success.rate >= wanted
