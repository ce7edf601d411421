"""Migrated databases for the tests, of both kinds."""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from alembic.config import Config
from sqlalchemy import NullPool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import command

DatabaseKind = Literal["sqlite", "postgresql"]

ROOT = Path(__file__).parent.parent
POSTGRES_URL = make_url(
    os.environ.get(
        "TEST_POSTGRES_URL", "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres"
    ).replace("postgresql://", "postgresql+asyncpg://")
)
_CONNECT_TIMEOUT_S = 5


def alembic_config(url: str) -> Config:
    """Alembic's configuration for the database at `url`."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["database_url"] = url
    return config


async def create_database(kind: DatabaseKind, directory: Path, *, migrate: bool = True) -> str:
    """Create a database of its own (SQLite: in `directory`) and return its URL.

    Skips the test, saying so, when no PostgreSQL answers at TEST_POSTGRES_URL; fails it in CI.
    """
    name = f"lookout_test_{uuid.uuid4().hex}"
    if kind == "sqlite":
        url = f"sqlite+aiosqlite:///{directory / name}.db"
    else:
        await _run_on_server(f'CREATE DATABASE "{name}"')
        url = POSTGRES_URL.set(database=name).render_as_string(hide_password=False)
    if migrate:
        # In a thread, because Alembic's environment runs an event loop of its own.
        await asyncio.to_thread(command.upgrade, alembic_config(url), "head")
    return url


async def drop_database(url: str) -> None:
    """Delete a database that `create_database` made, whoever is still connected."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        await asyncio.to_thread(_delete_files, parsed.database)
    else:
        await _run_on_server(f'DROP DATABASE IF EXISTS "{parsed.database}" WITH (FORCE)')


@asynccontextmanager
async def temporary_database(kind: DatabaseKind, *, migrate: bool = True) -> AsyncIterator[str]:
    """The URL of a database that lasts as long as the context."""
    with tempfile.TemporaryDirectory(prefix="lookout-test-") as directory:
        url = await create_database(kind, Path(directory), migrate=migrate)
        try:
            yield url
        finally:
            await drop_database(url)


def _delete_files(path: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)


async def _run_on_server(statement: str) -> None:
    engine = create_async_engine(
        POSTGRES_URL,
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        connect_args={"timeout": _CONNECT_TIMEOUT_S},
    )
    try:
        connection = await engine.connect()
    except (OSError, DBAPIError) as error:
        message = f"no PostgreSQL at {POSTGRES_URL} (TEST_POSTGRES_URL): {error!r}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        await connection.execute(text(statement))
    finally:
        await connection.close()
