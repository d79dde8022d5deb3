"""Langsteer: pick the language of the answer and get it, by adjusting FFN activations.

Public names are loaded when they are first used, so that `import steering` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steering.detection import detect
    from steering.engine import Engine
    from steering.errors import SteeringError
    from steering.generation import generate
    from steering.languages import LANGUAGES, Language, parse_language
    from steering.lape import LapeParameters
    from steering.loading import load_model
    from steering.neuron_set import NeuronSet
    from steering.neuron_set_file import load_neuron_set, save_neuron_set
    from steering.recording import record
    from steering.steerer import Steerer, steered
    from steering.token_choice import Sampling

__version__ = "0.1.0"

_HOMES = {
    "Engine": "engine",
    "LANGUAGES": "languages",
    "Language": "languages",
    "LapeParameters": "lape",
    "NeuronSet": "neuron_set",
    "Sampling": "token_choice",
    "Steerer": "steerer",
    "SteeringError": "errors",
    "detect": "detection",
    "generate": "generation",
    "load_model": "loading",
    "load_neuron_set": "neuron_set_file",
    "parse_language": "languages",
    "record": "recording",
    "save_neuron_set": "neuron_set_file",
    "steered": "steerer",
}

__all__ = [
    "LANGUAGES",
    "Engine",
    "Language",
    "LapeParameters",
    "NeuronSet",
    "Sampling",
    "Steerer",
    "SteeringError",
    "detect",
    "generate",
    "load_model",
    "load_neuron_set",
    "parse_language",
    "record",
    "save_neuron_set",
    "steered",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'steering' has no attribute '{name}'")
    return getattr(import_module(f"steering.{_HOMES[name]}"), name)
