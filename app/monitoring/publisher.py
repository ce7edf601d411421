"""Hands what the service counts to Prometheus, once a second and off every request's path.

The rooms count in plain integers, which costs nothing and needs no metrics library. Values that
only this process knows have to be written where the other workers find them, since any one of
them may be asked for the metrics; a callback at the time of asking would tell its own alone.
"""

import asyncio
import platform
import resource
import shutil
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI
from loguru import logger
from prometheus_client import Counter
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from app.auth.authenticator import Authenticator
from app.config import Settings
from app.database import Database
from app.detection.stream import StreamRegistry
from app.history.recorder import HistoryRecorder
from app.inference.base import ModelState
from app.inference.cache import PredictionCache
from app.inference.engine import InferenceEngine, ModelHandle
from app.monitoring import metrics
from app.monitoring.exposition import MetricsServer
from app.monitoring.middleware import HTTPActivity
from app.shedding import LoadShedder

_INTERVAL_S = 1.0
_PAGE_BYTES = resource.getpagesize()


class MetricsPublisher:
    """Reads the counters of all parts; owned by the application's lifespan.

    To be started when all parts are, and closed before them.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        version: str,
        engine: InferenceEngine,
        cache: PredictionCache,
        streams: StreamRegistry,
        recorder: HistoryRecorder,
        database: Database,
        authenticator: Authenticator,
        activity: HTTPActivity,
        shedder: LoadShedder,
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._streams = streams
        self._recorder = recorder
        self._database = database
        self._authenticator = authenticator
        self._activity = activity
        self._shedder = shedder
        self._published: dict[tuple[Counter, tuple[str, ...]], float] = {}
        self._data_folder = _data_folder(settings.database_url)
        self._server = MetricsServer(settings.metrics_port) if settings.metrics_port else None
        self._task: asyncio.Task[None] | None = None
        metrics.BUILD_INFO.labels(version, platform.python_version(), settings.environment).set(1)
        for handle in engine.handles:
            _observe_batches(handle)

    @classmethod
    def of(cls, app: FastAPI, version: str) -> Self:
        """The publisher of an application whose lifespan has started all its parts."""
        state = app.state
        return cls(
            settings=state.settings,
            version=version,
            engine=state.engine,
            cache=state.text_classifier.cache,
            streams=state.streams,
            recorder=state.recorder,
            database=state.database,
            authenticator=state.authenticator,
            activity=state.http_activity,
            shedder=state.shedder,
        )

    async def __aenter__(self) -> Self:
        metrics.WORKERS.set(1)
        self.publish()
        self._task = asyncio.create_task(self._run(), name="metrics publisher")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        self.publish()
        metrics.WORKERS.set(0)

    async def _run(self) -> None:
        while True:
            if self._server is not None:
                self._server.try_start()
            try:
                self.publish()
            except Exception as error:
                # A full disk, for one: the service goes on, and Prometheus shows the gap.
                logger.opt(exception=error).error("the metrics were not published")
            await asyncio.sleep(_INTERVAL_S)

    def publish(self) -> None:
        """Bring the metrics up to date."""
        metrics.HTTP_REQUESTS_IN_PROGRESS.set(self._activity.in_progress)
        for handle in self._engine.handles:
            self._publish_model(handle)
        self._publish_streams()
        self._publish_storage()
        metrics.WORKER_MEMORY_BYTES.set(_resident_bytes())

    def _publish_model(self, handle: ModelHandle[Any, Any]) -> None:
        name, stats = handle.name, handle.batcher.stats
        for outcome in ("answered", "failed", "cancelled", "expired"):
            self._count(metrics.INFERENCE_ITEMS, getattr(stats, outcome), name, outcome)
        for reason in ("queue_full", "deadline", "unavailable"):
            self._count(metrics.INFERENCE_REFUSALS, stats.refused[reason], name, reason)
        self._count(metrics.INFERENCE_REFUSALS, self._shedder.counts[name], name, "shed")
        self._count(metrics.MODEL_RESTARTS, stats.restarts, name)
        metrics.INFERENCE_QUEUE_ITEMS.labels(name).set(len(handle.batcher))
        metrics.INFERENCE_QUEUE_CAPACITY_ITEMS.labels(name).set(handle.batcher.size)
        metrics.MODEL_READY.labels(name).set(handle.state is ModelState.READY)
        info = handle.info
        metrics.MODEL_INFO.labels(name, info.version, info.task, info.device).set(1)

    def _publish_streams(self) -> None:
        counts = self._streams.total_counts()
        metrics.STREAMS_OPEN.set(len(self._streams))
        self._count(metrics.STREAMS_REFUSED, self._streams.refused)
        self._count(metrics.STREAM_FRAMES_RECEIVED, counts.received)
        self._count(metrics.STREAM_FRAMES, counts.processed - counts.failed, "answered")
        self._count(metrics.STREAM_FRAMES, counts.failed, "failed")
        self._count(metrics.STREAM_FRAMES, counts.dropped, "dropped")

    def _publish_storage(self) -> None:
        self._count(metrics.CACHE_REQUESTS, self._cache.stats.hits, "hit")
        self._count(metrics.CACHE_REQUESTS, self._cache.stats.misses, "miss")
        self._count(metrics.CACHE_EVICTIONS, self._cache.stats.evictions)
        metrics.CACHE_BYTES.set(self._cache.bytes)
        pool = self._database.engine.pool
        if isinstance(pool, QueuePool):
            metrics.DATABASE_CONNECTIONS_IN_USE.set(pool.checkedout())
            metrics.DATABASE_POOL_SIZE.set(pool.size())
        self._count(metrics.HISTORY_COMMITS, self._recorder.groups_committed)
        self._count(metrics.HISTORY_RECORDS, self._recorder.records_committed, "kept")
        self._count(metrics.HISTORY_RECORDS, self._recorder.records_failed, "failed")
        metrics.HISTORY_PENDING_RECORDS.set(self._recorder.pending)
        self._count(metrics.LOGIN_FAILURES, self._authenticator.passwords.failures)
        if self._data_folder is not None:
            free = shutil.disk_usage(self._data_folder).free
            metrics.DATA_DISK_FREE_BYTES.labels("sqlite").set(free)

    def _count(self, counter: Counter, total: float, *labels: str) -> None:
        """Bring `counter` to this process's `total`; other processes' parts are their own."""
        key = (counter, labels)
        before = self._published.get(key)
        if before is None or total > before:
            # Also when it is zero: a rate needs a first value to begin at.
            (counter.labels(*labels) if labels else counter).inc(total - (before or 0.0))
            self._published[key] = total


def _observe_batches(handle: ModelHandle[Any, Any]) -> None:
    observe_items = metrics.INFERENCE_BATCH_ITEMS.labels(handle.name).observe
    observe_wait = metrics.INFERENCE_QUEUE_WAIT_SECONDS.labels(handle.name).observe
    observe_time = metrics.INFERENCE_BATCH_SECONDS.labels(handle.name).observe

    def on_batch(size: int, wait_s: float, time_s: float) -> None:
        observe_items(size)
        observe_wait(wait_s)
        observe_time(time_s)

    handle.batcher.stats.on_batch.append(on_batch)


def _data_folder(database_url: str) -> Path | None:
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database).parent


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        # No /proc: macOS. The highest so far, in bytes there, is the best that is known.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
