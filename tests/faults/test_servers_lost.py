"""A PostgreSQL of the test's own is killed and comes back; a real disk is full; a model is broken
when a worker is replaced. Real processes under load."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from alembic import command
from benchmarks.backing import PostgresServer
from tests.databases import alembic_config, create_database
from tests.support.backing import postgres_server
from tests.support.gunicorn import Gunicorn, running_gunicorn
from tests.support.service import ROOT, new_person, running_app
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.faults


@dataclass
class Use:
    """What clients were told while they used the service."""

    acknowledged: set[str] = field(default_factory=set)
    refused: int = 0
    """503 with Retry-After."""
    trouble: list[str] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            text = f"client {number} asks for the {count}th time"
            try:
                answer = await client.post("/prediction", json={"text": text})
            except httpx.TransportError as error:
                self.trouble.append(repr(error))
                continue
            if answer.status_code == 200:
                self.acknowledged.add(text)
            elif answer.status_code == 503 and "retry-after" in answer.headers:
                self.refused += 1
                # As told, though not as long.
                await asyncio.sleep(0.05)
            else:
                self.trouble.append(f"{answer.status_code} {answer.text}")


@asynccontextmanager
async def using(client: httpx.AsyncClient, clients: int) -> AsyncIterator[Use]:
    use = Use()
    tasks = [asyncio.create_task(use._ask(client, number)) for number in range(clients)]
    yield use
    use._stop.set()
    await asyncio.gather(*tasks)


async def sign_in(client: httpx.AsyncClient) -> None:
    account = {"email": "ada@lookout-faults.org", "password": "a password for faults only"}
    assert (await client.post("/register", json=account)).status_code == 201
    form = {"username": account["email"], "password": account["password"]}
    token = (await client.post("/token", data=form)).json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"


async def kept_texts(client: httpx.AsyncClient) -> Counter[str]:
    found: Counter[str] = Counter()
    parameters = {"limit": "100"}
    while True:
        answer = await client.get("/history", params=parameters)
        assert answer.status_code == 200, answer.text
        found.update(item["input"]["text"] for item in answer.json()["items"])
        if answer.json()["next_cursor"] is None:
            return found
        parameters["cursor"] = answer.json()["next_cursor"]


async def until_ready(server: Gunicorn) -> None:
    async with asyncio.timeout(2 * PATIENCE_S):
        # Nobody tells us.
        while not (await server.get("/health/ready")).is_success:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def test_a_killed_postgresql_is_told_with_503_and_nothing_is_lost(
    postgres: PostgresServer, detection_model: Path, tmp_path: Path
) -> None:
    url = postgres.url.replace("postgresql://", "postgresql+asyncpg://")
    await asyncio.to_thread(command.upgrade, alembic_config(url), "head")
    async with (
        running_gunicorn(url, detection_model, tmp_path, workers=2) as server,
        httpx.AsyncClient(base_url=server.url, timeout=2 * PATIENCE_S) as client,
    ):
        await sign_in(client)
        async with using(client, clients=8) as use:
            for _ in range(2):
                wanted = len(use.acknowledged) + 30
                await until(lambda wanted=wanted: len(use.acknowledged) >= wanted)  # type: ignore[misc]
                await asyncio.to_thread(postgres.kill)
                refused = use.refused
                await until(lambda refused=refused: use.refused >= refused + 20)  # type: ignore[misc]
                # What is not kept is answered meanwhile, while the caller is remembered; what
                # answers without the database always is.
                assert (await server.get("/health/live")).status_code == 200
                assert (await server.get("/health/ready")).status_code == 503
                await asyncio.to_thread(postgres.start)
                await until_ready(server)
        assert use.trouble == []
        kept = await kept_texts(client)
    assert use.acknowledged <= set(kept)
    assert set(kept.values()) == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of twelve megabytes. Skips where this account may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("this account may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is left in `folder`."""
    file = folder / "filling"
    with file.open("wb", buffering=0) as contents:
        try:
            while True:
                contents.write(bytes(4096))
        except OSError:
            return file


async def test_a_full_disk_is_told_with_503_and_harms_nothing(
    small_disk: Path, detection_model: Path
) -> None:
    url = await create_database("sqlite", small_disk)
    async with running_app(url, detection_model) as app, new_person(app) as person:

        async def ask(text: str) -> httpx.Response:
            return await person.http.post("/prediction", json={"text": text})

        long = "a long text " * 2000
        assert (await ask(f"before {long}")).status_code == 200
        filling = await asyncio.to_thread(fill, small_disk)
        # What SQLite has room for already, it may still take.
        acknowledged = {f"before {long}"}
        for number in range(1000):
            answer = await ask(f"{number} {long}")
            if answer.status_code != 200:
                break
            acknowledged.add(f"{number} {long}")
        assert answer.status_code == 503
        assert answer.json()["code"] == "history_unavailable"
        assert "retry-after" in answer.headers
        # Reading goes on, and so does what keeps nothing.
        assert (await person.http.get("/history")).status_code == 200
        answer = await person.http.post(
            "/prediction", json={"text": "kept nowhere"}, headers={"X-No-Store": "1"}
        )
        assert answer.status_code == 200
        assert (await person.http.get("/health/live")).status_code == 200
        await asyncio.to_thread(filling.unlink)
        assert (await ask("after")).status_code == 200
        acknowledged.add("after")
        kept = Counter(item["input"]["text"] for item in await person.history())
    assert kept == dict.fromkeys(acknowledged, 1)
    assert await asyncio.to_thread(check_integrity, url) == "ok"


def check_integrity(url: str) -> str:
    path = make_url(url).database
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
        return found


async def test_a_worker_that_cannot_be_replaced_leaves_the_others_alone(
    detection_model: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    await asyncio.to_thread(shutil.copytree, ROOT / "models", models)
    pipeline = models / "newsgroups" / "pipeline.joblib"
    url = await create_database("sqlite", tmp_path)
    async with (
        running_gunicorn(
            url, detection_model, tmp_path, workers=2, MODELS_DIR=str(models)
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=2 * PATIENCE_S) as client,
    ):
        await sign_in(client)
        whole = pipeline.read_bytes()
        pipeline.write_bytes(whole[:1000])
        one, other = server.workers()
        os.kill(one, signal.SIGKILL)
        async with asyncio.timeout(4 * PATIENCE_S):
            while "Lookout cannot start" not in server.log:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        async with using(client, clients=4) as use:
            await until(lambda: len(use.acknowledged) >= 50)
        assert other in server.workers()
        assert server.process.poll() is None
        pipeline.write_bytes(whole)
        async with asyncio.timeout(4 * PATIENCE_S):
            while server.log.count(" is ready") < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert other in server.workers()
