"""Ending and restarting by signals to real processes: in order, in time, and losing nothing."""

import asyncio
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Literal

import httpx
import pytest
from sqlalchemy import make_url
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.databases import temporary_database
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.pictures import jpeg
from tests.support.servers import Server, running_servers
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.faults

Kind = Literal["serve", "gunicorn"]
on_both = pytest.mark.parametrize("kind", ["serve", "gunicorn"])

_ACCOUNT = {"email": "ada@lookout-faults.org", "password": "a password for faults only"}


@asynccontextmanager
async def running(
    kind: Kind, database_url: str, detection_model: Path, folder: Path, **settings: str
) -> AsyncIterator[Server | Gunicorn]:
    """The service in one process, or under gunicorn with two workers."""
    if kind == "gunicorn":
        async with running_gunicorn(
            database_url, detection_model, folder, workers=2, **settings
        ) as gunicorn:
            yield gunicorn
    else:
        async with running_servers(
            1,
            folder,
            DATABASE_URL=database_url,
            DETECTION_MODEL=str(detection_model),
            **settings,
        ) as (server,):
            yield server


@pytest.fixture
async def database_url() -> AsyncIterator[str]:
    async with temporary_database("sqlite") as url:
        yield url


async def sign_in(server: Server | Gunicorn) -> str:
    """A new account's bearer token."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        assert (await client.post("/register", json=_ACCOUNT)).status_code == 201
        form = {"username": _ACCOUNT["email"], "password": _ACCOUNT["password"]}
        token: str = (await client.post("/token", data=form)).json()["access_token"]
        return token


def kept_texts(database_url: str) -> Counter[str]:
    """How often each text is in the history, read from the file itself."""
    path = make_url(database_url).database
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        return Counter(text for (text,) in connection.execute("SELECT input_text FROM predictions"))


async def wait_for_end(server: Server | Gunicorn) -> int:
    return await asyncio.to_thread(server.process.wait, PATIENCE_S)


class HalfRequest:
    """A prediction whose body is half sent."""

    def __init__(self, server: Server | Gunicorn, token: str, text: str) -> None:
        self._port = server.port
        body = json.dumps({"text": text}).encode()
        head = (
            "POST /prediction HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._first, self._second = head.encode() + body[:5], body[5:]

    async def begin(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._first)
        await self._writer.drain()

    async def end(self) -> bytes:
        """Send the rest; all that is answered until the connection is closed."""
        self._writer.write(self._second)
        return await self.answer()

    async def answer(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""
            finally:
                self._writer.close()


async def until_in_progress(server: Server | Gunicorn, count: int) -> None:
    """Return once so many requests are in progress."""
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        while True:
            text = (await client.get("/metrics")).text
            lines = [it for it in text.splitlines() if it.startswith("lookout_http_requests_in_")]
            if sum(float(line.split()[-1]) for line in lines) >= count:
                return
            await asyncio.sleep(0.1)


async def until_refused(server: Server | Gunicorn) -> None:
    """Return once nobody listens any more."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                # Between two moments: it had been taken into the queue of a closing socket.
                continue
            writer.close()
            await asyncio.sleep(0.05)


