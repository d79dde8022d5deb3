"""How long LAPE takes for a large model, and in how much memory: `python -m benchmarks.selection`.

Makes random counts of 80 layers x 28,672 neurons x 32 languages (a model of 70B parameters),
selects on them and reads the peak memory of this whole process, counts included. Prints a table
and, last, one JSON line. Knows no model and no text. Needs Linux.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from steering.activation_stats import ActivationStats, PhaseStats
from steering.languages import LANGUAGES
from steering.lape import lape

LAYERS, NEURONS = 80, 28_672  # of Llama-2-70B and its successors
TOKENS = 100_000_000  # per language, as in the paper
LIMIT_S = 60.0
LIMIT_GB = 3.0


def make_counts(layers: int, neurons: int, languages: int) -> ActivationStats:
    """Make counts: each neuron has its own rate, of which every language has half to all."""
    random = torch.Generator().manual_seed(0)
    chosen = list(LANGUAGES.values())[:languages]
    active_KLN = torch.empty(languages, layers, neurons, dtype=torch.int64)
    rate_LN = torch.rand(layers, neurons, generator=random, dtype=torch.float64).square_()
    part_LN, unread = torch.empty_like(rate_LN), torch.zeros(0)
    for active_LN in active_KLN:  # in place, so that making counts is not what needs the memory
        active_LN[:] = part_LN.uniform_(0.5, 1, generator=random).mul_(rate_LN).mul_(TOKENS)
    rows = {
        language: PhaseStats(TOKENS + 999 * k, active_LN, unread, unread, unread, unread)
        for k, (language, active_LN) in enumerate(zip(chosen, active_KLN, strict=True))
    }
    return ActivationStats(tuple(chosen), {"text": rows})


def peak_gb() -> float:
    """Return the most memory that this process had at any time so far, in gigabytes.

    Read from the kernel, because `ru_maxrss` starts at the memory of whoever started the process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kibibytes) * 1024 / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.selection")
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--neurons", type=int, default=NEURONS, help="per layer")
    parser.add_argument("--languages", type=int, default=len(LANGUAGES))
    options = parser.parse_args()
    if min(options.layers, options.neurons) < 1 or not 2 <= options.languages <= len(LANGUAGES):
        parser.error(
            f"'{options.layers}' layers, '{options.neurons}' neurons, '{options.languages}' "
            f"languages. Expected at least one, one, and 2 to {len(LANGUAGES)}; give other numbers."
        )
    stats = make_counts(options.layers, options.neurons, options.languages)
    before_gb, started = peak_gb(), time.perf_counter()
    selection = lape(stats)
    seconds, after_gb = time.perf_counter() - started, peak_gb()
    rows = [
        ("probabilities", f"{options.layers * options.neurons * options.languages:,}", ""),
        ("neurons selected", f"{len(selection.layer):,}", ""),
        ("time of the selection", f"{seconds:.1f} s", f"{LIMIT_S:g} s"),
        ("peak memory of the process", f"{after_gb:.2f} GB", f"{LIMIT_GB:g} GB"),
        ("of it on top of the counts", f"{after_gb - before_gb:.2f} GB", ""),
        ("threads", str(torch.get_num_threads()), ""),
    ]
    print("| what | measured | limit |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    numbers = {"selection_s": seconds, "peak_gb": after_gb, "added_gb": after_gb - before_gb}
    counts = {"selected": len(selection.layer), "threads": torch.get_num_threads()}
    print(json.dumps(counts | {name: round(value, 4) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
