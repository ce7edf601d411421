"""What the server writes on a connection, write by write, and how it bounds what it reads."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app import http_protocol
from app.http_protocol import (
    LAST_LOOK_S,
    MAX_HEAD_BYTES,
    STARTS_PER_TURN,
    LookoutHttpProtocol,
    StartQueue,
)
from app.scope_keys import PRESENCE, SHEDDER
from tests.support.waiting import until

GET = b"GET /%b HTTP/1.1\r\nHost: lookout\r\n\r\n"


LEFT: list[bytes] = []
"""Paths whose clients were seen to leave."""


class RecordingTransport(asyncio.Transport):
    """Keeps each write as it came; closing ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False
        self.protocol: asyncio.BaseProtocol | None = None
        self.socket: socket.socket | None = None

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.socket if name == "socket" else super().get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written after the end"
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Connection:
    """A client's end of a connection to the protocol."""

    def __init__(self, shedder: "ByPath | None" = None, starts: StartQueue | None = None) -> None:
        self.transport = RecordingTransport()
        config = uvicorn.Config(answer, log_config=None, access_log=False, ws="auto")
        config.load()
        server_state = ServerState()
        server_state.default_headers = [(b"date", b"today")]
        state = {} if shedder is None else {SHEDDER: shedder}
        self.protocol = LookoutHttpProtocol(config, server_state, state, starts=starts)
        self.transport.set_protocol(self.protocol)
        self.protocol.connection_made(self.transport)

    def end(self) -> None:
        """Leave, as a client that closes the connection."""
        self.transport.closed = True
        protocol = self.transport.protocol or self.protocol
        assert isinstance(protocol, asyncio.Protocol)
        protocol.connection_lost(None)

    async def get(self, path: str, writes: int = 1) -> list[bytes]:
        """What is written in answer to a GET, once there are `writes` of it."""
        return await self.send(GET % path.encode(), writes)

    async def send(self, data: bytes, writes: int = 1) -> list[bytes]:
        before = len(self.transport.writes)
        self.protocol.data_received(data)
        await until(lambda: len(self.transport.writes) >= before + writes)
        return self.transport.writes[before:]


class ByPath:
    """Refuses requests by their path."""

    is_active = True

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)

    def refuse(self, scope: Scope) -> bytes | None:
        if scope["path"] not in self.refused:
            return None
        return b"retry-after: 1\r\ncontent-length: 2\r\n\r\nno"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An application with an answer of each kind."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/stay":
            await receive()
        return
    request = Request(scope, receive)
    responses: dict[str, Callable[[], Response]] = {
        "/text": lambda: PlainTextResponse("found"),
        "/nothing": lambda: Response(status_code=204),
        "/stream": lambda: StreamingResponse(parts()),
        "/head-like": lambda: PlainTextResponse("HTTP/1.1 200 OK\r\n\r\n"),
    }
    if scope["path"] == "/wait":
        left = asyncio.Event()
        scope["state"][PRESENCE].add(left.set)
        await left.wait()
        LEFT.append(scope["raw_path"])
        return
    if scope["path"] == "/broken":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken on purpose")
    if scope["path"] == "/echo":
        await PlainTextResponse(await request.body())(scope, receive, send)
        return
    await responses[scope["path"]]()(scope, receive, send)


async def parts() -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.sleep(0)
    yield b"second"


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    connection = Connection()
    yield connection
    if not connection.transport.closed:
        connection.end()


async def test_an_answer_leaves_in_one_write(connection: Connection) -> None:
    (written,) = await connection.get("text")
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"found"


async def test_a_connection_answers_again_and_again(connection: Connection) -> None:
    for _ in range(3):
        (written,) = await connection.get("text")
        assert written.endswith(b"\r\n\r\nfound")


