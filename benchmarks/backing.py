"""PostgreSQL, Redis and Prometheus of one's own, which can be killed and started again."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import urlopen

from benchmarks.errors import BenchmarkError
from benchmarks.servers import free_port

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_EVERY_S = 0.05
# PostgreSQL refuses to run as root. Debian's package makes the first of these accounts.
_POSTGRES_ACCOUNTS = ("postgres", "nobody")


class Backing:
    """One process on a free loopback port; a context manager. `folder` gets its data and log."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What is started."""
        raise NotImplementedError

    def is_up(self) -> bool:
        """Whether it answers now. May raise OSError for no."""
        raise NotImplementedError

    def account(self) -> str | None:
        """Whom it runs as; None: whoever runs this."""
        return None

    def start(self) -> Self:
        """Start, and return when it answers. Raises `BenchmarkError` with the end of its log."""
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        self._process = self._spawn()
        while time.monotonic() < give_up_at:
            if self._process.poll() is not None:
                # What a killed one held (memory, a port) may take a moment to be free.
                time.sleep(_POLL_EVERY_S)
                self._process = self._spawn()
            try:
                if self.is_up():
                    return self
            except OSError:
                pass
            time.sleep(_POLL_EVERY_S)
        raise BenchmarkError(f"{self.name} does not start:\n{self.log.read_text()[-3000:]}")

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self.account(),
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        """All that it has written."""
        return self.folder / f"{self.name}.log"

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it gently."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class PostgresServer(Backing):
    """A PostgreSQL with a fresh cluster. Raises `BenchmarkError` where it is not installed."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._binaries = find_postgres()
        if self._binaries is None:
            raise BenchmarkError("PostgreSQL's initdb is not installed (Debian: postgresql)")
        self._data = folder / "data"
        owner = self.account()
        if owner is not None:
            # Its account has to come in, and nobody else.
            self._data.mkdir(mode=0o700)
            shutil.chown(self._data, owner)
            folder.chmod(0o711)
        subprocess.run(
            [
                *(str(self._binaries / "initdb"), "--pgdata", str(self._data), "--auth", "trust"),
                *("--username", "postgres", "--encoding", "UTF8", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            user=owner,
            cwd=folder,
        )

    @property
    def url(self) -> str:
        """Of its only database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def account(self) -> str | None:
        return _find_account() if os.getuid() == 0 else None

    def command(self) -> list[str]:
        assert self._binaries is not None
        return [
            *(str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ]

    def is_up(self) -> bool:
        assert self._binaries is not None
        asked = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs; Debian keeps them out of the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return debian[-1].parent if debian else None


def _find_account() -> str:
    for name in _POSTGRES_ACCOUNTS:
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise BenchmarkError(f"none of the accounts {_POSTGRES_ACCOUNTS} is there for PostgreSQL")


class RedisServer(Backing):
    """A Redis that keeps nothing on disk."""

    name = "redis"

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        return [*command, "--save", "", "--appendonly", "no"]

    def is_up(self) -> bool:
        asked = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), "ping"]
        return subprocess.run(asked, check=False, capture_output=True).stdout == b"PONG\n"


class PrometheusServer(Backing):
    """Prometheus with a copy of `deploy/prometheus`, whose target and interval it changes."""

    name = "prometheus"

    def __init__(self, folder: Path, deployed: Path, target: str) -> None:
        super().__init__(folder)
        text = (deployed / "prometheus.yaml").read_text()
        for old, new in {
            '"lookout:9100"': f'"{target}"',
            "scrape_interval: 15s": "scrape_interval: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 1s",
        }.items():
            if old not in text:
                raise BenchmarkError(f"{old} is not in {deployed / 'prometheus.yaml'}")
            text = text.replace(old, new)
        (folder / "prometheus.yaml").write_text(text)
        shutil.copy(deployed / "alerts.yaml", folder)

    def command(self) -> list[str]:
        return [
            *("prometheus", f"--config.file={self.folder / 'prometheus.yaml'}"),
            *(f"--storage.tsdb.path={self.folder / 'data'}", "--log.level=warn"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def is_up(self) -> bool:
        with urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)

    def ask(self, path: str, **parameters: str | float) -> Any:
        """`data` of an answer of its HTTP API, as `query` or `rules`.

        https://prometheus.io/docs/prometheus/latest/querying/api/
        """
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def query_range(
        self, expression: str, start: float, end: float, step_s: float = 1.0
    ) -> list[dict[str, Any]]:
        """The series of a range query."""
        found: list[dict[str, Any]] = self.ask(
            "query_range", query=expression, start=start, end=end, step=step_s
        )["result"]
        return found


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return once `condition` holds. Raises `BenchmarkError` naming `what` when it never does."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise BenchmarkError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(_POLL_EVERY_S)
