"""The doctor finds what keeps the service from working, and says what to do."""

import asyncio
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.cli import main
from app.config import Settings, get_settings
from app.database import Database
from app.doctor import Finding, Level, examine
from tests.databases import temporary_database
from tests.support.checkpoints import write_checkpoint
from tests.support.gunicorn import free_port
from tests.support.service import ROOT


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "small"
    write_checkpoint(folder)
    return folder


async def find(checkpoint: Path, **options: Any) -> dict[str, Finding]:
    """The findings of a healthy installation with these settings, by part: the worst of each."""
    settings = Settings(
        _env_file=None,
        **{
            "secret_key": secrets.token_urlsafe(48),
            "models_dir": ROOT / "models",
            "detection_model": str(checkpoint),
            "port": free_port(),
            **options,
        },
    )
    order = list(Level)
    found: dict[str, Finding] = {}
    async for finding in examine(settings):
        known = found.get(finding.part)
        if known is None or order.index(finding.level) > order.index(known.level):
            found[finding.part] = finding
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_healthy_installation_has_no_error(checkpoint: Path, kind: Any) -> None:
    async with temporary_database(kind) as url:
        found = await find(checkpoint, database_url=url, environment="production")
    assert {part for part, one in found.items() if one.level is Level.ERROR} == set()
    for part in ("settings", "secret", "database", "migrations", "clock", "redis", "device"):
        assert found[part].level is Level.OK, found[part]
    assert found["model newsgroups"].message.endswith("verified")


class TestDatabase:
    async def test_that_is_not_there(self, checkpoint: Path, tmp_path: Path) -> None:
        url = f"sqlite+aiosqlite:///{tmp_path / 'none.db'}"
        found = await find(checkpoint, database_url=url)
        assert found["database"].level is Level.ERROR
        assert "./prestart.sh" in found["database"].message
        assert os.listdir(tmp_path) == []

    async def test_that_does_not_answer_without_telling_its_password(
        self, checkpoint: Path
    ) -> None:
        url = "postgresql://me:hunter2@127.0.0.1:1/lookout"
        found = await find(checkpoint, database_url=url)
        assert found["database"].level is Level.ERROR
        assert "hunter2" not in str(found)

    async def test_that_is_not_migrated(self, checkpoint: Path) -> None:
        async with temporary_database("sqlite", migrate=False) as url:
            database = Database(url)
            await database.ping()
            await database.close()
            found = await find(checkpoint, database_url=url)
        assert found["migrations"].level is Level.ERROR
        assert "./prestart.sh" in found["migrations"].message

    async def test_that_a_newer_version_has_migrated(self, checkpoint: Path) -> None:
        async with temporary_database("sqlite") as url:
            database = Database(url)
            async with database.engine.begin() as connection:
                await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            await database.close()
            found = await find(checkpoint, database_url=url)
        assert "newer version" in found["migrations"].message


