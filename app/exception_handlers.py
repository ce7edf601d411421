"""The one place where errors become HTTP answers.

The handlers are coroutines, though they wait for nothing: Starlette runs others in threads, of
which there are forty, and a refusal cost as much as an answer.
"""

import json
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from loguru import logger
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.database_errors import is_database_unavailable
from app.exceptions import AppError, ServiceUnavailableError
from app.inference.base import QueueFullError
from app.middlewares import REQUEST_ID_HEADER, get_request_id
from app.schemas import ErrorResponse
from app.shedding import LoadShedder

_HTTP_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def error_answer(
    request: Request, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The error body of the API contract."""
    body = ErrorResponse(detail=detail, code=code, request_id=get_request_id(request.scope))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


async def _handle_app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    if isinstance(error, QueueFullError):
        shedder: LoadShedder | None = getattr(request.app.state, "shedder", None)
        if shedder is not None:
            shedder.remember(request.scope, error)
    return error_answer(request, error.status, error.code, error.detail, error.headers)


async def _handle_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, f"http_{error.status_code}")
    headers = error.headers
    if error.status_code == 405:
        headers = {**(headers or {}), "Allow": ", ".join(_find_methods(request))}
    return error_answer(request, error.status_code, code, str(error.detail), headers)


def _find_methods(request: Request) -> list[str]:
    """All methods of a path. Starlette names only those of the first route that has it."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        match, _ = context.original_route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(context.original_route, "methods", None) or set()
    return sorted(methods)


class DatabaseUnavailableError(ServiceUnavailableError):
    code = "database_unavailable"
    detail = "The database does not answer now. Try again shortly."


async def _handle_database_error(request: Request, error: Exception) -> JSONResponse:
    """503 while the database is away, locked or full; what else it says is our fault."""
    if not is_database_unavailable(error):
        # To the outermost handler, as if there were none for this kind.
        raise error
    # The driver's words alone: SQLAlchemy's would bring the statement.
    cause = getattr(error, "orig", None) or error
    logger.warning("the database is unavailable: {!r}", cause)
    return await _handle_app_error(request, DatabaseUnavailableError())


async def _handle_unexpected_error(request: Request, error: Exception) -> JSONResponse:
    request_id = get_request_id(request.scope)
    logger.opt(exception=error).error(
        "unhandled error in {} {} (request {})", request.method, request.url.path, request_id
    )
    # This handler answers outside every other middleware, so the header is set here.
    return error_answer(
        request,
        AppError.status,
        AppError.code,
        AppError.detail,
        {REQUEST_ID_HEADER: request_id} if request_id else None,
    )


async def _handle_validation_error(_request: Request, error: Exception) -> Response:
    """FastAPI's own 422, without the `input` that it repeats.

    That may be a password or a text of megabytes, and may not be JSON again: a lone surrogate
    or NaN, which json reads, would make the answer a 500. The dump escapes what `loc` has of it.
    """
    assert isinstance(error, RequestValidationError)
    errors = [{k: v for k, v in one.items() if k != "input"} for one in error.errors()]
    content = json.dumps({"detail": jsonable_encoder(errors)})
    return Response(content, status_code=422, media_type="application/json")


def add_exception_handlers(app: FastAPI) -> None:
    """Register the handlers on `app`. The 422 for payload validation has FastAPI's own shape."""
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(AppError, _handle_app_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    # Drivers raise OSError when they cannot connect at all.
    for kind in (DBAPIError, PoolTimeoutError, OSError):
        app.add_exception_handler(kind, _handle_database_error)
    app.add_exception_handler(Exception, _handle_unexpected_error)