async def test_pipelined_requests_are_answered_in_order(connection: Connection) -> None:
    first, second = await connection.send(GET % b"text" + GET % b"head-like", writes=2)
    assert first.endswith(b"\r\n\r\nfound")
    assert second.endswith(b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize(
    "request_head", [b"HEAD /text HTTP/1.1\r\nHost: lookout\r\n\r\n", GET % b"nothing"]
)
async def test_an_answer_without_a_body_does_not_wait_for_one(
    connection: Connection, request_head: bytes
) -> None:
    (written,) = await connection.send(request_head)
    assert written.startswith(b"HTTP/1.1 20")
    assert written.endswith(b"\r\n\r\n")


async def test_a_streamed_answer_begins_with_its_first_part(connection: Connection) -> None:
    first, second, *_ = await connection.get("stream", writes=3)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n5\r\nfirst\r\n")
    assert second == b"6\r\nsecond\r\n"


async def test_a_body_that_looks_like_a_head_is_sent(connection: Connection) -> None:
    (written,) = await connection.get("head-like")
    assert written.endswith(b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")


async def test_a_client_that_waits_to_be_told_to_go_on_is_told(connection: Connection) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: lookout\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
    assert await connection.send(head + b"\r\n") == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    (written,) = await connection.send(b"body")
    assert written.endswith(b"\r\n\r\nbody")


async def test_a_head_whose_body_fails_is_sent_before_the_end(connection: Connection) -> None:
    (written,) = await connection.get("broken")
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    await until(lambda: connection.transport.closed)


async def test_nothing_is_written_to_a_client_that_has_gone(connection: Connection) -> None:
    connection.protocol.data_received(GET % b"broken")
    connection.end()
    # The application's task runs on, and its head must not reach the closed transport.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.transport.writes == []


async def test_a_websocket_is_opened_without_a_body(connection: Connection) -> None:
    (written,) = await connection.send(
        b"GET /ws HTTP/1.1\r\nHost: lookout\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert written.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")


async def test_a_head_that_grows_without_end_is_refused(connection: Connection) -> None:
    connection.protocol.data_received(b"GET /text HTTP/1.1\r\nX-Long: ")
    (written,) = await connection.send(b"x" * (MAX_HEAD_BYTES + 1))
    assert written.startswith(b"HTTP/1.1 431 ")
    assert connection.transport.closed


class TestHeadTimer:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LookoutHttpProtocol, "head_timeout_s", 0.05)

    async def test_a_head_that_does_not_end_in_time_is_refused(
        self, connection: Connection
    ) -> None:
        (written,) = await connection.send(b"GET /text HTTP/1.1\r\nHost: look")
        assert written.startswith(b"HTTP/1.1 408 ")
        assert connection.transport.closed

    async def test_who_says_nothing_is_sent_away(self, connection: Connection) -> None:
        await until(lambda: connection.transport.closed)
        assert connection.transport.writes == []

    async def test_the_second_head_of_a_connection_has_its_own_time(
        self, connection: Connection
    ) -> None:
        (written,) = await connection.get("text")
        assert written.startswith(b"HTTP/1.1 200 ")
        # Idle between requests is uvicorn's keep-alive to judge: no head is awaited.
        await asyncio.sleep(0.15)
        assert not connection.transport.closed
        (written,) = await connection.send(b"GET /text HTTP/1.1\r\n")
        assert written.startswith(b"HTTP/1.1 408 ")
        assert connection.transport.closed


class TestIdleConnection:
    """What comes at the last moment may lie unread when the timer of a busy loop runs."""

    @pytest.fixture(autouse=True)
    def patiently(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # So that a busy machine cannot take so long between two lines of a test.
        monkeypatch.setattr(http_protocol, "LAST_LOOK_S", 0.6)

    async def test_a_request_at_the_last_moment_is_answered(self, connection: Connection) -> None:
        await connection.get("text")
        connection.protocol.timeout_keep_alive_handler()
        (written,) = await connection.get("text")
        assert written.startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.7)
        assert not connection.transport.closed

    async def test_a_first_request_at_the_last_moment_is_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LookoutHttpProtocol, "head_timeout_s", 0.0)
        connection = Connection()
        # The timer of the head has run, and nothing had been read.
        await asyncio.sleep(0.05)
        (written,) = await connection.get("text")
        assert written.startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.7)
        assert not connection.transport.closed
        connection.end()

    async def test_a_request_that_lies_unread_is_waited_for(
        self, connection: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_protocol, "LAST_LOOK_S", 0.01)
        client, server = socket.socketpair()
        with client, server:
            connection.transport.socket = server
            connection.protocol.timeout_keep_alive = 0
            client.send(GET % b"text")
            await connection.get("text")
            # The loop is busy for long; then it reads.
            await asyncio.sleep(0.2)
            assert not connection.transport.closed
            connection.protocol.data_received(server.recv(1000))
            # And when nothing lies there any more, it is closed.
            await until(lambda: connection.transport.closed)
            assert len(connection.transport.writes) == 2

    async def test_one_that_says_nothing_more_is_closed(self, connection: Connection) -> None:
        connection.protocol.timeout_keep_alive = 0
        await connection.get("text")
        await until(lambda: connection.transport.closed)

    async def test_one_that_sends_a_blank_line_and_nothing_more_is_closed(
        self, connection: Connection
    ) -> None:
        await connection.get("text")
        connection.protocol.timeout_keep_alive = 0
        connection.protocol.data_received(b"\r\n")
        await until(lambda: connection.transport.closed)

    async def test_one_that_stops_in_a_body_that_was_answered_is_closed(
        self, connection: Connection
    ) -> None:
        head = b"POST /text HTTP/1.1\r\nHost: lookout\r\nContent-Length: 60\r\n\r\n"
        (written,) = await connection.send(head)
        assert written.startswith(b"HTTP/1.1 200 ")
        connection.protocol.timeout_keep_alive = 0
        connection.protocol.data_received(b"a part")
        await until(lambda: connection.transport.closed)

    async def test_one_that_sends_such_a_body_slowly_is_left_alone(
        self, connection: Connection
    ) -> None:
        head = b"POST /text HTTP/1.1\r\nHost: lookout\r\nContent-Length: 60\r\n\r\n"
        await connection.send(head)
        connection.protocol.timeout_keep_alive = 0
        for _ in range(4):
            connection.protocol.data_received(b"a part")
            await asyncio.sleep(0.2)
        assert not connection.transport.closed


