"""Calibrates a neuron set on a model: asks the questions, scores the replies, updates the set.

The command line and the page both use it, each with its own way to reach the model.
`steering/evaluation/calibration.py` decides which method wins.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from steering.chunks import model_state
from steering.conversation import Message
from steering.detection import language_of_prompt
from steering.errors import PlanError, StatsError
from steering.evaluation.calibration import (
    INSTRUCTION,
    Calibration,
    Goal,
    Rejected,
    Step,
    calibrate,
)
from steering.evaluation.everyday import everyday_tuning_prompts
from steering.evaluation.forcing import ForcingOutcome, ForcingPrompt, judge_reply
from steering.evaluation.foreign_words import foreign_words
from steering.evaluation.kept_scores import KeptScores
from steering.evaluation.quality import reply_nll_nats
from steering.evaluation.reply_scores import Curve, ReplyScore
from steering.generation import answer_conversations
from steering.languages import Language
from steering.looping import is_looping
from steering.methods import SteeringRequest, default_method, make_plan, parse_method
from steering.neuron_set import CalibrationPoint, NeuronSet
from steering.steering_plan import NO_STEERING, SteeringPlan, layers_of
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from steering.loading import LoadedModel

# A pull at one of several depths, with LAPE neurons and without, and the neurons alone; on
# Qwen2.5-Coder 0.5B and 1.5B the best lie here. The first wins a tie.
DEFAULT_METHODS = tuple(
    f"{method}+penalty@0.1"
    for method in (
        "lape-pull/answer@2+subspace/D0.75/answer@0.5",
        "lape-pull/answer@2+subspace/D0.7/answer@0.5",
        "lape-pull/answer@2+subspace/D0.8/answer@0.5",
        "lape-pull/answer@1.5+subspace/D0.75/answer@0.5",
        "lape-pull/gate/answer@1+subspace/D0.75/answer@1",
        "subspace/D0.75/answer@1",
        "subspace/D0.8/answer@1",
        "lape-pull/answer@2",
    )
)
# Of a set without means of dialogues.
_METHODS_WITHOUT_DIALOGUES = ("lape-paper", "amplify/answer@1")
RESCUE = "tokens@5"  # tried where the best of the default methods falls short
DEPTHS = (0.6, 0.7, 0.75, 0.8)  # where `L*` stands for a layer, as shares of all layers
_DEPTH = re.compile(r"(?<=/)D(0?\.\d+|[01])(?:-(0?\.\d+|[01]))?(?=[/@+]|$)")
_USUAL_PROMPTS = 48  # of all languages together; see `calibration.SEARCH_PROMPTS`
_LEAST_PER_LANGUAGE = 6


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """How a set is calibrated.

    Args:
        methods: To choose from, without `L*` and depths; `default_methods` when empty.
        goal: What success, at which strengths.
        max_new_tokens: Length of a reply.
        temperature: 0 is greedy.
        batch_rows: Prompts per batch.
    """

    methods: tuple[str, ...] = ()
    goal: Goal = Goal()  # noqa: RUF009 - a frozen value
    max_new_tokens: int = 24
    temperature: float = 0.0
    batch_rows: int = 16


@dataclass(frozen=True, slots=True)
class SteeredQuestion:
    """What one row of a batch is asked, and how the answer is steered."""

    text: str
    plan: SteeringPlan
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Reply:
    """What one row answered, and in how many tokens."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class CalibrationProgress:
    """How far a calibration is.

    Args:
        step: What is being measured.
        answers: Answers so far, saved ones among them.
        total: About how many there will be at most; it shrinks when methods are given up.
    """

    step: Step
    answers: int
    total: int


