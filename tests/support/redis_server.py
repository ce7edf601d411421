"""A Redis of a test's own, which can be killed and started again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.waiting import PATIENCE_S


class RedisServer:
    """`redis-server` on a free port of loopback, keeping nothing on disk."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no", "--dir", self._folder],
            stdout=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            self._process = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A running Redis. Skips the test, saying so, where there is none; fails it in CI."""
    if shutil.which("redis-server") is None:
        message = "redis-server is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with tempfile.TemporaryDirectory(prefix="lookout-redis-") as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()
