"""Health tells the truth, and names what fails; the metrics are for whom they are meant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import app.monitoring.endpoints as endpoints
from app.config import Settings
from app.database import Database
from app.exception_handlers import add_exception_handlers
from app.history.recorder import HistoryRecorder
from app.inference.base import ModelState
from app.inference.engine import InferenceEngine
from app.middlewares import RequestIDMiddleware
from tests.support.engines import call, serving
from tests.support.models import EchoModel, Item
from tests.support.service import http_client
from tests.support.waiting import until


@asynccontextmanager
async def service(database_url: str, engine: InferenceEngine, **options: Any) -> AsyncIterator[Any]:
    """The monitoring door of a service of these parts, with the parts and an HTTP client."""
    app = FastAPI()
    app.include_router(endpoints.router)
    add_exception_handlers(app)
    app.add_middleware(RequestIDMiddleware)
    database = Database(database_url)
    recorder = HistoryRecorder(database)
    await recorder.start()
    app.state.settings = Settings(_env_file=None, database_url=database_url, **options)
    app.state.database, app.state.engine, app.state.recorder = database, engine, recorder
    app.state.publisher = None
    async with http_client(app) as client:
        yield SimpleNamespace(app=app, http=client, recorder=recorder)
    await recorder.close(1)
    await database.close()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'lookout.db'}"


async def problem_of(client: httpx.AsyncClient) -> str:
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    body = answer.json()
    assert body["code"] == "not_ready"
    assert body["request_id"] == answer.headers["x-request-id"]
    detail: str = body["detail"]
    return detail


class TestHealth:
    async def test_the_real_service_is_live_and_ready(self, visitor: httpx.AsyncClient) -> None:
        live, ready = await visitor.get("/health/live"), await visitor.get("/health/ready")
        assert (live.status_code, live.json()) == (200, {"status": "ok"})
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})

    async def test_a_database_that_refuses_is_named(self) -> None:
        url = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"
        async with serving(EchoModel()) as engine, service(url, engine) as it:
            assert await problem_of(it.http) == "database: does not answer"

    async def test_a_database_that_hangs_is_named_in_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(endpoints, "_DATABASE_TIMEOUT_S", 0.05)
        connected = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            await reader.read()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"postgresql+asyncpg://nobody@127.0.0.1:{port}/nothing?ssl=disable"
            async with serving(EchoModel()) as engine, service(url, engine) as it:
                assert await problem_of(it.http) == "database: does not answer within 0.05 s"
                assert connected.is_set()

    async def test_a_model_whose_thread_died_is_named(self, database_url: str) -> None:
        model = EchoModel()
        async with serving(model) as engine, service(database_url, engine) as it:
            handle = engine.get("echo")
            handle.batcher.restart_pause_s = 1000.0
            with pytest.raises(Exception, match="loaded again"):
                await handle.predict(Item(1, kills=True), call())
            await until(lambda: handle.state is ModelState.FAILED)
            assert await problem_of(it.http) == "model:echo: is failed"

    async def test_a_full_queue_is_named(self, database_url: str) -> None:
        model = EchoModel(budget=1)
        async with serving(model, queue_size=2) as engine, service(database_url, engine) as it:
            model.gate.shut()
            handle = engine.get("echo")
            waiting = [asyncio.create_task(handle.predict(Item(0), call()))]
            await model.gate.has_visitor()
            waiting += [asyncio.create_task(handle.predict(Item(i), call())) for i in (1, 2)]
            await until(lambda: handle.is_saturated)
            assert await problem_of(it.http) == "queue:echo: is full"
            model.gate.open()
            await asyncio.gather(*waiting)
            assert (await it.http.get("/health/ready")).status_code == 200

    async def test_every_part_that_fails_is_named(self) -> None:
        url = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"
        async with serving(EchoModel()) as engine, service(url, engine) as it:
            await it.recorder.close(1)
            await engine.stop(1)
            assert await problem_of(it.http) == (
                "database: does not answer; model:echo: is stopped; history: is closed"
            )

    async def test_a_service_that_starts_is_live_and_not_ready(self, database_url: str) -> None:
        async with serving(EchoModel()) as engine, service(database_url, engine) as it:
            del it.app.state.publisher
            assert await problem_of(it.http) == "service: is starting"
            assert (await it.http.get("/health/live")).status_code == 200


class TestMetricsDoor:
    async def test_is_open_unless_a_token_is_set(self, visitor: httpx.AsyncClient) -> None:
        answer = await visitor.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "lookout_workers 1.0" in answer.text

    @pytest.mark.parametrize(
        "authorization", [None, "Bearer wrong", "Bearer ", "s3same", "Basic s3same", "Bearer é"]
    )
    async def test_a_token_keeps_others_out(
        self, database_url: str, authorization: str | None
    ) -> None:
        async with (
            serving(EchoModel()) as engine,
            service(database_url, engine, metrics_token="s3same") as it,
        ):
            headers = [] if authorization is None else [("Authorization", authorization.encode())]
            answer = await it.http.get("/metrics", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            allowed = await it.http.get("/metrics", headers={"Authorization": "Bearer s3same"})
            assert allowed.status_code == 200

    async def test_a_port_of_their_own_closes_this_one(self, database_url: str) -> None:
        async with (
            serving(EchoModel()) as engine,
            service(database_url, engine, metrics_port=9100) as it,
        ):
            assert (await it.http.get("/metrics")).status_code == 404
