"""The model's thread dies, and the wall clock jumps, under the real application."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI

from app.auth import authenticator, service, token_cache
from app.auth.models import TokenKind
from app.auth.security import hash_token
from app.auth.service import Accounts
from app.database import now as real_now
from app.inference.base import ModelState
from tests.support.service import Person, http_client
from tests.support.waiting import until

pytestmark = pytest.mark.faults

on_sqlite = pytest.mark.parametrize("live_app", ["sqlite"], indirect=True, scope="session")


@on_sqlite
async def test_a_model_whose_thread_dies_is_loaded_again(
    app: FastAPI, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = app.state.text_classifier.handle
    restarts = handle.batcher.stats.restarts

    def die(_batch: Sequence[Any]) -> list[Any]:
        raise SystemExit("the thread dies")

    with monkeypatch.context() as patch:
        patch.setattr(handle.model, "predict", die)
        answer = await person.http.post("/prediction", json={"text": "a text of its own 1"})
        assert answer.status_code == 503
        assert answer.json()["code"] == "model_unavailable"
        assert "retry-after" in answer.headers
        if handle.state is not ModelState.READY:
            answer = await person.http.get("/health/ready")
            assert answer.status_code == 503
            assert handle.name in answer.json()["detail"]
    await until(lambda: handle.state is ModelState.READY)
    assert handle.batcher.stats.restarts == restarts + 1
    answer = await person.http.post("/prediction", json={"text": "a text of its own 2"})
    assert answer.status_code == 200
    # What failed left no record.
    assert [item["input"]["text"] for item in await person.history()] == ["a text of its own 2"]


@on_sqlite
async def test_a_model_that_raises_fails_only_its_own_call(
    app: FastAPI, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = app.state.text_classifier.handle

    def fail(_batch: Sequence[Any]) -> list[Any]:
        raise MemoryError("no memory for this one")

    with monkeypatch.context() as patch:
        patch.setattr(handle.model, "predict", fail)
        answer = await person.http.post("/prediction", json={"text": "a text of its own 3"})
        assert answer.status_code == 500
        assert answer.json()["code"] == "model_failed"
    answer = await person.http.post("/prediction", json={"text": "a text of its own 3"})
    assert answer.status_code == 200


class WallClock:
    """The wall clock of what tells the validity of tokens, moved by `offset`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = timedelta(0)
        real_time = time.time
        for module in (authenticator, service, token_cache):
            monkeypatch.setattr(module, "now", self._now)
        monkeypatch.setattr(time, "time", lambda: real_time() + self.offset.total_seconds())

    def _now(self) -> datetime:
        return real_now() + self.offset


@on_sqlite
@pytest.mark.parametrize("jump", [timedelta(days=-365), timedelta(minutes=30), timedelta(days=365)])
async def test_a_clock_that_jumps_only_moves_what_expires(
    app: FastAPI, person: Person, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    clock = WallClock(monkeypatch)
    password = "a password for the clock"
    email = f"{person.user_id.hex}@lookout-faults.org"
    accounts = Accounts(app.state.authenticator)
    await accounts.create(email, password)
    issued = await accounts.sign_in(email, password, TokenKind.BEARER, "test")
    async with http_client(app, headers={"Authorization": f"Bearer {issued.token}"}) as client:
        assert (await client.get("/me")).status_code == 200
        clock.offset = jump
        # As if a second had passed, after which a token is looked up again.
        app.state.authenticator.tokens.forget([hash_token(issued.token.encode())])
        # A bearer token lives a day: only the jump beyond that ends it.
        is_expired = jump > timedelta(days=1)
        assert (await client.get("/me")).status_code == (401 if is_expired else 200)
        # Deadlines, queues, limits and caches go by the monotonic clock: an API key that never
        # expires is served as ever, and who signs in gets a token that works.
        answer = await person.http.post("/prediction", json={"text": f"a text at {jump}"})
        assert answer.status_code == 200
        again = await accounts.sign_in(email, password, TokenKind.BEARER, "test")
        answer = await client.get("/me", headers={"Authorization": f"Bearer {again.token}"})
        assert answer.status_code == 200
        assert (await person.http.get("/health/ready")).status_code == 200
