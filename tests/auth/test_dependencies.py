import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocket

from app.auth.authenticator import Authenticator
from app.auth.dependencies import Caller, authenticate_stream
from app.auth.models import AccessToken
from app.auth.service import Accounts
from app.database import Database, now
from app.exceptions import ForbiddenError, TooManyRequestsError, UnauthorizedError
from tests.auth.conftest import Serve
from tests.auth.support import PASSWORD, Visitor


class TestTransports:
    async def test_each_is_known(self, ada: Visitor) -> None:
        key = await ada.api_key()
        answer = await ada.http.post("/inference", headers={"X-API-Key": key["key"]})
        assert answer.json()["transport"] == "api_key"
        answer = await ada.http.post("/inference", headers=await ada.bearer())
        assert answer.json()["transport"] == "bearer"
        await ada.login()
        answer = await ada.http.post("/inference", headers=await ada.csrf())
        assert answer.json() == {
            "transport": "cookie",
            "email": ada.email,
            "key": (await ada.http.get("/me")).json()["id"],
        }

    async def test_the_api_key_comes_before_the_token_before_the_cookie(
        self, ada: Visitor, bob: Visitor
    ) -> None:
        await ada.login()
        bearer = await bob.bearer()
        answer = await ada.http.post("/inference", headers=bearer)
        assert answer.json()["email"] == bob.email
        key = {"X-API-Key": (await ada.api_key())["key"]}
        answer = await ada.http.post("/inference", headers=bearer | key)
        assert answer.json()["email"] == ada.email
        assert answer.json()["transport"] == "api_key"

    async def test_an_invalid_first_does_not_fall_back_to_a_valid_second(
        self, ada: Visitor
    ) -> None:
        headers = await ada.bearer() | {"X-API-Key": "lkk_" + "x" * 43}
        assert (await ada.http.get("/me", headers=headers)).status_code == 401

    async def test_each_kind_travels_its_own_way_only(self, ada: Visitor) -> None:
        await ada.login()
        session = ada.http.cookies["lookout_session"]
        key, token = (await ada.api_key())["key"], await ada.token()
        ada.http.cookies.clear()
        for headers in (
            {"Authorization": f"Bearer {key}"},
            {"Authorization": f"Bearer {session}"},
            {"X-API-Key": token},
            {"X-API-Key": session},
            {"Cookie": f"lookout_session={token}"},
        ):
            assert (await ada.http.get("/me", headers=headers)).status_code == 401
        answer = await ada.http.get("/me", headers={"Authorization": f"Bearer {key}"})
        assert answer.json()["detail"] == "An API key belongs in the X-API-Key header."

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer lko_" + "x" * 43},
            {"Authorization": b"Bearer \xff\xfe"},
            {"Authorization": "Token abc"},
            {"X-API-Key": ""},
            {"X-API-Key": "lkk_" + "x" * 43},
            {"Cookie": "lookout_session=lks_" + "x" * 43},
        ],
        ids=str,
    )
    async def test_an_invalid_credential_is_401_never_anonymous(
        self, serve: Serve, headers: dict[str, Any]
    ) -> None:
        async with serve(anonymous_inference=True) as app, Visitor(app) as visitor:
            answer = await visitor.http.post("/inference", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["code"] in ("invalid_token", "invalid_session")

    async def test_basic_of_a_proxy_in_front_is_passed_over(self, ada: Visitor) -> None:
        await ada.login()
        answer = await ada.http.get("/me", headers={"Authorization": "Basic YTpi"})
        assert answer.status_code == 200

    async def test_an_expired_token_is_401_and_not_listed(
        self, ada: Visitor, database: Database, authenticator: Authenticator
    ) -> None:
        headers = await ada.bearer()
        key = await ada.api_key(expires_at=(now() + timedelta(hours=1)).isoformat())
        with_key = {"X-API-Key": key["key"]}
        assert (await ada.http.get("/me", headers=with_key)).status_code == 200
        async with database.sessions.begin() as session:
            row = await session.get_one(AccessToken, uuid.UUID(key["id"]))
            row.expires_at = now() - timedelta(seconds=1)
            authenticator.tokens.forget([row.token_hash])
        assert (await ada.http.get("/me", headers=with_key)).status_code == 401
        listed = (await ada.http.get("/me/tokens", headers=headers)).json()
        assert key["id"] not in {token["id"] for token in listed}


class TestCsrf:
    async def test_a_call_by_cookie_needs_the_sessions_own_token(
        self, ada: Visitor, bob: Visitor
    ) -> None:
        await bob.login()
        others = await bob.csrf()
        before = await ada.csrf()
        await ada.login()
        right = await ada.csrf()
        forged = {"X-CSRF-Token": right["X-CSRF-Token"][:-1] + "\xff"}

        async def post(headers: dict[str, str], cookie: str) -> httpx.Response:
            ada.http.cookies.delete("lookout_csrf")
            ada.http.cookies.set("lookout_csrf", cookie, domain="lookout.test", path="/")
            encoded = {k.encode(): v.encode("latin-1") for k, v in headers.items()}
            return await ada.http.post("/inference", headers=encoded)

        cookie = right["X-CSRF-Token"]
        for headers, in_cookie in (
            ({}, cookie),
            ({"X-CSRF-Token": ""}, ""),
            ({"X-CSRF-Token": "x.y"}, "x.y"),
            ({"X-CSRF-Token": "x"}, "x"),
            (forged, cookie),
            (before, before["X-CSRF-Token"]),
            (others, others["X-CSRF-Token"]),
            (right, others["X-CSRF-Token"]),
        ):
            answer = await post(headers, in_cookie)
            assert answer.status_code == 403, (headers, in_cookie)
            assert answer.json()["code"] == "csrf_failed"
        assert (await post(right, cookie)).status_code == 200

    async def test_another_session_of_the_same_person_has_another(self, ada: Visitor) -> None:
        await ada.login()
        first = await ada.csrf()
        await ada.login()
        assert (await ada.http.post("/inference", headers=first)).status_code == 403
        assert (await ada.http.post("/inference", headers=await ada.csrf())).status_code == 200

    async def test_reading_needs_none(self, ada: Visitor) -> None:
        await ada.login()
        assert (await ada.http.get("/me")).status_code == 200

    async def test_a_bearer_token_beside_the_cookie_needs_none(self, ada: Visitor) -> None:
        await ada.login()
        answer = await ada.http.post("/inference", headers=await ada.bearer())
        assert answer.status_code == 200

    async def test_scripts_can_read_the_cookie(self, ada: Visitor) -> None:
        answer = await ada.http.get("/csrf")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"lookout_csrf={answer.json()['csrf_token']};")
        assert "HttpOnly" not in cookie
        assert answer.headers["Cache-Control"] == "no-store"


