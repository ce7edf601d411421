"""Who is calling: one dependency for a bearer token, a session cookie and an API key.

It runs on every request, so it opens no database session while the cache knows the token, and
it declares its security schemes in the OpenAPI document instead of through FastAPI's security
classes, each of which costs a request as much as all of this.
"""

import hmac
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Depends, FastAPI
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from app.auth.authenticator import Authenticator
from app.auth.browser import CrossOriginError, check_origin, delete_cookie
from app.auth.models import TokenKind
from app.auth.rate_limit import group_address
from app.auth.repository import Identity
from app.auth.security import has_token_format, hash_token
from app.auth.service import Accounts
from app.exceptions import ForbiddenError, UnauthorizedError

Transport = Literal["bearer", "cookie", "api_key", "query", "anonymous"]

CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SCHEME = "Lookout"
# For the document of an endpoint that finds its caller without FastAPI.
SECURITY: list[dict[str, list[str]]] = [{_SCHEME: []}]


class CsrfError(ForbiddenError):
    code = "csrf_failed"
    detail = (
        f"A call that signs in by cookie needs the {CSRF_HEADER} header. "
        "Ask GET /csrf for its value, again after signing in."
    )


class AdminRequiredError(ForbiddenError):
    code = "admin_required"
    detail = "Only administrators may do this."


class InvalidTokenError(UnauthorizedError):
    code = "invalid_token"
    detail = "The token or API key is unknown, expired or revoked."


class InvalidSessionError(UnauthorizedError):
    """Takes the dead cookie off the browser."""

    code = "invalid_session"
    detail = "The session has ended. Sign in again."

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__()
        answer = Response()
        delete_cookie(answer, authenticator, authenticator.session_cookie)
        self._set_cookie = answer.headers["set-cookie"]

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, "Set-Cookie": self._set_cookie}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and how that was proved."""

    user_id: uuid.UUID | None
    email: str | None
    is_admin: bool
    token_id: uuid.UUID | None
    transport: Transport
    address: str

    @property
    def is_anonymous(self) -> bool:
        return self.user_id is None

    @property
    def key(self) -> str:
        """What quotas count by: the account, or the address of who has none."""
        if self.user_id is not None:
            return str(self.user_id)
        return f"address:{group_address(self.address)}"


class _Credentials(NamedTuple):
    api_key: bytes | None
    authorization: bytes | None
    session: bytes | None


def get_authenticator(connection: HTTPConnection) -> Authenticator:
    """The application's authenticator."""
    authenticator: Any = connection.app.state.authenticator
    assert isinstance(authenticator, Authenticator)
    return authenticator


# Async, as FastAPI runs other dependencies in a thread.
async def get_accounts(connection: HTTPConnection) -> Accounts:
    """The accounts service over the application's authenticator."""
    return Accounts(get_authenticator(connection))


class CallerDependency(SecurityBase):
    """Finds the caller, or raises UnauthorizedError or ForbiddenError.

    `admin`: only administrators. `anonymous`: also callers without identity, where the settings
    allow them and within their limit; an invalid credential is refused all the same. These are
    the doors of the models: those who have an identity are held to their own limit there.
    """

    def __init__(self, *, admin: bool = False, anonymous: bool = False) -> None:
        self._admin = admin
        self._anonymous = anonymous
        # What FastAPI writes into the document; `declare_security_schemes` completes it.
        self.scheme_name = _SCHEME
        self.model = HTTPBearerModel()

    async def __call__(self, connection: HTTPConnection) -> Caller:
        authenticator = get_authenticator(connection)
        scope = connection.scope
        credentials = _read_credentials(scope, authenticator.session_cookie)
        caller = await _find_caller(scope, authenticator, credentials)
        if caller is None:
            if not self._anonymous:
                raise UnauthorizedError
            return await _admit_anonymous(scope, authenticator)
        if caller.transport == "cookie" and scope.get("method") not in _SAFE_METHODS:
            _check_csrf(connection, authenticator, credentials)
        if self._admin and not caller.is_admin:
            raise AdminRequiredError
        if self._anonymous and authenticator.request_limit is not None:
            await authenticator.request_limit.check(caller.key)
        return caller


async def admit_stream(websocket: WebSocket) -> Caller:
    """The caller of a new WebSocket, which counts as one request.

    Raises what `authenticate_stream` raises, and TooManyRequestsError over the caller's limit.
    """
    caller = await authenticate_stream(websocket)
    limit = get_authenticator(websocket).request_limit
    if limit is not None and not caller.is_anonymous:
        await limit.check(caller.key)
    return caller


async def authenticate_stream(websocket: WebSocket) -> Caller:
    """The caller of a WebSocket, new or open.

    Besides the ways of other requests, `?token=` takes a bearer token or an API key, for
    browsers on other hosts. A cookie counts only with an `Origin` that is the service's own or
    allowed; callers without identity are held to that when they name an origin.
    Raises UnauthorizedError and ForbiddenError (close with 1008), TooManyRequestsError (1013).
    """
    authenticator = get_authenticator(websocket)
    scope = websocket.scope
    credentials = _read_credentials(scope, authenticator.session_cookie)
    token = websocket.query_params.get("token")
    if token is not None and credentials.api_key is None and credentials.authorization is None:
        return await _find_query_caller(scope, authenticator, token.encode())
    caller = await _find_caller(scope, authenticator, credentials)
    if caller is None:
        check_origin(websocket, authenticator)
        return await _admit_anonymous(scope, authenticator)
    if caller.transport == "cookie" and not check_origin(websocket, authenticator):
        raise CrossOriginError("A session cookie needs an Origin header here, as browsers send it.")
    return caller


