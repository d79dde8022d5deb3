"""What every request passes before its route: it is counted, shows its key, and is not too long.

Plain ASGI, so that streams pass through untouched. Knows no route but that of chat completions.
"""

import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steering.api.metrics import Metrics
from steering.api.refusals import Refusal

COMPLETIONS = "/v1/chat/completions"
HEALTH = "/healthz"
MAX_BODY_BYTES = 1_000_000
# A body is read to its end before it is refused, or its sender would see a broken connection
# instead of the refusal; a far longer one is not worth it.
_MAX_READ_BYTES = 16 * MAX_BODY_BYTES
_CLIENT_LEFT = 499  # as nginx has it


@dataclass(frozen=True, slots=True)
class CountRequests:
    """Counts chat completions by status; a route may say how a stream ended: `state.ending`."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count in the end."""
        if scope["type"] != "http" or scope["path"] != COMPLETIONS:
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        status = _CLIENT_LEFT

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            self.metrics.requests.labels(str(state.get("ending", status))).inc()


@dataclass(frozen=True, slots=True)
class AskForKey:
    """Refuses whoever has not the key; the health of the program is everybody's."""

    app: ASGIApp
    key: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] != "http" or scope["path"] == HEALTH or not self.key:
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("authorization", "")
        scheme, _, key = given.partition(" ")
        is_right = hmac.compare_digest(key.strip().encode("latin-1"), self.key.encode())
        if is_right and scheme.lower() == "bearer":
            return await self.app(scope, receive, send)
        what = "The API key is wrong" if key else "The API key is missing"
        refusal = Refusal(
            401,
            f"{what}. Expected the header 'Authorization: Bearer KEY' with the key that this "
            "server was started with (LANGSTEER_API_KEY); ask who runs it.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        return await refusal.response()(scope, receive, send)


@dataclass(frozen=True, slots=True)
class LimitBody:
    """Refuses bodies above `MAX_BODY_BYTES`, whether they say how long they are or not."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting what is read."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        read_bytes = 0

        async def read() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            while MAX_BODY_BYTES < read_bytes < _MAX_READ_BYTES and message.get("more_body"):
                message = await receive()
                read_bytes += len(message.get("body", b""))
            if read_bytes > MAX_BODY_BYTES and message["type"] == "http.request":
                raise HTTPException(413)
            return message

        return await self.app(scope, read, send)


def refuse_long_body() -> Refusal:
    """Return what to answer to a body that is too long."""
    return Refusal(
        413,
        f"The request is longer than '{MAX_BODY_BYTES}' bytes. Expected less; leave the oldest "
        "messages out.",
        code="request_too_large",
    )