# One batch of questions -> a reply to each.
AskSteered: TypeAlias = Callable[[Sequence[SteeredQuestion]], Sequence[Reply]]
# Judged replies -> the likelihood of each, as `quality.reply_nll_nats`.
ScoreReplies: TypeAlias = Callable[[Sequence[ForcingOutcome]], Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Runner:
    """How the model is reached, where it isn't simply called.

    Args:
        ask: Answers one batch.
        score: Says how likely replies are.
    """

    ask: AskSteered
    score: ScoreReplies


def calibrate_set(
    model: LoadedModel,
    neurons: NeuronSet,
    prompts: Sequence[ForcingPrompt],
    *,
    settings: CalibrationSettings,
    kept: Path | None = None,
    runner: Runner | None = None,
    progress: Callable[[CalibrationProgress], object] = lambda _: None,
) -> Calibration:
    """Find the method and the strengths of a set; `with_calibration` puts them in.

    Args:
        model: From `load_model`, not steered.
        neurons: Made for it.
        prompts: From `tuning_prompts` or the like: the first ones spread over the targets.
        settings: How.
        kept: JSON file that every batch is saved in, and read from when the same is calibrated.
        runner: Asks and scores; in this thread when omitted.
        progress: Called before the first batch and after each.

    Raises:
        SettingsError: If *kept* belongs to another calibration or cannot be written.
        StatsError: If the set can't be steered by any of the methods.
    """
    given = settings.methods or default_methods(neurons)
    methods, unusable = _split_usable(neurons, given)
    runner = runner or Runner(partial(ask_model, model), partial(reply_nll_nats, model))
    scores = KeptScores(kept, _identity(model, neurons, prompts, settings))
    meter = _Meter(neurons, prompts, settings, runner, scores, progress)
    found = calibrate(
        meter.measure,
        prompts,
        methods=methods,
        goal=settings.goal if settings.methods else replace(settings.goal, rescue=RESCUE),
        notice=meter.note,
    )
    return replace(found, rejected=(*unusable, *found.rejected))


def with_calibration(neurons: NeuronSet, found: Calibration) -> NeuronSet:
    """Return the set with the method, its strengths, and the measured curves."""
    own = {} if found.is_shared else {str(t): dict(levels) for t, levels in found.levels.items()}
    metadata = neurons.metadata.model_copy(
        update={
            "steering_method": found.method,
            "strengths": found.usual_levels,
            "language_strengths": own,
            "calibration": {str(t): _curve_points(curve) for t, curve in found.curves.items()},
        }
    )
    return replace(neurons, metadata=metadata)


def _curve_points(curve: Curve) -> tuple[CalibrationPoint, ...]:
    return tuple(
        CalibrationPoint(
            strength=strength,
            successes=point.success.successes,
            trials=point.success.trials,
            quality_nats=point.quality_nats if math.isfinite(point.quality_nats) else None,
        )
        for strength, point in sorted(curve.items())
    )


def tuning_prompts(
    languages: Sequence[Language], *, per_language: int | None = None
) -> list[ForcingPrompt]:
    """Return the shipped tuning prompts, which no evaluation uses.

    Args:
        languages: Of the set.
        per_language: How many for each; when omitted at least 6, and 48 in all where there are
            as many.
    """
    usual = max(_LEAST_PER_LANGUAGE, -(-_USUAL_PROMPTS // len(languages)))
    return everyday_tuning_prompts(languages, per_language=per_language or usual)


def interleave(prompts: Mapping[Language, Sequence[ForcingPrompt]]) -> list[ForcingPrompt]:
    """Return the first of every target, then the second, and so on."""
    longest = max(map(len, prompts.values()), default=0)
    return [own[place] for place in range(longest) for own in prompts.values() if place < len(own)]


def default_methods(neurons: NeuronSet) -> tuple[str, ...]:
    """Return what is tried when nobody names methods: what the set has the means for.

    Its own method is among them.
    """
    layers = neurons.metadata.layers
    methods = at_depths(DEFAULT_METHODS, layers=layers)
    if all(_usable(neurons, method) for method in methods):
        methods = _METHODS_WITHOUT_DIALOGUES
    return tuple(dict.fromkeys((*methods, *at_depths([default_method(neurons)], layers=layers))))


def at_depths(methods: Sequence[str], *, layers: int) -> tuple[str, ...]:
    """Return methods with layers in the place of `L*` and of depths such as `D0.75`, each once.

    Raises:
        PlanError: If one of them makes no sense, or names a layer that there is not.
    """
    written: list[str] = []
    for method in methods:
        depths = [f"L{layer}" for layer in sorted({_layer_at(depth, layers) for depth in DEPTHS})]
        spread = [method.replace("L*", depth) for depth in depths] if "L*" in method else [method]
        written += [_DEPTH.sub(partial(_to_layers, layers=layers), one) for one in spread]
    for method in written:
        for step in parse_method(method):
            layers_of(step.where, layers)
    return tuple(dict.fromkeys(written))


def _to_layers(match: re.Match[str], *, layers: int) -> str:
    first, last = (match[1], match[2] or match[1])
    low, high = _layer_at(float(first), layers), _layer_at(float(last), layers)
    return f"L{low}" if low == high else f"L{low}-{high}"


def _layer_at(depth: float, layers: int) -> int:
    return min(layers - 1, round(layers * depth))


def _usable(neurons: NeuronSet, method: str) -> str:
    """Return why a method can't act with a set; empty when it can."""
    try:
        make_plan(neurons, SteeringRequest(neurons.languages[0], method, 1.0))
    except (PlanError, StatsError) as err:
        return str(err)
    return ""


def _split_usable(
    neurons: NeuronSet, methods: Sequence[str]
) -> tuple[list[str], tuple[Rejected, ...]]:
    notes = {method: _usable(neurons, method) for method in methods}
    usable = [method for method, note in notes.items() if not note]
    if not usable:
        raise StatsError(next(iter(notes.values())))
    rejected = [Rejected(method, "unusable", note=note) for method, note in notes.items() if note]
    return usable, tuple(rejected)


def ask_model(model: LoadedModel, questions: Sequence[SteeredQuestion]) -> list[Reply]:
    """Ask one batch in this thread."""
    views = answer_conversations(
        model,
        [(Message("user", question.text),) for question in questions],
        plans=[question.plan for question in questions],
        sampling=[question.sampling for question in questions],
    )
    return [Reply(view.text, view.tokens) for view in views]


class _Meter:
    """Asks and scores, each prompt once per method and strength, and keeps every batch."""

    def __init__(
        self,
        neurons: NeuronSet,
        prompts: Sequence[ForcingPrompt],
        settings: CalibrationSettings,
        runner: Runner,
        kept: KeptScores,
        progress: Callable[[CalibrationProgress], object],
    ) -> None:
        self._neurons, self._settings = neurons, settings
        self._runner, self._kept, self._progress = runner, kept, progress
        self._numbers = {id(prompt): number for number, prompt in enumerate(prompts)}
        self._answers, self._total = 0, 0
        self._step = Step(INSTRUCTION, 1.0, 0)

    def note(self, step: Step) -> None:
        """Take note of what is measured next."""
        self._step, self._total = step, self._answers + step.answers_left
        self._tell(0)

    def measure(
        self, method: str, strength: float, prompts: Sequence[ForcingPrompt]
    ) -> list[ReplyScore]:
        """Return a score for each prompt, from the file where it stands there."""
        known = self._kept.find(method, strength)
        missing = [prompt for prompt in prompts if self._key(prompt) not in known]
        self._tell(len(prompts) - len(missing))
        rows = self._settings.batch_rows
        for start in range(0, len(missing), rows):
            batch = missing[start : start + rows]
            scores = self._answer(method, strength, batch)
            keys = [self._key(prompt) for prompt in batch]
            self._kept.add(method, strength, dict(zip(keys, scores, strict=True)))
            self._tell(len(batch))
        known = self._kept.find(method, strength)
        return [known[self._key(prompt)] for prompt in prompts]

    def _answer(
        self, method: str, strength: float, batch: Sequence[ForcingPrompt]
    ) -> list[ReplyScore]:
        replies = self._runner.ask([self._question(method, strength, prompt) for prompt in batch])
        outcomes = [
            replace(
                judge_reply(prompt, reply.text, languages=self._neurons.languages),
                tokens=reply.tokens,
            )
            for prompt, reply in zip(batch, replies, strict=True)
        ]
        return [
            _score(outcome, nats)
            for outcome, nats in zip(outcomes, self._runner.score(outcomes), strict=True)
        ]

    def _question(self, method: str, strength: float, prompt: ForcingPrompt) -> SteeredQuestion:
        sampling = Sampling(
            self._settings.max_new_tokens,
            self._settings.temperature,
            seed=self._numbers[id(prompt)],
        )
        if method == INSTRUCTION:
            return SteeredQuestion(prompt.instructed_text, NO_STEERING, sampling)
        source = language_of_prompt(prompt.text, languages=self._neurons.languages)
        request = SteeringRequest(prompt.target, method, strength, source)
        return SteeredQuestion(prompt.text, make_plan(self._neurons, request), sampling)

    def _key(self, prompt: ForcingPrompt) -> str:
        return str(self._numbers[id(prompt)])

    def _tell(self, answers: int) -> None:
        self._answers += answers
        self._progress(CalibrationProgress(self._step, self._answers, self._total))


def _score(outcome: ForcingOutcome, nll_nats: float | None) -> ReplyScore:
    prompt, reply = outcome.prompt, outcome.reply
    words = foreign_words(reply, target=prompt.target, prompt_language=prompt.language)
    return ReplyScore(
        outcome.is_forced, bool(reply) and not words, is_looping(reply), outcome.tokens, nll_nats
    )


def _identity(
    model: LoadedModel,
    neurons: NeuronSet,
    prompts: Sequence[ForcingPrompt],
    settings: CalibrationSettings,
) -> str:
    """Return a hash of what a score depends on beside its method, strength and prompt."""
    digest = hashlib.sha256()
    digest.update(f"{model_state(model)} {neurons.metadata.corpus_sha256}".encode())
    digest.update(neurons.layer.numpy().tobytes() + neurons.index.numpy().tobytes())
    digest.update(f"{settings.max_new_tokens} {settings.temperature}".encode())
    for prompt in prompts:
        digest.update(f"\n{prompt.target} {prompt.text}".encode())
    return digest.hexdigest()
