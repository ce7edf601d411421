"""Signing up has a limit for each address, shared through Redis where there is one."""

import httpx
import pytest
from fastapi import FastAPI

from app.database import new_id
from tests.auth.conftest import Serve
from tests.auth.support import PASSWORD
from tests.support.redis_server import redis_server


async def register(app: FastAPI, address: str, email: str | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    body = {"email": email or f"{new_id()}@example.com", "password": PASSWORD}
    async with httpx.AsyncClient(transport=transport, base_url="http://lookout.test") as client:
        return await client.post("/register", json=body)


async def test_an_address_signs_up_so_often_a_minute(serve: Serve) -> None:
    async with serve(registrations_per_minute=3) as app:
        email = f"{new_id()}@example.com"
        statuses = [(await register(app, "192.0.2.1", email)).status_code for _ in range(3)]
        # What is refused for its email counts as well.
        assert statuses == [201, 400, 400]
        answer = await register(app, "192.0.2.1")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(answer.headers["Retry-After"]) <= 20
        assert (await register(app, "192.0.2.2")).status_code == 201


async def test_an_ipv6_network_is_one_address(serve: Serve) -> None:
    async with serve(registrations_per_minute=1) as app:
        assert (await register(app, "2001:db8::1")).status_code == 201
        assert (await register(app, "2001:db8::2")).status_code == 429
        assert (await register(app, "2001:db8:0:1::1")).status_code == 201


async def test_what_is_invalid_or_closed_does_not_count(serve: Serve) -> None:
    async with serve(registrations_per_minute=1) as app:
        for _ in range(3):
            assert (await register(app, "192.0.2.1", "no email")).status_code == 422
        assert (await register(app, "192.0.2.1")).status_code == 201
    async with serve(registrations_per_minute=1, registration_open=False) as app:
        for _ in range(3):
            assert (await register(app, "192.0.2.1")).status_code == 403


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True, scope="session")
async def test_processes_count_together_through_redis(serve: Serve) -> None:
    with redis_server() as redis:
        options = {"registrations_per_minute": 2, "redis_url": redis.url}
        async with serve(**options) as one, serve(**options) as other:
            assert (await register(one, "192.0.2.1")).status_code == 201
            assert (await register(other, "192.0.2.1")).status_code == 201
            assert (await register(one, "192.0.2.1")).status_code == 429
            answer = await register(other, "192.0.2.1")
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) >= 1
