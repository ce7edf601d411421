"""Engines whose models a test decides about."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from app.inference.base import InferenceModel
from app.inference.engine import Call, InferenceEngine
from app.presence import Presence
from tests.support.waiting import PATIENCE_S, later


@asynccontextmanager
async def serving(
    *models: InferenceModel[Any, Any, Any], queue_size: int = 64
) -> AsyncIterator[InferenceEngine]:
    """A started engine with these models; at the end their gates open and it stops."""
    engine = InferenceEngine(queue_size=queue_size)
    for model in models:
        engine.add(model)
    await engine.start()
    try:
        yield engine
    finally:
        for model in models:
            gate = getattr(model, "gate", None)
            if gate is not None:
                gate.open()
        await engine.stop(PATIENCE_S)


def call(
    *,
    flow: str = "somebody",
    deadline: float | None = None,
    presence: Presence | None = None,
) -> Call:
    """The call of somebody who waits long enough, unless said otherwise."""
    return Call(flow=flow, deadline=later() if deadline is None else deadline, presence=presence)
