"""Connections over a limit are told so at the door, by a real server on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from app.config import Settings
from app.connections import ConnectionLimits, LimitedProtocol
from app.serve import uvicorn_options
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE_S, until

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@dataclass(frozen=True, slots=True)
class Site:
    port: int
    limits: ConnectionLimits
    connections: set[Any]

    async def open(self, address: str = "127.0.0.1") -> "Client":
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        return Client(reader, writer)


@dataclass(frozen=True, slots=True)
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> bytes:
        """Send a request, and read the head and body of one answer."""
        self.writer.write(REQUEST)
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head + await self.reader.readexactly(size)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read() == b""


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Site]:
    settings = Settings(_env_file=None, **options)
    config = uvicorn_options(settings)
    app = Starlette(routes=[Route("/", hello), WebSocketRoute("/stream", echo)])
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", **config)
    )
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    limits = config["http"].keywords["limits"]
    try:
        yield Site(port, limits, server.server_state.connections)
    finally:
        server.should_exit = server.force_exit = True
        await task


def assert_refused(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"retry-after: 1" in head
    assert b"connection: close" in head
    content = json.loads(body)
    assert content["code"] == "too_many_connections"
    assert content["detail"]


async def test_a_process_carries_so_many_and_the_next_when_one_has_gone() -> None:
    async with serving(max_connections=3) as site:
        clients = [await site.open() for _ in range(3)]
        # Also those that say nothing count.
        await until(lambda: len(site.connections) == 3)
        refused = await site.open()
        assert_refused(await refused.ask(), 503)
        assert await refused.is_closed()
        assert (await clients[0].ask()).endswith(b"hello")
        clients[0].writer.close()
        await until(lambda: len(site.connections) == 2)
        clients[0] = await site.open()
        assert (await clients[0].ask()).endswith(b"hello")
        for client in (*clients, refused):
            client.writer.close()


async def test_an_address_has_so_many_whatever_others_have() -> None:
    async with serving(max_connections_per_address=2) as site:
        mine = [await site.open("127.0.0.2") for _ in range(2)]
        for client in mine:
            assert (await client.ask()).endswith(b"hello")
        refused = await site.open("127.0.0.2")
        assert_refused(await refused.ask(), 429)
        other = await site.open("127.0.0.3")
        assert (await other.ask()).endswith(b"hello")
        for client in (*mine, other, refused):
            client.writer.close()
        # Nothing is remembered of who has gone.
        await until(lambda: not site.limits.by_address and not site.limits.refused)


async def test_a_proxy_has_no_limit_by_address() -> None:
    async with serving(max_connections_per_address=1, trusted_proxies=["127.0.0.4/31"]) as site:
        clients = [await site.open("127.0.0.5") for _ in range(5)]
        for client in clients:
            assert (await client.ask()).endswith(b"hello")
            client.writer.close()


async def test_a_stream_counts_for_the_process_alone() -> None:
    async with serving(max_connections=2, max_connections_per_address=1) as site:
        url = f"ws://127.0.0.1:{site.port}/stream"
        async with connect(url) as first:
            await first.send("a")
            assert await first.recv() == "a"
            async with connect(url) as second:
                await second.send("b")
                assert await second.recv() == "b"
                refused = await site.open()
                assert_refused(await refused.ask(), 503)
                refused.writer.close()
        await until(lambda: not site.connections)
        client = await site.open()
        assert (await client.ask()).endswith(b"hello")
        client.writer.close()


async def test_a_flood_of_refused_ones_is_bounded_too() -> None:
    async with serving(max_connections=1) as site:
        client = await site.open()
        await until(lambda: len(site.connections) == 1)
        first = await site.open()
        await until(lambda: site.limits.refused == 1)
        # One reads already why: this one is told nothing.
        second = await site.open()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await second.ask()
        assert_refused(await first.ask(), 503)
        for one in (client, first, second):
            one.writer.close()


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.1.2.3", None),
        (None, None),
    ],
)
def test_who_counts_as_one(address: str | None, key: str | None) -> None:
    limits = ConnectionLimits(10, 10, ["10.0.0.0/8"])
    assert limits.find_key(address) == key
    assert ConnectionLimits(10, 10, ["*"]).find_key(address) is None
    assert ConnectionLimits(10, None).find_key(address) is None


def test_the_settings_reach_the_server() -> None:
    settings = Settings(_env_file=None, max_connections=7, max_connections_per_address=3)
    http = uvicorn_options(settings)["http"]
    assert http.func is LimitedProtocol
    limits = http.keywords["limits"]
    assert (limits.total, limits.per_address) == (7, 3)
