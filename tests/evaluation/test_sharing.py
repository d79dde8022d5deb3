"""What a set of prompts shows agrees with loops over prompts, languages and neurons."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable

import pytest
import torch

from steering.conversation import Message, encode_prompt
from steering.errors import StatsError, UnsupportedArchitectureError
from steering.evaluation.parallel_prompts import ParallelPrompt
from steering.evaluation.sharing import first_content_token, measure_sharing
from steering.evaluation.sharing_report import sharing_markdown
from steering.loading import LoadedModel
from steering.sharing import GROUPS
from tests.oracles import trace_llama
from tests.toy import EN, FR, JA

LoadTiny = Callable[..., LoadedModel]

LANGUAGES = (EN, FR, JA)
LAYERS, NEURONS = 2, 48
EFFECTS: dict[str, Callable[[list[float]], float]] = {
    "total": sum,
    "mean": statistics.mean,
    "largest": max,
    "smallest": min,
}
PROMPTS = [
    ParallelPrompt(
        {EN: "Where is the cat?", FR: "Où est le chat ?", JA: "猫はどこ？"},
        {EN: ("sofa",), FR: ("canapé", "jardin"), JA: ("ソファ",)},
    ),
    ParallelPrompt(
        {EN: "What is 2 plus 2?", FR: "Combien font 2 et 2 ?", JA: "2足す2は？"},
        {EN: ("4",), FR: ("quatre",), JA: ("4",)},
    ),
]


@torch.no_grad()
def slow_tables(model: LoadedModel, threshold: float) -> dict[str, list[list[list[float]]]]:
    """Per prompt, group and layer: neurons, share of the contribution, and effects.

    Of `specific` per prompt, language and layer: neurons that are active in it alone.
    """
    network = model.model
    head = network.get_output_embeddings().weight
    tables: dict[str, list[list[list[float]]]] = {
        name: [[[0.0] * LAYERS for _ in GROUPS] for _ in PROMPTS]
        for name in ("neurons", "contribution", *EFFECTS)
    }
    tables["specific"] = [[[0.0] * LAYERS for _ in LANGUAGES] for _ in PROMPTS]
    for p, prompt in enumerate(PROMPTS):
        traces = [
            trace_llama(network, encode_prompt(model.tokenizer, [Message("user", text)]))
            for text in (prompt.texts[language] for language in LANGUAGES)
        ]
        tokens = [
            model.tokenizer(prompt.answers[language][0], add_special_tokens=False)["input_ids"][0]
            for language in LANGUAGES
        ]
        for layer in range(LAYERS):
            down = network.model.layers[layer].mlp.down_proj.weight
            group_of = []
            for i in range(NEURONS):
                active = [float(trace.gate[layer][-1, i]) > threshold for trace in traces]
                group_of.append({3: 0, 2: 1, 1: 2, 0: 3}[sum(active)])
                if sum(active) == 1:
                    tables["specific"][p][active.index(True)][layer] += 1
            for g in range(4):
                mine = [i for i in range(NEURONS) if group_of[i] == g]
                tables["neurons"][p][g][layer] = len(mine)
                shares = []
                effects: dict[str, list[float]] = {name: [] for name in EFFECTS}
                for trace, token in zip(traces, tokens, strict=True):
                    value = trace.value[layer][-1]
                    each = [abs(float(value[i])) * float(down[:, i].norm()) for i in range(NEURONS)]
                    shares.append(sum(each[i] for i in mine) / sum(each))
                    if mine:
                        own = [float((value[i] * down[:, i]) @ head[token]) for i in mine]
                        for name, of_group in EFFECTS.items():
                            effects[name].append(of_group(own))
                tables["contribution"][p][g][layer] = statistics.mean(shares)
                for name in EFFECTS:
                    tables[name][p][g][layer] = statistics.mean(effects[name] or [math.nan])
    return tables


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_shares_and_scores_are_those_of_loops(load_tiny: LoadTiny, threshold: float) -> None:
    model = load_tiny("llama")
    slow = slow_tables(model, threshold)

    summary = measure_sharing(model, LANGUAGES, PROMPTS, threshold=threshold)

    assert summary.prompts == 2
    assert summary.threshold == threshold
    assert summary.effective is not None
    for (g, group), layer in itertools.product(enumerate(GROUPS), range(LAYERS)):
        shares = [slow["neurons"][p][g][layer] / NEURONS for p in range(2)]
        assert summary.shares[group][layer] == pytest.approx(statistics.mean(shares))
        assert summary.share_spread[group][layer] == pytest.approx(statistics.stdev(shares))
        contribution = [slow["contribution"][p][g][layer] for p in range(2)]
        assert summary.contribution[group][layer] == pytest.approx(
            statistics.mean(contribution), abs=1e-5
        )
        assert summary.contribution_spread[group][layer] == pytest.approx(
            statistics.stdev(contribution), abs=1e-5
        )
        filled = [p for p in range(2) if slow["neurons"][p][g][layer]]
        for name in EFFECTS:
            found = getattr(summary.effective, name)[group][layer]
            expected = [slow[name][p][g][layer] for p in filled]
            if expected:
                assert found == pytest.approx(statistics.mean(expected), abs=1e-4), name
            else:
                assert found is None
    for (k, language), layer in itertools.product(enumerate(LANGUAGES), range(LAYERS)):
        shares = [slow["specific"][p][k][layer] / NEURONS for p in range(2)]
        assert summary.specific[language][layer] == pytest.approx(statistics.mean(shares))
    assert len(summary.groups.unique()) == 4


def test_shares_of_single_languages_add_up_to_the_specific_group(load_tiny: LoadTiny) -> None:
    summary = measure_sharing(load_tiny("llama"), LANGUAGES, PROMPTS)

    for layer in range(LAYERS):
        of_languages = sum(summary.specific[language][layer] for language in LANGUAGES)
        assert of_languages == pytest.approx(summary.shares["specific"][layer])
    assert summary.shares["specific"] != (0.0, 0.0)


def test_without_answers_there_is_no_effective_score(load_tiny: LoadTiny) -> None:
    bare = [ParallelPrompt(prompt.texts, {}) for prompt in PROMPTS]

    summary = measure_sharing(load_tiny("llama"), LANGUAGES, bare)

    assert summary.effective is None
    assert summary.shares == measure_sharing(load_tiny("llama"), LANGUAGES, PROMPTS).shares
    json.dumps(summary.to_json(), allow_nan=False)
    assert "Effective" not in sharing_markdown(summary)


def test_one_prompt_has_no_spread_and_no_stability(load_tiny: LoadTiny) -> None:
    summary = measure_sharing(load_tiny("llama"), LANGUAGES, PROMPTS[:1])

    assert summary.stability is None
    assert set(summary.share_spread["all-shared"]) == {0.0}
    json.dumps(summary.to_json(), allow_nan=False)


def test_numbers_are_plain_json_and_every_table_is_shown(load_tiny: LoadTiny) -> None:
    # With a threshold that nothing reaches, three groups are empty.
    for threshold in (0.0, 1e6):
        summary = measure_sharing(load_tiny("llama"), LANGUAGES, PROMPTS, threshold=threshold)

        found = json.loads(json.dumps(summary.to_json(), allow_nan=False))
        shown = sharing_markdown(summary)

        assert found["languages"] == ["en", "fr", "ja"]
        assert found["shares"]["all-shared"] == list(summary.shares["all-shared"])
        assert shown.count("| layer |") == 4
        assert "nan" not in shown
    assert found["shares"]["non-activated"] == [1.0, 1.0]
    assert found["effective"]["mean"]["all-shared"] == [None, None]


def test_progress_is_told_of_every_prompt(load_tiny: LoadTiny) -> None:
    seen: list[None] = []

    measure_sharing(load_tiny("llama"), LANGUAGES, PROMPTS, progress=lambda: seen.append(None))

    assert len(seen) == 2


def test_a_token_that_is_blank_is_not_the_first_of_the_content(load_tiny: LoadTiny) -> None:
    model = load_tiny("llama")
    plain = model.tokenizer("cat", add_special_tokens=False)["input_ids"][0]

    assert first_content_token(model, "  cat") == plain
    assert first_content_token(model, "cat") == plain


def test_one_language_and_experts_are_refused(load_tiny: LoadTiny) -> None:
    with pytest.raises(StatsError, match="at least two"):
        measure_sharing(load_tiny("llama"), [EN], PROMPTS)
    with pytest.raises(UnsupportedArchitectureError, match="experts"):
        measure_sharing(load_tiny("mixtral"), LANGUAGES, PROMPTS)
