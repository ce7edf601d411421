"""The limit on all requests of one address: a pure ASGI class."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from app.auth.authenticator import Authenticator
from app.auth.dependencies import get_address
from app.auth.rate_limit import group_address
from app.exception_handlers import error_answer
from app.exceptions import TooManyRequestsError

# Who asks these must be answered at all times.
_EXEMPT_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
_TRY_LATER = 1013


class AddressLimitMiddleware:
    """Refuse requests (429) and streams (close 1013) of an address that is over its limit.

    To be used where the settings have such a limit. It stands before everything that costs:
    bodies, passwords, models.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in _EXEMPT_PATHS:
            await self.app(scope, receive, send)
            return
        authenticator: Authenticator = scope["app"].state.authenticator
        assert authenticator.address_limit is not None
        try:
            await authenticator.address_limit.check(group_address(get_address(scope)))
        except TooManyRequestsError as error:
            await _refuse(scope, receive, send, error)
        else:
            await self.app(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send, error: TooManyRequestsError) -> None:
    if scope["type"] == "websocket":
        websocket = WebSocket(scope, receive, send)
        # Accepted first: a close code before the handshake reaches no browser.
        await websocket.accept()
        await websocket.close(_TRY_LATER, error.detail)
        return
    # The body is not read, so the connection cannot be used again.
    headers = {**error.headers, "Connection": "close"}
    answer = error_answer(Request(scope), error.status, error.code, error.detail, headers)
    await answer(scope, receive, send)
