"""Predictions remembered in Redis, so that server processes share them.

A tier behind each process's own memory. Redis may be slow, restart or stay away: then every
process goes on with its own memory, and finds out again after a pause.
"""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from loguru import logger
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.exceptions import ServiceUnavailableError
from app.inference.joblib_pipeline import Classification

# A look-up that takes longer than computing the answer is of no use.
_TIMEOUT_S = 0.1
_PAUSE_AFTER_FAILURE_S = 5.0
_LIFETIME_S = 86_400
# What is remembered before the generation changes is never read again, and expires.
_GENERATION_KEY = "lookout:predictions:generation"
_CLEARED_CHANNEL = "lookout:predictions:cleared"


class SharedCacheUnavailableError(ServiceUnavailableError):
    code = "shared_cache_unavailable"
    detail = "Redis does not answer: only the process that you reached has emptied its cache."


class RedisPredictionCache:
    """Classifications by key, in Redis. Reading and writing never raise when it does not answer.

    `on_cleared` is called when any process empties the cache, and when that could have been
    missed because the connection broke.
    """

    def __init__(self, url: str, on_cleared: Callable[[], None]) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        # Waits for messages as long as it takes.
        self._subscriber = Redis.from_url(url, socket_connect_timeout=1.0)
        self._on_cleared = on_cleared
        self._generation = 0
        self._away_until = 0.0
        self._listening: asyncio.Task[None] | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen for other processes' clearing, and for Redis coming back."""
        self._listening = asyncio.create_task(self._listen(), name="prediction cache listener")

    async def close(self) -> None:
        """Stop listening and close the connections."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, *self._writes, return_exceptions=True)
        await self._redis.aclose()
        await self._subscriber.aclose()

    async def get_many(self, keys: Sequence[bytes]) -> list[Classification | None]:
        """What is remembered for each key."""
        if time.monotonic() < self._away_until:
            return [None] * len(keys)
        try:
            values = await self._redis.mget([self._name(key) for key in keys])
        except (RedisError, OSError) as error:
            self._go_without(error)
            return [None] * len(keys)
        return [None if value is None else _decode(value) for value in values]

    def put_many(self, entries: dict[bytes, Classification]) -> None:
        """Remember `entries`, without making anybody wait for it."""
        if time.monotonic() < self._away_until:
            return
        task = asyncio.create_task(self._write(entries))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def clear(self) -> None:
        """Forget everything, in every process. Raises `SharedCacheUnavailableError`."""
        try:
            self._generation = int(await self._redis.incr(_GENERATION_KEY))
            await self._redis.publish(_CLEARED_CHANNEL, self._generation)
        except (RedisError, OSError) as error:
            self._go_without(error)
            raise SharedCacheUnavailableError from error

    async def _write(self, entries: dict[bytes, Classification]) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(self._name(key), _encode(value), ex=_LIFETIME_S)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._go_without(error)

    async def _listen(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                async with self._subscriber.pubsub() as subscription:
                    await subscription.subscribe(_CLEARED_CHANNEL)
                    self._generation = int(await self._redis.get(_GENERATION_KEY) or 0)
                    self._away_until = 0.0
                    self._on_cleared()
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self._generation = int(message["data"])
                            self._on_cleared()
            await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    def _name(self, key: bytes) -> str:
        return f"lookout:predictions:{self._generation}:{key.hex()}"

    def _go_without(self, error: Exception) -> None:
        if time.monotonic() >= self._away_until:
            logger.warning("Redis does not answer, predictions are not shared: {!r}", error)
        self._away_until = time.monotonic() + _PAUSE_AFTER_FAILURE_S


def _encode(value: Classification) -> bytes:
    return json.dumps(list(value.probabilities.items())).encode()


def _decode(data: bytes | str) -> Classification:
    probabilities = dict(json.loads(data))
    return Classification(category=next(iter(probabilities)), probabilities=probabilities)
