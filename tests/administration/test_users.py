"""Administrators and other people's accounts, on both databases."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from app.administration.service import Administration
from app.auth.dependencies import AdminRequiredError
from app.auth.models import AccessToken, TokenKind, User
from app.auth.service import Accounts
from app.database import new_id, now
from app.history.models import Prediction
from tests.support.pictures import jpeg
from tests.support.service import Person, http_client, new_person, open_stream

PASSWORD = "correct horse battery staple"


async def read_users(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    """The accounts of all pages, in order."""
    users: list[dict[str, Any]] = []
    while True:
        answer = await client.get("/admin/users", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        users += page["items"]
        if page["next_cursor"] is None:
            return users
        query["cursor"] = page["next_cursor"]


async def read_user(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    email = (await person.http.get("/me")).json()["email"]
    (user,) = await read_users(client, q=email)
    return user


async def change(admin: Person, person: Person, **changes: bool) -> dict[str, Any]:
    answer = await admin.http.patch(f"/admin/users/{person.user_id}", json=changes)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def add_users(app: FastAPI, *emails: str) -> list[uuid.UUID]:
    ids = []
    for email in emails:
        async with app.state.database.sessions() as session, session.begin():
            user = User(email=email, password_hash="none")
            session.add(user)
        ids.append(user.id)
    return ids


class TestList:
    async def test_an_account_is_told_with_its_use(self, admin: Person, person: Person) -> None:
        for text in ("computer", "cipher"):
            await person.http.post("/prediction", json={"text": text})
        await person.http.post("/object-detection", files={"image": ("a.jpg", jpeg())})
        me = (await person.http.get("/me")).json()
        user = await read_user(admin.http, person)
        # Written in the background, so it may be there already.
        user.pop("last_seen_at")
        assert user == {
            "id": str(person.user_id),
            "email": me["email"],
            "created_at": me["created_at"],
            "is_admin": False,
            "is_active": True,
            "disabled_at": None,
            "records": 3,
        }

    async def test_the_last_use_of_a_token_is_the_last_time_seen(
        self, app: FastAPI, admin: Person
    ) -> None:
        email = f"{new_id()}@example.com"
        (user_id,) = await add_users(app, email)
        (user,) = await read_users(admin.http, q=email)
        assert user["last_seen_at"] is None
        moments = [now() - timedelta(days=days) for days in (5, 3, 4)]
        async with app.state.database.sessions() as session, session.begin():
            for moment in (*moments, None):
                session.add(
                    AccessToken(
                        user_id=user_id,
                        kind=TokenKind.API_KEY,
                        name="test",
                        token_hash=new_id().bytes * 2,
                        created_at=now(),
                        last_used_at=moment,
                    )
                )
        (user,) = await read_users(admin.http, q=email)
        told = moments[1].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert user["last_seen_at"] == told

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    async def test_pages_hold_every_account_once_newest_first(
        self, app: FastAPI, admin: Person, limit: int
    ) -> None:
        mark = uuid.uuid4().hex
        ids = await add_users(app, *(f"{number}.{mark}@example.com" for number in range(5)))
        found = await read_users(admin.http, q=mark, limit=limit)
        assert [user["id"] for user in found] == [str(each) for each in reversed(ids)]

    async def test_what_is_searched_for_is_taken_as_it_is(
        self, app: FastAPI, admin: Person
    ) -> None:
        mark = uuid.uuid4().hex
        await add_users(app, f"a_b.{mark}@example.com", f"axb.{mark}@example.com")
        for words, number in (
            (f"a_b.{mark}", 1),
            (f"A_B.{mark.upper()}@Example", 1),
            (f"  a_b.{mark}  ", 1),
            (f"%.{mark}", 0),
            (f"b.{mark}", 2),
        ):
            assert len(await read_users(admin.http, q=words)) == number, words

    @pytest.mark.parametrize(
        "query",
        [{"q": ""}, {"q": "nul\x00"}, {"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"p": 1}],
    )
    async def test_a_query_that_makes_no_sense_is_422(
        self, admin: Person, query: dict[str, Any]
    ) -> None:
        answer = await admin.http.get("/admin/users", params=query)
        assert answer.status_code == 422


class TestDisabling:
    async def test_it_ends_every_way_in_at_once(self, app: FastAPI, admin: Person) -> None:
        accounts = Accounts(app.state.authenticator)
        email = f"{new_id()}@example.com"
        user = await accounts.create(email, PASSWORD)
        key = await accounts.create_api_key(user.id, "test", None)
        bearer = await accounts.sign_in(email, PASSWORD, TokenKind.BEARER, "test")
        session = await accounts.sign_in(email, PASSWORD, TokenKind.SESSION, "test")
        ways = [
            {"X-API-Key": key.token},
            {"Authorization": f"Bearer {bearer.token}"},
            {"Cookie": f"{app.state.authenticator.session_cookie}={session.token}"},
        ]
        path = f"/admin/users/{user.id}"
        async with http_client(app) as client:
            for headers in ways:
                assert (await client.get("/me", headers=headers)).status_code == 200
            answer = await admin.http.patch(path, json={"is_active": False})
            assert answer.json()["is_active"] is False
            assert answer.json()["disabled_at"] is not None
            for headers in ways:
                assert (await client.get("/me", headers=headers)).status_code == 401
            form = {"username": email, "password": PASSWORD}
            answer = await client.post("/token", data=form)
            assert (answer.status_code, answer.json()["code"]) == (403, "account_disabled")
            # Whether the account is disabled is told to who knows its password.
            answer = await client.post("/token", data={**form, "password": "wrong"})
            assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")

            answer = await admin.http.patch(path, json={"is_active": True})
            assert (answer.json()["is_active"], answer.json()["disabled_at"]) == (True, None)
            statuses = [(await client.get("/me", headers=way)).status_code for way in ways]
            # Keys are in programs; sessions and bearer tokens are made by signing in again.
            assert statuses == [200, 401, 401]
            assert (await client.post("/token", data=form)).status_code == 200

    async def test_it_closes_open_streams(
        self, app: FastAPI, admin: Person, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.detection.stream._IDENTITY_CHECK_EVERY_S", 0)
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            await stream.send(jpeg())
            await stream.answer()
            await change(admin, person, is_active=False)
            await stream.send(jpeg())
            assert (await stream.closing()).code == 1008

    async def test_twice_is_once(self, admin: Person, person: Person) -> None:
        first = await change(admin, person, is_active=False)
        assert await change(admin, person, is_active=False) == first

    async def test_history_and_rights_stay(self, admin: Person, person: Person) -> None:
        await person.http.post("/prediction", json={"text": "computer"})
        await change(admin, person, is_admin=True)
        await change(admin, person, is_active=False)
        user = await change(admin, person, is_active=True)
        assert (user["records"], user["is_admin"]) == (1, True)
        assert len(await person.history()) == 1

    async def test_a_disabled_administrator_is_none(self, admin: Person, app: FastAPI) -> None:
        async with new_person(app, is_admin=True) as other:
            await change(admin, other, is_active=False)
            answer = await other.http.get("/admin/users")
            assert answer.status_code == 401


class TestRights:
    async def test_they_are_granted_and_withdrawn_at_once(
        self, admin: Person, person: Person
    ) -> None:
        assert (await person.http.get("/admin/users")).status_code == 403
        assert (await change(admin, person, is_admin=True))["is_admin"]
        assert (await person.http.get("/admin/users")).status_code == 200
        assert not (await change(admin, person, is_admin=False))["is_admin"]
        answer = await person.http.get("/admin/users")
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_required")

    async def test_nobody_changes_their_own_account(self, admin: Person) -> None:
        path = f"/admin/users/{admin.user_id}"
        for answer in (
            await admin.http.patch(path, json={"is_admin": False}),
            await admin.http.patch(path, json={"is_active": False}),
            await admin.http.delete(path),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
        assert (await admin.http.get("/admin/users")).status_code == 200

    async def test_two_who_withdraw_each_others_rights_leave_one(self, app: FastAPI) -> None:
        administration = Administration(app.state.authenticator)
        for _ in range(5):
            async with new_person(app, is_admin=True) as one, new_person(app, is_admin=True) as two:
                outcomes = await asyncio.gather(
                    administration.change(one.user_id, two.user_id, is_admin=False),
                    administration.change(two.user_id, one.user_id, is_admin=False),
                    return_exceptions=True,
                )
                refused = [each for each in outcomes if isinstance(each, AdminRequiredError)]
                assert len(refused) == 1, outcomes
                statuses = [
                    (await each.http.get("/admin/users")).status_code for each in (one, two)
                ]
                assert sorted(statuses) == [200, 403]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"is_admin": "yes"},
            {"is_active": None},
            {"is_active": 1},
            {"email": "x@example.com"},
        ],
    )
    async def test_a_change_that_makes_no_sense_is_422(
        self, admin: Person, person: Person, body: dict[str, Any]
    ) -> None:
        answer = await admin.http.patch(f"/admin/users/{person.user_id}", json=body)
        assert answer.status_code == 422

    async def test_a_cookie_needs_its_csrf_token(
        self, app: FastAPI, admin: Person, person: Person
    ) -> None:
        accounts = Accounts(app.state.authenticator)
        email = f"{new_id()}@example.com"
        await accounts.create(email, PASSWORD, is_admin=True)
        path = f"/admin/users/{person.user_id}"
        async with http_client(app) as client:
            form = {"email": email, "password": PASSWORD}
            assert (await client.post("/login", data=form)).status_code == 204
            assert (await client.get("/admin/users")).status_code == 200
            for method, body in (("PATCH", {"is_active": False}), ("DELETE", None)):
                answer = await client.request(method, path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
            token = (await client.get("/csrf")).json()["csrf_token"]
            headers = {"X-CSRF-Token": token}
            answer = await client.patch(path, json={"is_active": False}, headers=headers)
            assert answer.status_code == 200


class TestDeletion:
    async def test_an_account_goes_with_all_it_owns(
        self, app: FastAPI, admin: Person, person: Person
    ) -> None:
        await person.http.post("/prediction", json={"text": "computer"})
        path = f"/admin/users/{person.user_id}"
        assert (await admin.http.delete(path)).status_code == 204
        assert (await person.http.get("/me")).status_code == 401
        async with app.state.database.sessions() as session:
            for table in (Prediction, AccessToken):
                count = select(func.count()).where(table.user_id == person.user_id)
                assert await session.scalar(count) == 0
        for answer in (
            await admin.http.delete(path),
            await admin.http.patch(path, json={"is_admin": True}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
