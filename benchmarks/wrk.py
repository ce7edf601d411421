"""Drives wrk (https://github.com/wg/wrk, `apt-get install wrk`) and reads what it says."""

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

_SCRIPT = Path(__file__).parent / "lua" / "prediction.lua"
_MARK = "RESULT "
# Longer than any answer of a measured server takes; a slow answer is no error here.
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class WrkResult:
    """One run of wrk."""

    requests: int
    duration_s: float
    not_2xx: int
    socket_errors: int
    """Connections refused or broken, and answers that did not come in time."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_ms: float = math.nan
    """Processor time of the server for each answer, all its processes; a busy machine changes it
    far less than it changes the rate."""

    @property
    def requests_per_s(self) -> float:
        """Answers a second, whatever their status."""
        return self.requests / self.duration_s

    @property
    def errors(self) -> int:
        """Requests that got no 2xx answer."""
        return self.not_2xx + self.socket_errors


def parse(output: str) -> WrkResult:
    """Read the line that the script writes at the end. Raises `BenchmarkError` without one."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            found = json.loads(line.removeprefix(_MARK))
            return WrkResult(
                requests=found["requests"],
                duration_s=found["duration_us"] / 1e6,
                not_2xx=found["status"],
                socket_errors=sum(found[k] for k in ("connect", "read", "write", "timeout")),
                p50_ms=found["p50_us"] / 1e3,
                p90_ms=found["p90_us"] / 1e3,
                p99_ms=found["p99_us"] / 1e3,
                max_ms=found["max_us"] / 1e3,
            )
    raise BenchmarkError(f"wrk wrote no result:\n{output.strip()[-2000:]}")


def find_wrk() -> str:
    """The program's path. Raises `BenchmarkError` that says how to get it."""
    path = shutil.which("wrk")
    if path is None:
        raise BenchmarkError(
            "wrk is not installed. On Debian and Ubuntu: apt-get install wrk; "
            "on macOS: brew install wrk."
        )
    return path


def run_wrk(
    url: str,
    bodies: Path,
    *,
    connections: int,
    seconds: float,
    salt: int,
    headers: Mapping[str, str],
    allow_errors: bool = False,
) -> WrkResult:
    """POST the lines of `bodies` to `url` over `connections` for `seconds` (rounded up).

    `salt` in 0 to 9999 makes the texts differ from those of other runs. Raises `BenchmarkError`
    on anything but 2xx unless `allow_errors`: a server that fails fast would win otherwise.
    """
    whole_seconds = math.ceil(seconds)
    command = [
        find_wrk(),
        # One thread: it is no bottleneck at these rates, and more would fight the server's cores.
        "--threads=1",
        f"--connections={connections}",
        f"--duration={whole_seconds}s",
        f"--timeout={_TIMEOUT_S}s",
        f"--script={_SCRIPT}",
        url,
        "--",
        str(bodies),
        str(salt),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=whole_seconds + 60, check=False
    )
    if finished.returncode:
        raise BenchmarkError(f"wrk failed: {finished.stderr.strip() or finished.stdout.strip()}")
    result = parse(finished.stdout)
    if result.errors and not allow_errors:
        raise BenchmarkError(
            f"{url}: {result.not_2xx} of {result.requests} answers were not 2xx, "
            f"{result.socket_errors} socket errors"
        )
    if not result.requests:
        raise BenchmarkError(f"{url}: no answer within {whole_seconds} s")
    return result
