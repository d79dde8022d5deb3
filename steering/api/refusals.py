"""Errors as OpenAI error objects: which status, type and code an error has, and its words.

Knows errors, not routes. What a person can cause is told in its own words; everything else is one
plain sentence, and the traceback goes to the log.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi.responses import Response
from pydantic import BaseModel

from steering.errors import (
    EngineClosedError,
    GenerationError,
    OutOfMemoryError,
    PlanError,
    QueueFullError,
    StatsError,
    SteeringError,
    UnknownLanguageError,
)

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 5  # about as long as an answer takes
_OWN_WORDS = ("unsupported", "in_words")  # types of error that asked.py raises itself
_SHOWN_CHARACTERS = 80  # of a value that is refused
_SHOWN_PROBLEMS = 5
_WENT_WRONG = "Something went wrong inside the program. Try again; its log says what it was."

_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
# What the sender of a request can mend; of other errors of ours, the one who runs the program.
_SENDERS: tuple[type[SteeringError], ...] = (
    GenerationError,
    PlanError,
    StatsError,
    UnknownLanguageError,
)


class ErrorObject(BaseModel):
    """What went wrong, with the names that OpenAI gives these things."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of a response that is an error."""

    error: ErrorObject


class Refusal(Exception):
    """A response that is an error: its status and its object.

    Args:
        status: Of HTTP.
        message: What failed, the value, what was expected, what to do.
        param: The field of the request that it is about.
        code: A short name of the error, for programs.
        headers: To send with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        kind = _TYPES.get(status, "invalid_request_error")
        self.body = ErrorBody(error=ErrorObject(message=message, type=kind, param=param, code=code))

    def response(self) -> Response:
        """Return it as a response."""
        body = json.dumps(self.body.model_dump())  # in ASCII: it may quote half a surrogate
        return Response(body, self.status, self.headers, media_type="application/json")


def refuse(err: Exception, *, load_failure: BaseException | None = None) -> Refusal:
    """Return what to answer to an error.

    Args:
        err: What was raised.
        load_failure: What loading the model raised; every request raises the same again.
    """
    if isinstance(err, Refusal):
        return err
    words = str(err)
    if isinstance(err, QueueFullError):
        return Refusal(429, words, code="queue_full", headers={"Retry-After": str(_RETRY_AFTER_S)})
    if isinstance(err, OutOfMemoryError):
        return Refusal(503, words, code="out_of_memory")
    if isinstance(err, EngineClosedError):
        return Refusal(503, words, code="shutting_down")
    if err is load_failure:
        return refuse_load_failure(err)
    if isinstance(err, _SENDERS):
        return Refusal(400, words)
    log.error("A request failed", exc_info=err)
    return went_wrong()


def went_wrong() -> Refusal:
    """Return what to answer where the program is at fault."""
    return Refusal(500, _WENT_WRONG, code="internal_error")


def refuse_load_failure(err: BaseException) -> Refusal:
    """Return what to answer while there is no model because it could not be loaded."""
    words = str(err) if isinstance(err, SteeringError) else "The log says why."
    return Refusal(503, f"The model could not be loaded. {words}", code="model_not_loaded")


def refuse_fields(problems: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return what to answer to a request whose fields make no sense, from pydantic's errors."""
    told = [_explain(problem) for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        told.append(f"And '{len(problems) - _SHOWN_PROBLEMS}' more.")
    code: Literal["unknown_parameter", "unsupported_parameter"] | None = None
    if problems[0]["type"] == "extra_forbidden":
        code = "unknown_parameter"
    elif problems[0]["type"] == "unsupported":
        code = "unsupported_parameter"
    return Refusal(400, " ".join(told), param=_name(problems[0]) or None, code=code)


def _explain(problem: Mapping[str, Any]) -> str:
    """Say what is wrong with one field."""
    name, kind, reason = _name(problem), problem["type"], str(problem["msg"])
    if kind == "json_invalid":
        why = problem.get("ctx", {}).get("error", reason)
        return f"The body is not JSON ({why}). Expected a JSON object; correct it."
    if kind in _OWN_WORDS:
        return reason
    if not name:
        return (
            "The body is not a JSON object. Expected one, sent with the header "
            "'Content-Type: application/json'."
        )
    if kind == "missing":
        return f"'{name}' is missing. Expected a value; add it."
    if kind == "extra_forbidden":
        return f"Unknown parameter '{name}'. Expected one of those in docs/api.md; leave it out."
    expected = reason.removeprefix("Input should be ").removeprefix("Value should be ")
    shown = str(problem["input"])
    if len(shown) > _SHOWN_CHARACTERS:
        shown = f"{shown[:_SHOWN_CHARACTERS]}…"
    return f"'{name}' is '{shown}'. Expected {expected}; correct it or leave it out."


def _name(problem: Mapping[str, Any]) -> str:
    """Return the name of the field that a problem is about, such as `messages[0].content`."""
    place = [part for part in problem["loc"] if part != "body"]
    if problem["type"] == "json_invalid":
        return ""
    if problem["type"] in _OWN_WORDS and problem["ctx"]["param"]:
        place.append(problem["ctx"]["param"])
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name
