"""`calibrate`: finds a set's method and strengths, and writes them into the set.

Every measurement is kept in a JSON file beside the set, so that a run that was stopped goes on;
the curve of the method that was kept goes into the set.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from steering.calibration import COARSE_STRENGTHS, LEVELS, Calibration, Curve, Measured, calibrate
from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_set,
    check_writable,
    load_chosen_model,
    write_json,
)
from steering.cli.bundled_prompts import tuning_prompts
from steering.cli.conditions import plan_for_prompt
from steering.errors import SettingsError
from steering.evaluation.everyday import everyday_forcing_prompts
from steering.evaluation.forcing import Condition, ForcingPrompt, run_forcing
from steering.evaluation.plots import check_plot_path, plot_curve
from steering.evaluation.prompt_files import read_prompts
from steering.evaluation.proportions import Proportion
from steering.evaluation.quality import instructed_nll_nats
from steering.evaluation.report import CurvePoint
from steering.everyday_prompts import PROMPTS_TO_TUNE
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.methods import parse_method
from steering.neuron_set import CalibrationPoint, NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.steering_plan import check_layers
from steering.token_choice import Sampling

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_DEFAULT_METHODS = "lape,diffmean/L*,lape@2+diffmean/L*@1"
_DEPTHS = (1 / 3, 1 / 2, 2 / 3, 5 / 6)  # where `L*` stands for a layer, as shares of all layers
_FILE_FORMAT = "langsteer-calibration"


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("calibrate", help="find how hard to push, and write it into a set")
    parser.add_argument("set", type=Path, help="the .safetensors file; strengths go into it")
    add_model_arguments(parser)
    parser.add_argument(
        "--methods",
        default=_DEFAULT_METHODS,
        help="to choose from, with commas between; L* stands for each of four layers in turn",
    )
    parser.add_argument("--success", type=float, default=0.99, help="share that normal is to reach")
    parser.add_argument(
        "--strengths",
        default=",".join(map(str, COARSE_STRENGTHS)),
        help="that every method is measured at; 1 is a method's own weight",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=1.0,
        help="normal is so many times the smallest strength that reaches the success",
    )
    parser.add_argument("--prompts", type=Path, help="as in `evaluate forcing`")
    parser.add_argument("--count", type=int, default=28, help="prompts per language")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 is greedy; sampled replies leave the language more easily, so normal is stronger",
    )
    parser.add_argument("--max-new-tokens", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=28, help="prompts per batch")
    parser.add_argument("--measured", type=Path, help="JSON (default: SET.calibration.json)")
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw the curve in")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Calibrate a set and write it."""
    check_at_least(1, count=options.count, batch_size=options.batch_size)
    strengths = _read_strengths(options)
    measured_path = options.measured or options.set.with_suffix(".calibration.json")
    for path in (options.set, measured_path):
        check_writable(path)
    if options.plot:
        check_plot_path(options.plot)
    neurons = load_neuron_set(options.set)
    methods = _read_methods(options.methods, layers=neurons.metadata.layers)
    prompts = _choose_prompts(options, neurons.languages)
    model = load_chosen_model(options)
    check_set(neurons, model)
    total = len(methods) * len(strengths) * len(prompts)
    with tqdm(total=total, unit="points", dynamic_ncols=True) as bar:
        meter = _Meter(model, neurons, measured_path, _identity(neurons, prompts, options), bar)
        found = calibrate(
            lambda *point: meter.measure(*point, options=options),
            prompts,
            methods=methods,
            wanted_success=options.success,
            coarse=strengths,
            margin=options.margin,
        )
    _write(options, neurons, found)
    return 0


