"""A soak with kills: `python -m benchmarks.soak_faults [--minutes 10]`.

Two gunicorn workers on a PostgreSQL and a Redis of their own, under a steady low load, watched by a
real Prometheus with the rules and the scrape configuration of `deploy/prometheus`. One after
another, workers, Redis and PostgreSQL are killed and come back. At the end every request is
accounted for, and every answered one must be in the database once.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.backing import PostgresServer, PrometheusServer, RedisServer
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import ROOT, base_environment, make_api_key
from benchmarks.servers import Server, ServerPlan, free_port
from benchmarks.soak_load import Ledger, LoadPlan, drive
from benchmarks.soak_report import FaultSpan, SoakResult, draw, print_result, write_markdown

HERE = Path(__file__).resolve().parent
_WORKERS = 2
# A fault is over when the service has been ready again on so many connections in a row: they go
# to either worker.
_READY_IN_A_ROW = 6
_RECOVERY_TIMEOUT_S = 90.0
_SHORTEST_MINUTES = 2.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What the faults strike."""

    service: Server
    postgres: PostgresServer
    redis: RedisServer

    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers, oldest first."""
        path = Path(f"/proc/{self.service.pid}/task/{self.service.pid}/children")
        return sorted(int(pid) for pid in path.read_text().split())

    def starts(self) -> int:
        """Workers that have become ready so far."""
        return self.service.log_end(10**9).count(" is ready")

    async def kill_worker(self) -> None:
        """As the kernel does to who takes too much memory."""
        os.kill(self.workers()[0], signal.SIGKILL)

    async def kill_all_workers(self) -> None:
        """Nobody serves until gunicorn has started others."""
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)

    async def end_worker(self) -> None:
        """As an operator asks for it."""
        os.kill(self.workers()[0], signal.SIGTERM)

    async def reload(self) -> None:
        """All workers replaced."""
        os.kill(self.service.pid, signal.SIGHUP)

    async def lose_redis(self, away_s: float) -> None:
        """Killed, and back."""
        self.redis.kill()
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.redis.start)

    async def lose_postgres(self, away_s: float) -> None:
        """Killed, and back, with its log to be replayed."""
        self.postgres.kill()
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.postgres.start)

    async def restart_postgres(self) -> None:
        """As an upgrade of the database does."""
        await asyncio.to_thread(self.postgres.stop)
        await asyncio.to_thread(self.postgres.start)

    async def lose_everything(self, away_s: float) -> None:
        """PostgreSQL, Redis and a worker in the same moment."""
        self.postgres.kill()
        self.redis.kill()
        await self.kill_worker()
        await asyncio.sleep(away_s)
        await asyncio.to_thread(self.redis.start)
        await asyncio.to_thread(self.postgres.start)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens when `at` of the soak has passed."""

    at: float
    title: str
    strike: Callable[[], Awaitable[None]]
    new_workers: int = 0
    """Workers that have to be started in others' place."""
    breaks_connections: bool = False
    """Whether it may cut off what a killed worker was doing."""