@on_both
async def test_readiness_fails_first_and_all_else_goes_on(
    kind: Kind, database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    async with running(
        kind, database_url, detection_model, tmp_path, SHUTDOWN_DELAY_S="8"
    ) as server:
        token = await sign_in(server)
        url = f"{server.url.replace('http', 'ws')}/object-detection?token={token}"
        async with (
            connect(url) as stream,
            httpx.AsyncClient(
                base_url=server.url,
                headers={"Authorization": f"Bearer {token}"},
                timeout=PATIENCE_S,
            ) as client,
        ):
            assert (await client.get("/health/ready")).status_code == 200
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                # A signal is told to nobody else.
                while (answer := await client.get("/health/ready")).status_code == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert answer.json()["detail"] == "service: is shutting down"
            answer = await client.post("/prediction", json={"text": "asked while it ends"})
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"
            assert (await client.get("/health/live")).status_code == 200
            await stream.send(jpeg())
            assert json.loads(await stream.recv())["frame"] == 1
            assert "Shutting down" not in server.log
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(stream.recv(), PATIENCE_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        # The shell's 143 for who was asked to end, and gunicorn's own 0.
        assert await wait_for_end(server) in (0, -signal.SIGTERM)
        assert kept_texts(database_url) == {"asked while it ends": 1}
        path = make_url(database_url).database
        assert path is not None
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT frames_processed, close_code FROM streams")
            assert rows.fetchall() == [(1, 1012)]


@on_both
async def test_what_is_in_progress_ends_after_the_door_is_shut(
    kind: Kind, database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    async with running(kind, database_url, detection_model, tmp_path) as server:
        token = await sign_in(server)
        requests = [HalfRequest(server, token, f"text {number}") for number in range(10)]
        for request in requests:
            await request.begin()
        await until_in_progress(server, len(requests))
        server.process.send_signal(signal.SIGTERM)
        await until_refused(server)
        for request in requests:
            answer = await request.end()
            assert answer.startswith(b"HTTP/1.1 200"), answer
        assert await wait_for_end(server) in (0, -signal.SIGTERM)
    assert kept_texts(database_url) == {f"text {number}": 1 for number in range(10)}


@on_both
async def test_what_does_not_end_is_ended(
    kind: Kind, database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    async with running(
        kind, database_url, detection_model, tmp_path, SHUTDOWN_TIMEOUT_S="1"
    ) as server:
        request = HalfRequest(server, await sign_in(server), "never complete")
        await request.begin()
        await until_in_progress(server, 1)
        server.process.send_signal(signal.SIGTERM)
        assert await wait_for_end(server) in (0, -signal.SIGTERM)
        assert not (await request.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("serve", signal.SIGTERM, signal.SIGTERM),
        ("serve", signal.SIGINT, signal.SIGINT),
        ("gunicorn", signal.SIGTERM, signal.SIGTERM),
        ("gunicorn", signal.SIGTERM, signal.SIGINT),
    ],
)
async def test_a_second_signal_ends_at_once(
    kind: Kind,
    first: signal.Signals,
    second: signal.Signals,
    database_url: str,
    detection_model: Path,
    tmp_path: Path,
) -> None:
    # Without the second one it would take longer than this test's patience.
    async with running(
        kind, database_url, detection_model, tmp_path, SHUTDOWN_TIMEOUT_S="600"
    ) as server:
        token = await sign_in(server)
        request = HalfRequest(server, token, "cut off")
        await request.begin()
        await until_in_progress(server, 1)
        server.process.send_signal(first)
        await until_refused(server)
        server.process.send_signal(second)
        assert await wait_for_end(server) in (0, -second)
        assert await request.answer() == b""
    assert kept_texts(database_url) == {}


async def test_gunicorn_told_to_hurry_does(
    database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    async with running(
        "gunicorn", database_url, detection_model, tmp_path, SHUTDOWN_TIMEOUT_S="600"
    ) as server:
        request = HalfRequest(server, await sign_in(server), "cut off")
        await request.begin()
        await until_in_progress(server, 1)
        server.process.send_signal(signal.SIGQUIT)
        assert await wait_for_end(server) == 0
        assert await request.answer() == b""


class Load:
    """Clients that ask one after another, half of them on connections that they keep."""

    def __init__(self, server: Gunicorn, token: str, clients: int) -> None:
        self._server = server
        self._stop = asyncio.Event()
        self.answered: set[str] = set()
        self.trouble: list[str] = []
        headers = {"Authorization": f"Bearer {token}"}
        self._tasks = [
            asyncio.create_task(self._use(number, keeps=number % 2 == 0, headers=headers))
            for number in range(clients)
        ]

    async def _use(self, number: int, *, keeps: bool, headers: dict[str, str]) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
        count = 0
        async with httpx.AsyncClient(
            base_url=self._server.url, headers=headers, limits=limits, timeout=4 * PATIENCE_S
        ) as client:
            while not self._stop.is_set():
                count += 1
                text = f"client {number} asks for the {count}th time"
                try:
                    answer = await client.post("/prediction", json={"text": text})
                except httpx.TransportError as error:
                    self.trouble.append(f"{text}: {error!r}")
                    continue
                if answer.status_code == 200:
                    self.answered.add(text)
                else:
                    self.trouble.append(f"{text}: {answer.text}")
                # Most connections are between two requests at most times, as people's are.
                await asyncio.sleep(0.01)

    async def answers(self, more: int) -> None:
        """Return once so many more have been answered."""
        wanted = len(self.answered) + more
        async with asyncio.timeout(4 * PATIENCE_S):
            # Counted by the tasks above.
            while len(self.answered) < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


async def until_replaced(server: Gunicorn, old: set[int]) -> None:
    """Return once two workers serve, none of them of `old`."""
    ready_before = server.log.count(" is ready")
    async with asyncio.timeout(4 * PATIENCE_S):
        while True:
            workers = set(server.workers())
            ready = server.log.count(" is ready")
            if len(workers) == 2 and not workers & old and ready >= ready_before + len(old):
                return
            await asyncio.sleep(0.1)


async def test_a_rolling_restart_under_load_loses_nothing(
    database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    async with running("gunicorn", database_url, detection_model, tmp_path) as server:
        assert isinstance(server, Gunicorn)
        load = Load(server, await sign_in(server), clients=24)
        await load.answers(50)
        for _ in range(2):
            # All at once, and then one that is asked to go by itself.
            old = set(server.workers())
            replaced = asyncio.create_task(until_replaced(server, old))
            await asyncio.sleep(0)
            server.process.send_signal(signal.SIGHUP)
            await replaced
            await load.answers(50)
            one = min(server.workers())
            replaced = asyncio.create_task(until_replaced(server, {one}))
            await asyncio.sleep(0)
            os.kill(one, signal.SIGTERM)
            await replaced
            await load.answers(50)
        await load.end()
    assert load.trouble == []
    assert kept_texts(database_url) == dict.fromkeys(load.answered, 1)


async def test_a_reload_reads_the_settings_again(
    database_url: str, detection_model: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(os.urandom(24).hex())
    async with (
        running(
            "gunicorn",
            database_url,
            detection_model,
            tmp_path,
            SECRET_KEY="",
            SECRET_KEY_FILE=str(secret),
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        assert isinstance(server, Gunicorn)
        await sign_in(server)
        assert (await client.post("/login", data=_ACCOUNT)).status_code == 204
        assert (await client.get("/csrf")).is_success
        client.headers["X-CSRF-Token"] = client.cookies["lookout_csrf"]
        for _ in range(4):
            answer = await client.post("/prediction", json={"text": "a"})
            assert answer.status_code == 200, answer.text
        secret.write_text(os.urandom(24).hex())
        replaced = asyncio.create_task(until_replaced(server, set(server.workers())))
        await asyncio.sleep(0)
        server.process.send_signal(signal.SIGHUP)
        await replaced
        # Signed with the old secret.
        for _ in range(4):
            answer = await client.post("/prediction", json={"text": "a"})
            assert answer.json()["code"] == "csrf_failed"
