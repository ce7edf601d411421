"""A migrated database of each kind, people with API keys, and the history's own application."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url, text

from app.auth.authenticator import Authenticator
from app.auth.models import User
from app.auth.service import Accounts
from app.config import Settings
from app.database import Database, new_id
from app.exception_handlers import add_exception_handlers
from app.history.endpoints import router
from app.history.recorder import HistoryRecorder
from tests.databases import temporary_database
from tests.history.support import Hold, Person


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with temporary_database(request.param) as url:
        yield url


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, busy_timeout_s=3)
    yield database
    await database.close()


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[HistoryRecorder]:
    recorder = HistoryRecorder(database)
    await recorder.start()
    yield recorder
    await recorder.close(5)


@pytest.fixture(scope="session")
async def authenticator(database_url: str, database: Database) -> AsyncIterator[Authenticator]:
    settings = Settings(_env_file=None, database_url=database_url)
    async with Authenticator(settings, database) as it:
        yield it


@pytest.fixture(scope="session")
def app(database: Database, authenticator: Authenticator) -> FastAPI:
    app = FastAPI()
    app.state.database = database
    app.state.authenticator = authenticator
    app.include_router(router)
    add_exception_handlers(app)
    return app


@pytest.fixture
async def make_person(
    app: FastAPI, database: Database, authenticator: Authenticator
) -> AsyncIterator[Callable[[], Awaitable[Person]]]:
    clients: list[httpx.AsyncClient] = []

    async def make() -> Person:
        async with database.sessions() as session, session.begin():
            user = User(email=f"{new_id()}@example.com", password_hash="none")
            session.add(user)
        issued = await Accounts(authenticator).create_api_key(user.id, "test", None)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://test",
            headers={"X-API-Key": issued.token},
        )
        clients.append(client)
        return Person(user.id, client)

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def person(make_person: Callable[[], Awaitable[Person]]) -> Person:
    return await make_person()


@pytest.fixture
async def stranger(make_person: Callable[[], Awaitable[Person]]) -> Person:
    return await make_person()


@pytest.fixture
def hold_writes(database_url: str) -> Hold:
    """Keeps everybody else from inserting, as a long transaction of another process does."""

    @asynccontextmanager
    async def hold_sqlite() -> AsyncIterator[None]:
        path = make_url(database_url).database
        assert path is not None
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()

    @asynccontextmanager
    async def hold_postgresql() -> AsyncIterator[None]:
        other = Database(database_url)
        try:
            async with other.engine.connect() as connection:
                await connection.execute(text("LOCK TABLE predictions IN EXCLUSIVE MODE"))
                yield
                await connection.rollback()
        finally:
            await other.close()

    return hold_sqlite if database_url.startswith("sqlite") else hold_postgresql
