"""The settings of the page, read once from the environment: LANGSTEER_* and where to listen.

Knows nothing of models or of the page: a surface passes the values on as arguments.
"""

import difflib
import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from steering.bundled import BUNDLED_NEURON_SET
from steering.errors import SettingsError
from steering.loading import BUNDLED_MODEL, Quantize

_PREFIX = "LANGSTEER_"


class Settings(BaseSettings):
    """What the page is started with; the defaults are the bundled model's."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True)

    model: str = BUNDLED_MODEL
    neuron_set: Path = BUNDLED_NEURON_SET
    quantize: Quantize | None = None  # None: nf4, but none for the bundled
    max_new_tokens: int = Field(default=120, ge=1, le=8192)
    device: str | None = None  # None: the GPU if there is one, else the CPU
    # Gradio's own names, so that whoever knows Gradio finds them.
    server_name: str = Field(default="127.0.0.1", validation_alias="GRADIO_SERVER_NAME")
    server_port: int = Field(default=7860, ge=1, le=65535, validation_alias="GRADIO_SERVER_PORT")


def read_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: If a variable is unknown or its value makes no sense; all are named at once.
    """
    problems = _unknown_names()
    try:
        settings = Settings()
    except ValidationError as err:
        problems += [_explain(problem) for problem in err.errors()]
    if problems:
        raise SettingsError(" ".join(problems))
    if settings.model != BUNDLED_MODEL and "neuron_set" not in settings.model_fields_set:
        raise SettingsError(
            f"'{_PREFIX}MODEL' is '{settings.model}', but no neuron set is named. Expected a file "
            f"made for this model; set {_PREFIX}NEURON_SET, or make one with "
            f"`python -m steering build-set --model {settings.model}`."
        )
    return settings


def _unknown_names() -> list[str]:
    """Describe every LANGSTEER_* variable that is not a setting."""
    known = [
        name.upper() for name, field in Settings.model_fields.items() if not field.validation_alias
    ]
    expected = ", ".join(_PREFIX + name for name in known)
    problems = []
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(_PREFIX)
        if name == variable.upper() or name in known:
            continue
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {_PREFIX}{nearest[0]}?" if nearest else "Remove it."
        problems.append(f"Unknown setting '{variable}'. Expected one of: {expected}. {hint}")
    return problems


def _explain(problem: ErrorDetails) -> str:
    """Say what is wrong with one variable."""
    place = str(problem["loc"][0])
    name = _PREFIX + place.upper() if place in Settings.model_fields else place
    reason = problem["msg"].removeprefix("Input should be ")
    return f"'{name}' is '{problem['input']}'. Expected {reason}; correct or unset it."
