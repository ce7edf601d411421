"""Real servers in processes of their own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.service import ROOT, START_PATIENCE_S
from tests.support.waiting import PATIENCE_S


def free_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    """That of a server: no hub is asked, and the cores are shared with others."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "CPU_THREADS": "1", **settings}


@dataclass(frozen=True, slots=True)
class Server:
    """`python -m app.serve`."""

    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has written."""
        return self.log_file.read_text()

    def client(self, **options: Mapping[str, str]) -> httpx.AsyncClient:
        """A client of this server."""
        return httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, **options)  # type: ignore[arg-type]

    async def stop(self) -> int:
        """Ask it to end, as an operator does, and wait; its status."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


def start_server(folder: Path, **settings: str) -> Server:
    """Start a server that logs into `folder`."""
    port = free_port()
    log_file = folder / f"server-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.serve"],
            cwd=ROOT,
            env=environment(HOST="127.0.0.1", PORT=str(port), **settings),
            stdout=log,
            stderr=log,
        )
    return Server(process, port, log_file)


@asynccontextmanager
async def running_servers(count: int, folder: Path, **settings: str) -> AsyncIterator[list[Server]]:
    """So many servers with the same settings, ready to serve; ended at the end."""
    servers = [start_server(folder, **settings) for _ in range(count)]
    try:
        async with asyncio.timeout(START_PATIENCE_S):
            await asyncio.gather(*(_until_ready(server) for server in servers))
        yield servers
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


async def _until_ready(server: Server) -> None:
    async with server.client() as client:
        while True:
            assert server.process.poll() is None, server.log
            try:
                if (await client.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
