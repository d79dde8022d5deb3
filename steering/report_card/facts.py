"""Names what a neuron set was made from: model, corpus, selection, licence, in words.

A field that the format gets later is shown under its own name, so that none is forgotten.
"""

import json

from steering.neuron_set import NeuronSet, NeuronSetMetadata

# Metadata that have their own place on a card; all others are facts under their own names.
_PLACED = {
    "model_id", "model_revision", "architecture", "layers", "neurons_per_layer", "hidden_size",
    "tokenizer_sha256", "languages", "method", "selection_phase", "prob_quantile",
    "select_fraction", "membership_quantile", "token_counts", "corpus_name", "corpus_sha256",
    "steering_method", "strengths", "language_strengths", "calibration", "evaluation", "created",
    "licence", "imported_from",
}  # fmt: skip


def collect_facts(neurons: NeuronSet) -> dict[str, str]:
    """Return name -> value of all a set was made from, each on one line; empty ones left out."""
    about = neurons.metadata
    facts = {
        "model": about.model_id,
        "revision": about.model_revision,
        "architecture": f"{about.architecture}, {about.layers} layers x "
        f"{about.neurons_per_layer} neurons, hidden size {about.hidden_size}",
        "tokenizer": f"SHA-256 {about.tokenizer_sha256}",
        "imported": _describe_origin(about),
        "corpus": about.corpus_name
        if about.has_statistics
        else "none: no mean activations, so only amplify and damp can steer; "
        "`build-set --complete` records them",
        "corpus SHA-256": about.corpus_sha256,
        "selection": _describe_selection(about),
        "holds": _describe_parts(neurons),
        "steering": about.steering_method or "not measured",
        "measured": about.evaluation,
        "created": about.created,
        "licence": about.licence or "not stated",
    }
    more = {name: value for name, value in about if name not in _PLACED}
    facts |= {name.replace("_", " "): _to_text(value) for name, value in more.items() if value}
    return {name: plain(value) for name, value in facts.items() if value}


def _describe_selection(about: NeuronSetMetadata) -> str:
    thresholds: dict[str, float | None] = {
        "prob_quantile": about.prob_quantile,
        "select_fraction": about.select_fraction,
        "membership_quantile": about.membership_quantile,
    }
    given = [f"{name} {value:g}" for name, value in thresholds.items() if value is not None]
    phase = f" on {about.selection_phase}" if about.selection_phase else ""
    return ", ".join([f"{about.method}{phase}", *(given or ["thresholds not known"])])


def _describe_origin(about: NeuronSetMetadata) -> str:
    """Say whose file an imported set is from; empty for one that was built here."""
    if (origin := about.imported_from) is None:
        return ""
    publisher = f" of {origin.publisher}" if origin.publisher else ""
    return f"{origin.file}{publisher} (SHA-256 {origin.sha256})"


def _describe_parts(neurons: NeuronSet) -> str:
    """Name the parts that a set may have or not."""
    means = {
        "gate means": neurons.gate_means,
        "value means": neurons.value_means,
        "residual means": neurons.residual_means,
    }
    parts = [f"{name} ({', '.join(held)})" for name, held in means.items() if held]
    if neurons.control is not None:
        parts.append(f"{len(neurons.control.layer):,} control neurons")
    if neurons.token_log_odds is not None:
        parts.append(f"log-odds of {neurons.token_log_odds.shape[1]:,} tokens")
    return ", ".join(parts)


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def plain(text: str) -> str:
    """Return text as one line that does nothing to a terminal or a page's direction."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
