"""A neuron set small enough to count by hand: five neurons, three layers, three languages."""

from __future__ import annotations

import torch

from steering.neuron_set import CalibrationPoint, NeuronSet, NeuronSetMetadata, RandomNeurons

# layer/index   0/1  0/4  1/0  2/3  2/9
# LAPE score    0.5  0.0  1.0  0.25 0.5
# belongs to    fr   fr   en   ja   fr en
#                    en
_MEMBERS = {"fr": [1, 1, 0, 0, 1], "en": [0, 1, 1, 0, 1], "ja": [0, 0, 0, 1, 0]}
_PROBS = [[0.5, 0.75, 0.0, 0.0, 0.5], [0.25, 0.875, 1.0, 0.0, 0.5], [0.125, 0.0, 0.0, 0.5, 0.0]]
TOKENS = {"fr": 2_000_000, "en": 999_999, "ja": 1_000_000}


def make_small_set(**metadata: object) -> NeuronSet:
    """Make the set with every optional part; arguments replace fields of its metadata."""
    fields: dict[str, object] = {
        "model_id": "org/small",
        "model_revision": "main",
        "architecture": "llama",
        "layers": 3,
        "neurons_per_layer": 10,
        "hidden_size": 4,
        "tokenizer_sha256": "ab" * 32,
        "languages": tuple(_MEMBERS),
        "selection_phase": "text",
        "prob_quantile": 0.95,
        "select_fraction": 0.01,
        "membership_quantile": 0.95,
        "token_counts": {"text": TOKENS},
        "corpus_name": "books",
        "corpus_sha256": "cd" * 32,
        "strengths": {"gentle": 0.5, "normal": 1.0, "strong": 1.5},
        "language_strengths": {"ja": {"gentle": 0.25, "normal": 0.5, "strong": 2.0}},
        "calibration": {
            "ja": (
                CalibrationPoint(strength=0.5, successes=3, trials=4, quality_nats=1.25),
                CalibrationPoint(strength=0.25, successes=1, trials=4),
            )
        },
        "licence": "CC0",
    }
    return NeuronSet(
        metadata=NeuronSetMetadata.model_validate(fields | metadata),
        layer=torch.tensor([0, 0, 1, 2, 2]),
        index=torch.tensor([1, 4, 0, 3, 9]),
        lape_score=torch.tensor([0.5, 0.0, 1.0, 0.25, 0.5]),
        is_member=torch.tensor(list(_MEMBERS.values())).bool(),
        activation_prob=torch.tensor(_PROBS),
        gate_means={"text": torch.zeros(3, 5)},
        value_means={"text": torch.ones(3, 5)},
        residual_means={"text": torch.zeros(3, 3, 4)},
        control=RandomNeurons(
            layer=torch.tensor([0, 2]),
            index=torch.tensor([7, 7]),
            gate_means={"text": torch.zeros(3, 2)},
            value_means={"text": torch.ones(3, 2)},
        ),
        token_log_odds=torch.tensor(
            [[1.0, 2.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0], [-1.0, -1.0, 4.0, 1.5]]
        ).half(),
    )
