"""The database is killed, kept away, locked or full while people use the service."""

import asyncio
import subprocess
import sys
import uuid

import pytest
from fastapi import FastAPI
from sqlalchemy import event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from app.auth.models import User
from app.database import Database, new_id
from app.history.exceptions import HistoryUnavailableError
from app.history.recorder import HistoryRecorder
from tests.databases import POSTGRES_URL, temporary_database
from tests.history.support import text_record
from tests.support.pictures import jpeg
from tests.support.service import Person, open_stream
from tests.support.waiting import until

pytestmark = pytest.mark.faults

on_postgresql = pytest.mark.parametrize("live_app", ["postgresql"], indirect=True, scope="session")
on_sqlite = pytest.mark.parametrize("live_app", ["sqlite"], indirect=True, scope="session")


async def run_on_server(statement: str, **parameters: str) -> None:
    engine = create_async_engine(POSTGRES_URL, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement), parameters)
    finally:
        await engine.dispose()


async def kill_connections(database: str) -> None:
    await run_on_server(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name",
        name=database,
    )


def database_name(app: FastAPI) -> str:
    name = make_url(app.state.settings.database_url).database
    assert name is not None
    return name


@on_postgresql
async def test_killed_connections_lose_nothing_that_was_acknowledged(
    app: FastAPI, person: Person
) -> None:
    acknowledged: set[str] = set()
    statuses: set[int] = set()
    stop = asyncio.Event()

    async def use(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            body = {"text": f"client {number} asks for the {count}th time"}
            answer = await person.http.post("/prediction", json=body)
            statuses.add(answer.status_code)
            if answer.status_code == 200:
                acknowledged.add(answer.json()["id"])
            else:
                assert "retry-after" in answer.headers

    clients = [asyncio.create_task(use(number)) for number in range(8)]
    for _ in range(10):
        wanted = len(acknowledged) + 10
        await kill_connections(database_name(app))
        # Until it serves again, so that each kill meets a service at work.
        await until(lambda wanted=wanted: len(acknowledged) >= wanted)  # type: ignore[misc]
    stop.set()
    await asyncio.gather(*clients)
    assert statuses <= {200, 503}
    kept = await _read_history(person)
    assert acknowledged <= {item_id for item_id, _ in kept}
    texts = [content for _, content in kept]
    assert len(texts) == len(set(texts))


async def _read_history(person: Person) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": "100"} if cursor is None else {"limit": "100", "cursor": cursor}
        page = (await person.http.get("/history", params=parameters)).json()
        found += [(item["id"], item["input"]["text"]) for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@on_postgresql
async def test_a_server_that_refuses_everybody_is_told_with_503(
    app: FastAPI, person: Person
) -> None:
    name = database_name(app)
    await run_on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    try:
        await kill_connections(name)
        # What the token cache remembers is gone within a second.
        await asyncio.sleep(1.1)
        for method, path, body in (
            ("GET", "/me", None),
            ("GET", "/history", None),
            ("GET", "/history.csv", None),
            ("POST", "/prediction", {"text": "a"}),
            ("POST", "/token", None),
            ("GET", "/health/ready", None),
        ):
            form = {"username": "a@example.com", "password": "b"} if path == "/token" else None
            answer = await person.http.request(method, path, json=body, data=form)
            assert answer.status_code == 503, (path, answer.text)
            assert "retry-after" in answer.headers
        assert (await person.http.get("/health/live")).status_code == 200
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            assert (await stream.closing()).code == 1013
    finally:
        await run_on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert (await person.http.post("/prediction", json={"text": "a"})).status_code == 200
    assert (await person.http.get("/health/ready")).status_code == 200


@on_postgresql
async def test_a_stream_whose_caller_cannot_be_looked_up_any_more_is_to_come_back_later(
    app: FastAPI, person: Person
) -> None:
    name = database_name(app)
    async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
        await stream.send(jpeg())
        assert (await stream.answer())["frame"] == 1
        await run_on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            await kill_connections(name)
            # A stream looks its caller up again after a second.
            await asyncio.sleep(1.1)
            await stream.send(jpeg())
            assert (await stream.closing()).code == 1013
        finally:
            await run_on_server(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
"""


@on_sqlite
async def test_a_database_locked_by_another_process_is_told_with_503(
    app: FastAPI, person: Person
) -> None:
    path = make_url(app.state.settings.database_url).database
    assert path is not None
    other = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LOCK, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert await other.stdout.readline() == b"locked\n"
    try:
        kept = asyncio.create_task(person.http.post("/prediction", json={"text": "kept"}))
        # Reading goes on, and so does what writes nothing.
        answer = await person.http.post(
            "/prediction", json={"text": "not kept"}, headers={"X-No-Store": "1"}
        )
        assert answer.status_code == 200
        assert (await person.http.get("/history")).json()["items"] == []
        answer = await kept
        assert answer.status_code == 503
        assert answer.json()["code"] == "history_unavailable"
    finally:
        other.stdin.write(b"\n")
        await other.wait()
    assert (await person.http.post("/prediction", json={"text": "kept"})).status_code == 200
    assert len(await person.history()) == 1


class FullDisk:
    """A database file that may not grow, as on a full disk: SQLite answers SQLITE_FULL to both."""

    def __init__(self, database: Database) -> None:
        self.is_full = False
        event.listen(database.engine.sync_engine, "checkout", self._limit)

    def _limit(
        self, connection: DBAPIConnection, _record: ConnectionPoolEntry, _proxy: object
    ) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {1 if self.is_full else 1_000_000}")
        cursor.close()


async def test_a_full_disk_refuses_and_loses_nothing() -> None:
    async with temporary_database("sqlite") as url:
        database = Database(url)
        disk = FullDisk(database)
        user = User(email=f"{new_id()}@example.com", password_hash="none")
        async with database.sessions() as session, session.begin():
            session.add(user)
        recorder = HistoryRecorder(database)
        await recorder.start()
        acknowledged: set[uuid.UUID] = set()

        async def fill(number: int) -> None:
            record = text_record(user.id, input_text=f"{number} " + "x" * 20_000)
            await recorder.record(record)
            acknowledged.add(record.id)

        for number in range(5):
            await fill(number)
        # The recorder keeps its connection: a new one finds the disk full.
        await recorder.close(5)
        disk.is_full = True
        await recorder.start()
        outcomes = await asyncio.gather(
            *(fill(number) for number in range(20)), return_exceptions=True
        )
        assert all(isinstance(outcome, HistoryUnavailableError) for outcome in outcomes)
        async with database.engine.connect() as connection:
            rows = await connection.execute(text("SELECT count(*) FROM predictions"))
            assert rows.scalar_one() == len(acknowledged) == 5
        # Each failure gives the connection back, so room is noticed at once.
        disk.is_full = False
        await fill(99)
        await recorder.close(5)
        async with database.engine.connect() as connection:
            check = await connection.execute(text("PRAGMA integrity_check"))
            assert check.scalar_one() == "ok"
            rows = await connection.execute(text("SELECT count(*) FROM predictions"))
            assert rows.scalar_one() == len(acknowledged) == 6
        await database.close()
