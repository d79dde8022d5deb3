"""Rewrites the golden files: `python -m tests.golden.regenerate`. Read the diff before you commit.

The statistics come from whole-number formulas, so they are the same with every version of torch.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from steering.activation_stats import ActivationStats, PhaseStats
from steering.lape import LapeSelection, lape
from tests.toy import TOY_LANGUAGES, TOY_PARAMETERS

LAPE_FILE = Path(__file__).with_name("lape_selection.json")


def small_stats() -> ActivationStats:
    """Make counts of five languages, 3 layers x 32 neurons; the last language is never active."""
    number = torch.arange(3 * 32).view(3, 32)
    nothing = torch.zeros(1)
    rows = {}
    for k, language in enumerate(TOY_LANGUAGES):
        active = (number * (37 + 10 * k) + 13 * k) % 61
        active += torch.where(number % 11 == k, 100 + 5 * k, 0)
        active = active * (k < 4)
        rows[language] = PhaseStats(200 + k, active, nothing, nothing, nothing, nothing)
    return ActivationStats(TOY_LANGUAGES, {"text": rows})


def selection_to_json(selection: LapeSelection) -> dict[str, object]:
    """Return a selection as JSON values; floats to 12 decimals, as far as machines agree."""
    return {
        "languages": [str(language) for language in TOY_LANGUAGES],
        "layer": selection.layer.tolist(),
        "index": selection.index.tolist(),
        "lape_score": [round(score, 12) for score in selection.lape_score.tolist()],
        "members": [row.nonzero().flatten().tolist() for row in selection.is_member],
        "activation_prob": [
            [round(prob, 12) for prob in row] for row in selection.activation_prob.tolist()
        ],
    }


def main() -> None:
    """Write every golden file."""
    golden = selection_to_json(lape(small_stats(), parameters=TOY_PARAMETERS))
    rows = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in golden.items())
    LAPE_FILE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
