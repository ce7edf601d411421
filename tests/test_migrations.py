"""Migrations on both databases: up, down, up again, and nothing that the models know better."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from io import StringIO

import pytest
from sqlalchemy import inspect, text

from alembic import command
from app.database import Base, Database
from tests.databases import ROOT, alembic_config, temporary_database

TABLES = {"users", "access_tokens", "predictions", "pictures", "feedback", "streams"}


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with temporary_database(request.param, migrate=False) as url:
        yield url


async def read_tables(url: str) -> set[str]:
    database = Database(url)
    async with database.engine.connect() as connection:
        names = await connection.run_sync(lambda it: inspect(it).get_table_names())
    await database.close()
    return set(names) - {"alembic_version"}


async def test_up_down_and_up_again(empty_url: str) -> None:
    config = alembic_config(empty_url)
    await asyncio.to_thread(command.upgrade, config, "head")
    assert await read_tables(empty_url) == TABLES
    await asyncio.to_thread(command.downgrade, config, "base")
    assert await read_tables(empty_url) == set()
    await asyncio.to_thread(command.upgrade, config, "head")
    assert await read_tables(empty_url) == TABLES


async def test_lead_to_what_the_models_say(empty_url: str) -> None:
    config = alembic_config(empty_url)
    await asyncio.to_thread(command.upgrade, config, "head")
    # Raises when a new migration would have something to do.
    await asyncio.to_thread(command.check, config)
    assert set(Base.metadata.tables) >= TABLES


async def test_processes_that_start_at_once_take_turns(empty_url: str) -> None:
    environment = os.environ | {"DATABASE_URL": empty_url, "ENVIRONMENT": "development"}
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "alembic", "upgrade", "head",
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum(b"Running upgrade" in output for output, _ in outputs) == 1
    assert await read_tables(empty_url) == TABLES


async def test_can_be_written_out_as_sql(empty_url: str) -> None:
    config = alembic_config(empty_url)
    written = StringIO()
    config.output_buffer = written
    with redirect_stdout(written):
        await asyncio.to_thread(command.upgrade, config, "head", sql=True)
    for table in TABLES:
        assert f"CREATE TABLE {table} (" in written.getvalue()


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    # The third table is in the way.
    database = Database(empty_url)
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE predictions (id INTEGER)"))
    await database.close()
    with pytest.raises(Exception, match="already exists"):
        await asyncio.to_thread(command.upgrade, alembic_config(empty_url), "head")
    assert await read_tables(empty_url) == {"predictions"}
