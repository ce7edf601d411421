"""Who may call what: every route of the application, times everybody who may come.

The routes are the application's own: a new one without a row here fails. What a row says is the
status for nobody, for the person whose things are named, for another person and for an
administrator. Revoked and expired credentials are worth nothing at all, in any of three forms.
"""

import io
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx_ws import WebSocketDisconnect

from app.auth.models import AccessToken, TokenKind
from app.auth.security import hash_token, make_token
from app.auth.service import Accounts
from app.database import new_id, now
from tests.support.pictures import jpeg
from tests.support.service import Person, http_client, new_person, open_stream

Body = Literal["json", "form", "files", "none"]


@dataclass(frozen=True)
class Row:
    """What a call sends, and what each caller is answered."""

    nobody: int
    owner: int
    other: int
    admin: int
    body: Any = None
    as_: Body = "none"


def public(status: int, body: Any = None, as_: Body = "none") -> Row:
    return Row(status, status, status, status, body, as_)


def personal(status: int, body: Any = None, as_: Body = "none") -> Row:
    """Everybody with an identity has their own."""
    return Row(401, status, status, status, body, as_)


def owned(status: int, body: Any = None) -> Row:
    """Another person's does not exist, for an administrator either."""
    return Row(401, status, 404, 404, body, "none" if body is None else "json")


_IMAGE = {"image": ("a.jpg", io.BytesIO(jpeg()).getvalue(), "image/jpeg")}

ROUTES: dict[tuple[str, str], Row] = {
    ("GET", "/openapi.json"): public(200),
    ("GET", "/"): public(200),
    ("GET", "/docs"): public(200),
    ("GET", "/page-settings"): public(200),
    ("MOUNT", "/static"): public(200),
    ("GET", "/health/live"): public(200),
    ("GET", "/health/ready"): public(200),
    ("GET", "/metrics"): public(200),
    ("GET", "/csrf"): public(200),
    ("POST", "/register"): public(422, {"email": "x"}, "json"),
    ("POST", "/token"): public(401, {"username": None, "password": "x"}, "form"),
    ("POST", "/login"): public(401, {"email": None, "password": "x"}, "form"),
    ("POST", "/logout"): personal(204),
    ("GET", "/me"): personal(200),
    # Let in, and then missing the password that they ask for on top.
    ("PATCH", "/me"): personal(422, {}, "json"),
    ("DELETE", "/me"): personal(422, {}, "json"),
    ("GET", "/me/tokens"): personal(200),
    ("DELETE", "/me/tokens/{token_id}"): owned(204),
    # With an API key, as all calls here: a key makes no keys.
    ("POST", "/me/api-keys"): personal(403, {"name": "x"}, "json"),
    ("POST", "/prediction"): personal(200, {"text": "computer"}, "json"),
    ("POST", "/predictions/batch"): personal(200, {"texts": ["computer"]}, "json"),
    ("POST", "/object-detection"): personal(200, _IMAGE, "files"),
    ("DELETE", "/cache"): Row(401, 403, 403, 204),
    ("GET", "/admin/users"): Row(401, 403, 403, 200),
    ("PATCH", "/admin/users/{user_id}"): Row(401, 403, 403, 200, {"is_active": False}, "json"),
    ("DELETE", "/admin/users/{user_id}"): Row(401, 403, 403, 204),
    ("GET", "/models"): personal(200),
    ("GET", "/models/{name:path}"): personal(200),
    ("GET", "/history"): personal(200),
    ("GET", "/history.csv"): personal(200),
    ("GET", "/history/summary"): personal(200),
    ("DELETE", "/history"): personal(204),
    ("GET", "/history/{id:uuid}"): owned(200),
    ("DELETE", "/history/{id:uuid}"): owned(204),
    ("GET", "/history/{id}/image"): owned(200),
    ("POST", "/history/{id}/feedback"): owned(409, {"label": "x"}),
    ("GET", "/history/{id}/feedback"): owned(200),
    ("PATCH", "/history/{id}/feedback"): owned(200, {"label": "y"}),
    ("DELETE", "/history/{id}/feedback"): owned(204),
    # The close code of the WebSocket; 0: it was not closed.
    ("WEBSOCKET", "/object-detection"): Row(1008, 0, 0, 0),
}


