"""Workers, Redis and clients die, dawdle or vanish under a real gunicorn with two workers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.databases import temporary_database
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.faults

_PASSWORD = "a password for faults only"


@pytest.fixture(scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
async def server(
    detection_model: Path, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("faults")
    async with (
        temporary_database("postgresql") as url,
        running_gunicorn(
            url,
            detection_model,
            folder,
            workers=2,
            REDIS_URL=redis.url,
            REQUESTS_PER_MINUTE="1000000",
            BODY_TIMEOUT_S="3",
        ) as server,
    ):
        yield server


@pytest.fixture
async def client(server: Gunicorn) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody new, with a bearer token."""
    email = f"{os.urandom(8).hex()}@lookout-faults.org"
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        body = {"email": email, "password": _PASSWORD}
        assert (await client.post("/register", json=body)).status_code == 201
        answer = await client.post("/token", data={"username": email, "password": _PASSWORD})
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


async def count_kept(client: httpx.AsyncClient) -> dict[str, int]:
    """How often each text is in the history."""
    counts: dict[str, int] = {}
    parameters = {"limit": "100"}
    while True:
        answer = await client.get("/history", params=parameters)
        assert answer.status_code == 200, answer.text
        for item in answer.json()["items"]:
            content = item["input"]["text"]
            counts[content] = counts.get(content, 0) + 1
        if answer.json()["next_cursor"] is None:
            return counts
        parameters["cursor"] = answer.json()["next_cursor"]


async def test_redis_killed_and_back_is_noticed_by_nobody(
    client: httpx.AsyncClient, redis: RedisServer
) -> None:
    answered = 0
    stop = asyncio.Event()

    async def use(number: int) -> None:
        nonlocal answered
        count = 0
        while not stop.is_set():
            count += 1
            body = {"text": f"client {number} asks for the {count}th time"}
            answer = await client.post("/prediction", json=body)
            assert answer.status_code == 200, answer.text
            answered += 1

    users = [asyncio.create_task(use(number)) for number in range(4)]
    for change in (redis.kill, redis.start, redis.kill, redis.start):
        wanted = answered + 20
        await until(lambda wanted=wanted: answered >= wanted or stop.is_set())  # type: ignore[misc]
        await asyncio.to_thread(change)
    stop.set()
    await asyncio.gather(*users)


async def test_a_killed_worker_takes_only_what_it_was_doing(
    server: Gunicorn, client: httpx.AsyncClient
) -> None:
    acknowledged: set[str] = set()
    broken = 0
    stop = asyncio.Event()

    async def use(number: int) -> None:
        nonlocal broken
        count = 0
        while not stop.is_set():
            count += 1
            text = f"client {number} asks for the {count}th time"
            try:
                answer = await client.post("/prediction", json={"text": text})
            except httpx.TransportError:
                broken += 1
            else:
                assert answer.status_code == 200, answer.text
                acknowledged.add(text)

    users = [asyncio.create_task(use(number)) for number in range(8)]
    await until(lambda: len(acknowledged) >= 20)
    (first, second) = sorted(server.workers())
    os.kill(first, signal.SIGKILL)
    wanted = len(acknowledged) + 20
    # The other one goes on alone, and gunicorn starts a new one in the meantime.
    await until(lambda: len(acknowledged) >= wanted)
    stop.set()
    await asyncio.gather(*users)
    async with asyncio.timeout(120):
        # The log belongs to another process.
        while server.log.count(" is ready") < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert second in server.workers()
    assert first not in server.workers()
    # At most one request of each client was in the worker when it died.
    assert broken <= len(users)
    kept = await count_kept(client)
    assert acknowledged <= set(kept)
    assert set(kept.values()) == {1}


async def test_no_free_disk_is_told_that_the_service_does_not_know(server: Gunicorn) -> None:
    # With PostgreSQL. As a 0 it would raise the alarm of a full disk.
    text = (await server.get("/metrics")).text
    assert "lookout_database_pool_size " in text
    assert "\nlookout_data_disk_free_bytes" not in text


async def open_raw(server: Gunicorn) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


async def test_clients_that_send_a_byte_at_a_time_keep_nobody_waiting(
    server: Gunicorn, client: httpx.AsyncClient
) -> None:
    head = (
        "POST /prediction HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {client.headers['Authorization']}\r\nContent-Length: 1000\r\n\r\n"
    )

    async def dawdle() -> bytes:
        reader, writer = await open_raw(server)
        writer.write(head.encode())
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait({answer}, timeout=0.5)
        writer.close()
        try:
            return answer.result()
        except ConnectionResetError:
            # A byte that was on its way when the server closed makes it say so, and the answer
            # that it had sent is thrown away.
            return b"reset"

    dawdlers = [asyncio.create_task(dawdle()) for _ in range(50)]
    while not all(dawdler.done() for dawdler in dawdlers):
        assert (await client.post("/prediction", json={"text": "me"})).status_code == 200
        await asyncio.sleep(0.1)
    ends = [dawdler.result().partition(b"\r\n")[0] for dawdler in dawdlers]
    told = sum(end.startswith(b"HTTP/1.1 408") for end in ends)
    assert told + ends.count(b"reset") == len(ends), ends
    assert told > len(ends) // 2


async def test_a_thousand_clients_that_vanish_leave_nothing_behind(
    server: Gunicorn, client: httpx.AsyncClient
) -> None:
    body = b'{"text": "' + b"x" * 5000 + b'"}'
    head = (
        "POST /prediction HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {client.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body

    async def vanish(number: int) -> None:
        _, writer = await open_raw(server)
        # After nothing, in the head, in the body, before the answer.
        writer.write(request[: (0, 50, len(head) + 100, len(request))[number % 4]])
        await asyncio.sleep(0)
        writer.transport.abort()

    for start in range(0, 1000, 100):
        await asyncio.gather(*(vanish(number) for number in range(start, start + 100)))
    assert (await client.post("/prediction", json={"text": "me"})).status_code == 200

    async def in_progress() -> float:
        lines = (await server.get("/metrics")).text.splitlines()
        values = [line.split()[-1] for line in lines if line.startswith("lookout_http_requests_in")]
        return sum(map(float, values))

    async with asyncio.timeout(PATIENCE_S):
        # This very request is one.
        while await in_progress() > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert (await server.get("/health/ready")).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 3_000_000,
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 500_000,
        b"GET /" + b"a" * 3_000_000,
    ],
    ids=["one header", "many headers", "path"],
)
async def test_a_head_without_end_is_cut_off(server: Gunicorn, head: bytes) -> None:
    reader, writer = await open_raw(server)
    received = b""
    try:
        writer.write(head)
        await writer.drain()
        received = await reader.read(100)
        await reader.read()
    except ConnectionError:
        # What was still on its way to a closed connection resets it.
        received = received or b"HTTP/1.1 431"
    finally:
        writer.close()
    assert received.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    assert (await server.get("/health/live")).status_code == 200