class TestAdmin:
    async def test_only_administrators(
        self, ada: Visitor, accounts: Accounts, client: httpx.AsyncClient
    ) -> None:
        headers = await ada.bearer()
        assert (await client.get("/admin")).status_code == 401
        answer = await ada.http.get("/admin", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["code"] == "admin_required"
        await accounts.promote(ada.email.upper())
        assert (await ada.http.get("/admin", headers=headers)).json() == ada.email


class TestAnonymous:
    async def test_is_401_by_default(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/inference")
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"

    async def test_is_served_within_the_limit_of_its_address(self, serve: Serve) -> None:
        options = {"anonymous_inference": True, "anonymous_requests_per_minute": 2}
        async with serve(**options) as app, Visitor(app) as visitor:
            for _ in range(2):
                answer = await visitor.http.post("/inference")
                assert answer.status_code == 200
                assert answer.json() == {
                    "key": "address:203.0.113.7",
                    "email": None,
                    "transport": "anonymous",
                }
            answer = await visitor.http.post("/inference")
            assert answer.status_code == 429
            assert answer.json()["code"] == "too_many_requests"
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
            assert (await visitor.http.get("/me")).status_code == 401
            other = httpx.ASGITransport(app=app, client=("203.0.113.8", 1))
            async with httpx.AsyncClient(transport=other, base_url="http://lookout.test") as http:
                assert (await http.post("/inference")).status_code == 200
            # Who has an account is not held to it.
            await visitor.register()
            headers = await visitor.bearer()
            assert (await visitor.http.post("/inference", headers=headers)).status_code == 200


def make_websocket(app: FastAPI, headers: dict[str, str] | None = None, **query: str) -> WebSocket:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read before the caller is known")

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent before the caller is known")

    encoded = {"host": "lookout.test"} | (headers or {})
    scope = {
        "type": "websocket",
        "app": app,
        "path": "/object-detection",
        "query_string": urlencode(query).encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in encoded.items()],
        "client": ("2001:db8::1", 1234),
    }
    return WebSocket(scope, receive, send)


class TestStream:
    @pytest.fixture
    async def session_cookie(self, ada: Visitor) -> dict[str, str]:
        await ada.login()
        return {"Cookie": f"lookout_session={ada.http.cookies['lookout_session']}"}

    async def test_takes_headers_and_the_query(self, app: FastAPI, ada: Visitor) -> None:
        key, token = (await ada.api_key())["key"], await ada.token()
        foreign = {"Origin": "https://elsewhere.example"}
        callers: list[tuple[Caller, str]] = [
            (await authenticate_stream(make_websocket(app, {"X-API-Key": key})), "api_key"),
            (
                await authenticate_stream(
                    make_websocket(app, {"Authorization": f"Bearer {token}"})
                ),
                "bearer",
            ),
            (await authenticate_stream(make_websocket(app, token=token)), "query"),
            (await authenticate_stream(make_websocket(app, foreign, token=key)), "query"),
        ]
        for caller, transport in callers:
            assert caller.email == ada.email
            assert caller.transport == transport
            assert caller.address == "2001:db8::1"

    @pytest.mark.parametrize("origin", ["http://lookout.test", "https://LOOKOUT.test"])
    async def test_takes_the_cookie_from_its_own_pages(
        self, app: FastAPI, session_cookie: dict[str, str], origin: str
    ) -> None:
        caller = await authenticate_stream(make_websocket(app, session_cookie | {"Origin": origin}))
        assert caller.transport == "cookie"

    @pytest.mark.parametrize(
        "origin",
        [
            {},
            {"Origin": "null"},
            {"Origin": "https://evil.example"},
            {"Origin": "https://lookout.test.evil.example"},
            {"Origin": "http://lookout.test:8080"},
        ],
        ids=str,
    )
    async def test_refuses_the_cookie_from_elsewhere(
        self, app: FastAPI, session_cookie: dict[str, str], origin: dict[str, str]
    ) -> None:
        with pytest.raises(ForbiddenError):
            await authenticate_stream(make_websocket(app, session_cookie | origin))

    async def test_takes_the_cookie_from_an_allowed_origin(self, serve: Serve) -> None:
        origin = "https://app.example.com"
        async with serve(allowed_origins=origin) as app, Visitor(app) as visitor:
            await visitor.register()
            await visitor.login()
            cookie = f"lookout_session={visitor.http.cookies['lookout_session']}"
            websocket = make_websocket(app, {"Cookie": cookie, "Origin": origin})
            assert (await authenticate_stream(websocket)).email == visitor.email

    async def test_refuses_who_shows_nothing_valid(self, app: FastAPI, ada: Visitor) -> None:
        await ada.login()
        for websocket in (
            make_websocket(app),
            make_websocket(app, token=""),
            make_websocket(app, token="lko_" + "x" * 43),
            make_websocket(
                app, token="\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")
            ),
            make_websocket(app, token=ada.http.cookies["lookout_session"]),
            make_websocket(app, {"X-API-Key": "wrong"}, token=await ada.token()),
        ):
            with pytest.raises(UnauthorizedError):
                await authenticate_stream(websocket)

    async def test_serves_the_anonymous_where_allowed(self, serve: Serve) -> None:
        options = {"anonymous_inference": True, "anonymous_requests_per_minute": 1}
        async with serve(**options) as app:
            with pytest.raises(UnauthorizedError):
                await authenticate_stream(make_websocket(app, token="wrong"))
            with pytest.raises(ForbiddenError):
                await authenticate_stream(make_websocket(app, {"Origin": "https://evil.example"}))
            caller = await authenticate_stream(
                make_websocket(app, {"Origin": "http://lookout.test"})
            )
            assert caller.is_anonymous
            assert caller.key == "address:2001:db8::/64"
            with pytest.raises(TooManyRequestsError):
                await authenticate_stream(make_websocket(app))


