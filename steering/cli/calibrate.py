"""`calibrate`: finds a set's method and strengths, and writes them into the set.

Every batch of answers is kept in a JSON file beside the set, so that a run that was stopped goes
on; the curve of the method that was kept goes into the set.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.cli.arguments import (
    add_model_arguments,
    check_at_least,
    check_set,
    check_writable,
    load_chosen_model,
)
from steering.cli.bundled_prompts import tuning_prompts as bundled_tuning_prompts
from steering.cli.outlook import Outlook
from steering.errors import SettingsError, StoppedError
from steering.evaluation.calibrating import (
    DEPTHS,
    CalibrationProgress,
    CalibrationSettings,
    at_depths,
    calibrate_set,
    interleave,
    tuning_prompts,
    with_calibration,
)
from steering.evaluation.calibration import USUAL_STRENGTHS, Calibration, Goal
from steering.evaluation.forcing import ForcingPrompt
from steering.evaluation.plots import check_plot_path, plot_curve
from steering.evaluation.prompt_files import read_prompts
from steering.evaluation.reply_scores import Measured, Reason
from steering.evaluation.report import CurvePoint
from steering.evaluation.strength_levels import LEVELS, pool
from steering.languages import Language
from steering.loading import BUNDLED_MODEL, LoadedModel
from steering.neuron_set import NeuronSet
from steering.neuron_set_file import load_neuron_set, save_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_REASONS: dict[Reason, str] = {
    "unusable": "can't act with this set",
    "hopeless": "far fewer answers in the language",
    "success": "fewer answers in the language",
    "words": "more answers with words of another language",
    "length": "answers much shorter or longer than usual",
    "looping": "more answers that repeat themselves",
    "likelihood": "less likely text",
}


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    usual = CalibrationSettings()
    parser = commands.add_parser("calibrate", help="find how hard to push, and write it into a set")
    parser.add_argument("set", type=Path, help="the .safetensors file; strengths go into it")
    add_model_arguments(parser)
    parser.add_argument(
        "--methods",
        default="",
        help="to choose from, with commas between; D0.75 stands for the layer at that depth, L* "
        f"for each of {len(DEPTHS)} layers in turn (default: pulls at 0.7 to 0.8 "
        "of the depth, with and without neurons, and neurons alone)",
    )
    parser.add_argument("--success", type=float, default=0.99, help="share that normal is to reach")
    parser.add_argument(
        "--strengths",
        default=",".join(map(str, USUAL_STRENGTHS)),
        help="to measure the kept method at; 1 is its own weight, at which methods are compared",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=1.0,
        help="normal is so many times the smallest strength that reaches the success; for "
        "strengths per language, which need 24 prompts for each",
    )
    parser.add_argument("--prompts", type=Path, help="as in `evaluate forcing`")
    parser.add_argument(
        "--count",
        type=int,
        help="prompts per language (default: 6, or more where that makes fewer than 48 in all)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=usual.temperature,
        help="0 is greedy; sampled replies leave the language more easily, so normal is stronger",
    )
    parser.add_argument("--max-new-tokens", type=int, default=usual.max_new_tokens)
    parser.add_argument(
        "--batch-size", type=int, default=usual.batch_rows, help="prompts per batch"
    )
    parser.add_argument("--measured", type=Path, help="JSON (default: SET.calibration.json)")
    parser.add_argument("--plot", type=Path, help="PNG or SVG to draw the curve in")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Calibrate a set and write it."""
    counts = {} if options.count is None else {"count": options.count}
    check_at_least(
        1, **counts, batch_size=options.batch_size, max_new_tokens=options.max_new_tokens
    )
    strengths = _read_strengths(options)
    measured_path = options.measured or options.set.with_suffix(".calibration.json")
    for path in (options.set, measured_path):
        check_writable(path)
    if options.plot:
        check_plot_path(options.plot)
    neurons = load_neuron_set(options.set)
    settings = CalibrationSettings(
        methods=_read_methods(options.methods, layers=neurons.metadata.layers),
        goal=Goal(options.success, strengths, options.margin),
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        batch_rows=options.batch_size,
    )
    prompts = _choose_prompts(options, neurons.languages)
    model = load_chosen_model(options)
    check_set(neurons, model)
    found = calibrate_with_bar(model, neurons, prompts, settings=settings, kept=measured_path)
    save_neuron_set(with_calibration(neurons, found), options.set)
    print(describe_calibration(found, options.success))
    print(f"\nWrote method '{found.method}' and its strengths into '{options.set}'.")
    if options.plot:
        levels = {str(name): strength for name, strength in found.usual_levels.items()}
        plot_curve(_mean_curve(found), options.plot, levels=levels, title=found.method)
    return 0