def _read_credentials(scope: Scope, cookie_name: str) -> _Credentials:
    api_key = authorization = session = None
    cookie_prefix = f"{cookie_name}=".encode()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            api_key = value
        elif name == b"authorization":
            # A proxy may guard the whole site with Basic, which then is not meant for us.
            if value[:6].lower() != b"basic ":
                authorization = value
        elif name == b"cookie" and cookie_prefix in value:
            session = cookie_parser(value.decode("latin-1")).get(cookie_name, "").encode()
    return _Credentials(api_key, authorization, session or None)


async def _find_caller(
    scope: Scope, authenticator: Authenticator, credentials: _Credentials
) -> Caller | None:
    """The caller by the first credential there is; None without any."""
    if credentials.api_key is not None:
        identity = await _identify(authenticator, credentials.api_key, TokenKind.API_KEY)
        if identity is None:
            raise InvalidTokenError("The API key is unknown, expired or revoked.")
        return _known(scope, identity, "api_key")
    if credentials.authorization is not None:
        scheme, _, token = credentials.authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise InvalidTokenError("The Authorization header must read `Bearer <token>`.")
        token = token.strip()
        identity = await _identify(authenticator, token, TokenKind.BEARER)
        if identity is None:
            if has_token_format(token, TokenKind.API_KEY):
                raise InvalidTokenError("An API key belongs in the X-API-Key header.")
            raise InvalidTokenError("The bearer token is unknown, expired or revoked.")
        return _known(scope, identity, "bearer")
    if credentials.session is not None:
        identity = await _identify(authenticator, credentials.session, TokenKind.SESSION)
        if identity is None:
            raise InvalidSessionError(authenticator)
        return _known(scope, identity, "cookie")
    return None


async def _find_query_caller(scope: Scope, authenticator: Authenticator, token: bytes) -> Caller:
    for kind in (TokenKind.BEARER, TokenKind.API_KEY):
        identity = await _identify(authenticator, token, kind)
        if identity is not None:
            return _known(scope, identity, "query")
    raise InvalidTokenError


async def _identify(authenticator: Authenticator, token: bytes, kind: TokenKind) -> Identity | None:
    if not has_token_format(token, kind):
        return None
    return await authenticator.tokens.look_up(hash_token(token), kind)


def get_address(scope: Scope) -> str:
    """The address that the connection comes from; a trusted proxy's word for it."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def _known(scope: Scope, identity: Identity, transport: Transport) -> Caller:
    # On every line that is logged for this request from here on.
    scope.setdefault("state", {})["user_id"] = identity.user_id
    return Caller(
        user_id=identity.user_id,
        email=identity.email,
        is_admin=identity.is_admin,
        token_id=identity.token_id,
        transport=transport,
        address=get_address(scope),
    )


async def _admit_anonymous(scope: Scope, authenticator: Authenticator) -> Caller:
    if not authenticator.settings.anonymous_inference:
        raise UnauthorizedError
    caller = Caller(
        user_id=None,
        email=None,
        is_admin=False,
        token_id=None,
        transport="anonymous",
        address=get_address(scope),
    )
    await authenticator.anonymous_limit.check(caller.key)
    return caller


def _check_csrf(
    connection: HTTPConnection, authenticator: Authenticator, credentials: _Credentials
) -> None:
    header = connection.headers.get(CSRF_HEADER, "")
    cookie = connection.cookies.get(authenticator.csrf_cookie, "")
    if not header or not hmac.compare_digest(header.encode(), cookie.encode()):
        raise CsrfError
    if not authenticator.csrf.verify(header, hash_token(credentials.session or b"")):
        raise CsrfError


def declare_security_schemes(app: FastAPI) -> None:
    """Show the three ways in, instead of a placeholder, in the OpenAPI document of `app`.

    https://fastapi.tiangolo.com/how-to/extending-openapi/
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if schemes.pop(_SCHEME, None) is None:
            return document
        schemes.update(_SECURITY_SCHEMES)
        for operations in document["paths"].values():
            for operation in operations.values():
                if {_SCHEME: []} in operation.get("security", []):
                    operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


_SECURITY_SCHEMES: dict[str, dict[str, Any]] = {
    "OAuth2PasswordBearer": {
        "type": "oauth2",
        "description": "A bearer token for your email (as `username`) and password.",
        "flows": {"password": {"tokenUrl": "token", "scopes": {}}},
    },
    "APIKeyHeader": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key from `POST /me/api-keys`.",
    },
    "APIKeyCookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "lookout_session",
        "description": (
            "The session cookie that `POST /login` sets (`__Host-lookout_session` in "
            f"production). Calls that change something also need `{CSRF_HEADER}`."
        ),
    },
}

require_caller = CallerDependency()
require_admin = CallerDependency(admin=True)
admit_inference = CallerDependency(anonymous=True)

AccountsDep = Annotated[Accounts, Depends(get_accounts)]
CurrentCaller = Annotated[Caller, Depends(require_caller)]
"""Any caller with an identity; else 401."""
AdminCaller = Annotated[Caller, Depends(require_admin)]
"""An administrator; else 401 or 403."""
InferenceCaller = Annotated[Caller, Depends(admit_inference)]
"""Who may use the models: any identity, or none where the settings allow it (then 429 beyond
the limit of its address)."""
