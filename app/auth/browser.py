"""What only browsers do: keep the service's cookies, and say which page a call comes from."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.auth.authenticator import Authenticator
from app.exceptions import ForbiddenError


class CrossOriginError(ForbiddenError):
    code = "cross_origin"
    detail = "This may only be called from this service's own pages or an allowed origin."


def set_cookie(
    answer: Response,
    authenticator: Authenticator,
    name: str,
    value: str,
    *,
    max_age: int,
    readable: bool = False,
) -> None:
    """Set one of the service's cookies; `readable` by scripts or not."""
    answer.set_cookie(
        name,
        value,
        max_age=max_age,
        path="/",
        secure=authenticator.settings.secure_cookies,
        httponly=not readable,
        samesite="lax",
    )


def delete_cookie(answer: Response, authenticator: Authenticator, name: str) -> None:
    """Take a cookie off the browser; the attributes are those it was set with."""
    set_cookie(answer, authenticator, name, "", max_age=0)


def check_origin(connection: HTTPConnection, authenticator: Authenticator) -> bool:
    """Whether the connection names an origin. Raises CrossOriginError for a foreign one.

    Own is what has the host of the Host header, whatever the scheme: behind a proxy that ends
    TLS it is not known here.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        if connection.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise CrossOriginError
        return False
    if origin in authenticator.settings.allowed_origins:
        return True
    host = connection.headers.get("host", "")
    if not host or _host_of(origin) != host.lower():
        raise CrossOriginError
    return True


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
