"""What a calibration asks of a model, how its methods are written, and what a set is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from steering.activation_stats import ActivationStats
from steering.building import SetOrigin, build_neuron_set
from steering.errors import PlanError, SettingsError, StatsError
from steering.evaluation.calibrating import (
    DEFAULT_METHODS,
    CalibrationProgress,
    CalibrationSettings,
    Reply,
    Runner,
    SteeredQuestion,
    at_depths,
    calibrate_set,
    default_methods,
    interleave,
    tuning_prompts,
    with_calibration,
)
from steering.evaluation.calibration import INSTRUCTION, Calibration
from steering.evaluation.forcing import ForcingOutcome, ForcingPrompt
from steering.everyday_prompts import PROMPTS_TO_TUNE, everyday_prompts
from steering.languages import LANGUAGES, Language
from steering.loading import LoadedModel
from steering.methods import SteeringRequest, default_method, make_plan
from steering.neuron_set import NeuronSet
from steering.steering_plan import NO_STEERING
from tests.texts import TEXTS
from tests.toy import EN, FR, JA, SW, TOY_PARAMETERS, make_toy_stats

FIFTEEN = tuple(LANGUAGES[code] for code in TEXTS)
EIGHT = tuple(LANGUAGES[code] for code in ("en", "zh", "hi", "es", "fr", "ar", "pt", "ru"))


@pytest.fixture
def model(load_tiny: Callable[..., LoadedModel]) -> LoadedModel:
    return load_tiny("llama")


def make_set(model: LoadedModel) -> NeuronSet:
    stats, languages = make_toy_stats(), (EN, FR, JA)
    phases = {phase: {one: rows[one] for one in languages} for phase, rows in stats.phases.items()}
    return build_neuron_set(
        model.identity,
        ActivationStats(languages, phases),
        phase="text",
        parameters=TOY_PARAMETERS,
        origin=SetOrigin("toy", "1" * 64),
    )


def calibrate(
    model: LoadedModel,
    neurons: NeuronSet,
    prompts: Sequence[ForcingPrompt],
    *methods: str,
    kept: Path | None = None,
    fails_at: int = 0,
    seen: list[CalibrationProgress] | None = None,
    asked: list[SteeredQuestion] | None = None,
) -> Calibration:
    """Calibrate with a model that answers in the target where it is steered, else in Russian."""
    batches = iter(range(1, 10_000))

    def ask(questions: Sequence[SteeredQuestion]) -> list[Reply]:
        if next(batches) == fails_at:
            raise KilledError
        if asked is not None:
            asked.extend(questions)
        replies = []
        for question in questions:
            prompt = prompts[question.sampling.seed]
            code = str(prompt.target) if question.plan.pulls else "ru"
            is_instructed = question.text != prompt.text
            text = "la la la la la la la la la la la" if is_instructed else TEXTS[code][0]
            replies.append(Reply(text, 20))
        return replies

    def score(outcomes: Sequence[ForcingOutcome]) -> list[float | None]:
        return [1.0 for _ in outcomes]

    return calibrate_set(
        model,
        neurons,
        prompts,
        settings=CalibrationSettings(methods, batch_rows=8),
        kept=kept,
        runner=Runner(ask, score),
        progress=(seen if seen is not None else []).append,
    )


class KilledError(Exception):
    """Stands for a machine that goes away."""


@pytest.mark.parametrize(
    "languages", [(EN, FR), (EN, FR, JA), EIGHT, tuple(LANGUAGES[code] for code in TEXTS)]
)
def test_prompts_to_tune_are_in_another_language_and_never_measured_on(
    languages: tuple[Language, ...],
) -> None:
    prompts = tuning_prompts(languages)

    to_tune = {everyday_prompts(one)[n] for one in languages for n in PROMPTS_TO_TUNE}
    counts = Counter(prompt.target for prompt in prompts)
    assert {prompt.text for prompt in prompts} <= to_tune
    assert all(prompt.language != prompt.target for prompt in prompts)
    assert len({(prompt.target, prompt.text) for prompt in prompts}) == len(prompts)
    assert set(counts) == set(languages)
    assert len(set(counts.values())) == 1
    assert len(prompts) >= (30 if len(languages) == 2 else 48)


def test_the_first_prompts_are_spread_over_languages_and_questions() -> None:
    first = tuning_prompts(EIGHT)[:16]

    assert set(Counter(prompt.target for prompt in first).values()) == {2}
    assert len({prompt.language for prompt in first}) == 8
    assert len({prompt.text for prompt in first}) == 16


def test_as_many_prompts_as_are_asked_for_and_no_more_than_there_are() -> None:
    assert len(tuning_prompts((EN, FR, JA), per_language=28)) == 3 * 28
    assert len(tuning_prompts((EN, FR), per_language=100)) == 2 * 15
    assert {prompt.language for prompt in tuning_prompts((SW, JA))} == {JA}


def test_targets_take_turns_when_they_are_interleaved() -> None:
    by_target = {one: tuning_prompts((EN, FR, JA))[:n] for one, n in ((EN, 1), (FR, 3))}

    assert interleave(by_target) == [by_target[EN][0], *by_target[FR]]


def test_depths_become_layers_of_the_model() -> None:
    methods = ["subspace/D0.75/answer@1", "lape+subspace/answer/D0.6-0.85", "diffmean/D1@2", "lape"]

    assert at_depths(methods, layers=24) == (
        "subspace/L18/answer@1", "lape+subspace/answer/L14-20", "diffmean/L23@2", "lape",
    )  # fmt: skip
    assert at_depths(["subspace/L*/answer"], layers=24) == tuple(
        f"subspace/L{layer}/answer" for layer in (14, 17, 18, 19)
    )
    assert at_depths(["diffmean/L*", "diffmean/L1"], layers=2) == ("diffmean/L1",)


@pytest.mark.parametrize("method", ["guess", "lape/L9", "subspace/D2"])
def test_methods_that_make_no_sense_are_refused(method: str) -> None:
    with pytest.raises(PlanError):
        at_depths([method], layers=3)


def test_the_usual_methods_fit_what_a_set_holds(model: LoadedModel) -> None:
    neurons = make_set(model)
    bare = replace(neurons, residual_means={}, value_means={}, gate_means={})

    usual = default_methods(neurons)
    assert usual == at_depths(DEFAULT_METHODS, layers=neurons.metadata.layers)
    assert at_depths([default_method(neurons)], layers=neurons.metadata.layers)[0] in usual
    for method in usual:
        assert make_plan(neurons, SteeringRequest(FR, method)).pulls
    assert default_methods(bare)[:2] == ("lape-paper", "amplify/answer@1")


def test_a_set_is_told_what_was_found(model: LoadedModel) -> None:
    neurons = make_set(model)
    prompts = tuning_prompts(neurons.languages)

    found = calibrate(model, neurons, prompts, "lape", "subspace/L1/answer@1")
    told = with_calibration(neurons, found)

    assert default_method(told) == found.method == "subspace/L1/answer@1"
    assert found.total.success.rate == 1
    assert found.total_instructed.looping.rate == 1
    assert [(one.method, one.reason) for one in found.rejected] == [("lape", "hopeless")]
    assert told.metadata.language_strengths == {}
    assert told.metadata.strengths == {"gentle": 0.6, "normal": 1.0, "strong": 1.4}
    assert set(told.metadata.calibration) == {str(one) for one in neurons.languages}
    assert neurons.metadata.calibration == {}


def test_a_method_that_a_set_has_no_means_for_is_named_and_left_out(model: LoadedModel) -> None:
    neurons = replace(make_set(model), residual_means={})
    prompts = tuning_prompts(neurons.languages)

    found = calibrate(model, neurons, prompts, "lape", "subspace/L1/answer@1")

    assert found.method == "lape"
    (rejected,) = found.rejected
    assert rejected.reason == "unusable"
    assert rejected.note
    with pytest.raises(StatsError):
        calibrate(model, neurons, prompts, "subspace/L1/answer@1")


@pytest.mark.parametrize("at", [1, 2, 7, 12])
def test_what_was_answered_before_a_kill_is_not_asked_again(
    at: int, model: LoadedModel, tmp_path: Path
) -> None:
    neurons = make_set(model)
    prompts, kept = tuning_prompts(neurons.languages), tmp_path / "folder" / "kept.json"
    methods = ("lape", "subspace/L0/answer@1", "subspace/L1/answer@1")
    every: list[SteeredQuestion] = []
    whole = calibrate(model, neurons, prompts, *methods, asked=every)
    before: list[SteeredQuestion] = []
    with pytest.raises(KilledError):
        calibrate(model, neurons, prompts, *methods, kept=kept, fails_at=at, asked=before)

    after: list[SteeredQuestion] = []
    found = calibrate(model, neurons, prompts, *methods, kept=kept, asked=after)

    assert found == whole
    assert len(before) == 8 * (at - 1)
    assert len(before) + len(after) == len(every)


def test_scores_of_another_calibration_and_damaged_ones_are_refused(
    model: LoadedModel, tmp_path: Path
) -> None:
    neurons, kept = make_set(model), tmp_path / "kept.json"
    prompts = tuning_prompts(neurons.languages)
    calibrate(model, neurons, prompts, "lape", kept=kept)

    with pytest.raises(SettingsError, match="of another set or other prompts"):
        calibrate(model, neurons, prompts[:20], "lape", kept=kept)
    kept.write_text(kept.read_text()[:-20])
    with pytest.raises(SettingsError, match="or is damaged"):
        calibrate(model, neurons, prompts, "lape", kept=kept)


def test_progress_ends_at_its_total(model: LoadedModel) -> None:
    neurons = make_set(model)
    seen: list[CalibrationProgress] = []
    asked: list[SteeredQuestion] = []

    calibrate(
        model, neurons, tuning_prompts(neurons.languages), "lape", "subspace/L1/answer@1",
        seen=seen, asked=asked,
    )  # fmt: skip

    assert seen[0].step.method == INSTRUCTION
    assert all(at.answers <= at.total for at in seen)
    assert seen[-1].answers == seen[-1].total == len(asked)


def test_the_instruction_stands_beside_unsteered(model: LoadedModel) -> None:
    neurons = make_set(model)
    prompts, asked = tuning_prompts(neurons.languages), []

    calibrate(model, neurons, prompts, "subspace/L1/answer@1", asked=asked)

    instructed = {prompt.instructed_text for prompt in prompts}
    assert {q.plan is NO_STEERING for q in asked if q.text in instructed} == {True}
    assert {q.plan is NO_STEERING for q in asked if q.text not in instructed} == {False}
