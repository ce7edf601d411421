"""What one process keeps in order to know its callers."""

import asyncio
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self

from loguru import logger

from app.auth import repository
from app.auth.counters import Counters, MemoryCounters, RedisLimits, SharedCounters
from app.auth.models import TokenKind
from app.auth.rate_limit import SharedRateLimiter
from app.auth.repository import Identity
from app.auth.security import CsrfSigner, PasswordContext, PasswordHasher
from app.auth.sign_in_limit import SignInLimit
from app.auth.token_cache import TokenCache
from app.config import Settings
from app.database import Database, now

# A row is written at most this often for its token's last use.
_LAST_USED_PRECISION = timedelta(minutes=1)
_FLUSH_INTERVAL_S = 10.0
_CLEAN_UP_INTERVAL_S = 3600.0


class Authenticator:
    """Token cache, password pool, CSRF signer, limits and background writes.

    Owned by the application's lifespan: `start()` after the database, `close()` before it.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        password_context: PasswordContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.database = database
        self.passwords = PasswordHasher(password_context)
        self.tokens = TokenCache(self._load_identity, clock=clock)
        assert settings.secret_key is not None  # Settings makes one where none is given.
        self.csrf = CsrfSigner(settings.secret_key.get_secret_value())
        self._redis: RedisLimits | None = None
        if settings.redis_url is not None:
            self._redis = RedisLimits(settings.redis_url.get_secret_value(), clock=clock)
        self.anonymous_limit = SharedRateLimiter(
            settings.anonymous_requests_per_minute,
            name="anonymous",
            refusal="Too many requests without an account from this address. Wait, or sign in.",
            redis=self._redis,
            clock=clock,
        )
        self.registration_limit = SharedRateLimiter(
            settings.registrations_per_minute,
            name="registration",
            refusal="Too many attempts to sign up from this address. Wait a moment.",
            redis=self._redis,
            clock=clock,
        )
        self.request_limit: SharedRateLimiter | None = None
        if settings.requests_per_minute is not None:
            self.request_limit = SharedRateLimiter(
                settings.requests_per_minute,
                name="identity",
                refusal=f"You have sent more than {settings.requests_per_minute:,} requests within "
                "a minute. Wait a moment.",
                redis=self._redis,
                clock=clock,
            )
        self.address_limit: SharedRateLimiter | None = None
        if settings.requests_per_minute_per_address is not None:
            self.address_limit = SharedRateLimiter(
                settings.requests_per_minute_per_address,
                name="address",
                refusal="Too many requests come from your address. Wait a moment.",
                redis=self._redis,
                clock=clock,
            )
        counters: Counters = MemoryCounters(clock=clock)
        if self._redis is not None:
            counters = SharedCounters(self._redis, MemoryCounters(clock=clock))
        self.sign_in_limit = SignInLimit(
            counters,
            free_per_account=settings.sign_in_attempts,
            free_per_address=settings.sign_in_attempts_per_address,
        )
        # The prefix makes browsers refuse the cookie from other hosts and without TLS.
        prefix = "__Host-" if settings.secure_cookies else ""
        self.session_cookie = f"{prefix}lookout_session"
        self.csrf_cookie = f"{prefix}lookout_csrf"
        self._used: dict[uuid.UUID, datetime] = {}
        self._upkeep: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin the background writes."""
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up(), name="token upkeep")

    async def close(self) -> None:
        """End the background writes, having written what is known. May be called twice."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            self._upkeep = None
        await self.flush()
        self.passwords.close()
        if self._redis is not None:
            await self._redis.close()

    async def flush(self) -> None:
        """Write when tokens were last used. A failure is logged; the next use notes it again."""
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            async with self.database.engine.begin() as connection:
                await repository.mark_used(connection, used)
        except Exception as error:
            logger.warning("the last use of {} tokens was not recorded: {!r}", len(used), error)

    async def delete_expired_tokens(self) -> None:
        """Remove what no look-up accepts any more. A failure is logged."""
        try:
            async with self.database.engine.begin() as connection:
                await repository.delete_expired_tokens(connection, now())
        except Exception as error:
            logger.warning("expired tokens were not removed: {!r}", error)

    async def _load_identity(self, token_hash: bytes, kind: TokenKind) -> Identity | None:
        moment = now()
        async with self.database.sessions() as session:
            identity = await repository.find_identity(session, token_hash, kind, moment)
        if identity is not None and (
            identity.last_used_at is None or moment - identity.last_used_at >= _LAST_USED_PRECISION
        ):
            # Noted here and not on each request: the cache asks once a second at most.
            self._used[identity.token_id] = moment
        return identity

    async def _keep_up(self) -> None:
        next_clean_up = time.monotonic()
        while True:
            if time.monotonic() >= next_clean_up:
                await self.delete_expired_tokens()
                next_clean_up = time.monotonic() + _CLEAN_UP_INTERVAL_S
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()
