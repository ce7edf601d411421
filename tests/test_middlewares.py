"""Hosts, proxies and bodies, as the outermost layers of the application see them."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message
from starlette.websockets import WebSocket
from uvicorn import Config

from app.auth.dependencies import get_address
from app.config import Settings
from app.exception_handlers import add_exception_handlers
from app.middlewares import AllowedHostMiddleware, BodyLimitMiddleware, RequestIDMiddleware
from app.serve import uvicorn_options


def make_app() -> FastAPI:
    app = FastAPI()
    add_exception_handlers(app)

    @app.get("/")
    @app.get("/health/live")
    async def show(request: Request) -> dict[str, str]:
        return {"address": get_address(request.scope), "scheme": request.url.scheme}

    @app.post("/")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.websocket("/")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    return app


class TestHosts:
    @pytest.fixture
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        app = make_app()
        app.add_middleware(
            AllowedHostMiddleware, hosts=["Lookout.example.com", "*.example.org", "[::1]"]
        )
        app.add_middleware(RequestIDMiddleware)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lookout") as client:
            yield client

    @pytest.mark.parametrize(
        "host",
        [
            "lookout.example.com",
            "LOOKOUT.example.com:8000",
            "a.example.org",
            "a.b.example.org:1",
            "[::1]:80",
        ],
    )
    async def test_allowed(self, client: httpx.AsyncClient, host: str) -> None:
        assert (await client.get("/", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "example.com",
            "evil.example",
            "example.org",
            "xexample.org",
            "lookout.example.com.evil.example",
            "[::2]",
        ],
    )
    async def test_refused(self, client: httpx.AsyncClient, host: str) -> None:
        answer = await client.get("/", headers={"Host": host})
        assert answer.status_code == 400
        assert answer.json()["code"] == "unknown_host"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]

    async def test_two_at_once_are_refused(self, client: httpx.AsyncClient) -> None:
        headers = [("Host", "lookout.example.com"), ("Host", "evil.example")]
        assert (await client.get("/", headers=headers)).status_code == 400

    async def test_probes_ask_by_address(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health/live", headers={"Host": "10.1.2.3:8000"})
        assert answer.status_code == 200

    async def test_a_stream_is_refused_before_it_is_accepted(self) -> None:
        app = AllowedHostMiddleware(make_app(), hosts=["lookout.example.com"])
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"evil.example")]}
        await app(scope, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]


class TestProxies:
    @staticmethod
    async def ask(*trusted: str) -> dict[str, str]:
        settings = Settings(_env_file=None, trusted_proxies=list(trusted))
        config = Config(make_app(), **{**uvicorn_options(settings), "loop": "none"})
        config.load()
        transport = httpx.ASGITransport(app=config.loaded_app, client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://lookout") as client:
            headers = {"X-Forwarded-For": "198.51.100.7, 203.0.113.5", "X-Forwarded-Proto": "https"}
            answer: dict[str, str] = (await client.get("/", headers=headers)).json()
            return answer

    @pytest.mark.parametrize("trusted", [[], ["127.0.0.1"], ["10.0.0.8"]])
    async def test_a_stranger_is_not_believed(self, trusted: list[str]) -> None:
        assert await self.ask(*trusted) == {"address": "10.0.0.9", "scheme": "http"}

    @pytest.mark.parametrize("trusted", ["10.0.0.9", "10.0.0.0/8"])
    async def test_a_named_one_is_and_no_further(self, trusted: str) -> None:
        # The client wrote the first address itself; the proxy added the last.
        assert await self.ask(trusted) == {"address": "203.0.113.5", "scheme": "https"}


class TestBodies:
    @pytest.fixture
    def app(self) -> FastAPI:
        app = make_app()
        app.add_middleware(BodyLimitMiddleware, default=1000, limits={}, timeout_s=0.05)
        app.add_middleware(RequestIDMiddleware)
        return app

    @staticmethod
    async def post(app: FastAPI, parts: list[bytes], pause: asyncio.Event | None) -> httpx.Response:
        async def content() -> AsyncIterator[bytes]:
            for part in parts:
                yield part
            if pause is not None:
                await pause.wait()

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lookout") as client:
            return await client.post("/", content=content())

    async def test_one_that_never_ends_is_refused(self, app: FastAPI) -> None:
        answer = await self.post(app, [b"a", b"b"], asyncio.Event())
        assert answer.status_code == 408
        assert answer.json()["code"] == "request_timeout"
        assert answer.headers["connection"] == "close"

    async def test_one_in_parts_is_read_to_its_end(self, app: FastAPI) -> None:
        answer = await self.post(app, [b"a"] * 1000, None)
        assert answer.json() == 1000

    async def test_one_that_grows_over_the_limit_is_refused(self, app: FastAPI) -> None:
        answer = await self.post(app, [b"a"] * 1001, None)
        assert answer.status_code == 413
