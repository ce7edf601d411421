"""gunicorn's configuration for production: run `gunicorn` in this folder.

What belongs to the service comes from its settings; everything else can be overridden in
GUNICORN_CMD_ARGS, for example `--bind unix:/run/lookout/socket`.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

# Set before the settings are read and before prometheus_client is imported: each worker inherits
# them. Half the cores are workers, so that each model has two threads, and no more than four,
# since each worker keeps its own copy of the models (about 0.7 GB).
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("WEB_CONCURRENCY", str(max(1, min(4, _CORES // 2))))
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_OUR_METRICS_FOLDER = "lookout-metrics-"
# Still set when SIGHUP has this file read again.
if _METRICS_FOLDER not in os.environ:
    os.environ[_METRICS_FOLDER] = tempfile.mkdtemp(prefix=_OUR_METRICS_FOLDER)

from gunicorn import glogging  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from app.config import get_settings  # noqa: E402
from app.connections import allow_files  # noqa: E402
from app.monitoring.logging import configure_logging  # noqa: E402

# SIGHUP has this file read again, for settings that have changed.
get_settings.cache_clear()
try:
    _settings = get_settings()
except ValidationError as error:
    raise SystemExit(f"The settings are wrong: {error}") from None

# The workers inherit it.
allow_files(_settings.max_connections)


class Logger(glogging.Logger):
    """Hands what gunicorn says to the one logger of the service."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        configure_logging(_settings.log_level, _settings.effective_log_format)


wsgi_app = "app.main:create_app()"
proc_name = "lookout"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "app.gunicorn_worker.LookoutWorker"
logger_class = Logger
# It would be a socket in the home folder, which a read-only container has not.
control_socket_disable = True
# The models' threads do not survive a fork, so each worker loads its own.
preload_app = False
# A worker whose event loop stands still that long is killed and replaced.
timeout = 60
# Requests, streams, models and history each have SHUTDOWN_TIMEOUT_S to end, one after another.
graceful_timeout = round(_settings.shutdown_delay_s + 4 * _settings.shutdown_timeout_s) + 5
# Longer than nginx keeps its side open, so that it never sends on a connection we are closing.
keepalive = 75
if Path("/dev/shm").is_dir():
    # The workers' heartbeats: on a disk they would wait for it.
    worker_tmp_dir = "/dev/shm"


def on_starting(_server: Any) -> None:
    """Forget the metrics of an earlier run, unless it goes on beside this one (SIGUSR2)."""
    folder = Path(os.environ[_METRICS_FOLDER])
    folder.mkdir(parents=True, exist_ok=True)
    if "GUNICORN_PID" not in os.environ:
        for file in folder.glob("*.db"):
            file.unlink()


def when_ready(server: Any) -> None:
    """Let a second SIGTERM end all at once: gunicorn itself takes only SIGINT and SIGQUIT so."""
    is_ending = False

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        nonlocal is_ending
        server.signal(signal.SIGQUIT if is_ending else number, frame)
        is_ending = True

    signal.signal(signal.SIGTERM, on_sigterm)


def child_exit(_server: Any, worker: Any) -> None:
    """Take a dead worker's gauges out of the sums, however it died."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    """Remove the folder that this file made, unless a newer gunicorn goes on with it."""
    folder = Path(os.environ[_METRICS_FOLDER])
    if folder.name.startswith(_OUR_METRICS_FOLDER) and not server.reexec_pid:
        shutil.rmtree(folder, ignore_errors=True)