class TestOpenApi:
    def operations(self, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                yield f"{method} {path}", operation

    async def test_each_protected_operation_shows_three_ways_in(
        self, client: httpx.AsyncClient
    ) -> None:
        document = (await client.get("/openapi.json")).json()
        schemes = document["components"]["securitySchemes"]
        assert schemes["OAuth2PasswordBearer"]["flows"]["password"]["tokenUrl"] == "token"
        assert schemes["APIKeyHeader"]["name"] == "X-API-Key"
        assert schemes["APIKeyCookie"]["in"] == "cookie"
        assert len(schemes) == 3
        ways: list[dict[str, list[str]]] = [
            {"OAuth2PasswordBearer": []},
            {"APIKeyHeader": []},
            {"APIKeyCookie": []},
        ]
        opened = {"post /register", "post /token", "post /login", "get /csrf"}
        for name, operation in self.operations(document):
            assert operation.get("security") == (None if name in opened else ways), name

    async def test_each_operation_is_described(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        accounts = [it for it in self.operations(document) if it[1].get("tags") == ["Accounts"]]
        assert len(accounts) == 11
        for name, operation in accounts:
            assert operation["summary"], name
            assert operation["description"], name
            if "security" in operation:
                assert "401" in operation["responses"], name

    async def test_is_made_once(self, app: FastAPI) -> None:
        assert app.openapi() is app.openapi()


async def test_a_validation_error_does_not_repeat_the_password(client: httpx.AsyncClient) -> None:
    body = {"email": "no address", "password": PASSWORD, "unknown": 1}
    answer = await client.post("/register", json=body)
    assert answer.status_code == 422
    assert PASSWORD not in answer.text
    content = '{"email": NaN, "password": NaN, "\\ud800": 1}'
    headers = {"Content-Type": "application/json"}
    assert (await client.post("/register", content=content, headers=headers)).status_code == 422