async def test_the_application_is_told_when_the_client_leaves() -> None:
    LEFT.clear()
    staying, leaving = Connection(), Connection()
    for connection in (staying, leaving):
        connection.protocol.data_received(GET % b"wait")
    await asyncio.sleep(0)
    leaving.end()
    await until(lambda: len(LEFT) == 1)
    staying.end()
    await until(lambda: len(LEFT) == 2)


REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\ndate: today\r\nretry-after: 1\r\n"
    b"content-length: 2\r\n\r\nno"
)


async def test_who_is_to_be_refused_is_answered_without_the_application() -> None:
    connection = Connection(ByPath("/text"))
    # At once, and not by a task.
    connection.protocol.data_received(GET % b"text")
    assert connection.transport.writes == [REFUSED]
    assert not connection.protocol.tasks
    # The connection goes on, for refused ones and others.
    connection.protocol.data_received(GET % b"text")
    assert connection.transport.writes == [REFUSED] * 2
    (written,) = await connection.get("head-like")
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    connection.end()


async def test_the_body_of_a_refused_request_is_thrown_away() -> None:
    connection = Connection(ByPath("/text"))
    head = b"POST /text HTTP/1.1\r\nHost: lookout\r\nContent-Length: 6\r\n\r\n"
    connection.protocol.data_received(head + b"GET")
    assert connection.transport.writes == [REFUSED]
    (written,) = await connection.send(b" / " + GET % b"head-like")
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    connection.end()


async def test_the_body_of_a_refused_request_must_end_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LookoutHttpProtocol, "head_timeout_s", 0.05)
    connection = Connection(ByPath("/text"))
    head = b"POST /text HTTP/1.1\r\nHost: lookout\r\nContent-Length: 6\r\n\r\n"
    connection.protocol.data_received(head + b"G")
    await until(lambda: connection.transport.closed)


@pytest.mark.parametrize("split", [0, 3, 6])
async def test_a_connection_that_idles_after_a_refusal_is_closed(split: int) -> None:
    connection = Connection(ByPath("/text"))
    connection.protocol.timeout_keep_alive = 0
    head = b"POST /text HTTP/1.1\r\nHost: lookout\r\nContent-Length: 6\r\n\r\n"
    body = b"a body"
    connection.protocol.data_received(head + body[:split])
    if split < len(body):
        connection.protocol.data_received(body[split:])
    assert connection.transport.writes == [REFUSED]
    await until(lambda: connection.transport.closed)


