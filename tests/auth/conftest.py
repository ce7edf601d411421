"""The accounts' own application over a migrated database of each kind."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from app.auth.authenticator import Authenticator
from app.auth.service import Accounts
from app.config import Settings
from app.database import Database
from tests.auth.support import QuickPasswords, Visitor, make_app, make_settings
from tests.databases import temporary_database

Serve = Callable[..., AbstractAsyncContextManager[FastAPI]]


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with temporary_database(request.param) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url)


@pytest.fixture
async def authenticator(settings: Settings, database: Database) -> AsyncIterator[Authenticator]:
    async with Authenticator(settings, database, password_context=QuickPasswords()) as it:
        yield it


@pytest.fixture
def accounts(authenticator: Authenticator) -> Accounts:
    return Accounts(authenticator)


@pytest.fixture
def serve(database: Database, database_url: str) -> Serve:
    """Serve the application with other settings than usual."""

    @asynccontextmanager
    async def serve(**options: object) -> AsyncIterator[FastAPI]:
        settings = make_settings(database_url, **options)
        async with Authenticator(settings, database, password_context=QuickPasswords()) as it:
            yield make_app(it)

    return serve


@pytest.fixture
def app(authenticator: Authenticator) -> FastAPI:
    return make_app(authenticator)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://lookout.test") as client:
        yield client


@pytest.fixture
async def ada(app: FastAPI) -> AsyncIterator[Visitor]:
    """A person with an account."""
    async with Visitor(app) as visitor:
        await visitor.register()
        yield visitor


@pytest.fixture
async def bob(app: FastAPI) -> AsyncIterator[Visitor]:
    """Another person with an account."""
    async with Visitor(app) as visitor:
        await visitor.register()
        yield visitor
