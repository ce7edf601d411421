"""Counters that expire: of one process, or shared by all through Redis.

Redis may be slow, restart or stay away. Then every process goes on with counters of its own,
and asks Redis again after a pause: a limit is never the reason for a 500.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from loguru import logger
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_TIMEOUT_S = 0.25
_PAUSE_AFTER_FAILURE_S = 5.0

Result = TypeVar("Result")


class Counters(Protocol):
    """Counters by key. The first `increment` of a key sets when it is forgotten."""

    async def increment(self, key: str, lifetime_s: int) -> int:
        """Add one; the sum."""

    async def remaining_s(self, key: str) -> float:
        """Seconds until the key is forgotten; 0 for an unknown one."""

    async def clear(self, key: str) -> None:
        """Forget the key."""


@dataclass(slots=True)
class _Counter:
    count: int
    ends_at: float


class MemoryCounters:
    """Counters of this process: at most `capacity` keys, those used last.

    The `limits` library's own are not used: they have no bound, and go by the wall clock.
    """

    def __init__(
        self, *, capacity: int = 100_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._counters: OrderedDict[str, _Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    async def increment(self, key: str, lifetime_s: int) -> int:
        """Add one; the sum."""
        counter = self._find(key)
        if counter is None:
            counter = self._counters[key] = _Counter(0, self._clock() + lifetime_s)
            if len(self._counters) > self._capacity:
                self._counters.popitem(last=False)
        self._counters.move_to_end(key)
        counter.count += 1
        return counter.count

    async def remaining_s(self, key: str) -> float:
        """Seconds until the key is forgotten; 0 for an unknown one."""
        counter = self._find(key)
        return 0.0 if counter is None else counter.ends_at - self._clock()

    async def clear(self, key: str) -> None:
        """Forget the key."""
        self._counters.pop(key, None)

    def _find(self, key: str) -> _Counter | None:
        counter = self._counters.get(key)
        if counter is not None and counter.ends_at <= self._clock():
            del self._counters[key]
            return None
        return counter


class RedisAwayError(Exception):
    """Redis does not answer: count in this process."""


class RedisLimits:
    """What all processes count together. Every method raises `RedisAwayError`, at once while
    Redis is known to be away."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._storage = RedisStorage(
            # The library's spelling of a Unix socket.
            f"redis+{url}" if url.startswith("unix:") else url,
            implementation="redispy",
            key_prefix="lookout:limits",
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            # A caller waits: better to count here than to try again there.
            retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # handed on to redis-py
        )
        bridge = self._storage.bridge
        assert isinstance(bridge, RedispyBridge)
        self._connection = bridge.get_connection()
        self._windows = SlidingWindowCounterRateLimiter(self._storage)
        self._clock = clock
        self._away_until = -math.inf
        self._is_away = False

    async def hit(self, limit: RateLimitItem, key: str) -> float:
        """Count one request of `key`: 0 when it is within `limit`, else the seconds to wait."""
        if await self._ask(lambda: self._windows.hit(limit, key)):
            return 0.0
        stats = await self._ask(lambda: self._windows.get_window_stats(limit, key))
        return max(1.0, stats.reset_time - time.time())

    async def increment(self, key: str, lifetime_s: int) -> int:
        """Add one; the sum."""
        return await self._ask(lambda: self._storage.incr(key, lifetime_s))

    async def remaining_s(self, key: str) -> float:
        """Seconds until the key is forgotten; 0 for an unknown one."""
        # The library adds the present to what Redis says remains.
        return await self._ask(lambda: self._storage.get_expiry(key)) - time.time()

    async def clear(self, key: str) -> None:
        """Forget the key."""
        await self._ask(lambda: self._storage.clear(key))

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.aclose()  # type: ignore[attr-defined]  # limits' own protocol

    async def _ask(self, operation: Callable[[], Awaitable[Result]]) -> Result:
        if self._clock() < self._away_until:
            raise RedisAwayError
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S):
                result = await operation()
        except (RedisError, OSError) as error:
            if not self._is_away:
                logger.warning("Redis does not answer, each process limits alone: {!r}", error)
            self._is_away = True
            self._away_until = self._clock() + _PAUSE_AFTER_FAILURE_S
            raise RedisAwayError from error
        if self._is_away:
            self._is_away = False
            logger.info("Redis answers again, limits are shared")
        return result


class SharedCounters:
    """Redis' counters, or those of this process while Redis is away."""

    def __init__(self, redis: RedisLimits, memory: MemoryCounters) -> None:
        self._redis = redis
        self._memory = memory

    async def increment(self, key: str, lifetime_s: int) -> int:
        """Add one; the sum."""
        try:
            return await self._redis.increment(key, lifetime_s)
        except RedisAwayError:
            return await self._memory.increment(key, lifetime_s)

    async def remaining_s(self, key: str) -> float:
        """Seconds until the key is forgotten; 0 for an unknown one."""
        try:
            return await self._redis.remaining_s(key)
        except RedisAwayError:
            return await self._memory.remaining_s(key)

    async def clear(self, key: str) -> None:
        """Forget the key, here as well: Redis may have been away."""
        await self._memory.clear(key)
        try:
            await self._redis.clear(key)
        except RedisAwayError:
            return
