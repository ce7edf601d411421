"""What every inference door reads from a request, and puts on its answer.

This is the hot path: one dependency, since FastAPI's own work for each one more costs as much as
all that is done here; and answers that are bytes already, since FastAPI would validate a second
time what was made from checked parts. The busiest endpoint goes further and reads its request by
itself (docs/adr/0005), with `read_inference_request` and `read_json`.
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from app.auth.dependencies import SECURITY, Caller, CallerDependency
from app.config import Settings
from app.history.recorder import HistoryRecorder
from app.history.records import PredictionRecord
from app.inference.base import CallerGoneError
from app.inference.engine import Call, Timing
from app.presence import Presence, ReceivedPresence
from app.scope_keys import PRESENCE

MAX_TIMEOUT_MS = 600_000

Body = TypeVar("Body", bound=BaseModel)
Value = TypeVar("Value")
_JSON_TYPE = re.compile(rb"application/([\w.-]+\+)?json")

# The headers that `InferenceRequestDep` reads, for the OpenAPI document.
CALL_HEADERS: dict[str, Any] = {
    "parameters": [
        {
            "name": "X-Timeout-Ms",
            "in": "header",
            "required": False,
            "description": (
                "Deadline in milliseconds from arrival; the service's own is the longest."
            ),
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
        },
        {
            "name": "X-No-Store",
            "in": "header",
            "required": False,
            "description": "`1`: keep nothing of this call in the history.",
            "schema": {"type": "string"},
        },
    ]
}


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Who asks, until when an answer is of use, and where their history is kept."""

    caller: Caller
    call: Call
    settings: Settings
    recorder: HistoryRecorder | None
    """None when nothing of this call is to be kept."""

    async def keep(self, records: Sequence[PredictionRecord]) -> None:
        """Return when `records` are in the history, durably. Raises as `HistoryRecorder`."""
        if self.recorder is not None and records:
            await self.recorder.record(*records)


class InferenceRequestDependency(CallerDependency):
    """Finds the caller, as `InferenceCaller` does, and reads the headers in `CALL_HEADERS`."""

    def __init__(self) -> None:
        super().__init__(anonymous=True)

    async def __call__(self, connection: HTTPConnection) -> Any:
        caller = await super().__call__(connection)
        scope = connection.scope
        state = scope["app"].state
        timeout: bytes | None = None
        store = not caller.is_anonymous
        for name, value in scope["headers"]:
            if name == b"x-timeout-ms":
                timeout = value
            elif name == b"x-no-store" and value == b"1":
                store = False
        settings: Settings = state.settings
        timeout_s = settings.request_timeout_s
        if timeout is not None:
            timeout_s = min(timeout_s, _parse_timeout(timeout))
        scope_state = scope["state"]
        arrived: float = scope_state.get("arrived_at") or time.monotonic()
        presence: Presence | None = scope_state.get(PRESENCE)
        if presence is None:
            assert isinstance(connection, Request)
            presence = ReceivedPresence(connection.receive)
        return InferenceRequest(
            caller=caller,
            call=Call(flow=caller.key, deadline=arrived + timeout_s, presence=presence),
            settings=settings,
            recorder=state.recorder if store else None,
        )


read_inference_request = InferenceRequestDependency()
InferenceRequestDep = Annotated[InferenceRequest, Depends(read_inference_request)]


def _parse_timeout(value: bytes) -> float:
    """Seconds from an `X-Timeout-Ms` header. Raises `RequestValidationError`, FastAPI's 422."""
    # The length first: Python refuses to read thousands of digits.
    if value.isdigit() and len(value) <= 10 and 1 <= int(value) <= MAX_TIMEOUT_MS:
        return int(value) / 1000
    raise RequestValidationError(
        [
            {
                "type": "int_range",
                "loc": ("header", "x-timeout-ms"),
                "msg": f"Input should be a whole number from 1 to {MAX_TIMEOUT_MS}",
                "input": value.decode("latin-1"),
            }
        ]
    )


async def read_json(model: type[Body], request: Request) -> Body:
    """The JSON body of `request` as `model`. Raises `RequestValidationError`, FastAPI's 422.

    As FastAPI, takes a body for JSON only when its Content-Type says so.
    """
    content = await _read_body(request)
    try:
        if not _has_json_type(request.scope):
            # Tells what is wrong in the words that FastAPI has for it.
            return model.model_validate(content)
        return model.model_validate_json(content)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError(
            [one | {"loc": ("body", *one["loc"])} for one in errors]
        ) from None


async def _read_body(request: Request) -> bytes:
    """The whole body, as `Request.body`, which takes longer for one that came in one piece.

    Raises `CallerGoneError` when the rest of it never comes.
    """
    parts = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _has_json_type(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value == b"application/json":
                return True
            media_type = value.partition(b";")[0].strip().lower()
            return _JSON_TYPE.fullmatch(media_type) is not None
    return False


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """What FastAPI would say in the OpenAPI document of an endpoint that `read_json` reads for."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        },
        "responses": {
            "422": {
                "description": "Validation Error",
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/HTTPValidationError"}
                    }
                },
            }
        },
        "security": SECURITY,
    }


async def resolve(dependency: Callable[[Request], Awaitable[Value]], request: Request) -> Value:
    """What FastAPI would hand an endpoint for `dependency`; overrides count here as well."""
    chosen = request.app.dependency_overrides.get(dependency)
    if chosen is None:
        return await dependency(request)
    value: Any = chosen()
    resolved: Value = await value if isawaitable(value) else value
    return resolved


class JSONAnswer(Response):
    """The JSON answer `body`, with its `Server-Timing`; the headers are written once, as bytes."""

    media_type = "application/json"

    def __init__(self, body: Any, timing: Timing) -> None:
        self.status_code = 200
        self.background = None
        self.body = to_json(body)
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
            (b"server-timing", server_timing(timing).encode()),
        ]


class DirectRoute(APIRoute):
    """Hands the bare request to its endpoint, which finds in it what FastAPI would (ADR 5).

    For the application's own list of routes: an included router makes its own of each route.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def server_timing(timing: Timing) -> str:
    """The `Server-Timing` header of an inference answer, in milliseconds."""
    return (
        f"decode;dur={timing.decode_ms:.2f}, queue;dur={timing.queue_ms:.2f}, "
        f"inference;dur={timing.inference_ms:.2f}, total;dur={timing.total_ms:.2f}"
    )
