"""How `build-set` chooses neurons in other ways than LAPE: its arguments, and what each way needs.

The ways themselves are in `steering/baselines.py`.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from tqdm import tqdm

from steering.activation_stats import ActivationStats, StatsPhase
from steering.baselines import WAYS, check_probe_can_run
from steering.chunks import corpus_phases
from steering.cli.arguments import check_at_least, check_seed
from steering.errors import SettingsError
from steering.languages import Language, parse_language
from steering.lape import LapeParameters, lape
from steering.line_recording import record_line_means
from steering.loading import load_model, read_identity
from steering.neuron_choice import (
    CHOOSING_WAYS,
    ChoosingWay,
    Evidence,
    LineMeans,
    NeuronChoice,
)
from steering.parameter_variation import check_can_vary, check_is_tuned, parameter_variation
from steering.settings import read_data_folder

if TYPE_CHECKING:
    from steering.corpus import Corpus
    from steering.loading import LoadedModel

_OF_LINES: tuple[ChoosingWay, ...] = ("ap", "ap-top", "probe")


def add_choosing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--choose` and what the ways need."""
    parser.add_argument(
        "--choose",
        default="lape",
        help="ways to choose neurons, with commas: lape; or, each language with as many as lape "
        "gives it, lap (highest activation probability), lave (entropy of mean values), pv "
        "(parameter variation), random, ap (average precision, both ends), ap-top (its upper end), "
        "probe (linear, needs scikit-learn). Several write a file each, named OUT-WAY "
        "(default: lape)",
    )
    parser.add_argument(
        "--lines",
        type=int,
        default=200,
        help="lines or dialogues per language that ap, ap-top and probe hold in memory",
    )
    parser.add_argument(
        "--tuned", help="of pv: a checkpoint tuned on each language, such as en=DIR,fr=DIR"
    )
    parser.add_argument("--choice-seed", type=int, default=0, help="of random")


def read_ways(options: argparse.Namespace) -> list[ChoosingWay]:
    """Return the ways, each once, and refuse what cannot work with them.

    Raises:
        SettingsError: Naming the way or the argument.
    """
    names = list(dict.fromkeys(part.strip() for part in options.choose.split(",") if part.strip()))
    if not names or (unknown := [name for name in names if name not in CHOOSING_WAYS]):
        shown = unknown[0] if names else options.choose
        raise SettingsError(
            f"`--choose` has '{shown}'. Expected one or more of {', '.join(CHOOSING_WAYS)}, with "
            "commas; correct it."
        )
    if options.complete is not None and names != ["lape"]:
        raise SettingsError(
            f"`--choose` is '{options.choose}', but `--complete` chooses nothing: the neurons of "
            "the set stay. Leave it out, or build a new set."
        )
    if ("pv" in names) != (options.tuned is not None):
        raise SettingsError(
            f"`--choose` is '{options.choose}' and `--tuned` is '{options.tuned}'. Expected "
            "`--tuned` with pv and only with it; give both, or neither."
        )
    if "probe" in names:
        check_probe_can_run()
    check_at_least(1, lines=options.lines)
    check_seed(choice_seed=options.choice_seed)
    return cast("list[ChoosingWay]", names)


def find_outs(out: Path, ways: Sequence[ChoosingWay]) -> dict[ChoosingWay, Path]:
    """Return the file of each way: the one that was named, or one with the way's name behind it."""
    if len(ways) == 1:
        return {ways[0]: out}
    return {way: out.with_name(f"{out.stem}-{way}{out.suffix}") for way in ways}


def choose_neurons(
    options: argparse.Namespace,
    model: "LoadedModel",
    stats: ActivationStats,
    corpora: "Sequence[Corpus]",
    *,
    phase: StatsPhase,
    parameters: LapeParameters,
    variation: Mapping[Language, torch.Tensor],
) -> Iterator[tuple[ChoosingWay, NeuronChoice | None]]:
    """Yield each way with its choice, of the sizes of LAPE's; None for LAPE's own.

    Those that need means of single lines come last, so that the others are there by then.
    """
    ways = read_ways(options)
    if ways == ["lape"]:
        yield "lape", None
        return
    sizes = lape(stats, phase=phase, parameters=parameters).is_member.sum(dim=1).tolist()
    evidence = Evidence(
        stats,
        phase,
        quantile=parameters.membership_quantile,
        variation=torch.stack([variation[one] for one in stats.languages], dim=-1)
        if "pv" in ways
        else None,
        seed=options.choice_seed,
    )
    for way in sorted(ways, key=lambda way: way in _OF_LINES):
        if way in _OF_LINES and evidence.line_means is None:
            lines = _record_lines(options, model, stats, corpora, phase)
            evidence = replace(evidence, line_means=lines)
        yield way, WAYS[way](evidence, tuple(sizes)) if way in WAYS else None


def read_tuned(text: str, languages: Sequence[Language]) -> dict[Language, str]:
    """Read checkpoints per language, such as `en=DIR,fr=DIR`.

    Raises:
        SettingsError: If a language has none or several.
        UnknownLanguageError: If a code is not in the table.
    """
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if bad := ["".join(part) for part in parts if not (part[0].strip() and part[2].strip())]:
        raise SettingsError(f"`--tuned` has '{bad[0]}'. Expected CODE=DIR with commas; correct it.")
    tuned = {parse_language(code.strip()): place.strip() for code, _, place in parts}
    if not tuned.keys() >= set(languages) or len(tuned) < len(parts):
        raise SettingsError(
            f"`--tuned` names '{', '.join(map(str, tuned))}'. Expected each of "
            f"{', '.join(map(str, languages))} once; correct it, or `--languages`."
        )
    return tuned


def check_tuned(options: argparse.Namespace, languages: Sequence[Language]) -> None:
    """Refuse tuned checkpoints that are not there, or of another shape, by their configuration.

    Raises:
        SteeringError: Naming the checkpoint.
    """
    if options.tuned is not None:
        base = read_identity(options.model)
        for place in read_tuned(options.tuned, languages).values():
            check_is_tuned(base, read_identity(place))


def vary_parameters(
    options: argparse.Namespace, model: "LoadedModel", languages: Sequence[Language]
) -> dict[Language, torch.Tensor]:
    """Load one tuned checkpoint after the other and compare it with the model, on the CPU.

    They are loaded as the model is: unquantised, with its type of weights. Empty where pv was not
    asked for.

    Raises:
        SteeringError: If one cannot be loaded, or cannot be compared with the model.
    """
    if options.tuned is None:
        return {}
    check_can_vary(model)
    tuned = read_tuned(options.tuned, languages)
    dtype = model.model.dtype
    variation = {}
    with tqdm(total=len(languages), unit="tuned checkpoints", dynamic_ncols=True) as bar:
        for language in languages:
            after = load_model(
                tuned[language],
                quantize="none",
                dtype=dtype,
                device="cpu",
                data=read_data_folder(),
            )
            variation[language] = parameter_variation(model, after)
            bar.update(1)
    return variation


def _record_lines(
    options: argparse.Namespace,
    model: "LoadedModel",
    stats: ActivationStats,
    corpora: "Sequence[Corpus]",
    phase: StatsPhase,
) -> LineMeans:
    corpus = next(corpus for corpus in corpora if phase in corpus_phases(corpus))
    total = options.lines * len(stats.languages)
    with tqdm(total=total, unit="lines", desc="single lines", dynamic_ncols=True) as bar:
        return record_line_means(
            model,
            stats.languages,
            corpus,
            phase=phase,
            lines=options.lines,
            batch_rows=options.batch_size,
            progress=bar.update,
        )
