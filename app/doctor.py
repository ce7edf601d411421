"""`python -m app.cli doctor`: looks for what would keep the service from running well here."""

import asyncio
import os
import resource
import shutil
import socket
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from app.config import Settings, is_guessable
from app.connections import needed_files
from app.database import Database
from app.inference import hub
from app.inference.base import ModelLoadError
from app.inference.detector_backends.base import check_installed
from app.inference.device import plan_device
from app.inference.registry import ModelRegistry

_ALEMBIC_INI = Path(__file__).parent.parent / "alembic.ini"
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_TIMEOUT_S = 5.0
_GIB = 2**30
# What one worker with both models takes, by measurement; see docs/deployment.md.
_WORKER_BYTES = 0.9 * _GIB
_LOW_DISK_BYTES = 1 * _GIB
_NO_DISK_BYTES = 0.1 * _GIB
_CLOCK_TOLERANCE_S = 5.0


class Level(StrEnum):
    """How much a finding matters: an error keeps the service from working."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and, where it is not well, what to do."""

    level: Level
    part: str
    message: str

    def __str__(self) -> str:
        return f"{self.level:<7}  {self.part}: {self.message}"


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Yield the findings one by one, as they are made. Changes nothing.

    A detection model that has to come from the hub is fetched, as the start would.
    """
    yield _check_environment(settings)
    yield _check_secret(settings)
    for finding in _check_env_file(settings):
        yield finding
    for finding in await _check_database(settings):
        yield finding
    yield await _check_redis(settings)
    for finding in await asyncio.to_thread(_check_models, settings):
        yield finding
    yield await asyncio.to_thread(_check_device, settings)
    yield _check_backend(settings)
    yield _check_threads(settings)
    yield _check_memory(settings)
    yield _check_disk(settings)
    yield _check_files(settings)
    for finding in _check_ports(settings):
        yield finding
    yield _check_metrics_folder()


def _check_environment(settings: Settings) -> Finding:
    if settings.environment == "production":
        return Finding(Level.OK, "settings", "ENVIRONMENT=production")
    return Finding(
        Level.WARNING,
        "settings",
        "ENVIRONMENT=development: cookies also go over plain HTTP. "
        "Set ENVIRONMENT=production where others can reach the service.",
    )


def _check_secret(settings: Settings) -> Finding:
    advice = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
    if "secret_key" not in settings.model_fields_set or settings.secret_key is None:
        level = Level.WARNING if settings.web_concurrency == 1 else Level.ERROR
        return Finding(
            level,
            "secret",
            "SECRET_KEY is not set, so each process makes its own, and CSRF tokens of one are "
            f"refused by the others and after a restart. {advice}",
        )
    secret = settings.secret_key.get_secret_value()
    if is_guessable(secret):
        level = Level.ERROR if settings.environment == "production" else Level.WARNING
        return Finding(level, "secret", f"SECRET_KEY can be guessed. {advice}")
    return Finding(Level.OK, "secret", f"SECRET_KEY has {len(secret)} characters")


def _check_env_file(settings: Settings) -> list[Finding]:
    file = Path(".env")
    if not file.exists():
        return []
    if file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        level = Level.ERROR if settings.environment == "production" else Level.WARNING
        return [
            Finding(level, ".env", "other accounts can read it. Run: chmod 600 .env"),
        ]
    return [Finding(Level.OK, ".env", "only its owner can read it")]


async def _check_database(settings: Settings) -> list[Finding]:
    url = make_url(settings.database_url)
    # Without the password: people paste this into tickets.
    name = url.render_as_string(hide_password=True)
    clock = _check_clock(settings, None)
    if _is_missing_file(url):
        message = f"{name} is not there yet. Run: ./prestart.sh"
        return [Finding(Level.ERROR, "database", message), clock]
    database = Database(settings.database_url, pool_size=1)
    try:
        async with asyncio.timeout(_TIMEOUT_S), database.engine.connect() as connection:
            revision = await connection.run_sync(_current_revision)
            server_time: datetime | None = None
            if database.dialect == "postgresql":
                server_time = await connection.scalar(text("SELECT clock_timestamp()"))
    except (OSError, TimeoutError, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        advice = "Is DATABASE_URL right, and the server running?"
        message = f"{name} does not answer: {reason!r}. {advice}"
        return [Finding(Level.ERROR, "database", message), clock]
    finally:
        await database.close()
    findings = [Finding(Level.OK, "database", f"{name} answers")]
    findings.append(_check_migrations(revision))
    findings.append(_check_clock(settings, server_time))
    return findings


def _is_missing_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_migrations(revision: str | None) -> Finding:
    scripts = ScriptDirectory.from_config(Config(_ALEMBIC_INI))
    head = scripts.get_current_head()
    if revision == head:
        return Finding(Level.OK, "migrations", f"at {revision}, the newest")
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        return Finding(
            Level.ERROR,
            "migrations",
            f"the database is at {revision}, which this version does not know: a newer version "
            "has been here. Install that one, or restore the backup made before it.",
        )
    return Finding(
        Level.ERROR,
        "migrations",
        f"the database is at {revision}, the newest is {head}. Back it up and run: ./prestart.sh",
    )


def _check_clock(settings: Settings, server_time: datetime | None) -> Finding:
    now = datetime.now(UTC)
    if server_time is not None:
        difference_s = abs((now - server_time).total_seconds())
        if difference_s > _CLOCK_TOLERANCE_S:
            return Finding(
                Level.WARNING,
                "clock",
                f"differs from the database's by {difference_s:.0f} s: tokens expire at the wrong "
                "time. Synchronise both (systemd-timesyncd, chrony).",
            )
        return Finding(Level.OK, "clock", "agrees with the database's")
    try:
        made = (settings.models_dir / "manifest.json").stat().st_mtime
    except OSError:
        return Finding(Level.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    if time.time() < made - _CLOCK_TOLERANCE_S:
        return Finding(
            Level.WARNING,
            "clock",
            f"says {now:%Y-%m-%d %H:%M} UTC, before the models were written. Synchronise it.",
        )
    return Finding(Level.OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


async def _check_redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding(Level.OK, "redis", "not used (REDIS_URL is not set)")
    try:
        async with Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        ) as redis:
            await redis.ping()
    except (OSError, ValueError, RedisError) as error:
        # Not an error: the service goes on without it.
        return Finding(
            Level.WARNING,
            "redis",
            f"does not answer: {error}. Nothing is shared between workers until it does; "
            "is REDIS_URL right?",
        )
    return Finding(Level.OK, "redis", "answers")


def _check_models(settings: Settings) -> list[Finding]:
    findings: list[Finding] = []
    try:
        registry = ModelRegistry(settings.models_dir)
        for name in registry.names:
            registry.read_verified(name)
            findings.append(
                Finding(Level.OK, f"model {name}", f"version {registry.version(name)}, verified")
            )
        if settings.text_model not in registry.names:
            findings.append(
                Finding(
                    Level.ERROR,
                    f"model {settings.text_model}",
                    "TEXT_MODEL is not in the manifest. Set it to one that is: "
                    f"{', '.join(registry.names)}",
                )
            )
    except ModelLoadError as error:
        advice = "Is MODELS_DIR right? Else restore the folder from the release it came from."
        findings.append(Finding(Level.ERROR, "models", f"{error} {advice}"))
    try:
        source = hub.find_checkpoint(
            settings.detection_model, settings.models_dir, settings.hub_timeout_s
        )
    except ModelLoadError as error:
        advice = "Set DETECTION_MODEL to auto, a folder or a hub id."
        findings.append(Finding(Level.ERROR, "detection model", f"{error}. {advice}"))
    else:
        level = Level.OK if source.notice is None else Level.WARNING
        message = source.notice or f"{source.name} in {source.folder}"
        findings.append(Finding(level, "detection model", message))
    return findings


def _check_device(settings: Settings) -> Finding:
    try:
        plan = plan_device(settings.device)
    except ModelLoadError as error:
        advice = "Set DEVICE=auto, or install what the device needs."
        return Finding(Level.ERROR, "device", f"{error}. {advice}")
    return Finding(Level.OK, "device", f"{plan.device}, {plan.dtype}".replace("torch.", ""))


def _check_backend(settings: Settings) -> Finding:
    try:
        check_installed(settings.detection_backend)
    except ModelLoadError as error:
        return Finding(Level.ERROR, "detection backend", str(error))
    return Finding(Level.OK, "detection backend", settings.detection_backend)


def _check_threads(settings: Settings) -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    workers = settings.web_concurrency
    threads = settings.cpu_threads or max(1, cores // workers)
    message = f"{workers} workers with {threads} model threads each on {cores} cores"
    if workers * threads > cores:
        return Finding(
            Level.WARNING,
            "threads",
            f"{message}: they will fight. Lower WEB_CONCURRENCY or CPU_THREADS.",
        )
    return Finding(Level.OK, "threads", message)


def _check_memory(settings: Settings) -> Finding:
    wanted = settings.web_concurrency * _WORKER_BYTES
    available = _available_memory()
    if available is None:
        return Finding(Level.OK, "memory", "unknown on this system")
    message = f"{available / _GIB:.1f} GiB available for {settings.web_concurrency} workers"
    if available < wanted:
        return Finding(
            Level.WARNING,
            "memory",
            f"{message}, which take about {wanted / _GIB:.1f} GiB. Lower WEB_CONCURRENCY.",
        )
    return Finding(Level.OK, "memory", message)


def _available_memory() -> int | None:
    """What this machine or container has left, in bytes; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        available = min(available, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        # No limit: the file says `max`, or is not there.
        pass
    return available


def _check_disk(settings: Settings) -> Finding:
    url = make_url(settings.database_url)
    is_sqlite = url.get_backend_name() == "sqlite" and url.database is not None
    folder = Path(url.database or "").parent if is_sqlite else Path.cwd()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    message = f"{free / _GIB:.1f} GiB free in {folder.resolve()}"
    if is_sqlite and not os.access(folder, os.W_OK):
        return Finding(
            Level.ERROR, "disk", f"{folder.resolve()} cannot be written by this account: chown it"
        )
    if is_sqlite and free < _NO_DISK_BYTES:
        return Finding(Level.ERROR, "disk", f"{message}: the history cannot be kept. Make room.")
    if is_sqlite and free < _LOW_DISK_BYTES:
        return Finding(Level.WARNING, "disk", f"{message}. Make room soon.")
    return Finding(Level.OK, "disk", message)


def _check_files(settings: Settings) -> Finding:
    # The soft one is raised at the start.
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = needed_files(settings.max_connections)
    if limit != resource.RLIM_INFINITY and limit < needed:
        return Finding(
            Level.WARNING,
            "open files",
            f"a process may have {limit:,}, and MAX_CONNECTIONS={settings.max_connections} needs "
            f"{needed:,}. Raise it (ulimit -Hn, systemd's LimitNOFILE), or lower MAX_CONNECTIONS.",
        )
    return Finding(Level.OK, "open files", f"enough for {settings.max_connections:,} connections")


def _check_ports(settings: Settings) -> list[Finding]:
    ports = [("port", settings.host, settings.port)]
    if settings.metrics_port is not None:
        # Where prometheus_client listens.
        ports.append(("metrics port", "0.0.0.0", settings.metrics_port))
    findings = []
    for part, host, port in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                finding = Finding(
                    Level.WARNING,
                    part,
                    f"{host}:{port} cannot be had ({error.strerror}). Well, if that is this "
                    "service running; else choose another.",
                )
            else:
                finding = Finding(Level.OK, part, f"{host}:{port} is free")
        findings.append(finding)
    return findings


def _check_metrics_folder() -> Finding:
    folder = os.environ.get(_METRICS_FOLDER)
    if folder is None:
        return Finding(Level.OK, "metrics", "gunicorn makes a folder for its workers' metrics")
    path = Path(folder)
    if path.is_dir() and not os.access(path, os.W_OK):
        return Finding(
            Level.ERROR, "metrics", f"{_METRICS_FOLDER}={folder} cannot be written: chown it"
        )
    return Finding(Level.OK, "metrics", f"{_METRICS_FOLDER}={folder}")
