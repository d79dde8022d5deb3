"""Every error that Langsteer raises on purpose, and nothing else.

SteeringError
├── UnknownLanguageError (ValueError)
├── UnsupportedArchitectureError (ValueError)
├── ModelLoadError (OSError)
├── CorpusError (ValueError)
├── StatsError (ValueError)
├── NeuronSetFormatError (ValueError)
├── NeuronSetMismatchError (ValueError)
├── PlanError (ValueError)
├── GenerationError (RuntimeError)
│   ├── QueueFullError
│   ├── OutOfMemoryError
│   └── EngineClosedError
├── SettingsError (ValueError)
└── StoppedError (RuntimeError)

A message says what failed, the value in quotes, what was expected and what to do next.
Surfaces (command line, API, page) translate these once; this module knows no surface.
"""


class SteeringError(Exception):
    """Base of all errors that a user of Langsteer can cause and fix."""


class UnknownLanguageError(SteeringError, ValueError):
    """A language code that is not in the table, or not in the neuron set."""


class UnsupportedArchitectureError(SteeringError, ValueError):
    """A model whose layers are not described in `architectures.py`."""


class ModelLoadError(SteeringError, OSError):
    """A model that cannot be found, read or run as asked."""


class CorpusError(SteeringError, ValueError):
    """Text or dialogues that cannot be read or are not enough."""


class StatsError(SteeringError, ValueError):
    """Activation statistics that do not fit each other or the request."""


class NeuronSetFormatError(SteeringError, ValueError):
    """A file that is not a neuron set, or a damaged one."""


class NeuronSetMismatchError(SteeringError, ValueError):
    """A neuron set that was made for another model."""


class PlanError(SteeringError, ValueError):
    """A steering plan that cannot be made or applied."""


class GenerationError(SteeringError, RuntimeError):
    """A reply that cannot be generated as asked."""


class QueueFullError(GenerationError):
    """A request that comes while as many wait as may; nothing is wrong with it."""


class OutOfMemoryError(GenerationError):
    """A request that needs more memory than there is; others go on."""


class EngineClosedError(GenerationError):
    """A request that comes while the program ends."""


class SettingsError(SteeringError, ValueError):
    """A setting (argument or environment variable) that makes no sense."""


class StoppedError(SteeringError, RuntimeError):
    """A long run that a person stopped; says how to go on."""