def plan_faults(stage: Stage, seconds: float) -> list[Fault]:
    """The order of the evening, for a soak of `seconds`."""
    away_s = seconds / 40
    return [
        Fault(0.06, "a worker killed", stage.kill_worker, 1, breaks_connections=True),
        Fault(0.16, "Redis killed and back", lambda: stage.lose_redis(away_s)),
        Fault(0.27, "PostgreSQL killed and back", lambda: stage.lose_postgres(away_s)),
        Fault(0.38, "all workers replaced (SIGHUP)", stage.reload, _WORKERS),
        Fault(
            0.49, "all workers killed", stage.kill_all_workers, _WORKERS, breaks_connections=True
        ),
        Fault(0.60, "PostgreSQL restarted", stage.restart_postgres),
        Fault(0.69, "a worker asked to end (SIGTERM)", stage.end_worker, 1),
        Fault(
            0.79,
            "PostgreSQL, Redis and a worker killed",
            lambda: stage.lose_everything(away_s),
            1,
            breaks_connections=True,
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing was lost, 1 when something was, 2 when it cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--texts", type=float, default=20.0, help="a second")
    parser.add_argument("--images", type=float, default=1.0, help="a second")
    parser.add_argument("--frames", type=float, default=1.0, help="a second, of one stream")
    options = parser.parse_args(arguments)
    if options.minutes < _SHORTEST_MINUTES:
        parser.error(f"--minutes must be {_SHORTEST_MINUTES:g} or more: each fault takes its time")
    try:
        with tempfile.TemporaryDirectory(prefix="lookout-soak-") as name:
            folder = Path(name)
            for part in ("postgres", "redis", "prometheus", "service"):
                (folder / part).mkdir()
            # PostgreSQL's account has to reach its own folder.
            folder.chmod(0o711)
            result = asyncio.run(_soak(folder, options))
            print_result(result)
            results = HERE / "results"
            results.mkdir(exist_ok=True)
            target = HERE if options.minutes >= 10 else results
            picture = draw(result, target / "soak-faults.png")
            write_markdown(result, picture, target / "SOAK.md")
            print(f"written to {(target / 'SOAK.md').relative_to(ROOT)}")
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0 if result.is_clean else 1


async def _soak(folder: Path, options: argparse.Namespace) -> SoakResult:
    metrics_port = free_port()
    with (
        PostgresServer(folder / "postgres") as postgres,
        RedisServer(folder / "redis") as redis,
        Server(_plan_service(folder / "service", postgres, redis, metrics_port)) as service,
        PrometheusServer(
            folder / "prometheus", ROOT / "deploy" / "prometheus", f"127.0.0.1:{metrics_port}"
        ) as prometheus,
    ):
        stage = Stage(service, postgres, redis)
        seconds = options.minutes * 60
        ledger = Ledger()
        plan = LoadPlan(
            port=service.port,
            headers={"X-API-Key": make_api_key(service, 0)},
            texts_per_s=options.texts,
            images_per_s=options.images,
            frames_per_s=options.frames,
            picture=_draw_picture(folder / "picture.jpg"),
        )
        started = time.time()
        load = asyncio.create_task(drive(plan, seconds, ledger))
        try:
            spans = await _strike(plan_faults(stage, seconds), stage, started, seconds)
            await load
        finally:
            load.cancel()
        ended = time.time()
        # Once more, so that the last values are there.
        await asyncio.sleep(2)
        return SoakResult(
            started=started,
            ended=ended,
            plan=plan,
            ledger=ledger,
            spans=spans,
            kept=await _read_kept(postgres),
            series=_read_series(prometheus, started, ended),
            alerts=_read_alerts(prometheus, started, ended),
        )


def _plan_service(
    folder: Path, postgres: PostgresServer, redis: RedisServer, metrics_port: int
) -> ServerPlan:
    environment = {
        **base_environment(),
        "ENVIRONMENT": "development",
        "ACCESS_LOG": "false",
        "SECRET_KEY": os.urandom(24).hex(),
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        # Through Redis, so that its loss matters.
        "REQUESTS_PER_MINUTE": "1000000",
        "MODELS_DIR": str(ROOT / "models"),
        "DETECTION_MODEL": str(ROOT / "models" / "yolos-digits"),
        "HOST": "127.0.0.1",
        "METRICS_PORT": str(metrics_port),
        # As in deploy/systemd: at a reload the old workers serve while the new ones load.
        "SHUTDOWN_DELAY_S": "15",
        "WEB_CONCURRENCY": str(_WORKERS),
        "CPU_THREADS": "1",
        "TMPDIR": str(folder),
    }
    migrated = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if migrated.returncode:
        raise BenchmarkError(f"the migration failed:\n{migrated.stderr[-2000:]}")
    command = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py")]
    return ServerPlan("service", command, folder, environment, "/health/ready")


async def _strike(
    faults: list[Fault], stage: Stage, started: float, seconds: float
) -> list[FaultSpan]:
    spans: list[FaultSpan] = []
    for fault in faults:
        await asyncio.sleep(max(0.0, started + fault.at * seconds - time.time()))
        wanted = stage.starts() + fault.new_workers
        began = time.time()
        print(f"{began - started:5.0f} s  {fault.title}", flush=True)
        await fault.strike()
        await _until_recovered(stage, wanted, fault)
        spans.append(FaultSpan(fault.title, began, time.time(), fault.breaks_connections))
        print(f"{spans[-1].ended - started:5.0f} s  recovered", flush=True)
    return spans


async def _until_recovered(stage: Stage, wanted: int, fault: Fault) -> None:
    """Return once `wanted` workers have started so far and as many as before are ready."""
    give_up_at = time.monotonic() + _RECOVERY_TIMEOUT_S
    in_a_row = 0
    while in_a_row < _READY_IN_A_ROW:
        if time.monotonic() > give_up_at:
            raise BenchmarkError(
                f"{fault.title}: not recovered after {_RECOVERY_TIMEOUT_S:g} s\n"
                f"{stage.service.log_end()}"
            )
        await asyncio.sleep(0.25)
        is_whole = len(stage.workers()) == _WORKERS and stage.starts() >= wanted
        in_a_row = in_a_row + 1 if is_whole and await _is_ready(stage.service.port) else 0


async def _is_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.startswith(b"HTTP/1.1 200")


async def _read_kept(postgres: PostgresServer) -> Counter[str]:
    engine = create_async_engine(postgres.url.replace("://", "+asyncpg://"))
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT coalesce(input_text, input_name) FROM predictions")
        )
        kept = Counter(rows.scalars())
    await engine.dispose()
    return kept


SERIES = {
    "answers": 'sum by (status) (rate(lookout_http_requests_total{job="lookout", '
    'route=~"/prediction|/object-detection"}[5s]))',
    "p99": "histogram_quantile(0.99, sum by (le) (rate(lookout_http_request_duration_seconds_bucket"
    '{job="lookout", route="/prediction"}[15s])))',
    "workers": 'sum(lookout_workers{job="lookout"})',
    "up": 'up{job="lookout"}',
    "streams": 'sum(lookout_streams_open{job="lookout"})',
    "failed": 'sum(rate(lookout_history_records_total{job="lookout", outcome="failed"}[5s]))',
}


def _read_series(
    prometheus: PrometheusServer, started: float, ended: float
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, query in SERIES.items():
        found[name] = {
            series["metric"].get("status", ""): [
                (float(at) - started, float(value)) for at, value in series["values"]
            ]
            for series in prometheus.query_range(query, started, ended)
        }
    return found


def _read_alerts(prometheus: PrometheusServer, started: float, ended: float) -> dict[str, set[str]]:
    """The states (pending, firing) in which each alert was seen."""
    found: dict[str, set[str]] = {}
    for series in prometheus.query_range("ALERTS", started, ended):
        metric = series["metric"]
        found.setdefault(metric["alertname"], set()).add(metric["alertstate"])
    return found


def _draw_picture(path: Path) -> Path:
    """A scene for the detector: what it finds does not matter here."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (320, 240), "white")
    ImageDraw.Draw(picture).text((120, 80), "7", fill="black", font_size=80)
    picture.save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
