"""The steering methods by name, how a method is written, and how a request becomes a plan.

A method is one step or several joined by `+`; a step is a name, then in any order a site, a phase
and layers, then a weight: `lape`, `lape/gate/every@2`, `lape@5+diffmean/L4@1`. Adding a method is
adding one function elsewhere and one row of `METHODS`. Knows no model and no text.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from steering import neuron_plans, residual, token_bias
from steering.architectures import Site
from steering.errors import PlanError
from steering.languages import Language
from steering.neuron_set import NeuronSet, StrengthLevel
from steering.steering_plan import (
    EVERY_POSITION,
    NO_STEERING,
    Phase,
    SteeringPlan,
    Where,
    combine_plans,
)

# (set, target language, strength, where) -> plan
PlanFunction: TypeAlias = Callable[[NeuronSet, Language, float, Where], SteeringPlan]


# The same, and the prompt's language -> plan
SourcePlanFunction: TypeAlias = Callable[
    [NeuronSet, Language, float, Where, Language], SteeringPlan
]


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    Args:
        make_plan: Computes the plan.
        where: Where and when it acts unless the person says otherwise.
        usual_strength: What strength 1 stands for unless the person gives a weight.
        make_plan_from: Computes it instead where the prompt's language is known.
    """

    make_plan: PlanFunction
    where: Where
    usual_strength: float
    make_plan_from: SourcePlanFunction | None = None


@dataclass(frozen=True, slots=True)
class MethodStep:
    """One step of a method as a person writes it."""

    name: str
    where: Where
    weight: float


@dataclass(frozen=True, slots=True)
class SteeringRequest:
    """What a surface asks for, for one reply.

    Args:
        target: The answer's language; None leaves the model alone.
        method: As `parse_method` reads it; `default_method` when empty.
        strength: A level of the set, or a number: 1 is normal, 0 leaves the model alone.
        source: The prompt's language, where it is known.
    """

    target: Language | None
    method: str = ""
    strength: StrengthLevel | float = "normal"
    source: Language | None = None


def _penalise_repetition(
    neurons: NeuronSet, target: Language, strength: float, _where: Where
) -> SteeringPlan:
    """Return the plan of a repetition penalty of 1 + strength, whatever the language.

    Pushed hard, small models repeat themselves, and a GGUF file forgets the penalty that a model's
    makers may recommend.

    Source: Keskar et al. 2019, arXiv 1909.05858, section 4.1.
    """
    neurons.position(target)  # refuses a language that the set doesn't hold, as all methods do
    return SteeringPlan({}, repetition_penalty=1 + strength)


_AT_ONSET = Where("value", ("onset",))
_AT_ANSWER = Where("value", ("onset", "start", "body"))
_EVERYWHERE = Where("value", EVERY_POSITION)
_RESIDUAL_AT_ONSET = Where("residual", ("onset",))

# Usual strengths: for lape the most at which as many random neurons still get the language in less
# than half of the answers, for diffmean and redirect what did best, all on the bundled model
# (docs/log.md); for random what lape has; elsewhere nothing was tuned.
METHODS: Mapping[str, Method] = {
    "lape": Method(neuron_plans.shift_union, _AT_ONSET, 3.0),
    "lape-own": Method(neuron_plans.shift_own, _AT_ONSET, 8.0),
    "lape-own-difference": Method(neuron_plans.shift_own_by_difference, _AT_ONSET, 8.0),
    "lape-paper": Method(neuron_plans.steer_as_published, Where("gate", EVERY_POSITION), 1.0),
    "lape-pull": Method(neuron_plans.pull_in_subspace, _AT_ANSWER, 1.0),
    "replace": Method(neuron_plans.replace_union, _AT_ONSET, 1.0),
    "amplify": Method(neuron_plans.amplify_own, _AT_ONSET, 1.0),
    "damp": Method(neuron_plans.damp_others, _EVERYWHERE, 1.0),
    "kojima": Method(neuron_plans.fix_own, _EVERYWHERE, 1.0),
    "random": Method(neuron_plans.shift_random, _AT_ONSET, 3.0),
    "random-pull": Method(neuron_plans.pull_random, _AT_ANSWER, 1.0),
    "diffmean": Method(residual.difference_of_means, _RESIDUAL_AT_ONSET, 1.5),
    "redirect": Method(
        residual.difference_of_means, _RESIDUAL_AT_ONSET, 1.5, residual.difference_from_source
    ),
    "subspace": Method(residual.pull_in_subspace, _RESIDUAL_AT_ONSET, 1.2),
    "dimensions": Method(residual.specific_dimensions, _RESIDUAL_AT_ONSET, 1.0),
    "tokens": Method(token_bias.bias_tokens, token_bias.EVERY_LOGIT, token_bias.GENTLE_NATS),
    "penalty": Method(_penalise_repetition, token_bias.EVERY_LOGIT, 0.1),
}
# The whole answer, three quarters up: on Qwen2.5-Coder 0.5B and 1.5B this got every language, where
# steering the onset alone got none (docs/log.md).
UNCALIBRATED_METHOD = "lape-pull/gate/answer@1+subspace/D0.75/answer@1+penalty@0.1"
_OF_EXPERTS = "subspace/D0.75/answer@1+penalty@0.1"
# Worth a try on any model; most methods by their bare name act on an answer's first token alone,
# which is enough for the bundled model and for no real one that was tried.
WHOLE_ANSWER_METHODS = (UNCALIBRATED_METHOD, "lape-pull/answer@2+penalty@0.1", _OF_EXPERTS)
DEFAULT_STRENGTHS: Mapping[StrengthLevel, float] = {"gentle": 0.6, "normal": 1.0, "strong": 1.4}