def calibrate_with_bar(
    model: LoadedModel,
    neurons: NeuronSet,
    prompts: Sequence[ForcingPrompt],
    *,
    settings: CalibrationSettings,
    kept: Path,
    outlook: Outlook | None = None,
) -> Calibration:
    """Calibrate under a bar with the time left.

    Raises:
        StoppedError: After Ctrl-C; all batches but the last are saved.
    """
    with tqdm(unit="answers", dynamic_ncols=True) as bar:

        def show(at: CalibrationProgress) -> None:
            bar.total = at.total
            name = (
                at.step.method
                if at.step.strength == 1
                else f"{at.step.method} x{at.step.strength:g}"
            )
            bar.set_description(f"calibrating {name}", refresh=False)
            bar.update(at.answers - bar.n)
            if outlook is not None:
                outlook.show(bar, "calibrating", at.answers, at.total)

        if outlook is not None:
            outlook.begin()
        try:
            found = calibrate_set(
                model, neurons, prompts, settings=settings, kept=kept, progress=show
            )
        except KeyboardInterrupt:
            raise StoppedError(
                f"Stopped after {bar.n} answers of the calibration; they are kept in '{kept}'. "
                "Run the same command again to go on from there."
            ) from None
        bar.total = bar.n
        bar.refresh()
        return found


def _choose_prompts(
    options: argparse.Namespace, languages: Sequence[Language]
) -> list[ForcingPrompt]:
    """Return prompts per target; without `--prompts` not those of `evaluate forcing`."""
    if options.prompts is None:
        return usual_prompts(options.model, languages, per_language=options.count)
    read = read_prompts(options.prompts, targets=languages)
    for note in read.notes:
        print(f"note: {note}")
    return _take(read.prompts, languages, options.count)


def usual_prompts(
    model: str, languages: Sequence[Language], *, per_language: int | None = None
) -> list[ForcingPrompt]:
    """Return the prompts to tune on where no file is named: the grammar's, or everyday ones."""
    everyday = tuning_prompts(languages, per_language=per_language)
    if model != BUNDLED_MODEL:
        return everyday
    count = per_language or -(-len(everyday) // len(languages))
    return _take(
        bundled_tuning_prompts(count * len(languages), languages=languages), languages, count
    )


def _take(
    prompts: Sequence[ForcingPrompt], languages: Sequence[Language], count: int | None
) -> list[ForcingPrompt]:
    """Return so many prompts for every target, all when omitted, by turns."""
    chosen = {
        target: [prompt for prompt in prompts if prompt.target == target][:count]
        for target in languages
    }
    if empty := [str(target) for target, asked in chosen.items() if not asked]:
        raise SettingsError(
            f"There are '0' prompts that ask for '{empty[0]}'. Expected some for every language "
            "of the set; give more with `--prompts` or `--count`."
        )
    return interleave(chosen)


def _read_methods(text: str, *, layers: int) -> tuple[str, ...]:
    """Read the methods and put layers in the place of `L*` and depths; none for the usual ones.

    Raises:
        PlanError: If one of them makes no sense.
    """
    if not text:
        return ()
    methods = tuple(part.strip() for part in text.split(",") if part.strip())
    if not methods:
        raise SettingsError(f"`--methods` is '{text}'. Expected at least one, such as lape.")
    return at_depths(methods, layers=layers)


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


def describe_calibration(found: Calibration, wanted_success: float) -> str:
    """Return what to expect of a calibrated set, what falls short, and what was given up."""
    lines = [
        "| language | gentle | normal | strong | success at normal | looping | nats per token | "
        "with the instruction instead |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target, point in found.at_normal.items():
        numbers = " | ".join(f"{found.levels[target][name]:g}" for name in LEVELS)
        lines.append(
            f"| {target} | {numbers} | {_cells(point)} | {_brief(found.instructed.get(target))} |"
        )
    usual = " | ".join(f"{found.usual_levels[name]:g}" for name in LEVELS)
    lines.append(f"| all | {usual} | {_cells(found.total)} | {_brief(found.total_instructed)} |")
    return "\n".join([*lines, "", *_notes(found, wanted_success)])


def _notes(found: Calibration, wanted_success: float) -> list[str]:
    notes = []
    if found.is_shared:
        notes.append("Too few prompts to tell the languages apart: they share their strengths.")
    cost = found.total.quality_nats - found.total_instructed.quality_nats
    if math.isfinite(cost):
        notes.append(
            f"Quality: a token costs {cost:+.2f} nats beside those of answers that the prompt asks "
            "for in words, under the same model."
        )
    if short := found.short_of(wanted_success):
        names = ", ".join(f"{target} ({_share(found.at_normal[target])})" for target in short)
        notes.append(f"Short of {wanted_success:.0%} at normal: {names}.")
    notes += [
        f"Given up: {one.method}, {_REASONS[one.reason]}{_why(one.measured, one.note)}"
        for one in found.rejected
    ]
    return notes


def _why(measured: Measured | None, note: str) -> str:
    if measured is None:
        return f": {note}"
    return (
        f" ({_share(measured)} in the language, {measured.looping.rate:.0%} looping, "
        f"{measured.quality_nats:.2f} nats per token)."
    )


def _share(measured: Measured) -> str:
    return f"{measured.success.successes} of {measured.success.trials}"


def _cells(point: Measured) -> str:
    return (
        f"{point.success.rate:.1%} ({_share(point)}) | {point.looping.rate:.1%} | "
        f"{point.quality_nats:.2f}"
    )


def _brief(point: Measured | None) -> str:
    return "" if point is None else f"{_share(point)}, {point.quality_nats:.2f} nats"


def _mean_curve(found: Calibration) -> list[CurvePoint]:
    """Return the strengths that every language was measured at, all languages together."""
    return [
        CurvePoint(strength, point.success, point.quality_nats)
        for strength, point in pool(found.curves).items()
    ]
