"""The API as an ASGI application, and its routes for the server that it shares with the page.

Knows how requests and answers are carried, not how an answer is written (`answering.py`).
"""

import time

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from steering.api.answering import Answer, ClientLeftError, EventStream, Service
from steering.api.asked import ChatCompletionRequest
from steering.api.gates import (
    COMPLETIONS,
    HEALTH,
    AskForKey,
    CountRequests,
    LimitBody,
    refuse_long_body,
)
from steering.api.refusals import (
    ErrorBody,
    Refusal,
    refuse_fields,
    refuse_load_failure,
    went_wrong,
)
from steering.api.replies import ChatCompletion, Health, ModelCard, ModelList

_METRICS = "/metrics"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # as Prometheus asks for it


def make_api(service: Service, *, key: str = "") -> FastAPI:
    """Return the application.

    Args:
        service: The engine, the model, and the limits.
        key: What every client has to show; empty: nothing.
    """
    service.metrics.watch(service.engine.load)
    api = FastAPI(
        title="Langsteer",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # its page would come from elsewhere
        redoc_url=None,
        middleware=[
            Middleware(CountRequests, metrics=service.metrics),
            Middleware(AskForKey, key=key),
            Middleware(LimitBody),
        ],
        exception_handlers={
            Refusal: _answer_refusal,
            RequestValidationError: _answer_wrong_fields,
            HTTPException: _answer_http_error,
            Exception: _answer_unexpected,
        },
        responses={400: {"model": ErrorBody}, 503: {"model": ErrorBody}},
    )
    _add_completions(api, service)
    _add_models(api, service)
    _add_watching(api, service)
    return api


def routes_of(api: FastAPI) -> list[BaseRoute]:
    """Return what sends the API's paths to it, and leaves all others to the page."""
    return [Route(path, api) for path in ("/v1/{rest:path}", HEALTH, _METRICS)]


def _add_completions(api: FastAPI, service: Service) -> None:
    @api.post(COMPLETIONS, response_model=ChatCompletion)
    async def complete_chat(asked: ChatCompletionRequest, request: Request) -> Response:
        """Answer a conversation, in a chosen language if one is asked for."""
        answer = Answer(service, asked, request)
        try:
            await answer.begin()
            if asked.stream:
                return EventStream(answer)
            completion = await answer.whole()
        except ClientLeftError:
            request.state.ending = 499
            return Response(status_code=499)
        except Exception as err:
            raise service.refuse(err) from err
        return JSONResponse(completion.model_dump())


def _add_models(api: FastAPI, service: Service) -> None:
    created = int(time.time())

    @api.get("/v1/models")
    async def list_models() -> ModelList:
        """List the model's names: its own, and one for each language."""
        names = service.served.names()
        return ModelList(data=[ModelCard(id=name, created=created) for name in names])

    @api.get("/v1/models/{name:path}")
    async def show_model(name: str) -> ModelCard:
        """Show one of them."""
        service.served.language_of(name)
        return ModelCard(id=name, created=created)


def _add_watching(api: FastAPI, service: Service) -> None:
    @api.get(HEALTH, responses={503: {"model": Health}})
    async def tell_health() -> Response:
        """Say whether the model is ready: 503 if it will not be."""
        health = _health(service)
        is_well = health.status in ("ready", "loading")
        return JSONResponse(health.model_dump(), 200 if is_well else 503)

    @api.get(_METRICS)
    async def show_metrics() -> Response:
        """Show what was counted, for Prometheus."""
        return Response(service.metrics.render(), media_type=_METRICS_TYPE)


def _health(service: Service) -> Health:
    model = service.served.model_id
    if service.closing.has_begun:
        return Health(status="closing", model=model)
    if (failure := service.load_failure()) is not None:
        return Health(status="failed", model=model, detail=str(refuse_load_failure(failure)))
    return Health(status="ready" if service.engine.is_ready else "loading", model=model)


async def _answer_refusal(_: Request, err: Refusal) -> Response:
    return err.response()


async def _answer_unexpected(_: Request, __: Exception) -> Response:
    return went_wrong().response()  # the server logs it


async def _answer_wrong_fields(_: Request, err: RequestValidationError) -> Response:
    return refuse_fields(err.errors()).response()


async def _answer_http_error(request: Request, err: HTTPException) -> Response:
    if err.status_code == 413:
        return refuse_long_body().response()
    where = f"{request.method} {request.url.path}"
    words = {
        404: f"There is no '{where}'. Expected one of the routes in docs/api.md; correct the URL.",
        405: f"There is no '{where}'. Expected another method; see docs/api.md.",
    }
    message = words.get(err.status_code, f"The body cannot be read ({err.detail}). Correct it.")
    return Refusal(err.status_code, message, headers=err.headers).response()
