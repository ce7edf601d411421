import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.auth.models import AccessToken, User
from app.database import Database
from app.history.models import Feedback, Prediction, Stream
from tests.auth.conftest import Serve
from tests.auth.support import PASSWORD, Visitor, sha256


def error_code(answer: httpx.Response) -> str:
    body = answer.json()
    assert set(body) == {"detail", "code", "request_id"}
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return str(body["code"])


class TestRegister:
    async def test_opens_an_account(self, client: httpx.AsyncClient) -> None:
        email = f"{uuid.uuid4().hex}@example.com"
        answer = await client.post("/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201
        body = answer.json()
        assert set(body) == {"id", "email", "created_at"}
        assert body["email"] == email
        assert body["created_at"].endswith("Z")

    async def test_a_taken_email_in_other_letters_is_refused(
        self, client: httpx.AsyncClient, ada: Visitor
    ) -> None:
        answer = await client.post(
            "/register", json={"email": ada.email.upper(), "password": PASSWORD}
        )
        assert answer.status_code == 400
        assert answer.json()["detail"] == "Email already exists"
        assert error_code(answer) == "email_already_exists"

    async def test_twice_at_once_is_one_account(self, client: httpx.AsyncClient) -> None:
        body = {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD}
        answers = await asyncio.gather(*(client.post("/register", json=body) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 400, 400, 400, 400]

    @pytest.mark.parametrize(
        "change",
        [
            {"email": "nobody"},
            {"email": "Ada <ada@example.com>"},
            {"email": "a\x00b@example.com"},
            {"email": "a" * 300 + "@example.com"},
            {"password": "1234567"},
            {"password": "x" * 1025},
            {"unknown": 1},
        ],
        ids=str,
    )
    async def test_invalid_content_is_422(
        self, client: httpx.AsyncClient, change: dict[str, object]
    ) -> None:
        body = {"email": f"{uuid.uuid4().hex}@example.com", "password": PASSWORD, **change}
        assert (await client.post("/register", json=body)).status_code == 422

    async def test_a_lone_surrogate_is_422(self, client: httpx.AsyncClient) -> None:
        content = '{"email": "surrogate@example.com", "password": "\\ud800\\ud800345678"}'
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/register", content=content, headers=headers)
        assert answer.status_code == 422

    async def test_the_longest_password_works(self, app: FastAPI) -> None:
        async with Visitor(app) as visitor:
            visitor.password = "\N{SNAKE}" * 1024
            await visitor.register()
            await visitor.token()

    async def test_closed_registration_is_403(self, serve: Serve) -> None:
        async with serve(registration_open=False) as app, Visitor(app) as visitor:
            answer = await visitor.http.post(
                "/register", json={"email": visitor.email, "password": PASSWORD}
            )
        assert answer.status_code == 403
        assert error_code(answer) == "registration_closed"


class TestToken:
    async def test_answers_a_token_that_works(self, ada: Visitor) -> None:
        answer = await ada.http.post(
            "/token", data={"username": ada.email.upper(), "password": PASSWORD}
        )
        assert answer.status_code == 200
        body = answer.json()
        assert body["token_type"] == "bearer"
        assert body["expires_in"] == 86_400
        assert body["access_token"].startswith("lko_")
        assert answer.headers["Cache-Control"] == "no-store"
        me = await ada.http.get("/me", headers={"Authorization": f"Bearer {body['access_token']}"})
        assert me.json()["email"] == ada.email

    async def test_an_unknown_email_and_a_wrong_password_are_told_alike(self, ada: Visitor) -> None:
        answers = [
            await ada.http.post("/token", data={"username": username, "password": password})
            for username, password in [
                (ada.email, "wrong password"),
                (f"{uuid.uuid4().hex}@example.com", PASSWORD),
                ("no address at all\x00", PASSWORD),
                (ada.email, "x" * 100_000),
            ]
        ]
        assert {answer.status_code for answer in answers} == {401}
        assert {answer.headers["WWW-Authenticate"] for answer in answers} == {"Bearer"}
        assert {(answer.json()["detail"], error_code(answer)) for answer in answers} == {
            ("Email or password is wrong.", "wrong_credentials")
        }

    async def test_an_empty_form_is_422(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/token", data={})).status_code == 422


class TestLogin:
    async def test_sets_a_cookie_that_scripts_cannot_read(self, ada: Visitor) -> None:
        answer = await ada.login()
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("lookout_session=lks_")
        for attribute in ("HttpOnly", "Path=/", "SameSite=lax", "Max-Age=1209600"):
            assert attribute in cookie
        assert "Secure" not in cookie
        assert (await ada.http.get("/me")).json()["email"] == ada.email

    async def test_the_cookie_of_production_is_bound_to_host_and_tls(self, serve: Serve) -> None:
        async with (
            serve(environment="production", secret_key="Q3m-7vYtB0x_Zk9LwPd2RfUeHs5JcNaG") as app,
            Visitor(app, base_url="https://lookout.test") as visitor,
        ):
            await visitor.register()
            cookie = (await visitor.login()).headers["set-cookie"]
            assert cookie.startswith("__Host-lookout_session=lks_")
            assert "Secure" in cookie
            assert "Domain" not in cookie
            headers = await visitor.csrf()
            assert "__Host-lookout_csrf" in visitor.http.cookies
            assert (await visitor.http.post("/logout", headers=headers)).status_code == 204
            assert not visitor.http.cookies

    async def test_a_wrong_password_is_401_and_sets_nothing(self, ada: Visitor) -> None:
        answer = await ada.http.post("/login", data={"email": ada.email, "password": "wrong"})
        assert answer.status_code == 401
        assert error_code(answer) == "wrong_credentials"
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://[bad"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
        ids=str,
    )
    async def test_another_sites_page_is_403(self, ada: Visitor, headers: dict[str, str]) -> None:
        answer = await ada.http.post(
            "/login", data={"email": ada.email, "password": PASSWORD}, headers=headers
        )
        assert answer.status_code == 403
        assert error_code(answer) == "cross_origin"

    @pytest.mark.parametrize("origin", ["http://lookout.test", "https://app.example.com"])
    async def test_its_own_and_an_allowed_page_may(self, serve: Serve, origin: str) -> None:
        async with serve(allowed_origins="https://app.example.com") as app, Visitor(app) as visitor:
            await visitor.register()
            visitor.http.headers["Origin"] = origin
            visitor.http.headers["Sec-Fetch-Site"] = "same-origin"
            await visitor.login()


class TestLogout:
    async def test_ends_the_session_at_once(self, ada: Visitor) -> None:
        await ada.login()
        stolen = ada.http.cookies["lookout_session"]
        assert (await ada.http.get("/me")).status_code == 200
        answer = await ada.http.post("/logout", headers=await ada.csrf())
        assert answer.status_code == 204
        assert not ada.http.cookies
        ada.http.cookies.set("lookout_session", stolen, domain="lookout.test", path="/")
        answer = await ada.http.get("/me")
        assert answer.status_code == 401
        assert error_code(answer) == "invalid_session"
        # The dead cookie is taken off the browser.
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert not ada.http.cookies

    async def test_ends_the_bearer_token_at_once(self, ada: Visitor) -> None:
        headers = await ada.bearer()
        other = await ada.bearer()
        assert (await ada.http.get("/me", headers=headers)).status_code == 200
        assert (await ada.http.post("/logout", headers=headers)).status_code == 204
        answer = await ada.http.get("/me", headers=headers)
        assert answer.status_code == 401
        assert error_code(answer) == "invalid_token"
        assert (await ada.http.get("/me", headers=other)).status_code == 200

    async def test_needs_an_identity(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/logout")
        assert answer.status_code == 401
        assert error_code(answer) == "unauthorized"


class TestMe:
    async def test_reads_the_account(self, ada: Visitor) -> None:
        answer = await ada.http.get("/me", headers=await ada.bearer())
        assert answer.status_code == 200
        assert set(answer.json()) == {"id", "email", "created_at", "is_admin"}
        assert answer.json()["is_admin"] is False

    async def test_nobody_is_401(self, client: httpx.AsyncClient) -> None:
        for method in ("GET", "PATCH", "DELETE"):
            answer = await client.request(method, "/me", json={})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    async def test_a_new_password_ends_other_sessions_but_not_api_keys(self, ada: Visitor) -> None:
        other, mine = await ada.bearer(), await ada.bearer()
        key = {"X-API-Key": (await ada.api_key())["key"]}
        await ada.login()
        for headers in (other, mine, key, {}):
            assert (await ada.http.get("/me", headers=headers)).status_code == 200
        body = {"current_password": PASSWORD, "new_password": "another good password"}
        assert (await ada.http.patch("/me", json=body, headers=mine)).status_code == 200
        for headers, status in ((other, 401), ({}, 401), (mine, 200), (key, 200)):
            assert (await ada.http.get("/me", headers=headers)).status_code == status
        old = {"username": ada.email, "password": PASSWORD}
        assert (await ada.http.post("/token", data=old)).status_code == 401
        ada.password = "another good password"
        await ada.token()

    async def test_a_new_email_is_seen_at_once(self, ada: Visitor) -> None:
        headers = await ada.bearer()
        await ada.http.get("/me", headers=headers)
        email = f"New.{uuid.uuid4().hex}@Example.com"
        body = {"current_password": PASSWORD, "email": email}
        answer = await ada.http.patch("/me", json=body, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["email"] == email.lower()
        assert (await ada.http.post("/inference", headers=headers)).json()["email"] == email.lower()
        ada.email = email
        await ada.token()

    async def test_a_taken_email_is_400(self, ada: Visitor, bob: Visitor) -> None:
        headers = await ada.bearer()
        body = {"current_password": PASSWORD, "email": bob.email}
        answer = await ada.http.patch("/me", json=body, headers=headers)
        assert answer.status_code == 400
        assert error_code(answer) == "email_already_exists"
        assert (await ada.http.get("/me", headers=headers)).json()["email"] == ada.email

    @pytest.mark.parametrize("method", ["PATCH", "DELETE"])
    async def test_a_wrong_password_is_403(self, ada: Visitor, method: str) -> None:
        headers = await ada.bearer()
        body = {"current_password": "wrong"}
        if method == "PATCH":
            body["new_password"] = "another good password"
        answer = await ada.http.request(method, "/me", json=body, headers=headers)
        assert answer.status_code == 403
        assert error_code(answer) == "wrong_password"
        await ada.token()

    @pytest.mark.parametrize(
        "body",
        [
            {"current_password": PASSWORD},
            {"email": "a@example.com"},
            {"current_password": PASSWORD, "new_password": "short"},
            {"current_password": PASSWORD, "email": "no address"},
        ],
        ids=str,
    )
    async def test_an_invalid_change_is_422(self, ada: Visitor, body: dict[str, str]) -> None:
        answer = await ada.http.patch("/me", json=body, headers=await ada.bearer())
        assert answer.status_code == 422

    async def test_deleting_the_account_deletes_all_it_owns(
        self, ada: Visitor, bob: Visitor, database: Database
    ) -> None:
        ids = {}
        for visitor in (ada, bob):
            me = await visitor.http.get("/me", headers=await visitor.bearer())
            ids[visitor] = uuid.UUID(me.json()["id"])
            async with database.sessions.begin() as session:
                prediction = make_prediction(ids[visitor])
                session.add(prediction)
                await session.flush()
                session.add(Feedback(prediction_id=prediction.id, label="cat"))
                session.add(make_stream(ids[visitor]))
        headers = await ada.bearer()
        assert (await ada.http.get("/me", headers=headers)).status_code == 200

        body = {"current_password": PASSWORD}
        answer = await ada.http.request("DELETE", "/me", json=body, headers=headers)

        assert answer.status_code == 204
        assert (await ada.http.get("/me", headers=headers)).status_code == 401
        assert await count_rows(database, ids[ada]) == [0, 0, 0, 0, 0]
        assert await count_rows(database, ids[bob]) == [1, 1, 1, 1, 1]
        data = {"username": ada.email, "password": PASSWORD}
        assert (await ada.http.post("/token", data=data)).status_code == 401
        await ada.register()

    async def test_deleting_by_cookie_takes_the_cookies_off(self, ada: Visitor) -> None:
        await ada.login()
        body = {"current_password": PASSWORD}
        answer = await ada.http.request("DELETE", "/me", json=body, headers=await ada.csrf())
        assert answer.status_code == 204
        assert not ada.http.cookies


class TestTokens:
    async def test_lists_what_is_valid_newest_first(self, ada: Visitor) -> None:
        ada.http.headers["User-Agent"] = "Firefox/140 " + "x" * 200
        headers = await ada.bearer()
        await ada.login()
        expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        key = await ada.api_key(name="Label printer", expires_at=expires_at)
        answer = await ada.http.get("/me/tokens", headers=headers)
        assert answer.status_code == 200
        tokens = answer.json()
        # The helper that makes the key signs in for it.
        assert [token["kind"] for token in tokens] == ["api_key", "bearer", "session", "bearer"]
        assert [token["current"] for token in tokens] == [False, False, False, True]
        assert tokens[0]["id"] == key["id"]
        assert tokens[0]["name"] == "Label printer"
        assert tokens[1]["name"] == ("Firefox/140 " + "x" * 200)[:100]
        assert all(set(token) == set(tokens[0]) for token in tokens)
        assert not {"token", "key", "token_hash"} & set(tokens[0])

    async def test_revokes_one(self, ada: Visitor) -> None:
        key = await ada.api_key()
        with_key = {"X-API-Key": key["key"]}
        assert (await ada.http.get("/me", headers=with_key)).status_code == 200
        headers = await ada.bearer()
        answer = await ada.http.delete(f"/me/tokens/{key['id']}", headers=headers)
        assert answer.status_code == 204
        assert (await ada.http.get("/me", headers=with_key)).status_code == 401
        answer = await ada.http.delete(f"/me/tokens/{key['id']}", headers=headers)
        assert answer.status_code == 404
        assert error_code(answer) == "token_not_found"

    async def test_another_persons_token_is_404(self, ada: Visitor, bob: Visitor) -> None:
        key = await ada.api_key()
        answer = await bob.http.delete(f"/me/tokens/{key['id']}", headers=await bob.bearer())
        assert answer.status_code == 404
        answer = await ada.http.get("/me", headers={"X-API-Key": key["key"]})
        assert answer.status_code == 200
        tokens = await bob.http.get("/me/tokens", headers=await bob.bearer())
        assert key["id"] not in {token["id"] for token in tokens.json()}

    async def test_no_id_is_422_and_nobody_401(
        self, ada: Visitor, client: httpx.AsyncClient
    ) -> None:
        answer = await ada.http.delete("/me/tokens/1", headers=await ada.bearer())
        assert answer.status_code == 422
        assert (await client.get("/me/tokens")).status_code == 401
        assert (await client.delete(f"/me/tokens/{uuid.uuid4()}")).status_code == 401


class TestApiKeys:
    async def test_is_answered_once_and_stored_hashed(
        self, ada: Visitor, database: Database
    ) -> None:
        key = await ada.api_key()
        assert set(key) == {"id", "name", "key", "created_at", "expires_at"}
        assert key["key"].startswith("lkk_")
        assert key["expires_at"] is None
        async with database.sessions() as session:
            row = await session.get_one(AccessToken, uuid.UUID(key["id"]))
            assert row.token_hash == sha256(key["key"])
            for column in AccessToken.__table__.columns:
                assert key["key"] not in str(getattr(row, column.name))

    async def test_a_key_makes_no_keys(self, ada: Visitor) -> None:
        headers = {"X-API-Key": (await ada.api_key())["key"]}
        answer = await ada.http.post("/me/api-keys", json={"name": "more"}, headers=headers)
        assert answer.status_code == 403
        assert error_code(answer) == "api_key_not_accepted"

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": " "},
            {"name": "x" * 101},
            {"name": "a\x00b"},
            {"name": "a", "expires_at": "2020-01-01T00:00:00Z"},
            {"name": "a", "expires_at": "2099-01-01T00:00:00"},
            {"name": "a", "expires_at": "9999-12-31T23:59:59-14:00"},
        ],
        ids=str,
    )
    async def test_invalid_content_is_422(self, ada: Visitor, body: dict[str, str]) -> None:
        answer = await ada.http.post("/me/api-keys", json=body, headers=await ada.bearer())
        assert answer.status_code == 422

    async def test_nobody_is_401(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/me/api-keys", json={"name": "a"})).status_code == 401


def make_prediction(user_id: uuid.UUID) -> Prediction:
    return Prediction(
        user_id=user_id,
        kind="text",
        model="newsgroups",
        model_version="1",
        input_text="x",
        result={},
        labels="\ncat\n",
        latency_ms=1.0,
    )


def make_stream(user_id: uuid.UUID) -> Stream:
    return Stream(
        user_id=user_id,
        model="yolos-digits",
        model_version="1",
        duration_s=1.0,
        frames_received=1,
        frames_processed=1,
        frames_dropped=0,
        frames_failed=0,
        label_counts={},
        labels="\n",
        close_code=1000,
    )


async def count_rows(database: Database, user_id: uuid.UUID) -> list[int]:
    """Rows of the person in each table; tokens count as one or none."""
    async with database.sessions() as session:
        counts = [
            await session.scalar(select(func.count()).where(User.id == user_id)),
            await session.scalar(select(func.count()).where(AccessToken.user_id == user_id)),
            await session.scalar(select(func.count()).where(Prediction.user_id == user_id)),
            await session.scalar(select(func.count()).where(Stream.user_id == user_id)),
            await session.scalar(
                select(func.count())
                .select_from(Feedback)
                .join(Prediction, Feedback.prediction_id == Prediction.id)
                .where(Prediction.user_id == user_id)
            ),
        ]
    return [min(count or 0, 1) for count in counts]
