"""The fields of a request: what is read, what only its default is taken of, and what is ignored.

Knows the shape of a request, not which models or languages there are. `null` stands for a field
that was left out, as with OpenAI.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from steering.conversation import Message
from steering.neuron_set import StrengthLevel

# 1 is normal; at 4 the bundled model's answers break already.
_MAX_STRENGTH = 10.0
_MAX_STOPS = 4  # as OpenAI has it

Flag: TypeAlias = Annotated[bool, Field(strict=True)]
Tokens: TypeAlias = Annotated[int, Field(strict=True, ge=1)]


class Fields(BaseModel):
    """Fields of a JSON object, of which unknown ones are refused.

    A subclass names those that are understood but of which only the values given change nothing,
    and those that are ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    only_as_usual: ClassVar[Mapping[str, tuple[JsonValue, ...]]] = {}
    ignored: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_changes_nothing(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        for name, usual in cls.only_as_usual.items():
            value = raw.get(name)
            if value is not None and not _is_one_of(value, usual):
                raise _unsupported(name, usual)
        known = {*cls.only_as_usual, *cls.ignored}
        return {k: value for k, value in raw.items() if value is not None and k not in known}


def _is_one_of(value: JsonValue, usual: tuple[JsonValue, ...]) -> bool:
    """Compare as JSON does: `true` is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in usual)


def _unsupported(name: str, usual: tuple[JsonValue, ...]) -> PydanticCustomError:
    expected = " or ".join(f"'{one}'" for one in usual) or "none"
    return PydanticCustomError(
        "unsupported",
        "'{param}' is not supported with this value. Expected {expected}; leave it out.",
        {"param": name, "expected": expected},
    )


def _in_words(message: str, *, param: str = "") -> PydanticCustomError:
    """Return an error in our own words; *param* is the field within what is validated."""
    return PydanticCustomError("in_words", "{words}", {"words": message, "param": param})


def _read_content(value: object, info: ValidationInfo) -> object:
    """Join text parts; what an assistant did not say is an empty text."""
    if value is None and info.data.get("role") == "assistant":
        return ""
    if isinstance(value, list):
        value = "".join(_read_part(part) for part in value)
    if isinstance(value, str):
        _refuse_half_characters(value)
    return value


def _read_part(part: object) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise _in_words(
        f"The content of a message has a part of type '{kind}'. Expected text parts only, such as "
        '{"type": "text", "text": "Hello"}; leave the others out.'
    )


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise _in_words(
            f"The content of a message has half a character ('\\u{ord(text[err.start]):x}') at "
            f"place {err.start}. Expected whole ones; correct it."
        ) from err


def _read_stop(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _read_strength(value: object) -> object:
    levels = get_args(StrengthLevel)
    if value in levels:
        return value
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not made a float of: a whole number may be too large for one.
    if is_number and isinstance(value, (int, float)) and 0 <= value <= _MAX_STRENGTH:
        return value
    raise _in_words(
        f"'steering.strength' is '{str(value)[:80]}'. Expected {', '.join(levels)}, or a number "
        f"from 0 to {_MAX_STRENGTH:g} where 1 is normal; correct it or leave it out."
    )


class ChatMessage(Fields):
    """One message of the conversation."""

    only_as_usual = {"refusal": (), "tool_calls": ([],), "function_call": (), "audio": (),
                     "annotations": ([],)}  # fmt: skip
    ignored = frozenset({"name"})

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_read_content)] = Field(default="")

    @model_validator(mode="after")
    def _say_something(self) -> "ChatMessage":
        if self.role != "assistant" and not self.content.strip():
            raise _in_words(
                f"The content of a message of role '{self.role}' is empty. Expected some text; "
                "write it, or leave the message out.",
                param="content",
            )
        return self

    def to_message(self) -> Message:
        """Return it as the engine reads it; a developer is who OpenAI called system before."""
        return Message("system" if self.role == "developer" else self.role, self.content)


class StreamOptions(Fields):
    """What a stream holds beside the answer."""

    ignored = frozenset({"include_obfuscation"})

    include_usage: Flag = False


class SteeringFields(Fields):
    """What steers the answer: `extra_body={"steering": {...}}` in OpenAI's client."""

    language: str | None = None
    strength: Annotated[float | StrengthLevel, BeforeValidator(_read_strength)] = "normal"
    guard: Flag = True
    method: str = Field(default="", max_length=200)


class ChatCompletionRequest(Fields):
    """A chat completion that is asked for."""

    only_as_usual = {
        "n": (1,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "response_format": ({"type": "text"},),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
    }
    # None of these changes what the answer is; nothing is stored, whatever `store` says.
    ignored = frozenset({
        "metadata", "store", "user", "safety_identifier", "service_tier", "prompt_cache_key",
        "prompt_cache_retention", "parallel_tool_calls",
    })  # fmt: skip

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] = 0.0
    top_p: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] = 1.0
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        Field(max_length=_MAX_STOPS),
        BeforeValidator(_read_stop),
    ] = []
    stream: Flag = False
    stream_options: StreamOptions | None = None
    steering: SteeringFields | None = None

    @model_validator(mode="after")
    def _agree_with_itself(self) -> "ChatCompletionRequest":
        if self.messages[-1].role != "user":
            raise _in_words(
                f"The last message is of role '{self.messages[-1].role}'. Expected one of role "
                "'user', which is answered; add it.",
                param="messages",
            )
        if self.stream_options is not None and not self.stream:
            raise _in_words(
                "'stream_options' is given, but 'stream' is not true. Expected both or neither.",
                param="stream_options",
            )
        lengths = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(lengths) > 1:
            raise _in_words(
                f"'max_tokens' is '{self.max_tokens}' and 'max_completion_tokens' "
                f"'{self.max_completion_tokens}'. Expected one of them; leave 'max_tokens' out.",
                param="max_tokens",
            )
        return self

    def wanted_tokens(self) -> int | None:
        """Return the answer's greatest length, None where it is left to the server."""
        return self.max_completion_tokens or self.max_tokens