def list_routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every route of `app`; HEAD is answered where GET is."""
    found = set()
    for context in iter_route_contexts(app.routes):
        kind = type(context.original_route).__name__
        if "WebSocket" in kind or kind == "Mount":
            methods = {"MOUNT" if kind == "Mount" else "WEBSOCKET"}
        else:
            methods = getattr(context.original_route, "methods", set()) - {"HEAD"}
        found |= {(method, str(context.path)) for method in methods}
    return found


def test_every_route_has_its_row(app: FastAPI) -> None:
    assert list_routes(app) == set(ROUTES)


@dataclass
class Things:
    """What the owner has, which paths name."""

    user_id: str
    item_id: str
    picture_id: str
    token_id: str
    model: str

    def fill(self, path: str) -> str:
        filled = (
            path.replace("{user_id}", self.user_id)
            .replace("{id}/image", f"{self.picture_id}/image")
            .replace("{id}", self.item_id)
            .replace("{id:uuid}", self.item_id)
            .replace("{token_id}", self.token_id)
        )
        return filled.replace("{name:path}", self.model).replace("/static", "/static/index.html")


@pytest.fixture
async def owner(app: FastAPI) -> AsyncIterator[Person]:
    async with new_person(app) as owner:
        yield owner


@pytest.fixture
async def things(app: FastAPI, owner: Person) -> Things:
    answer = await owner.http.post("/prediction", json={"text": "computer"})
    item_id = answer.json()["id"]
    await owner.http.post(f"/history/{item_id}/feedback", json={"label": "x"})
    issued = await Accounts(app.state.authenticator).create_api_key(owner.user_id, "spare", None)
    detection = await owner.http.post("/object-detection", files=_IMAGE)
    return Things(
        user_id=str(owner.user_id),
        item_id=item_id,
        picture_id=detection.json()["id"],
        token_id=str(issued.row.id),
        model=answer.json()["model"],
    )


async def call(
    app: FastAPI, client: httpx.AsyncClient, route: tuple[str, str], things: Things
) -> int:
    """The status, or a stream's close code."""
    method, path = route
    if method == "WEBSOCKET":
        headers = {name: client.headers[name] for name in _CREDENTIALS if name in client.headers}
        return await connect(app, headers)
    row = ROUTES[route]
    body = row.body
    if row.as_ == "form":
        # Nobody's account, and each time another's: attempts are counted.
        body = {name: value or f"{new_id()}@example.com" for name, value in body.items()}
    content = {"json": "json", "form": "data", "files": "files", "none": None}[row.as_]
    options = {} if content is None else {content: body}
    verb = "GET" if method == "MOUNT" else method
    answer = await client.request(verb, things.fill(path), **options)
    return answer.status_code


_CREDENTIALS = ("authorization", "x-api-key", "cookie")


async def connect(app: FastAPI, headers: dict[str, str]) -> int:
    async with open_stream(app, headers=headers) as stream:
        await stream.send(jpeg())
        try:
            await stream.answer()
        except WebSocketDisconnect as closed:
            return closed.code
        return 0


_routes = pytest.mark.parametrize("route", ROUTES, ids=" ".join)


@_routes
class TestMatrix:
    async def test_nobody(self, app: FastAPI, things: Things, route: tuple[str, str]) -> None:
        async with http_client(app) as nobody:
            assert await call(app, nobody, route, things) == ROUTES[route].nobody

    async def test_owner(
        self, app: FastAPI, owner: Person, things: Things, route: tuple[str, str]
    ) -> None:
        assert await call(app, owner.http, route, things) == ROUTES[route].owner

    async def test_other(
        self, app: FastAPI, person: Person, things: Things, route: tuple[str, str]
    ) -> None:
        assert await call(app, person.http, route, things) == ROUTES[route].other

    async def test_administrator(
        self, app: FastAPI, admin: Person, things: Things, route: tuple[str, str]
    ) -> None:
        assert await call(app, admin.http, route, things) == ROUTES[route].admin

    async def test_worthless_credentials(
        self, app: FastAPI, owner: Person, things: Things, route: tuple[str, str]
    ) -> None:
        """Expired and revoked ones are those of nobody, even where anybody may come."""
        for kind in TokenKind:
            for spoil in (_revoke, _expire):
                issued = await _issue(app, owner.user_id, kind)
                await spoil(app, issued[1])
                async with http_client(app, headers=_headers(app, kind, issued[0])) as client:
                    status = await call(app, client, route, things)
                assert status == ROUTES[route].nobody, (kind, spoil)


async def _issue(app: FastAPI, user_id: uuid.UUID, kind: TokenKind) -> tuple[str, AccessToken]:
    """A valid token of the kind, as signing in would have made it."""
    token = make_token(kind)
    row = AccessToken(
        id=new_id(),
        user_id=user_id,
        kind=kind,
        name="test",
        token_hash=hash_token(token.encode()),
        created_at=now(),
        expires_at=now() + timedelta(hours=1),
    )
    async with app.state.database.sessions() as session, session.begin():
        session.add(row)
    return token, row


async def _revoke(app: FastAPI, row: AccessToken) -> None:
    await Accounts(app.state.authenticator).revoke(row.user_id, row.id)


async def _expire(app: FastAPI, row: AccessToken) -> None:
    async with app.state.database.sessions() as session, session.begin():
        (await session.get_one(AccessToken, row.id)).expires_at = now() - timedelta(seconds=1)


def _headers(app: FastAPI, kind: TokenKind, token: str) -> dict[str, str]:
    if kind is TokenKind.SESSION:
        cookie = f"{app.state.authenticator.session_cookie}={token}"
        return {"Cookie": cookie, "Origin": "http://lookout.test"}
    return {
        TokenKind.BEARER: {"Authorization": f"Bearer {token}"},
        TokenKind.API_KEY: {"X-API-Key": token},
    }[kind]
