"""How a server in this process ends; tests/faults has the signals to real ones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app import shutdown
from app.config import Settings
from app.detection.stream import StreamRegistry
from app.serve import uvicorn_options
from app.shutdown import GracefulServer
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE_S, until

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


@asynccontextmanager
async def serving(**options: float) -> AsyncIterator[tuple[GracefulServer, int]]:
    settings = Settings(_env_file=None, **options)  # type: ignore[arg-type]
    app = Starlette(routes=[Route("/", hello)])
    app.state.settings = settings
    app.state.streams = StreamRegistry(max_streams=1, max_per_caller=1)
    port = free_port()
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, lifespan="off", **uvicorn_options(settings)
    )
    server = GracefulServer(config, app)
    # Without the signals, which are this process's.
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    yield server, port
    server.should_exit = True
    async with asyncio.timeout(PATIENCE_S):
        await task


class Client:
    """A connection that stays open until the server closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self) -> bytes:
        """The head of an answer whose body is `hello`."""
        self.writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            assert await self.reader.readexactly(5) == b"hello"
        return head

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read() == b""


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def until_refused(port: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                client = await connect(port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                # Between two moments: it had been taken into the queue of a closing socket.
                continue
            client.writer.close()
            await asyncio.sleep(0.01)


async def test_a_request_that_was_on_its_way_when_the_door_closed_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As long as this test is patient: what counts is the order.
    monkeypatch.setattr(shutdown, "_LINGER_S", PATIENCE_S)
    async with serving() as (server, port):
        used, new = await connect(port), await connect(port)
        assert b"connection: close" not in await used.ask()
        await until(lambda: len(server.server_state.connections) == 2)
        server.should_exit = True
        await until_refused(port)
        for client in (used, new):
            assert b"connection: close" in await client.ask()
            assert await client.is_closed()
            client.writer.close()


async def test_nobody_is_waited_for_who_has_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_LINGER_S", 0.2)
    async with serving() as (server, port):
        idle = await connect(port)
        await until(lambda: len(server.server_state.connections) == 1)
        server.should_exit = True
        assert await idle.is_closed()
        idle.writer.close()


async def test_while_it_is_still_serving_new_connections_are_answered_and_closed() -> None:
    async with serving(shutdown_delay_s=5) as (server, port):
        kept = await connect(port)
        await kept.ask()
        server.should_exit = True
        await until(lambda: getattr(server.server_state, "is_ending", False))
        for client in (kept, await connect(port), await connect(port)):
            assert b"connection: close" in await client.ask()
            assert await client.is_closed()
            client.writer.close()
