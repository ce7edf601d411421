"""Predictions shared between processes through a real Redis, and what happens without it."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.inference.cache import CachingClassifier, PredictionCache
from app.inference.joblib_pipeline import Classification
from app.inference.shared_cache import RedisPredictionCache, SharedCacheUnavailableError
from tests.support.engines import call, serving
from tests.support.models import GatedClassifier
from tests.support.waiting import until

REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379")
NOBODY = "redis://127.0.0.1:9"


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    client = Redis.from_url(REDIS_URL)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        await client.aclose()
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Redis answers at {REDIS_URL}: {error}")
    yield client
    await client.aclose()


@pytest.fixture
def key() -> bytes:
    return uuid.uuid4().bytes


class Process:
    """One server process's two tiers."""

    def __init__(self, url: str) -> None:
        self.memory = PredictionCache(2**20)
        self.cleared = 0
        self.shared = RedisPredictionCache(url, self._on_cleared)

    def _on_cleared(self) -> None:
        self.memory.clear()
        self.cleared += 1

    async def __aenter__(self) -> "Process":
        await self.shared.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shared.close()


VALUE = Classification("yes", {"yes": 0.75, "no": 0.25})


async def test_what_one_process_wrote_the_other_reads(redis: Redis, key: bytes) -> None:
    async with Process(REDIS_URL) as first, Process(REDIS_URL) as second:
        await until(lambda: bool(first.cleared and second.cleared))
        first.shared.put_many({key: VALUE})

        async def found() -> Classification | None:
            (value,) = await second.shared.get_many([key])
            return value

        for _ in range(200):
            if (value := await found()) is not None:
                break
            await asyncio.sleep(0.01)
        assert value == VALUE


async def test_emptying_it_empties_the_memory_of_all(redis: Redis, key: bytes) -> None:
    async with Process(REDIS_URL) as first, Process(REDIS_URL) as second:
        await until(lambda: bool(first.cleared and second.cleared))
        seen = second.cleared
        second.memory.put(key, VALUE)
        first.shared.put_many({key: VALUE})
        await first.shared.clear()
        await until(lambda: second.cleared > seen)
        assert second.memory.get(key) is None
        assert await second.shared.get_many([key]) == [None]


async def test_without_redis_predictions_go_on(key: bytes) -> None:
    model = GatedClassifier()
    async with serving(model) as engine, Process(NOBODY) as process:
        classifier = CachingClassifier(engine.get(model.name), process.memory, process.shared)
        _, cached = await classifier.predict("a text", call())
        assert not cached
        _, cached = await classifier.predict("a text", call())
        assert cached


async def test_emptying_says_when_the_others_could_not_be_told() -> None:
    async with Process(NOBODY) as process:
        with pytest.raises(SharedCacheUnavailableError):
            await process.shared.clear()