class TestSecret:
    async def test_that_nobody_set(self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SECRET_KEY", raising=False)
        alone = Settings(_env_file=None, detection_model=str(checkpoint))
        several = Settings(_env_file=None, detection_model=str(checkpoint), web_concurrency=2)
        levels = []
        for settings in (alone, several):
            async for finding in examine(settings):
                if finding.part == "secret":
                    levels.append(finding.level)
        assert levels == [Level.WARNING, Level.ERROR]

    @pytest.mark.parametrize("secret", ["x" * 48, "lookout-secret-lookout-secret-lookout"])
    async def test_that_can_be_guessed(self, checkpoint: Path, secret: str) -> None:
        found = await find(checkpoint, secret_key=secret)
        assert found["secret"].level is Level.WARNING
        assert secret not in str(found)

    async def test_in_a_file_that_others_can_read(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        _write(tmp_path / ".env", 0o644)
        assert "chmod 600" in (await find(checkpoint))[".env"].message
        _write(tmp_path / ".env", 0o600)
        assert (await find(checkpoint))[".env"].level is Level.OK


def _write(file: Path, mode: int) -> None:
    file.write_text("")
    file.chmod(mode)


class TestModels:
    async def test_whose_file_was_changed(self, checkpoint: Path, tmp_path: Path) -> None:
        models = tmp_path / "models"
        await asyncio.to_thread(shutil.copytree, ROOT / "models", models)
        _append(models / "newsgroups" / "pipeline.joblib")
        found = await find(checkpoint, models_dir=models)
        assert found["models"].level is Level.ERROR
        assert "SHA-256" in found["models"].message
        assert "restore the folder" in found["models"].message

    async def test_that_are_not_there(self, checkpoint: Path, tmp_path: Path) -> None:
        found = await find(
            checkpoint, models_dir=tmp_path, detection_model=str(tmp_path / "nothing")
        )
        assert found["models"].level is Level.ERROR
        assert found["detection model"].level is Level.ERROR

    async def test_of_a_name_that_the_manifest_has_not(self, checkpoint: Path) -> None:
        found = await find(checkpoint, text_model="horoscopes")
        assert "newsgroups" in found["model horoscopes"].message


def _append(file: Path) -> None:
    with file.open("ab") as contents:
        contents.write(b"x")


class TestMachine:
    async def test_a_device_that_is_not_there(self, checkpoint: Path) -> None:
        found = await find(checkpoint, device="cuda:99")
        assert found["device"].level is Level.ERROR
        assert "DEVICE=auto" in found["device"].message

    async def test_a_backend_that_is_not_installed(
        self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "openvino", None)
        found = await find(checkpoint, detection_backend="openvino")
        assert found["detection backend"].level is Level.ERROR
        assert "requirements-openvino.txt" in found["detection backend"].message
        found = await find(checkpoint, detection_backend="onnxruntime")
        assert found["detection backend"].level is Level.OK

    async def test_more_threads_than_cores(self, checkpoint: Path) -> None:
        cores = os.cpu_count() or 1
        found = await find(checkpoint, web_concurrency=cores, cpu_threads=2)
        assert found["threads"].level is Level.WARNING

    async def test_more_workers_than_memory(self, checkpoint: Path) -> None:
        found = await find(checkpoint, web_concurrency=100_000)
        assert found["memory"].level is Level.WARNING

    async def test_redis_that_does_not_answer(self, checkpoint: Path) -> None:
        found = await find(checkpoint, redis_url="redis://:hunter2@127.0.0.1:1/0")
        assert found["redis"].level is Level.WARNING
        assert "hunter2" not in str(found)

    async def test_fewer_files_than_connections(self, checkpoint: Path) -> None:
        assert (await find(checkpoint, max_connections=100))["open files"].level is Level.OK
        found = await find(checkpoint, max_connections=2**31)
        assert found["open files"].level is Level.WARNING
        assert "MAX_CONNECTIONS" in found["open files"].message

    async def test_a_port_that_is_taken(self, checkpoint: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            found = await find(checkpoint, port=port)
        assert found["port"].level is Level.WARNING
        assert str(port) in found["port"].message

    async def test_a_metrics_folder_of_the_operators(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        assert str(tmp_path) in (await find(checkpoint))["metrics"].message


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda:99", 1)])
async def test_the_command_ends_with_1_when_something_must_be_put_right(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
    status: int,
) -> None:
    async with temporary_database("sqlite") as url:
        for name, value in {
            "DATABASE_URL": url,
            "DETECTION_MODEL": str(checkpoint),
            "DEVICE": device,
            "SECRET_KEY": secrets.token_urlsafe(48),
        }.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        # It has an event loop of its own.
        assert await asyncio.to_thread(main, ["doctor"]) == status
        get_settings.cache_clear()
    printed = capsys.readouterr()
    assert "ok       migrations: " in printed.out
    assert ("error    device: " in printed.out) is bool(status)
    assert ("must be put right" in printed.err) is bool(status)
