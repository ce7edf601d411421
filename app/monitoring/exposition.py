"""The text that Prometheus reads."""

import asyncio
import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def _render() -> bytes:
    if MULTIPROCESS_VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    # A new one each time, as https://prometheus.github.io/client_python/multiprocess/ says.
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


async def render_metrics() -> bytes:
    """All metrics; with several workers, of all of them. In a thread, for it reads files then."""
    return await asyncio.to_thread(_render)
