"""Request id, hosts, body limit, security headers: pure ASGI classes that let streams pass."""

import asyncio
import json
import re
import secrets
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.exceptions import PayloadTooLargeError, StartupError
from app.monitoring.logging import request_context
from app.schemas import ErrorResponse

REQUEST_ID_HEADER = "X-Request-ID"
_REQUEST_ID_HEADER_NAME = REQUEST_ID_HEADER.lower().encode()
# What a client may choose as its request id: it ends up in logs and headers.
_CLIENT_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; font-src 'self'; connect-src 'self' ws: wss:; worker-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), display-capture=(self), microphone=(), geolocation=()",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
}

_PROBES = frozenset({"/health/live", "/health/ready"})
_WRONG_HOST = "This service does not go by the name in the Host header."
_TOO_SLOW = "The body did not arrive in time."


def get_request_id(scope: Scope) -> str | None:
    """The id that `RequestIDMiddleware` gave the connection, if it has passed there."""
    request_id: str | None = scope.get("state", {}).get("request_id")
    return request_id


def choose_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id where it sends one that can be used, else a new one."""
    for name, value in headers:
        if name == _REQUEST_ID_HEADER_NAME:
            request_id = value.decode("latin-1")
            if _CLIENT_REQUEST_ID.match(request_id):
                return request_id
    return secrets.token_hex(8)


def list_security_headers(*, strict_transport: bool) -> list[tuple[bytes, bytes]]:
    """The security headers of every answer, as ASGI has headers."""
    headers = dict(_SECURITY_HEADERS)
    if strict_transport:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    return [(k.lower().encode(), v.encode()) for k, v in headers.items()]


class StartupFailureMiddleware:
    """Tell why the service cannot start in one sentence, where that is known.

    Starlette hands the server a traceback, which is right for a mistake of ours and buries what
    a person who made a mistake in the settings needs to read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_reason(message: Message) -> None:
            # Sent from within the handling of the error.
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupError):
                message["message"] = f"Lookout cannot start: {error}"
            await send(message)

        await self.app(scope, receive, send_reason)


class RequestIDMiddleware:
    """Give every connection an id, or keep the client's, and send it back.

    Also notes when it arrived (`scope["state"]["arrived_at"]`, on the clock of
    `time.monotonic`) and makes its state the context of all lines that it logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request_id = choose_request_id(scope["headers"])
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["arrived_at"] = time.monotonic()
        # Every server gives a connection a state of its own, so this is no other request's.
        request_context.set(state)
        header = (_REQUEST_ID_HEADER_NAME, request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], header]
            await send(message)

        await self.app(scope, receive, send_with_id)


class SecurityHeadersMiddleware:
    """Add the security headers that an answer does not set itself."""

    def __init__(self, app: ASGIApp, *, strict_transport: bool) -> None:
        self.app = app
        self.headers = list_security_headers(strict_transport=strict_transport)
        self.names = frozenset(name for name, _ in self.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = [name.lower() for name, _ in message["headers"]]
                added = self.headers
                if not self.names.isdisjoint(present):
                    added = [pair for pair in added if pair[0] not in present]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class AllowedHostMiddleware:
    """Refuse (400) what names another host than those allowed, so that no answer is made for it.

    Each of `hosts` is a name, or `*.` before a name for all names under it. Probes pass: they
    ask by address. Unlike Starlette's own, it answers in the form of all other errors.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str]) -> None:
        self.app = app
        self.names = frozenset(host.lower() for host in hosts)
        self.suffixes = tuple(host[1:].lower() for host in hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] not in ("http", "websocket")
            or scope["path"] in _PROBES
            or self._is_allowed(Headers(scope=scope).getlist("host"))
        ):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": _WRONG_HOST})
        else:
            await _send_error(scope, send, 400, "unknown_host", _WRONG_HOST)

    def _is_allowed(self, headers: list[str]) -> bool:
        if len(headers) != 1:
            return False
        host = headers[0].lower()
        # An IPv6 address has colons of its own, within brackets.
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        return name in self.names or name.endswith(self.suffixes)


class BodyLimitMiddleware:
    """Refuse bodies over a limit: by Content-Length before reading, else while they arrive.

    `limits` gives the bytes for single paths, `default` for all others. A body that is not
    complete `timeout_s` after its first part is refused with 408.
    """

    def __init__(
        self, app: ASGIApp, *, default: int, limits: Mapping[str, int], timeout_s: float
    ) -> None:
        self.app = app
        self.default = default
        self.limits = limits
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.get(scope["path"], self.default)
        announced = b"0"
        for name, value in scope["headers"]:
            if name == b"content-length":
                announced = value
                break
        if announced.isdigit() and int(announced) > limit:
            await _send_error(
                scope,
                send,
                PayloadTooLargeError.status,
                PayloadTooLargeError.code,
                _too_large(limit),
            )
            return
        received = 0
        # Set while more is to come: most bodies come in one part, and need no clock.
        deadline: float | None = None

        async def receive_within_limit() -> Message:
            nonlocal received, deadline
            if deadline is None:
                message = await receive()
            else:
                try:
                    async with asyncio.timeout_at(deadline):
                        message = await receive()
                except TimeoutError:
                    raise HTTPException(408, _TOO_SLOW, {"Connection": "close"}) from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    # FastAPI lets a middleware's HTTPException pass and turns others into 400.
                    raise HTTPException(
                        PayloadTooLargeError.status, _too_large(limit), {"Connection": "close"}
                    )
                if not message.get("more_body"):
                    deadline = None
                elif deadline is None:
                    deadline = asyncio.get_running_loop().time() + self.timeout_s
            return message

        await self.app(scope, receive_within_limit, send)


async def _send_error(scope: Scope, send: Send, status: int, code: str, detail: str) -> None:
    body = ErrorResponse(detail=detail, code=code, request_id=get_request_id(scope))
    payload = json.dumps(body.model_dump()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
        # What is left of the body is not read: the connection cannot be used again.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


def _too_large(limit: int) -> str:
    return f"The body is larger than the {limit:,} bytes accepted here."
