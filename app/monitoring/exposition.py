"""The text that Prometheus reads, at `GET /metrics` or on a port of its own."""

import asyncio
import os
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def _make_registry() -> CollectorRegistry:
    """This process's metrics; where several workers write theirs to files, those of all."""
    if MULTIPROCESS_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


async def render_metrics() -> bytes:
    """All metrics. In a thread, since with several workers it reads a file of each."""
    return await asyncio.to_thread(lambda: generate_latest(_make_registry()))


class MetricsServer:
    """Serves the metrics on a port of their own, on all addresses, from a thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._running: tuple[WSGIServer, Thread] | None = None

    def try_start(self) -> None:
        """Serve, unless another worker of this service has the port: it answers for all."""
        if self._running is None:
            try:
                self._running = start_http_server(self.port, registry=_make_registry())
            except OSError:
                # Asked for again every second: should that worker end, this one takes over.
                return

    def stop(self) -> None:
        """Free the port."""
        if self._running is not None:
            server, thread = self._running
            self._running = None
            server.shutdown()
            server.server_close()
            thread.join()
