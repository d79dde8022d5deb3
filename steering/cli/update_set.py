"""`update-set`: adds what newer sets know of their model; nothing is recorded again."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from steering.building import update_neuron_set
from steering.cli.arguments import (
    add_model_arguments,
    check_writable,
    load_chosen_model,
)
from steering.errors import SettingsError
from steering.ffn_columns import with_column_norms
from steering.neuron_set_file import load_neuron_set, save_neuron_set
from steering.steerer import check_set_fits_model

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from steering.loading import LoadedModel
    from steering.neuron_set import NeuronSet


def add_parser(commands: "_SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "update-set", help="add what newer neuron sets know of their model, without recording again"
    )
    parser.add_argument("set", type=Path, help="a .safetensors file made by build-set")
    add_model_arguments(parser)
    parser.add_argument(
        "--model-id",
        help="name that the set gives its model, such as the hub id of a folder's (default: as it "
        "is)",
    )
    parser.add_argument("--out", type=Path, help="file to write (default: the set itself)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read the set, check that it is the model's, and write it."""
    out = options.out or options.set
    check_writable(out)
    neurons = load_neuron_set(options.set)
    model = load_chosen_model(options)
    _check_same_weights(neurons, model)
    updated = with_column_norms(update_neuron_set(neurons, model.identity), model)
    if options.model_id is not None:
        about = updated.metadata.model_copy(update={"model_id": options.model_id})
        updated = replace(updated, metadata=about)
    save_neuron_set(updated, out)
    print(f"Wrote '{out}'.")
    return 0


def _check_same_weights(neurons: "NeuronSet", model: "LoadedModel") -> None:
    """Refuse weights that the set wasn't made on: it would pass for a set of theirs afterwards.

    Raises:
        SettingsError: If the weights are others, or the model's norms are not known.
        NeuronSetMismatchError: If the set is of another model.
    """
    if check_set_fits_model(neurons, model) is not None:
        raise SettingsError(
            f"'{model.identity.model_id}' has other weights than the set was made on, which the "
            "set would forget. Name the weights it was made on with `--model`."
        )
    if model.identity.norm_weights is None:
        raise SettingsError(
            f"The norms of '{model.identity.model_id}' can't be read, so there is nothing to add."
        )
