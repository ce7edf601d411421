"""A real server in a process of its own, which can be stopped and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
# No test depends on how long something takes: this only ends one that hangs.
PATIENCE_S = 180.0


class Server:
    """`python -m app.serve` on a migrated database in `folder`, always on the same port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log_path = folder / "server.log"
        self._environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/lookout.db",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            # Sessions outlive a restart, and no hub is asked for a model.
            "SECRET_KEY": "a key for tests of the browser, and for nothing else",
            "HF_HUB_OFFLINE": "1",
            # All who sign up in these tests come from one address.
            "REGISTRATIONS_PER_MINUTE": "1000000",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT,
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        """Start, and return when the server is ready."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.serve"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        give_up_at = time.monotonic() + PATIENCE_S
        while True:
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the server did not start:\n{self._log_path.read_text()}")
            try:
                if httpx.get(f"{self.url}/health/ready").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)

    def run_cli(self, *arguments: str, typed: str = "") -> None:
        """Carry out a command of `app.cli` on the server's database."""
        subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=ROOT,
            env=self._environment,
            input=typed.encode(),
            check=True,
            capture_output=True,
        )

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Meanwhile the process does nothing, as on a machine that has run out of memory."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop as a service manager does, and return when the process has gone."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE_S)
        self._process = None