_SITES: tuple[Site, ...] = ("gate", "value", "residual")
_PHASES: Mapping[str, tuple[Phase, ...]] = {
    "prompt": ("prompt",),
    "onset": ("onset",),
    "start": ("start",),
    "body": ("start", "body"),
    "answer": ("onset", "start", "body"),
    "every": EVERY_POSITION,
}
_LAYERS = re.compile(r"L(\d{1,5})(?:-(\d{1,5}))?")
_DEPTHS = re.compile(r"D([01]?\.\d{1,4}|[01])(?:-([01]?\.\d{1,4}|[01]))?")


@functools.lru_cache(maxsize=64)  # a plan takes longer to make than a token to write
def make_plan(neurons: NeuronSet, request: SteeringRequest) -> SteeringPlan:
    """Return the plan that a request asks for; the same object for the same request.

    Raises:
        PlanError: If the method is unknown or the strength is not a number of at least 0.
        UnknownLanguageError: If the set does not hold the target.
        StatsError: If the set lacks the means that the method needs.
    """
    if request.target is None:
        return NO_STEERING
    steps = parse_method(request.method or default_method(neurons))
    strength = resolve_strength(neurons, request.target, request.strength)
    plan = NO_STEERING
    for step in steps if strength else ():
        push = strength * step.weight
        plan = combine_plans(
            plan, _plan_step(step, neurons, request.target, push, source=request.source)
        )
    return replace(plan, columns=neurons.columns) if plan.edits or plan.pulls else plan


def default_method(neurons: NeuronSet) -> str:
    """Return what steers where no method is named: the set's own, else one that suits its means.

    `calibrate` gives a set its own. Without one, a set recorded on dialogues gets
    `UNCALIBRATED_METHOD` (in a mixture of experts without its neurons), one recorded on text alone
    `lape-paper`, and an imported set without any means `amplify`.
    """
    if neurons.metadata.steering_method:
        return neurons.metadata.steering_method
    if "onset" in neurons.residual_means:
        return UNCALIBRATED_METHOD if neurons.metadata.experts is None else _OF_EXPERTS
    return "lape-paper" if neurons.metadata.has_statistics else "amplify"


def _plan_step(
    step: MethodStep,
    neurons: NeuronSet,
    target: Language,
    strength: float,
    *,
    source: Language | None,
) -> SteeringPlan:
    """Return the plan of one step, from the prompt's language where the method can use it."""
    method = METHODS[step.name]
    if method.make_plan_from is not None and source in neurons.languages:
        return method.make_plan_from(neurons, target, strength, step.where, source)
    return method.make_plan(neurons, target, strength, step.where)


def resolve_strength(
    neurons: NeuronSet, target: Language, strength: StrengthLevel | float
) -> float:
    """Return the number behind a strength level of a set for a language.

    Raises:
        PlanError: If it is neither a level nor a finite number of at least 0.
    """
    if isinstance(strength, str):
        metadata = neurons.metadata
        own = metadata.language_strengths.get(target.code, {})
        levels = {**DEFAULT_STRENGTHS, **metadata.strengths, **own}
        if strength in levels:
            return levels[strength]
    elif 0 <= strength < float("inf"):
        return float(strength)
    raise PlanError(
        f"Strength is '{strength}'. Expected gentle, normal, strong, or a number from 0 up; "
        "choose one of these."
    )


