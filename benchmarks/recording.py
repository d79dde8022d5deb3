"""What recording costs beside the bare forward pass: `python -m benchmarks.recording`.

A random Llama of 16 layers x 1024 x 2816 reads the same batches three ways, in turn: the bare
decoder, our recording, and the way of the published script (language-model head included; in every
layer a float copy of all activations, a comparison and a sum). Prints a table and, last, one JSON
line. The figures are ratios of times of one round, so that a slow moment takes no side.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from benchmarks.random_model import NEURONS, VOCABULARY, make_random_model
from steering.chunks import Chunk, Position
from steering.loading import LoadedModel
from steering.recording import ChunkRecorder

LAYERS = 16
ROWS, TOKENS, ROUNDS = 2, 512, 9
LIMIT_OVERHEAD = 0.08


def make_chunk(number: int, rows: int, tokens: int) -> Chunk:
    """Return a batch of random text, of which one token in twenty is a separator."""
    random = torch.Generator().manual_seed(number)
    ids = torch.randint(VOCABULARY, (rows, tokens), generator=random)
    mask = torch.rand((rows, tokens), generator=random) > 0.05
    return Chunk(ids, {"text": mask}, Position())


def run_bare(model: LoadedModel, chunk: Chunk) -> None:
    """Run the decoder alone."""
    with torch.inference_mode():
        model.model.base_model(input_ids=chunk.ids, use_cache=False)


def run_published_way(model: LoadedModel, chunk: Chunk) -> None:
    """Count activations as the published script does, with all that it computes on the way."""
    active = torch.zeros(model.identity.layers, NEURONS, dtype=torch.int64)

    def count(layer: int) -> Callable[[torch.nn.Module, object, Tensor], None]:
        def after(_module: torch.nn.Module, _args: object, output: Tensor) -> None:
            active[layer] += (output.float() > 0).sum(dim=(0, 1))

        return after

    with ExitStack() as handles, torch.inference_mode():
        for layer, block in enumerate(model.model.model.layers):
            handle = block.mlp.act_fn.register_forward_hook(count(layer))
            handles.callback(handle.remove)
        model.model(input_ids=chunk.ids, use_cache=False)


def measure(layers: int, rows: int, tokens: int, rounds: int) -> dict[str, float]:
    """Return the seconds of the bare pass, and what the others need as shares of it."""
    model = make_random_model(layers)
    recorder = ChunkRecorder(model, ("text",))
    ways: dict[str, Callable[[Chunk], None]] = {
        "bare": lambda chunk: run_bare(model, chunk),
        "recording": recorder.run,
        "published": lambda chunk: run_published_way(model, chunk),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, rounds):
        chunk = make_chunk(number + 1, rows, tokens)
        order = list(ways)[number % 3 :] + list(ways)[: number % 3]
        for name in order:
            started = time.perf_counter()
            ways[name](chunk)
            if number >= 0:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    ratios = {
        name: statistics.median(
            t / bare for t, bare in zip(times[name], times["bare"], strict=True)
        )
        for name in ("recording", "published")
    }
    return {
        "bare_s": statistics.median(times["bare"]),
        "recording_overhead": ratios["recording"] - 1,
        "published_overhead": ratios["published"] - 1,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.recording")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if min(vars(options).values()) < 1:
        parser.error(f"'{vars(options)}': expected numbers from 1 up")
    found = measure(options.layers, options.rows, options.tokens, options.rounds)
    print("| way | beside the bare forward pass |")
    print("|---|---|")
    print(f"| bare forward pass | {found['bare_s']:.2f} s |")
    print(f"| recording (limit {LIMIT_OVERHEAD:.0%}) | {found['recording_overhead']:+.1%} |")
    print(f"| the published script's way | {found['published_overhead']:+.1%} |")
    print(json.dumps({name: round(value, 4) for name, value in found.items()}))


if __name__ == "__main__":
    main()
