"""The numbers of a report card, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from steering.errors import NeuronSetFormatError
from steering.evaluation.proportions import Proportion
from steering.evaluation.report import CurvePoint
from steering.languages import LANGUAGES
from steering.neuron_set import CalibrationPoint, NeuronSet, NeuronSetMetadata
from steering.report_card.card import ReportCard, make_report_card
from steering.report_card.facts import plain
from tests.report_card.small_set import TOKENS, make_small_set
from tests.toy import make_toy_set, without_neurons

FR, EN, JA = (LANGUAGES[code] for code in ("fr", "en", "ja"))


@pytest.fixture
def card() -> ReportCard:
    return make_report_card(make_small_set())


def with_members(**members: list[int]) -> NeuronSet:
    """A set of two languages whose neurons lie in one layer; one row of 0 and 1 per language."""
    is_member = torch.tensor(list(members.values())).bool()
    count = is_member.shape[1]
    small = make_small_set(
        languages=tuple(members),
        layers=1,
        neurons_per_layer=count,
        token_counts={},
        language_strengths={},
        calibration={},
    )
    return replace(
        small,
        layer=torch.zeros(count, dtype=torch.int64),
        index=torch.arange(count),
        lape_score=torch.zeros(count),
        is_member=is_member,
        activation_prob=torch.zeros(len(members), count),
        control=None,
        token_log_odds=None,
    )


def kinds(card: ReportCard) -> list[str]:
    return [warning.kind for warning in card.warnings]


def test_totals(card: ReportCard) -> None:
    assert (card.all_neurons, card.selected, card.selected_of_one) == (30, 5, 3)
    assert card.layer_counts == (2, 1, 2)
    assert card.control_counts == (1, 0, 1)


def test_languages_have_their_neurons_layers_and_medians(card: ReportCard) -> None:
    assert [
        (row.language, row.neurons, row.own, row.layer_counts, row.median_score_nats)
        for row in card.languages
    ] == [
        (FR, 3, 1, (2, 0, 1), 0.5),
        (EN, 3, 1, (1, 1, 1), 0.5),
        (JA, 1, 1, (0, 0, 1), 0.25),
    ]
    assert [row.token_counts for row in card.languages] == [{"text": n} for n in TOKENS.values()]


def test_typical_tokens_are_those_of_one_nat_and_more(card: ReportCard) -> None:
    assert [(row.typical_tokens, row.highest_log_odds_nats) for row in card.languages] == [
        (2, 2.0),
        (0, 0.0),
        (2, 4.0),
    ]


def test_pairs_share_of_the_smaller_language_with_the_most_first(card: ReportCard) -> None:
    assert [(p.first, p.second, p.shared, p.smaller) for p in card.pairs] == [
        (FR, EN, 2, 3),
        (FR, JA, 0, 1),
        (EN, JA, 0, 1),
    ]
    assert card.pairs[0].share == pytest.approx(2 / 3)


def test_histogram_spans_the_scores_and_holds_each_neuron_once(card: ReportCard) -> None:
    filled = {n: b.neurons for n, b in enumerate(card.score_bins) if b.neurons}

    assert filled == {0: 1, 5: 1, 10: 2, 19: 1}
    assert (card.score_bins[0].low, card.score_bins[-1].high) == (0.0, 1.0)
    assert all(b.high - b.low == pytest.approx(0.05) for b in card.score_bins)


def test_equal_scores_are_one_bin() -> None:
    neurons = replace(make_small_set(), lape_score=torch.full((5,), 0.5))

    (only,) = make_report_card(neurons).score_bins

    assert (only.low, only.high, only.neurons) == (0.5, 0.5, 5)


def test_sharpest_come_by_score_and_ties_by_place(card: ReportCard) -> None:
    assert [(n.layer, n.index, n.score_nats, n.members) for n in card.sharpest] == [
        (0, 4, 0.0, (FR, EN)),
        (2, 3, 0.25, (JA,)),
        (0, 1, 0.5, (FR,)),
        (2, 9, 0.5, (FR, EN)),
        (1, 0, 1.0, (EN,)),
    ]
    assert [(n.layer, n.index) for n in card.languages[0].sharpest] == [(0, 4), (0, 1), (2, 9)]
    assert [(n.layer, n.index) for n in card.languages[1].sharpest] == [(0, 4), (2, 9), (1, 0)]


def test_most_active_are_the_two_highest_probabilities_above_zero(card: ReportCard) -> None:
    assert [neuron.most_active for neuron in card.sharpest] == [
        ((EN, 0.875), (FR, 0.75)),
        ((JA, 0.5),),
        ((FR, 0.5), (EN, 0.25)),
        ((FR, 0.5), (EN, 0.5)),
        ((EN, 1.0),),
    ]


def test_no_more_than_ten_are_the_sharpest() -> None:
    card = make_report_card(with_members(fr=[1] * 12, en=[0] * 12))

    assert [neuron.index for neuron in card.sharpest] == list(range(10))


def test_curve_rises_in_strength_and_levels_are_the_languages_own(card: ReportCard) -> None:
    french, _, japanese = card.languages

    assert [(p.strength, p.success) for p in japanese.curve] == [
        (0.25, Proportion(1, 4)),
        (0.5, Proportion(3, 4)),
    ]
    assert math.isnan(japanese.curve[0].quality_nats)
    assert japanese.curve[1] == CurvePoint(0.5, Proportion(3, 4), 1.25)
    assert japanese.levels == {"gentle": 0.25, "normal": 0.5, "strong": 2.0}
    assert french.levels == {"gentle": 0.5, "normal": 1.0, "strong": 1.5}
    assert french.curve == ()


@pytest.mark.parametrize(("count", "warns"), [(19, True), (20, False)])
def test_a_language_with_under_20_neurons_is_a_warning(count: int, warns: bool) -> None:
    own, other = [1] * count + [0] * 40, [0] * count + [1] * 40

    card = make_report_card(with_members(fr=own, en=other))

    assert kinds(card) == (["few_neurons"] if warns else [])
    assert not warns or "under 20 neurons: fr 19. " in card.warnings[0].message


def test_a_language_under_a_million_tokens_is_a_warning(card: ReportCard) -> None:
    message = next(w.message for w in card.warnings if w.kind == "few_tokens")

    assert "under 1,000,000 tokens (phase text): en 999,999. " in message


def test_tokens_are_those_of_the_phase_that_neurons_were_selected_on() -> None:
    counts = {"text": dict.fromkeys(TOKENS, 5), "onset": dict.fromkeys(TOKENS, 2_000_000)}

    card = make_report_card(make_small_set(selection_phase="onset", token_counts=counts))

    assert "few_tokens" not in kinds(card)
    assert card.phases == ("text", "onset")


@pytest.mark.parametrize(("shared", "warns"), [(20, False), (21, True)])
def test_two_languages_sharing_over_half_of_the_smaller_is_a_warning(
    shared: int, warns: bool
) -> None:
    french = [1] * 40 + [0] * 60
    english = [0] * (40 - shared) + [1] * (60 + shared)

    card = make_report_card(with_members(fr=french, en=english))

    assert kinds(card) == (["much_shared"] if warns else [])
    assert not warns or "fr and en 21 of 40. " in card.warnings[0].message


def test_a_warning_names_eight_and_counts_the_rest() -> None:
    codes = list(LANGUAGES)[:11]

    card = make_report_card(with_members(**{code: [1] * 5 for code in codes}))

    assert "ar 5, bo 5, cs 5, da 5, de 5, el 5, en 5, es 5 and 3 more. " in card.warnings[0].message


def test_facts_identify_everything_that_the_set_was_made_from(card: ReportCard) -> None:
    assert card.facts == {
        "model": "org/small",
        "revision": "main",
        "architecture": "llama, 3 layers x 10 neurons, hidden size 4",
        "tokenizer": f"SHA-256 {'ab' * 32}",
        "corpus": "books",
        "corpus SHA-256": "cd" * 32,
        "selection": "lape on text, prob_quantile 0.95, select_fraction 0.01, "
        "membership_quantile 0.95",
        "holds": "gate means (text), value means (text), residual means (text), "
        "2 control neurons, log-odds of 4 tokens",
        "steering": "not measured",
        "licence": "CC0",
    }


def test_a_field_that_the_format_gets_later_is_a_fact() -> None:
    class Wider(NeuronSetMetadata):
        text_sources: dict[str, str]

    small = make_small_set()
    wider = Wider(**small.metadata.model_dump(), text_sources={"fr": "a hub's"})

    assert make_report_card(replace(small, metadata=wider)).facts["text sources"] == (
        '{"fr": "a hub\'s"}'
    )


def test_a_set_without_optional_parts_leaves_them_out() -> None:
    bare = replace(
        make_small_set(
            token_counts={}, strengths={}, language_strengths={}, calibration={}, licence=""
        ),
        lape_score=None,  # type: ignore[arg-type]  # an imported set may know members alone
        activation_prob=None,  # type: ignore[arg-type]  # as above
        gate_means={},
        value_means={},
        residual_means={},
        control=None,
        token_log_odds=None,
    )

    card = make_report_card(bare)

    assert (card.score_bins, card.sharpest, card.control_counts, card.phases) == ((), (), None, ())
    assert card.facts["licence"] == "not stated"
    assert "holds" not in card.facts
    assert kinds(card) == ["few_neurons", "much_shared"]


def test_a_set_without_neurons_has_a_card() -> None:
    card = make_report_card(without_neurons(make_toy_set()))

    assert card.selected == 0
    assert all(pair.share == 0 for pair in card.pairs)
    assert "fr 0, ja 0, en 0, th 0, sw 0" in card.warnings[0].message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"layers": 2**31 - 1}, "'2147483647' layers, not up to 1024"),
        ({"strengths": {"normal": 1e300}}, r"a calibration with '1e\+300'"),
        (
            {"calibration": {"ja": (CalibrationPoint(strength=1e9, successes=0, trials=1),)}},
            r"a calibration with '1e\+09'",
        ),
    ],
)
def test_numbers_that_nothing_measured_are_refused(
    changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(NeuronSetFormatError, match=rf"'org/small' has .*{problem}.* rebuild it\.$"):
        make_report_card(make_small_set(**changes))


@pytest.mark.parametrize("score", [-0.01, 1.11])
def test_scores_that_are_no_entropies_of_three_languages_are_refused(score: float) -> None:
    neurons = replace(make_small_set(), lape_score=torch.tensor([0.5, 0.5, 0.5, 0.5, score]))

    with pytest.raises(NeuronSetFormatError, match=r"not within 0 to 1\.10"):
        make_report_card(neurons)


def test_plain_text_is_one_line_without_commands_for_a_terminal() -> None:
    assert plain("a\x1b[31m\nb\u202ec é 猫") == r"a\x1b[31m\nb\u202ec é 猫"
