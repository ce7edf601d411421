"""Records, people and waiting for the tests of the history."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from app.history.records import PredictionRecord, StreamRecord

Hold = Callable[[], AbstractAsyncContextManager[None]]
"""A context in which no insert into the history gets through."""

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account, and an HTTP client that calls as them."""

    user_id: uuid.UUID
    client: httpx.AsyncClient


def minutes(number: float) -> datetime:
    """That many minutes after the tests' first record."""
    return START + timedelta(minutes=number)


def text_record(user_id: uuid.UUID, **changes: Any) -> PredictionRecord:
    values: dict[str, Any] = {
        "user_id": user_id,
        "kind": "text",
        "model": "newsgroups",
        "model_version": "f00d",
        "result": {"category": "sci.crypt", "probabilities": {"sci.crypt": 0.75}},
        "labels": ("sci.crypt",),
        "latency_ms": 3.5,
        "input_text": "the key is público",
    }
    return PredictionRecord(**values | changes)


def image_record(user_id: uuid.UUID, **changes: Any) -> PredictionRecord:
    objects = [{"box": [0.0, 1.0, 20.5, 30.0], "label": "cat", "score": 0.9}]
    values: dict[str, Any] = {
        "user_id": user_id,
        "kind": "image",
        "model": "yolos",
        "model_version": "beef",
        "result": {"objects": objects, "image": {"width": 40, "height": 30}},
        "labels": ("cat",),
        "latency_ms": 150.0,
        "input_name": "cat.jpg",
    }
    return PredictionRecord(**values | changes)


def stream_record(user_id: uuid.UUID, **changes: Any) -> StreamRecord:
    values: dict[str, Any] = {
        "user_id": user_id,
        "model": "yolos",
        "model_version": "beef",
        "duration_s": 12.5,
        "frames_received": 300,
        "frames_processed": 75,
        "frames_dropped": 224,
        "frames_failed": 1,
        "latency_ms": 160.0,
        "label_counts": {"person": 70, "dining table": 5},
        "close_code": 1000,
    }
    return StreamRecord(**values | changes)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a state that other tasks bring about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (any state, not one that tells)
            await asyncio.sleep(0.005)