class _Meter:
    """Measures points of the curves, each once, whatever happens in between."""

    def __init__(
        self,
        model: LoadedModel,
        neurons: NeuronSet,
        path: Path,
        identity: str,
        bar: "tqdm[NoReturn]",
    ) -> None:
        self._model, self._neurons, self._path, self._bar = model, neurons, path, bar
        self._identity = identity
        self._known = _read_known(path, identity)

    def measure(
        self,
        method: str,
        strength: float,
        target: Language,
        prompts: Sequence[ForcingPrompt],
        *,
        options: argparse.Namespace,
    ) -> Measured:
        """Return a point, from the file where it stands there."""
        key = f"{method} {strength} {target}"
        if key not in self._known:
            self._known[key] = self._run(method, strength, prompts, options)
            content = {"format": _FILE_FORMAT, "identity": self._identity, "points": self._known}
            write_json(self._path, content)
        self._bar.set_description(f"{method} {target}", refresh=False)
        if self._bar.n == self._bar.total:  # refining adds points that nobody could count before
            self._bar.total += 1
        self._bar.update(1)
        successes, trials, quality = self._known[key]
        return Measured(Proportion(successes, trials), float("inf") if quality is None else quality)

    def _run(
        self,
        method: str,
        strength: float,
        prompts: Sequence[ForcingPrompt],
        options: argparse.Namespace,
    ) -> tuple[int, int, float | None]:
        result = run_forcing(
            self._model,
            prompts,
            Condition(
                method, lambda prompt: plan_for_prompt(self._neurons, prompt, method, strength)
            ),
            languages=self._neurons.languages,
            sampling=Sampling(options.max_new_tokens, options.temperature),
            batch_rows=options.batch_size,
        )
        quality = instructed_nll_nats(self._model, result)
        return result.lfs.successes, result.lfs.trials, quality


