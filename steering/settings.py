"""The settings of page and API, read once from the environment: LANGSTEER_* and where to listen.

The default model is the bundled one. On a Hugging Face Space, where the hub is near, it is a real
one: a larger one where there is a GPU.
"""

import difflib
import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from steering.bundled import BUNDLED_NEURON_SET, REAL_MODEL, REAL_MODEL_ON_GPU
from steering.data_folder import user_data_folder
from steering.errors import SettingsError, UnknownLanguageError
from steering.languages import Language, parse_language
from steering.loading import BUNDLED_MODEL, Quantize

_PREFIX = "LANGSTEER_"


class Settings(BaseSettings):
    """What the page is started with; the defaults are the bundled model's."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True)

    model: str = BUNDLED_MODEL
    neuron_set: Path | None = BUNDLED_NEURON_SET  # None: made here before, shipped, or to be made
    quantize: Quantize | None = None  # None: nf4, but none for the bundled
    max_new_tokens: int = Field(default=120, ge=1, le=8192)
    time_limit: float = Field(default=120.0, gt=0, le=86400, allow_inf_nan=False)  # s of writing
    max_rows: int = Field(default=16, ge=1, le=1024)  # answers that are written at once
    max_waiting: int = Field(default=32, ge=1, le=10_000)  # requests that may wait for that
    api_key: SecretStr = SecretStr("")  # what clients of the API have to show; empty: nothing
    data: Path = Field(default_factory=user_data_folder)  # sets made here, converted GGUFs
    languages: str = ""  # of a set that the page makes; empty: the usual ones
    device: str | None = None  # None: the GPU if there is one, else the CPU
    # Gradio's own names, so that whoever knows Gradio finds them.
    server_name: str = Field(default="127.0.0.1", validation_alias="GRADIO_SERVER_NAME")
    server_port: int = Field(default=7860, ge=1, le=65535, validation_alias="GRADIO_SERVER_PORT")

    def chosen_languages(self) -> tuple[Language, ...]:
        """Return the languages of a set that the page makes; none where none are named.

        Raises:
            UnknownLanguageError: If a code is unknown.
        """
        codes = [code for code in self.languages.split(",") if code.strip()]
        return tuple(dict.fromkeys(parse_language(code) for code in codes))


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
    else:
        problems += _language_problems(settings)
    if problems:
        raise SettingsError(" ".join(problems))
    given = settings.model_fields_set
    if "model" not in given and "neuron_set" not in given and os.environ.get("SPACE_ID"):
        settings = settings.model_copy(update={"model": _model_of_space(settings.device)})
    if settings.model != BUNDLED_MODEL and "neuron_set" not in given:
        return settings.model_copy(update={"neuron_set": None})
    return settings


def read_data_folder() -> Path:
    """Return the folder for what the program keeps, as `LANGSTEER_DATA` has it, for commands."""
    named = os.environ.get(f"{_PREFIX}DATA")
    return Path(named) if named else user_data_folder()


def _model_of_space(device: str | None) -> str:
    """Return the default model of a Space, by whether it has a GPU or is lent one."""
    if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
        return REAL_MODEL_ON_GPU  # a GPU is lent later: torch must not look for one yet
    import torch

    has_gpu = device != "cpu" and torch.cuda.is_available()
    return REAL_MODEL_ON_GPU if has_gpu else REAL_MODEL


def _language_problems(settings: Settings) -> list[str]:
    """Describe what is wrong with the languages, if anything is."""
    name = f"{_PREFIX}LANGUAGES"
    try:
        chosen = settings.chosen_languages()
    except UnknownLanguageError as err:
        return [f"'{name}' is '{settings.languages}': {err}"]
    if len(chosen) == 1 or (settings.languages and not chosen):
        return [
            f"'{name}' is '{settings.languages}'. Expected at least two codes, such as en,fr,ja; "
            "name more, or unset it."
        ]
    return []


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
