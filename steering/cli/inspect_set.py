"""`inspect`: shows what a neuron-set file holds; refuses a damaged one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from steering.neuron_set import NeuronSet, NeuronSetMetadata
from steering.neuron_set_file import load_neuron_set

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser("inspect", help="show what a neuron set holds")
    parser.add_argument("set", type=Path, help="a .safetensors file made by build-set")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the set."""
    print(describe(load_neuron_set(options.set)))
    return 0


def describe(neurons: NeuronSet) -> str:
    """Return the metadata and the counts per language and layer, as text."""
    about = neurons.metadata
    lines = [
        f"model        {about.model_id} ({about.architecture or 'type not known'}, "
        f"{about.layers} layers x {about.neurons_per_layer} neurons, "
        f"revision {about.model_revision or 'not known'})",
        f"selection    {_describe_selection(about)}",
        f"selected     {len(neurons.layer)} neurons, "
        f"{int((neurons.is_member.sum(dim=0) == 1).sum())} of them in one language only",
        f"corpus       {about.corpus_name} (SHA-256 {about.corpus_sha256[:16]})"
        if about.has_statistics
        else "corpus       none: no mean activations, so only amplify and damp can steer; "
        "`build-set --complete` records them",
        f"steering     {about.steering_method or 'not measured'}"
        + "".join(f", {level} {value:g}" for level, value in about.strengths.items())
        + (" (median of the languages)" if about.language_strengths else ""),
    ]
    if (origin := about.imported_from) is not None:
        publisher = f" of {origin.publisher}" if origin.publisher else ""
        lines.insert(1, f"imported     {origin.file}{publisher} (SHA-256 {origin.sha256[:16]})")
    lines += [f"measured     {about.evaluation}"] if about.evaluation else []
    lines += [f"licence      {about.licence}"] if about.licence else []
    phases = list(about.token_counts)
    header = ["language", "neurons", *(f"{phase} tokens" for phase in phases), "per layer"]
    rows = [header]
    for language in neurons.languages:
        counts = [str(about.token_counts[phase].get(str(language), 0)) for phase in phases]
        per_layer = " ".join(map(str, neurons.layer_counts(language)))
        rows.append([str(language), str(len(neurons.neurons_of(language))), *counts, per_layer])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
             for row in rows]  # fmt: skip
    return "\n".join([*lines, "", *table])


def _describe_selection(about: NeuronSetMetadata) -> str:
    """Say how neurons were selected, as far as it is known."""
    values = [
        f"{name} {value:g}"
        for name in ("prob_quantile", "select_fraction", "membership_quantile")
        if (value := getattr(about, name)) is not None
    ]
    phase = f" on {about.selection_phase}" if about.selection_phase else ""
    return f"LAPE{phase}: {', '.join(values) or 'thresholds not known'}"