def _read_known(path: Path, identity: str) -> dict[str, tuple[int, int, float | None]]:
    """Return the points of an earlier run of the same command; refuse those of another one."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        is_same = content["format"] == _FILE_FORMAT and content["identity"] == identity
        points = {
            key: (int(successes), int(trials), None if nats is None else float(nats))
            for key, (successes, trials, nats) in content["points"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_same, points = False, {}
    if not is_same:
        raise SettingsError(
            f"'{path}' holds measurements of another set, other prompts, or is damaged. Expected "
            "those of this command; delete it, or name another file with `--measured`."
        )
    return points


def _identity(
    neurons: NeuronSet,
    prompts: Mapping[Language, Sequence[ForcingPrompt]],
    options: argparse.Namespace,
) -> str:
    """Return a hash of what a measurement depends on beside its method and strength."""
    digest = hashlib.sha256()
    metadata = neurons.metadata
    digest.update(
        f"{metadata.model_id} {metadata.model_revision} {metadata.corpus_sha256}".encode()
    )
    digest.update(neurons.layer.numpy().tobytes() + neurons.index.numpy().tobytes())
    settings = [options.max_new_tokens, options.temperature, options.quantize, options.dtype]
    if options.temperature:  # rows of a batch share the draws
        settings.append(options.batch_size)
    digest.update(" ".join(map(str, settings)).encode())
    for target, asked in prompts.items():
        digest.update("\n".join([str(target), *(prompt.text for prompt in asked)]).encode())
    return digest.hexdigest()


def _choose_prompts(
    options: argparse.Namespace, languages: Sequence[Language]
) -> dict[Language, list[ForcingPrompt]]:
    """Return prompts per target; without `--prompts` not those of `evaluate forcing`."""
    total = options.count * len(languages)
    if options.prompts is not None:
        read = read_prompts(options.prompts, targets=languages)
        for note in read.notes:
            print(f"note: {note}")
        prompts = list(read.prompts)
    elif options.model == BUNDLED_MODEL:
        prompts = tuning_prompts(total, languages=languages)
    else:
        prompts = everyday_forcing_prompts(languages, count=total, numbers=PROMPTS_TO_TUNE)
    chosen = {
        target: [prompt for prompt in prompts if prompt.target == target][: options.count]
        for target in languages
    }
    if empty := [str(target) for target, asked in chosen.items() if not asked]:
        raise SettingsError(
            f"There are '0' prompts that ask for '{empty[0]}'. Expected some for every language "
            "of the set; give more with `--prompts` or `--count`."
        )
    return chosen


def _read_methods(text: str, *, layers: int) -> list[str]:
    """Read the methods and put layers in the place of `L*`.

    Raises:
        PlanError: If one of them makes no sense.
    """
    methods: list[str] = []
    for method in filter(None, (part.strip() for part in text.split(","))):
        depths = sorted({min(layers - 1, round(layers * depth)) for depth in _DEPTHS})
        methods += [method.replace("L*", f"L{d}") for d in depths] if "L*" in method else [method]
    if not methods:
        raise SettingsError(f"`--methods` is '{text}'. Expected at least one, such as lape.")
    for method in methods:
        for step in parse_method(method):
            check_layers(step.where, layers)
    return list(dict.fromkeys(methods))


def _read_strengths(options: argparse.Namespace) -> tuple[float, ...]:
    try:
        strengths = tuple(float(part) for part in options.strengths.split(","))
    except ValueError:
        strengths = ()
    is_finite = all(0 < strength < float("inf") for strength in strengths)
    if not 1 <= options.margin < float("inf"):
        raise SettingsError(f"`--margin` is '{options.margin}'. Expected a number from 1 up.")
    if not strengths or not is_finite or not 0 < options.success <= 1:
        raise SettingsError(
            f"`--strengths` is '{options.strengths}' and `--success` is '{options.success}'. "
            "Expected numbers above 0 with commas between, and a share from 0 to 1."
        )
    return strengths


def _write(options: argparse.Namespace, neurons: NeuronSet, found: Calibration) -> None:
    """Write the set, draw the curve, and print what was found."""
    metadata = neurons.metadata.model_copy(
        update={
            "steering_method": found.method,
            "strengths": found.usual_levels,
            "language_strengths": {str(t): dict(levels) for t, levels in found.levels.items()},
            "calibration": {str(t): _curve_points(curve) for t, curve in found.curves.items()},
        }
    )
    save_neuron_set(replace(neurons, metadata=metadata), options.set)
    print(_to_markdown(found))
    print(f"\nWrote method '{found.method}' and its strengths into '{options.set}'.")
    if options.plot:
        levels = {str(name): strength for name, strength in found.usual_levels.items()}
        plot_curve(_mean_curve(found), options.plot, levels=levels, title=found.method)


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


def _mean_curve(found: Calibration) -> list[CurvePoint]:
    """Return the strengths that every language was measured at, all languages together."""
    shared = set.intersection(*(set(curve) for curve in found.curves.values()))
    points = []
    for strength in sorted(shared):
        measured = [curve[strength] for curve in found.curves.values()]
        success = Proportion(
            sum(m.success.successes for m in measured), sum(m.success.trials for m in measured)
        )
        quality = sum(m.quality_nats for m in measured) / len(measured)
        points.append(CurvePoint(strength, success, quality))
    return points


def _to_markdown(found: Calibration) -> str:
    lines = [
        "| language | gentle | normal | strong | success at normal | nats per token |",
        "|---|---|---|---|---|---|",
    ]
    for target, levels in found.levels.items():
        at_normal = found.curves[target][levels["normal"]]
        numbers = " | ".join(f"{levels[name]:g}" for name in LEVELS)
        lines.append(
            f"| {target} | {numbers} | {at_normal.success.rate:.1%} | "
            f"{at_normal.quality_nats:.2f} |"
        )
    lines += [
        f"| {method}, not kept | | | | {_best(curves):.1%} | |"
        for method, curves in found.others.items()
    ]
    return "\n".join(lines)


def _best(curves: Mapping[Language, Curve]) -> float:
    """Return the mean over the languages of the most success at a coarse strength."""
    most = [max(point.success.rate for point in curve.values()) for curve in curves.values()]
    return sum(most) / len(most)
