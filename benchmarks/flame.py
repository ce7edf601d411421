"""Flame graphs of the service under load: where the processor's time goes, and whose it is.

py-spy (https://github.com/benfred/py-spy) looks at the running process from outside. It needs the
right to: root, or `kernel.yama.ptrace_scope` 0.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.errors import BenchmarkError

_SECONDS = 10
_SETTLING_S = 2
_SAMPLES_PER_S = 200

LOADS: dict[str, Callable[[Bench, float], object]] = {
    "T1": lambda bench, seconds: bench.load_texts("service", seconds=seconds),
    "T2": lambda bench, seconds: bench.load_texts("service", seconds=seconds, fixed=True),
    "T3": lambda bench, seconds: bench.load_texts("service", seconds=seconds, keep_history=True),
    "D1": lambda bench, seconds: bench.film("service", 1, seconds=seconds),
    "D3": lambda bench, seconds: bench.film("service", 4, seconds=seconds),
}

_COMPUTED_WITHOUT_PYTHON = {"D1", "D3"}


def draw_flames(bench: Bench, scenarios: list[str], folder: Path) -> list[Path]:
    """One SVG in `folder` for each of `scenarios`. Raises `BenchmarkError`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_draw(bench, name, folder / f"flame-{name}.svg") for name in scenarios]


def _draw(bench: Bench, scenario: str, path: Path) -> Path:
    server = bench.fleet["service"]
    LOADS[scenario](bench, _SETTLING_S)
    command = [
        str(Path(sys.executable).parent / "py-spy"),
        "record",
        f"--pid={server.pid}",
        f"--duration={_SECONDS}",
        f"--rate={_SAMPLES_PER_S}",
        "--threads",
        f"--output={path}",
    ]
    # py-spy stops the threads for each look, which makes idle ones runnable: on cores that are all
    # in use they still wait to run at the next look, and are taken for busy. Where Python is what
    # runs, its lock tells who does; where libraries compute without it, stacks hardly change
    # meanwhile, and nobody need be stopped.
    command.append("--nonblocking" if scenario in _COMPUTED_WITHOUT_PYTHON else "--gil")
    recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    LOADS[scenario](bench, _SECONDS + _SETTLING_S)
    _, complaint = recorder.communicate(timeout=60)
    if recorder.returncode:
        raise BenchmarkError(f"py-spy failed: {complaint.decode(errors='replace').strip()}")
    bench.say(f"written to {path}")
    return path
