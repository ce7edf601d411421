"""Starts and ends the measured servers, each a process on a free loopback port."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.errors import BenchmarkError
from benchmarks.http_call import fetch

_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 20.0
_POLL_EVERY_S = 0.02


@dataclass(frozen=True)
class ServerPlan:
    """How a server is started. `{port}` in the command is replaced."""

    name: str
    command: Sequence[str]
    folder: Path
    """Working directory, which gets the log."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_path: str = "/health/live"


class Server:
    """One running server; a context manager."""

    def __init__(self, plan: ServerPlan) -> None:
        self.name = plan.name
        self.port = free_port()
        self.headers: dict[str, str] = {}
        """What its clients send with every request."""
        self.seconds_to_ready = 0.0
        """From the process's start to the first good answer of its health check."""
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._log = plan.folder / f"{plan.name}.log"

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        """Of the detector's WebSocket."""
        return f"ws://127.0.0.1:{self.port}/object-detection"

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start, and return when it is ready. Raises `BenchmarkError` with the end of its log."""
        values = {"port": str(self.port)}
        command = [part.format_map(values) for part in self._plan.command]
        environment = {**self._plan.environment, "PORT": str(self.port)}
        started = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._plan.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: LitServe's helpers end with it.
                start_new_session=True,
            )
        try:
            self._wait(started)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.monotonic() - started
        return self

    def _wait(self, started: float) -> None:
        assert self._process is not None
        while time.monotonic() < started + _START_TIMEOUT_S:
            if self._process.poll() is not None:
                raise BenchmarkError(f"{self.name} ended at its start:\n{self.log_end()}")
            try:
                if fetch(self.url + self._plan.ready_path, timeout_s=5).status == 200:
                    return
            except OSError:
                pass
            time.sleep(_POLL_EVERY_S)
        raise BenchmarkError(
            f"{self.name} was not ready within {_START_TIMEOUT_S:g} s:\n{self.log_end()}"
        )

    def log_end(self, size: int = 3000) -> str:
        """The last characters of its log."""
        return self._log.read_text(errors="replace")[-size:].strip()

    def resident_bytes(self) -> int:
        """Memory of the process that is resident now."""
        return _status_bytes(self.pid, "VmRSS")

    def peak_resident_bytes(self) -> int:
        """The most that was ever resident."""
        return _status_bytes(self.pid, "VmHWM")

    def cpu_seconds(self) -> float:
        """Processor time used so far by it and its running children, all threads."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                # Ended in the meantime.
                continue
            # proc(5), less the two before the bracket: session is field 6, utime and stime are
            # fields 14 and 15. Every server leads a session of its own.
            if int(fields[3]) == self.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it and its children, gently at first."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience_s in ((signal.SIGTERM, _STOP_TIMEOUT_S), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
                process.wait(patience_s)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
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


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def uvicorn_command(module: str) -> list[str]:
    """One process with the same loop and parser as the service: a fair fight."""
    return [
        sys.executable,
        *("-m", "uvicorn", f"{module}:app", "--host", "127.0.0.1", "--port", "{port}"),
        *("--loop", "uvloop", "--http", "httptools"),
        *("--log-level", "warning", "--no-access-log"),
    ]


def _status_bytes(pid: int, key: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise BenchmarkError(f"the memory of process {pid} cannot be read: {error}") from error
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise BenchmarkError(f"/proc/{pid}/status has no {key}")
