"""`report`: everything that this program measures of a model and a set, as one report.

What is measured of what is in `cli/report_parts.py`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from steering.bundled import BUNDLED_NEURON_SET, BUNDLED_PAPER_SET
from steering.cli.arguments import (
    add_model_arguments,
    add_set_argument,
    check_at_least,
    check_seed,
    check_set,
    choose_neuron_set,
    load_chosen_model,
)
from steering.cli.compare_sets import load_sets
from steering.cli.provenance import describe_machine, describe_run, describe_versions
from steering.cli.report_parts import Inputs, Sets, make_parts, read_inputs
from steering.errors import SettingsError
from steering.neuron_set_file import hash_neuron_set
from steering.set_comparison import check_same_model
from steering.study.pages import Report, to_html, to_json, to_markdown
from steering.study.parts import MeasuredPart, Part, StudyFolder

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from steering.loading import LoadedModel

# Without an instruction, with one, and three ways to steer; the last is drawn by language.
_CONDITIONS = "none,instruction,random,lape,default"


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "report", help="measure all of a model and a set, and write one report"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="new or empty folder for report.html, report.md, report.json and figures; in the "
        "folder of an earlier run, parts that nothing changed are not measured again, and what the "
        "report does not have any more is deleted",
    )
    add_model_arguments(parser)
    add_set_argument(parser)
    parser.add_argument(
        "--paper-set",
        type=Path,
        help="set found on text, for the perplexity matrix (default: --neuron-set; of the bundled "
        "set the one found on text)",
    )
    parser.add_argument(
        "--compare", type=Path, nargs="+", default=[], metavar="SET", help="other sets of the model"
    )
    _add_measuring_arguments(parser)
    parser.set_defaults(run=run)


def _add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=350, help="prompts of language forcing")
    parser.add_argument(
        "--prompts",
        type=Path,
        help="their file, as for `evaluate forcing` (default: held-out prompts of the bundled "
        "grammar, or everyday prompts)",
    )
    parser.add_argument("--conditions", default=_CONDITIONS, help="as for `evaluate forcing`")
    parser.add_argument(
        "--text",
        type=Path,
        help="folder of held-out text, a file per language, for perplexity (default, of the "
        "bundled model alone: held-out dialogues of its grammar)",
    )
    parser.add_argument("--rows", type=int, default=20, help="rows of text per language")
    parser.add_argument("--row-tokens", type=int, default=192)
    parser.add_argument(
        "--questions",
        type=Path,
        help="parallel prompts, as for `sharing` (default: the bundled questions, for the bundled "
        "model)",
    )
    parser.add_argument("--sharing-count", type=int, default=20, help="how many of them")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and of random neurons")
    parser.add_argument("--batch-size", type=int, default=16, help="answers per batch")


def run(options: argparse.Namespace) -> int:
    """Measure what was not measured yet, and write the report."""
    check_at_least(
        1,
        count=options.count,
        rows=options.rows,
        sharing_count=options.sharing_count,
        batch_size=options.batch_size,
    )
    check_at_least(2, row_tokens=options.row_tokens)
    check_seed(seed=options.seed)
    folder = StudyFolder(options.out)
    inputs = read_inputs(options, _load_all_sets(options))
    model = load_chosen_model(options)
    for neurons in inputs.sets.by_name.values():
        check_set(neurons, model)
    parts, left_out = make_parts(options, inputs, model)
    folder.begin()
    measured = [_take_or_measure(folder, part) for part in parts]
    _write(options, folder, measured, left_out, _describe(options, inputs, model, measured))
    return 0


def _load_all_sets(options: argparse.Namespace) -> Sets:
    """Load the sets of the report, its own first, and refuse two of different models.

    Raises:
        NeuronSetMismatchError: If two are of different models.
    """
    is_bundled = choose_neuron_set(options).resolve() == BUNDLED_NEURON_SET
    paper = options.paper_set or (BUNDLED_PAPER_SET if is_bundled else options.neuron_set)
    wanted = [options.neuron_set, paper, *options.compare]
    paths = list({path.resolve(): path for path in reversed(wanted)}.values())[::-1]
    own, *compared = [path.resolve() for path in (options.neuron_set, *options.compare)]
    if own in compared:
        raise SettingsError(
            f"`--compare` names '{options.neuron_set}', which is the set of the report. Expected "
            "other sets; leave it out."
        )
    loaded = load_sets(paths)
    names = dict(zip((path.resolve() for path in paths), loaded, strict=True))
    for name, neurons in loaded.items():
        check_same_model(names[own], loaded[names[own]], name, neurons)
    others = [names[path] for path in dict.fromkeys(compared)]
    return Sets(loaded, own=names[own], paper=names[paper.resolve()], others=others)


def _take_or_measure(folder: StudyFolder, part: Part) -> MeasuredPart:
    if (kept := folder.take(part)) is not None:
        print(f"{part.heading}: as measured before.", file=sys.stderr)
        return kept
    with tqdm(total=part.steps, desc=part.heading, dynamic_ncols=True) as bar:
        return folder.measure(part, bar.update)


def _describe(
    options: argparse.Namespace,
    inputs: Inputs,
    model: "LoadedModel",
    parts: Sequence[MeasuredPart],
) -> dict[str, str]:
    """Return what made the report, in words."""
    made = {
        name.replace("_", " "): value or "not known"
        for name, value in describe_run(options, inputs.sets.chosen.neurons).items()
        if name != "neuron_set_sha256"
    }
    made |= describe_versions()
    identity = model.identity
    made["model"] = f"{identity.model_id}, {identity.revision}"
    made["tokenizer sha256"] = identity.tokenizer_sha256
    made |= {
        f"set {name} sha256": hash_neuron_set(one) for name, one in inputs.sets.by_name.items()
    }
    made |= inputs.hashes
    made["seed"] = str(options.seed)
    made |= describe_machine(model)
    made |= {
        f"time of {part.name}": f"{part.wall_s:.0f} s, {part.processor_s:.0f} s of processor time"
        for part in parts
    }
    made["time of all parts"] = (
        f"{sum(part.wall_s for part in parts):.0f} s, "
        f"{sum(part.processor_s for part in parts):.0f} s of processor time"
    )
    return made


def _write(
    options: argparse.Namespace,
    folder: StudyFolder,
    parts: Sequence[MeasuredPart],
    left_out: dict[str, str],
    made: dict[str, str],
) -> None:
    """Write the three files; report.json last, which says that all is there."""
    name = options.neuron_set.stem
    report = Report(f"Report: {made['model'].partition(',')[0]}, set {name}", parts, left_out, made)
    folder.remove_others(parts)
    folder.write("report.md", to_markdown(report))
    folder.write("report.html", to_html(report, folder.figures))
    folder.write_report(to_json(report))
    for part in parts:
        print(f"{part.heading}: {part.finding.summary}")
    print(f"\nWrote '{options.out / 'report.html'}', report.md and report.json.")
