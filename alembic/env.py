"""How Alembic reaches the database: the service's own engine and URL, one migration at a time."""

import asyncio
import logging
from typing import Any, Literal

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

import app.auth.models
import app.history.models  # noqa: F401 (both fill Base.metadata)
from alembic import context
from app.config import get_settings
from app.database import Base, UtcDateTime, create_engine

# Any number, as long as nothing else in the database locks the same.
_ADVISORY_LOCK = 5_108_361_097_204_116

config = context.config
# Tests name their own database; everybody else sets DATABASE_URL.
database_url: str = config.attributes.get("database_url") or get_settings().database_url


def render_item(kind: str, item: object, _autogen_context: AutogenContext) -> str | Literal[False]:
    """Keep the application's own types out of migrations, which outlive them."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def configure(**options: Any) -> None:
    context.configure(
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
        render_as_batch=True,
        render_item=render_item,
        # SQLite can do it too: a migration that fails half-way leaves nothing behind.
        transactional_ddl=True,
        **options,
    )


def run_offline() -> None:
    """Write the SQL instead of running it (`alembic upgrade head --sql`)."""
    configure(url=database_url, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


def run(connection: Connection) -> None:
    """Migrate in one transaction, under a lock: processes that start at once take turns."""
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        # A batch operation drops and remakes its table; with foreign keys on, the drop would
        # delete the rows that refer to it. https://alembic.sqlalchemy.org/en/latest/batch.html
        connection.execute(text("PRAGMA foreign_keys=OFF"))
        connection.commit()
    configure(connection=connection)
    with context.begin_transaction():
        if is_sqlite:
            # The driver begins at the first INSERT only, which is too late for a turn.
            connection.execute(text("BEGIN IMMEDIATE"))
        else:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        context.run_migrations()
        if is_sqlite and connection.execute(text("PRAGMA foreign_key_check")).first():
            raise RuntimeError("the migration leaves rows that refer to rows that are gone")


async def run_online() -> None:
    engine = create_engine(database_url, pool_size=1, busy_timeout_s=60)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()


if config.cmd_opts is not None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.INFO)

if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
