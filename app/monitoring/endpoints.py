"""Health and metrics."""

import asyncio
import hmac
from typing import Literal

from fastapi import APIRouter, FastAPI, Request, Response
from loguru import logger

from app.config import Settings
from app.exceptions import NotFoundError, ServiceUnavailableError, UnauthorizedError
from app.monitoring.exposition import CONTENT_TYPE, render_metrics
from app.schemas import Schema, error_responses

router = APIRouter(tags=["Operations"])

# Longer than any healthy database takes, shorter than the patience of a probe.
_DATABASE_TIMEOUT_S = 2.0


class NotReadyError(ServiceUnavailableError):
    code = "not_ready"


class LiveResponse(Schema):
    status: Literal["ok"] = "ok"


class ReadyResponse(Schema):
    status: Literal["ready"] = "ready"


@router.get("/health/live", summary="Whether the process answers")
async def live() -> LiveResponse:
    """Always 200. A process that does not answer this should be started again."""
    return LiveResponse()


@router.get(
    "/health/ready",
    summary="Whether requests can be served",
    responses=error_responses(503),
)
async def ready(request: Request) -> ReadyResponse:
    """200 while the database answers, all models are loaded, no queue is full and nobody has
    asked the service to end.

    Else 503, and `detail` names the parts that fail. Send no requests here meanwhile.
    """
    problems = await find_problems(request.app)
    if problems:
        detail = "; ".join(f"{part}: {problem}" for part, problem in problems.items())
        logger.warning("not ready: {}", detail)
        raise NotReadyError(detail)
    return ReadyResponse()


async def find_problems(app: FastAPI) -> dict[str, str]:
    """Why `app` is not ready, by part; empty when it is."""
    if not hasattr(app.state, "publisher"):
        # The last thing that the lifespan starts. A server that does not wait for it, as
        # gunicorn's own worker after 30 s, must not be sent requests.
        return {"service": "is starting"}
    if getattr(app.state, "is_ending", False):
        return {"service": "is shutting down"}
    problems: dict[str, str] = {}
    problem = await _find_database_problem(app)
    if problem is not None:
        problems["database"] = problem
    problems.update(app.state.engine.problems())
    problem = app.state.recorder.problem
    if problem is not None:
        problems["history"] = problem
    return problems


async def _find_database_problem(app: FastAPI) -> str | None:
    ping = asyncio.ensure_future(app.state.database.ping())
    try:
        # Not `wait_for`: that waits for the cancelled ping as well, which waits for the server.
        done, _ = await asyncio.wait({ping}, timeout=_DATABASE_TIMEOUT_S)
    finally:
        ping.cancel()
    if not done:
        # Nobody waits for what becomes of it.
        ping.add_done_callback(lambda task: task.cancelled() or task.exception())
        return f"does not answer within {_DATABASE_TIMEOUT_S:g} s"
    error = ping.exception()
    if error is not None:
        logger.opt(exception=error).debug("the database does not answer")
        return "does not answer"
    return None


@router.get(
    "/metrics",
    summary="Measurements for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {CONTENT_TYPE: {}}, "description": "Prometheus' text format."},
        **error_responses(401, 404),
    },
)
async def metrics(request: Request) -> Response:
    """Of all worker processes together. Where `METRICS_TOKEN` is set, it is the bearer token;
    where `METRICS_PORT` is set, they are there and not here."""
    settings: Settings = request.app.state.settings
    if settings.metrics_port is not None:
        raise NotFoundError("The metrics have a port of their own here.")
    token = settings.metrics_token
    if token is not None:
        expected = f"Bearer {token.get_secret_value()}".encode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            raise UnauthorizedError("The metrics need the METRICS_TOKEN as bearer token.")
    return Response(await render_metrics(), media_type=CONTENT_TYPE)