async def test_a_request_behind_a_refused_one_has_all_its_time() -> None:
    connection = Connection(ByPath("/text"))
    connection.protocol.timeout_keep_alive = 0
    LEFT.clear()
    connection.protocol.data_received(GET % b"text" + GET % b"wait")
    await asyncio.sleep(3 * LAST_LOOK_S)
    assert not connection.transport.closed
    connection.end()
    await until(lambda: len(LEFT) == 1)


async def test_nobody_is_refused_early_by_a_process_that_ends() -> None:
    connection = Connection(ByPath("/text"))
    connection.protocol.is_ending = True
    (written,) = await connection.get("text")
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection.transport.closed


async def test_a_refusal_waits_for_the_answers_before_it() -> None:
    connection = Connection(ByPath("/text"))
    written = await connection.send(GET % b"head-like" + GET % b"text", writes=2)
    assert written[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert written[1] == REFUSED
    connection.end()


async def test_hundreds_of_pipelined_requests_are_all_answered() -> None:
    connection = Connection(ByPath("/text"))
    written = await connection.send(GET % b"head-like" + 400 * (GET % b"text"), writes=401)
    assert all(answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")) for answer in written)
    connection.end()


async def test_who_does_not_read_is_left_to_the_application() -> None:
    connection = Connection(ByPath("/text"))
    connection.protocol.pause_writing()
    connection.protocol.data_received(GET % b"text")
    assert connection.transport.writes == []
    connection.protocol.resume_writing()
    await until(lambda: bool(connection.transport.writes))
    connection.end()


async def test_a_stream_on_a_connection_used_before_has_no_keep_alive_timer(
    connection: Connection,
) -> None:
    await connection.get("text")
    connection.protocol.data_received(
        b"GET /stream HTTP/1.1\r\nHost: lookout\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert connection.transport.protocol is not connection.protocol
    assert connection.protocol.timeout_keep_alive_task is None


async def test_a_stream_asked_for_behind_a_request_has_none_either(
    connection: Connection,
) -> None:
    connection.protocol.timeout_keep_alive = 0
    upgrade = (
        b"GET /stay HTTP/1.1\r\nHost: lookout\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    connection.protocol.data_received(GET % b"text" + upgrade)
    assert connection.transport.protocol is not connection.protocol
    await until(lambda: any(b"found" in written for written in connection.transport.writes))
    await asyncio.sleep(3 * LAST_LOOK_S)
    assert not connection.transport.closed


async def test_a_connection_that_is_to_close_is_left_to_the_application() -> None:
    connection = Connection(ByPath("/text"))
    head = b"GET /text HTTP/1.1\r\nHost: lookout\r\nConnection: close\r\n\r\n"
    (written,) = await connection.send(head)
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection.transport.closed


async def test_so_many_start_in_a_turn_and_the_others_in_the_next_ones() -> None:
    starts = StartQueue()
    connections = [Connection(starts=starts) for _ in range(2 * STARTS_PER_TURN + 3)]
    for connection in connections:
        connection.protocol.data_received(GET % b"text")
    started = [bool(connection.protocol.tasks) for connection in connections]
    assert started == [True] * STARTS_PER_TURN + [False] * (STARTS_PER_TURN + 3)
    await until(lambda: all(connection.transport.writes for connection in connections))
    for connection in connections:
        assert connection.transport.writes[0].endswith(b"found")
        connection.end()


async def test_those_who_wait_for_their_turn_may_be_refused_by_then() -> None:
    starts, shedder = StartQueue(), ByPath()
    connections = [Connection(shedder, starts) for _ in range(STARTS_PER_TURN + 1)]
    for connection in connections:
        connection.protocol.data_received(GET % b"text")
    shedder.refused.add("/text")
    await until(lambda: all(connection.transport.writes for connection in connections))
    assert connections[-1].transport.writes == [REFUSED]
    assert connections[0].transport.writes[0].endswith(b"found")
    for connection in connections:
        connection.end()