@functools.lru_cache(maxsize=256)
def parse_method(text: str) -> tuple[MethodStep, ...]:
    """Read a method such as `lape`, `lape/gate/every@2` or `lape@5+diffmean/L4@1`.

    Raises:
        PlanError: Naming the part that makes no sense and what there is instead.
    """
    return tuple(_parse_step(part.strip(), text) for part in text.split("+"))


def _parse_step(part: str, whole: str) -> MethodStep:
    described, has_weight, weight = part.partition("@")
    name, *options = described.split("/")
    if name not in METHODS:
        raise PlanError(
            f"Unknown steering method '{name}'. Expected one of: {', '.join(METHODS)}; "
            "leave it out for the set's own."
        )
    where = METHODS[name].where
    kinds: list[str] = []
    for option in options:
        where, kind = _apply_option(where, option, whole)
        if kind in kinds:
            raise PlanError(
                f"Method '{whole}' gives {kind} twice, the second time as '{option}'. Expected "
                "each once; join two steps with + to act in both."
            )
        kinds.append(kind)
    usual = METHODS[name].usual_strength
    if kinds and METHODS[name].where == token_bias.EVERY_LOGIT:
        raise PlanError(
            f"Method '{whole}' gives {kinds[0]} of '{name}'. Expected none: it acts on the logits "
            f"of every token of the answer; write {name}, or {name}@{usual:g}."
        )
    return MethodStep(name, where, _read_weight(weight, name, whole) if has_weight else usual)


def _apply_option(where: Where, option: str, whole: str) -> tuple[Where, str]:
    """Return *where* with one option of a step put in, and what kind of option it is."""
    if option in _SITES:
        return replace(where, site=next(site for site in _SITES if site == option)), "the site"
    if option in _PHASES:
        return replace(where, phases=_PHASES[option]), "the phase"
    if match := _LAYERS.fullmatch(option):
        first, last = int(match[1]), int(match[2] or match[1])
        if first <= last < first + 1000:
            return replace(where, layers=tuple(range(first, last + 1))), "the layers"
    if match := _DEPTHS.fullmatch(option):
        depths = float(match[1]), float(match[2] or match[1])
        if depths[0] <= depths[1] <= 1:
            return replace(where, depths=depths), "the layers"
    raise PlanError(
        f"Method '{whole}' has the option '{option}'. Expected a site ({', '.join(_SITES)}), a "
        f"phase ({', '.join(_PHASES)}), layers such as L4 or L3-5, or depths such as D0.75 or "
        "D0.6-0.8 of all layers; correct it."
    )


def _read_weight(text: str, name: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise PlanError(
            f"Method '{whole}' has the weight '{text}'. Expected a number from 0 up, such as "
            f"{name}@2; correct it."
        )
    return weight


_LAPE = "lape"  # how the names of all methods begin that push LAPE's neurons


def without_lape(method: str) -> str:
    """Return a method without its steps that push LAPE neurons, to see what they are worth.

    Raises:
        PlanError: If it has no such step, or no other.
    """
    kept = [part.strip() for part in method.split("+") if not _is_lape(part)]
    if not kept:
        raise PlanError(
            f"Method '{method}' has nothing beside LAPE steps. Expected another step, such as in "
            "lape/answer@1+subspace/answer@1; leave this control out."
        )
    if len(kept) == len(parse_method(method)):
        raise _no_lape(method)
    return "+".join(kept)


def with_random(method: str) -> str:
    """Return a method with as many random neurons of the same layers in place of LAPE's.

    Site, phase, layers and weight stay those of the step.

    Raises:
        PlanError: If it has no step that pushes LAPE neurons.
    """
    parts = [part.strip() for part in method.split("+")]
    if not any(map(_is_lape, parts)):
        raise _no_lape(method)
    return "+".join(_randomized(part) if _is_lape(part) else part for part in parts)


def _is_lape(part: str) -> bool:
    return part.strip().startswith(_LAPE)


def _randomized(part: str) -> str:
    (step,) = parse_method(part)
    options = part.partition("@")[0].split("/")[1:]
    if not any(option in _SITES for option in options):
        options.append(step.where.site)
    if not any(option in _PHASES for option in options):
        options += [name for name, phases in _PHASES.items() if phases == step.where.phases][:1]
    name = "random-pull" if step.name == "lape-pull" else "random"
    return "/".join([name, *options]) + f"@{step.weight:g}"


def _no_lape(method: str) -> PlanError:
    return PlanError(
        f"Method '{method}' has no LAPE step. Expected one, such as in "
        "lape/answer@1+subspace/answer@1; leave this control out."
    )
