"""A limit per caller on requests a minute."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from limits import RateLimitItemPerMinute

from app.auth.counters import RedisAwayError, RedisLimits
from app.exceptions import TooManyRequestsError


@lru_cache(maxsize=4096)
def group_address(address: str) -> str:
    """The network that counts as one caller: an IPv4 address, or the /64 of an IPv6 one.

    Who has one IPv6 address has the 2**64 of its network.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


class RateLimiter:
    """`per_minute` requests at once, then one each time its share of the minute has passed.

    This is the generic cell rate algorithm: one number a key says when its allowance is whole
    again (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). At most `capacity` keys are
    remembered, those used last. `refusal` is what a caller over the limit is told.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        refusal: str | None = None,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refusal = refusal
        self._interval_s = 60 / per_minute
        self._capacity = capacity
        self._clock = clock
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def check(self, key: str) -> None:
        """Count one request of `key`; TooManyRequestsError when it is over the limit."""
        present = self._clock()
        whole_at = max(present, self._whole_at.get(key, present)) + self._interval_s
        # The sums are of many small parts: without a margin their rounding would cost a request.
        excess_s = whole_at - present - 60
        if excess_s > self._interval_s * 1e-3:
            raise TooManyRequestsError(self._refusal, retry_after_s=math.ceil(excess_s))
        self._whole_at[key] = whole_at
        self._whole_at.move_to_end(key)
        if len(self._whole_at) > self._capacity:
            self._whole_at.popitem(last=False)


class SharedRateLimiter:
    """`per_minute` requests for all processes together where there is Redis, else for each.

    In Redis a sliding window is counted; see `limits`' documentation of that strategy.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        name: str,
        refusal: str,
        redis: RedisLimits | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = RateLimitItemPerMinute(per_minute, namespace=name)
        self._refusal = refusal
        self._redis = redis
        self._local = RateLimiter(per_minute, refusal=refusal, clock=clock)

    async def check(self, key: str) -> None:
        """Count one request of `key`; TooManyRequestsError when it is over the limit."""
        if self._redis is not None:
            try:
                wait_s = await self._redis.hit(self._limit, key)
            except RedisAwayError:
                pass
            else:
                if wait_s:
                    raise TooManyRequestsError(self._refusal, retry_after_s=math.ceil(wait_s))
                return
        self._local.check(key)
