"""The service under gunicorn, in processes of its own, as production runs it."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.service import ROOT, START_PATIENCE_S
from tests.support.waiting import PATIENCE_S


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Gunicorn:
    """A running gunicorn."""

    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path
    settings: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written."""
        return self.log_file.read_text()

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    async def get(self, path: str) -> httpx.Response:
        """Ask on a connection of its own, so that any worker may answer."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S) as client:
            return await client.get(path)


@asynccontextmanager
async def running_gunicorn(
    database_url: str, detection_model: Path, folder: Path, *, workers: int, **settings: str
) -> AsyncIterator[Gunicorn]:
    """gunicorn with gunicorn.conf.py, all workers ready; stopped by SIGTERM at the end.

    It writes its log into `folder`.
    """
    port = free_port()
    log_file = folder / "gunicorn.log"
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DETECTION_MODEL": str(detection_model),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TMPDIR": str(folder),
        "WEB_CONCURRENCY": str(workers),
        "CPU_THREADS": "1",
        **settings,
    }
    running = Gunicorn(_start(environment, log_file), port, log_file, settings)
    try:
        await _wait_until_ready(running, workers)
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(running.process.wait, PATIENCE_S)
        except subprocess.TimeoutExpired:
            for pid in running.workers():
                os.kill(pid, signal.SIGKILL)
            running.process.kill()
            running.process.wait()
            raise


def _start(environment: dict[str, str], log_file: Path) -> "subprocess.Popen[bytes]":
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


async def _wait_until_ready(running: Gunicorn, workers: int) -> None:
    async with asyncio.timeout(START_PATIENCE_S):
        while running.log.count(" is ready") < workers:
            if running.process.poll() is not None:
                raise AssertionError(f"gunicorn ended:\n{running.log}")
            await asyncio.sleep(0.1)
        answer = await running.get("/health/ready")
        assert answer.is_success, answer.text
