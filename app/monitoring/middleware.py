"""Counts, times and logs every answer: a pure ASGI class, so that streams pass untouched."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.monitoring.logging import log_access, request_context
from app.monitoring.metrics import HTTP_REQUEST_SECONDS, HTTP_REQUESTS

# Of a request whose caller left before there was an answer, as nginx has it.
CLIENT_CLOSED_REQUEST = 499
_SWITCHING_PROTOCOLS = 101

UNMATCHED = "unmatched"
# What a client may write as method has no bound, and each label value is kept for ever.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER_METHOD = "other"
# Probes and Prometheus ask every few seconds: logged only when they fail.
_QUIET_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})


@dataclass(slots=True)
class HTTPActivity:
    """What goes on now; read by monitoring."""

    in_progress: int = 0


@dataclass(frozen=True, slots=True)
class _Series:
    count: Callable[[], None]
    observe: Callable[[float], None]


class RequestObserver:
    """Counts, times and logs one answer after the other."""

    def __init__(self, *, access_log: bool) -> None:
        self.access_log = access_log
        # Looking a child up by its labels costs more than counting does.
        self._series: dict[tuple[str, str, int], _Series] = {}

    def observe(
        self, scope: Scope, status: int, seconds: float, *, request_id: str | None = None
    ) -> None:
        """An HTTP request was answered; `request_id` where its id is not that of `scope`."""
        method = scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD
        key = (getattr(scope.get("route"), "path", UNMATCHED), method, status)
        series = self._series.get(key) or self._add_series(key)
        series.count()
        series.observe(seconds)
        if not self.access_log or (status < 400 and scope["path"] in _QUIET_PATHS):
            return
        if request_id is None:
            _log(scope, method, status, seconds)
            return
        before = request_context.set({**scope["state"], "request_id": request_id})
        try:
            _log(scope, method, status, seconds)
        finally:
            request_context.reset(before)

    def _add_series(self, key: tuple[str, str, int]) -> _Series:
        route, method, status = key
        series = self._series[key] = _Series(
            HTTP_REQUESTS.labels(route, method, str(status)).inc,
            HTTP_REQUEST_SECONDS.labels(route, method).observe,
        )
        return series


class ObservationMiddleware:
    """Stands right inside `RequestIDMiddleware`, so that all else is within what it measures."""

    def __init__(self, app: ASGIApp, *, activity: HTTPActivity, observer: RequestObserver) -> None:
        self.app = app
        self._activity = activity
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._observe_request(scope, receive, send)
        elif scope["type"] == "websocket" and self._observer.access_log:
            await self._observe_stream(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _observe_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = CLIENT_CLOSED_REQUEST

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._activity.in_progress += 1
        try:
            await self.app(scope, receive, send_observed)
        except Exception:
            # The handler of what nobody expected answers outside of all middlewares.
            status = 500
            raise
        finally:
            self._activity.in_progress -= 1
            self._observer.observe(scope, status, time.perf_counter() - started)

    async def _observe_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The line of a stream is written at its end: 101, or the code it was closed with."""
        started = time.perf_counter()
        status = _SWITCHING_PROTOCOLS

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.close":
                status = message.get("code") or 1000
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        finally:
            _log(scope, "WEBSOCKET", status, time.perf_counter() - started)


def _log(scope: Scope, method: str, status: int, seconds: float) -> None:
    client = scope.get("client")
    log_access(method, scope["path"], status, seconds, client[0] if client else "-")
