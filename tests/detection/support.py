"""A detector that a test can hold up, in the place of the real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.detection.dependencies import DetectorHandle, get_detector
from tests.support.engines import serving
from tests.support.models import GatedDetector


@asynccontextmanager
async def gated(app: FastAPI, *, queue_size: int = 64) -> AsyncIterator[GatedDetector]:
    """Let a detector answer that a test can hold up."""
    model = GatedDetector()
    async with serving(model, queue_size=queue_size) as engine:
        handle: DetectorHandle = engine.get(model.name)
        app.dependency_overrides[get_detector] = lambda: handle
        yield model


def current(app: FastAPI) -> DetectorHandle:
    """The detector that answers now."""
    override = app.dependency_overrides.get(get_detector)
    handle: DetectorHandle = app.state.detector if override is None else override()
    return handle
