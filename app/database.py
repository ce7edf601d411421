"""The database: declarative base, engine and session, for SQLite and PostgreSQL alike."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import DateTime, Dialect, MetaData, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator
from starlette.requests import HTTPConnection
from uuid_utils.compat import uuid7

# Named constraints, so that Alembic can drop them on both databases.
# https://alembic.sqlalchemy.org/en/latest/naming.html
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware moment in UTC. SQLite keeps no zone: it is taken off and put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all ORM models."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012 (SQLAlchemy's own protocol)


def new_id() -> uuid.UUID:
    """A new UUIDv7: it grows with time, which keeps inserts at the end of the index."""
    return uuid7()


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def create_engine(url: str, *, pool_size: int = 10, busy_timeout_s: float = 10.0) -> AsyncEngine:
    """Create the engine for `url`, with the settings each database needs.

    SQLite gets WAL (readers and the writer do not block each other), foreign keys (off by
    default there) and a busy time-out for other processes' writes. Its folder is made if missing.
    An error does not repeat its statement's parameters: a password's hash, a person's text.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=5,
            pool_pre_ping=True,
            hide_parameters=True,
        )
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url, connect_args={"timeout": busy_timeout_s}, hide_parameters=True
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            # FULL syncs the WAL at each commit: an acknowledged record survives a power cut.
            "synchronous=FULL",
            f"busy_timeout={int(busy_timeout_s * 1000)}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


class Database:
    """The engine and its session factory, owned by the application's lifespan."""

    def __init__(self, url: str, *, pool_size: int = 10, busy_timeout_s: float = 10.0) -> None:
        self.engine = create_engine(url, pool_size=pool_size, busy_timeout_s=busy_timeout_s)
        self.sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    async def ping(self) -> None:
        """Raise what the driver raises when the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all pooled connections."""
        await self.engine.dispose()


# Async, as FastAPI runs other dependencies in a thread.
async def get_database(connection: HTTPConnection) -> Database:
    """The application's database."""
    database: Any = connection.app.state.database
    assert isinstance(database, Database)
    return database


DatabaseDep = Annotated[Database, Depends(get_database)]


async def get_session(database: DatabaseDep) -> AsyncIterator[AsyncSession]:
    """One request, one transaction: committed when the endpoint returns, else rolled back."""
    async with database.sessions() as session, session.begin():
        yield session


# The function scope ends the dependency before the answer is sent, so a commit that fails
# is an error to the caller and not a silent loss behind a 200.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
