"""Request id, body limit, security headers: pure ASGI classes, so that streams pass untouched."""

import json
import re
import secrets
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.exceptions import PayloadTooLargeError
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


def get_request_id(scope: Scope) -> str | None:
    """The id that `RequestIDMiddleware` gave the connection, if it has passed there."""
    request_id: str | None = scope.get("state", {}).get("request_id")
    return request_id


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
        request_id = ""
        for name, value in scope["headers"]:
            if name == _REQUEST_ID_HEADER_NAME:
                request_id = value.decode("latin-1")
        if not _CLIENT_REQUEST_ID.match(request_id):
            request_id = secrets.token_hex(8)
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
        headers = dict(_SECURITY_HEADERS)
        if strict_transport:
            headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        self.headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(pair for pair in self.headers if pair[0] not in present),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodyLimitMiddleware:
    """Refuse bodies over a limit: by Content-Length before reading, else while they arrive.

    `limits` gives the bytes for single paths, `default` for all others.
    """

    def __init__(self, app: ASGIApp, *, default: int, limits: Mapping[str, int]) -> None:
        self.app = app
        self.default = default
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.limits.get(scope["path"], self.default)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            await self._refuse(scope, send, limit)
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    # FastAPI lets a middleware's HTTPException pass and turns others into 400.
                    raise HTTPException(
                        PayloadTooLargeError.status, _too_large(limit), {"Connection": "close"}
                    )
            return message

        await self.app(scope, receive_within_limit, send)

    async def _refuse(self, scope: Scope, send: Send, limit: int) -> None:
        body = ErrorResponse(
            detail=_too_large(limit),
            code=PayloadTooLargeError.code,
            request_id=get_request_id(scope),
        )
        payload = json.dumps(body.model_dump()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(payload)).encode()),
            # What is left of the body is not read: the connection cannot be used again.
            (b"connection", b"close"),
        ]
        await send(
            {
                "type": "http.response.start",
                "status": PayloadTooLargeError.status,
                "headers": headers,
            }
        )
        await send({"type": "http.response.body", "body": payload})


def _too_large(limit: int) -> str:
    return f"The body is larger than the {limit:,} bytes accepted here."
