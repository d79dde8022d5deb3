"""`figures`: draws what a neuron set holds, and what was measured with it, for a paper."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from steering.bundled import BUNDLED_PAPER_SET
from steering.errors import SettingsError
from steering.evaluation.figures import (
    layers_caption,
    plot_layers,
    plot_overlap,
    plot_perplexity,
    plot_sharing,
)
from steering.evaluation.measured_files import (
    check_same_model,
    read_forcing,
    read_perplexity,
    read_sharing,
)
from steering.evaluation.plots import PLOT_SUFFIXES, plot_forcing_bars
from steering.neuron_set_file import load_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("figures", help="draw a set and what was measured, for a paper")
    parser.add_argument("--neuron-set", type=Path, default=BUNDLED_PAPER_SET)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; may be new")
    parser.add_argument("--forcing", type=Path, help="JSON that `evaluate forcing` wrote")
    parser.add_argument("--perplexity", type=Path, help="JSON that `evaluate perplexity` wrote")
    parser.add_argument("--sharing", type=Path, help="JSON that `sharing` wrote")
    parser.add_argument("--format", choices=[suffix[1:] for suffix in PLOT_SUFFIXES], default="svg")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read everything, then draw; a file that cannot be read leaves nothing drawn."""
    neurons = load_neuron_set(options.neuron_set)
    for path, command in (
        (options.forcing, "evaluate forcing"),
        (options.perplexity, "evaluate perplexity"),
        (options.sharing, "sharing"),
    ):
        if path is not None:
            check_same_model(path, neurons.metadata, command=command)
    figures: dict[str, tuple[str, Callable[[Path], None]]] = {
        "layers": (
            f"neurons per layer and language. {layers_caption(neurons)}",
            partial(plot_layers, neurons),
        ),
        "overlap": ("neurons that two languages share", partial(plot_overlap, neurons)),
    }
    if options.perplexity is not None:
        change = read_perplexity(options.perplexity)
        figures["perplexity"] = (
            f"perplexity change. {change.verdict.overall()}",
            partial(plot_perplexity, change),
        )
    if options.forcing is not None:
        bars = read_forcing(options.forcing)
        figures["forcing"] = ("language forcing, 95% Wilson", partial(plot_forcing_bars, bars))
    if options.sharing is not None:
        shares = read_sharing(options.sharing)
        caption = "share of each layer's neurons that is in a group, mean over prompts"
        figures["sharing"] = (caption, partial(plot_sharing, shares))
    _make_folder(options.out)
    for name, (caption, draw) in figures.items():
        path = options.out / f"{name}.{options.format}"
        draw(path)
        print(f"{path}: {caption}")
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise SettingsError(
            f"Cannot make the folder '{folder}': {err.strerror}. Expected a folder, or a name for "
            "a new one; choose another `--out`."
        ) from err
