"""Wrong passwords: counted by account and address, with growing delays, in memory and Redis."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.auth.counters import Counters, MemoryCounters, RedisLimits, SharedCounters
from app.auth.service import WrongCredentialsError
from app.auth.sign_in_limit import SignInLimit, TooManySignInsError
from tests.auth.conftest import Serve
from tests.auth.support import Clock, Visitor
from tests.support.redis_server import RedisServer, redis_server


async def fail(limit: SignInLimit, email: str = "a@example.com", address: str = "192.0.2.1") -> int:
    """A wrong password: 0, or the seconds to wait when it was not even looked at."""
    try:
        async with limit.attempt(email, address):
            raise WrongCredentialsError
    except WrongCredentialsError:
        return 0
    except TooManySignInsError as error:
        return int(error.headers["Retry-After"])


async def succeed(limit: SignInLimit, email: str = "a@example.com") -> None:
    async with limit.attempt(email, "192.0.2.1"):
        pass


def make_limit(clock: Clock, *, account: int = 3, address: int = 1000) -> SignInLimit:
    return SignInLimit(
        MemoryCounters(clock=clock), free_per_account=account, free_per_address=address
    )


async def test_each_failure_after_the_free_ones_costs_twice_the_wait() -> None:
    clock = Clock()
    limit = make_limit(clock)
    assert [await fail(limit) for _ in range(4)] == [0, 0, 0, 1]
    waits = []
    for _ in range(14):
        wait = await fail(limit)
        waits.append(wait)
        # A refused attempt counts for nothing, and a moment too early is too early.
        clock.present += wait - 0.5
        assert await fail(limit) == 1
        clock.present += 0.5
        assert await fail(limit) == 0
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


async def test_a_success_forgets_the_accounts_failures() -> None:
    limit = make_limit(Clock())
    for _ in range(5):
        assert [await fail(limit) for _ in range(2)] == [0, 0]
        await succeed(limit)


async def test_the_right_password_waits_as_well() -> None:
    limit = make_limit(Clock())
    for _ in range(3):
        await fail(limit)
    with pytest.raises(TooManySignInsError):
        await succeed(limit)


async def test_an_address_that_tries_many_accounts_has_to_wait() -> None:
    clock = Clock()
    limit = make_limit(clock, address=10)
    assert [await fail(limit, f"{n}@example.com") for n in range(11)] == [0] * 10 + [1]
    assert await fail(limit, "11@example.com", "192.0.2.2") == 0
    # Its own successes do not help who guesses.
    clock.present += 1
    await succeed(limit, "mine@example.com")
    assert [await fail(limit, f"{n}@example.com") for n in (12, 13)] == [0, 2]
    clock.present += 3600
    assert await fail(limit, "14@example.com") == 0


async def test_guesses_at_once_do_not_slip_through() -> None:
    limit = make_limit(Clock())
    outcomes = await asyncio.gather(*(fail(limit) for _ in range(50)))
    assert outcomes.count(0) == 3


async def test_the_spelling_of_an_account_makes_no_difference() -> None:
    limit = make_limit(Clock())
    spellings = ["a@example.com", "A@EXAMPLE.com", " a@example.com"]
    assert [await fail(limit, spelling) for spelling in spellings] == [0, 0, 0]
    assert await fail(limit) == 1


async def test_what_is_remembered_is_bounded() -> None:
    counters = MemoryCounters(capacity=10, clock=Clock())
    for number in range(100):
        await counters.increment(str(number), 60)
    assert len(counters) == 10
    assert await counters.increment("99", 60) == 2


class TestRedis:
    @pytest.fixture
    async def server(self) -> AsyncIterator[RedisServer]:
        with redis_server() as server:
            yield server

    @staticmethod
    def share(server: RedisServer, clock: Clock) -> tuple[RedisLimits, Counters]:
        redis = RedisLimits(server.url, clock=clock)
        return redis, SharedCounters(redis, MemoryCounters(clock=clock))

    async def test_two_processes_count_together(self, server: RedisServer) -> None:
        redis, counters = self.share(server, Clock())
        other_redis, other_counters = self.share(server, Clock())
        limit = SignInLimit(counters, free_per_account=3, free_per_address=100)
        other = SignInLimit(other_counters, free_per_account=3, free_per_address=100)
        assert [await fail(limit), await fail(other), await fail(limit)] == [0, 0, 0]
        assert await fail(other) == 1
        await redis.close()
        await other_redis.close()

    async def test_goes_on_alone_while_redis_is_away(self, server: RedisServer) -> None:
        clock = Clock()
        redis, counters = self.share(server, clock)
        limit = SignInLimit(counters, free_per_account=3, free_per_address=100)
        assert await fail(limit) == 0
        server.kill()
        assert [await fail(limit) for _ in range(4)] == [0, 0, 0, 1]
        server.start()
        # Redis has forgotten, and is asked again after the pause.
        clock.present += 60
        assert [await fail(limit) for _ in range(4)] == [0, 0, 0, 1]
        await redis.close()


class TestEndpoints:
    @pytest.fixture
    async def app(self, serve: Serve) -> AsyncIterator[FastAPI]:
        async with serve(sign_in_attempts=2) as app:
            yield app

    @staticmethod
    async def guess(http: httpx.AsyncClient, email: str) -> httpx.Response:
        return await http.post("/token", data={"username": email, "password": "wrong"})

    async def test_known_and_unknown_accounts_are_answered_alike(self, ada: Visitor) -> None:
        answers = [
            [await self.guess(ada.http, email) for _ in range(3)]
            for email in (ada.email, "nobody@example.com", "no address")
        ]
        for known, unknown, malformed in zip(*answers, strict=True):
            assert known.status_code == unknown.status_code == malformed.status_code
            assert known.json()["detail"] == unknown.json()["detail"] == malformed.json()["detail"]
        refused = answers[0][-1]
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["code"] == "too_many_sign_ins"
        # The right password too: else the answer would tell that it is right.
        right = await ada.http.post("/login", data={"email": ada.email, "password": ada.password})
        assert right.status_code == 429

    async def test_a_stolen_session_does_not_find_out_the_password(self, ada: Visitor) -> None:
        headers = await ada.bearer()
        body = {"current_password": "wrong", "new_password": "another long password"}
        statuses = [
            (await ada.http.patch("/me", json=body, headers=headers)).status_code for _ in range(3)
        ]
        assert statuses == [403, 403, 429]
        answer = await ada.http.request(
            "DELETE", "/me", json={"current_password": ada.password}, headers=headers
        )
        assert answer.status_code == 429

    async def test_one_account_does_not_keep_another_out(self, ada: Visitor, bob: Visitor) -> None:
        for _ in range(3):
            await self.guess(bob.http, ada.email)
        await bob.login()


class TestRequestLimit:
    @pytest.mark.parametrize("with_redis", [False, True])
    async def test_an_account_has_its_requests_a_minute(
        self, serve: Serve, with_redis: bool
    ) -> None:
        with redis_server() as server:
            options = {"redis_url": server.url} if with_redis else {}
            async with (
                serve(requests_per_minute=3, **options) as app,
                Visitor(app) as ada,
                Visitor(app) as bob,
            ):
                await ada.register()
                await bob.register()
                headers = await ada.bearer()
                key = (await ada.api_key())["key"]
                calls = [headers, {"X-API-Key": key}, headers, headers]
                answers = [await ada.http.post("/inference", headers=it) for it in calls]
                assert [it.status_code for it in answers] == [200, 200, 200, 429]
                assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
                # What is no request to a model is not counted.
                assert (await ada.http.get("/me", headers=headers)).status_code == 200
                answer = await bob.http.post("/inference", headers=await bob.bearer())
                assert answer.status_code == 200
                server.kill()
                answer = await bob.http.post("/inference", headers=await bob.bearer())
                assert answer.status_code == 200
