"""Remembering, for a second at most, whom a token belongs to."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from app.auth.models import TokenKind
from app.auth.repository import Identity
from app.database import now

Load = Callable[[bytes, TokenKind], Awaitable[Identity | None]]


# Of its lifetime; the rest must do for a look-up beside full load.
_REFRESH_AFTER = 0.5


class _Entry(NamedTuple):
    identity: Identity
    refresh_at: float
    """When its next use has it read again, ahead of its end."""
    deadline: float


class TokenCache:
    """Identities by token hash, read through `load`.

    - A look-up is remembered for `lifetime_s` from when it *began*: what another process revokes
      is refused here no later than that. Unknown tokens are not remembered.
    - `forget` works at once, also on look-ups in flight: their result is no longer stored, and
      whoever asks next starts a look-up of their own.
    - What is in use is read again at half its lifetime, while it still counts: a look-up takes a
      tenth of a second and more beside full load, and all requests of a caller would wait for it,
      every second.
    - Concurrent misses of one token share one look-up.
    """

    def __init__(
        self,
        load: Load,
        *,
        lifetime_s: float = 1.0,
        capacity: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._clock = clock
        self._entries: dict[bytes, _Entry] = {}
        self._flights: dict[bytes, asyncio.Task[Identity | None]] = {}
        # The event loop keeps weak references only, and a forgotten flight has no other.
        self._tasks: set[asyncio.Task[Identity | None]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, token_hash: bytes) -> Identity | None:
        """The remembered identity, if there is one: the fast path, without a context switch."""
        entry = self._entries.get(token_hash)
        if entry is None:
            return None
        moment = self._clock()
        if moment >= entry.refresh_at:
            if moment >= entry.deadline:
                del self._entries[token_hash]
                return None
            # Once: should it fail, the look-up at the end will tell.
            self._entries[token_hash] = entry._replace(refresh_at=entry.deadline)
            if token_hash not in self._flights:
                self._start_flight(token_hash, TokenKind(entry.identity.kind))
        return entry.identity

    async def look_up(self, token_hash: bytes, kind: TokenKind) -> Identity | None:
        """The identity, remembered or read; None when no valid token of that kind has the hash.

        Raises what `load` raises.
        """
        identity = self.get(token_hash)
        if identity is not None:
            return identity if identity.kind == kind else None
        flight = self._flights.get(token_hash)
        if flight is None:
            flight = self._start_flight(token_hash, kind)
        # Shielded: one caller that leaves does not take the answer from the others.
        return await asyncio.shield(flight)

    def forget(self, token_hashes: Iterable[bytes]) -> None:
        """Drop what is known of these tokens, and what is just being read of them."""
        for token_hash in token_hashes:
            self._entries.pop(token_hash, None)
            self._flights.pop(token_hash, None)

    def _start_flight(self, token_hash: bytes, kind: TokenKind) -> asyncio.Task[Identity | None]:
        flight = asyncio.create_task(self._fly(token_hash, kind))
        self._flights[token_hash] = flight
        self._tasks.add(flight)
        flight.add_done_callback(self._end_flight)
        return flight

    def _end_flight(self, flight: asyncio.Task[Identity | None]) -> None:
        self._tasks.discard(flight)
        if not flight.cancelled():
            # Where nobody waits for it, a failure is told to nobody, and that is no mistake.
            flight.exception()

    async def _fly(self, token_hash: bytes, kind: TokenKind) -> Identity | None:
        flight = asyncio.current_task()
        began = self._clock()
        try:
            identity = await self._load(token_hash, kind)
            if self._flights.get(token_hash) is flight:
                if identity is None:
                    self._entries.pop(token_hash, None)
                else:
                    self._store(token_hash, identity, began)
            return identity
        finally:
            if self._flights.get(token_hash) is flight:
                del self._flights[token_hash]

    def _store(self, token_hash: bytes, identity: Identity, began: float) -> None:
        lifetime_s = self._lifetime_s
        if identity.expires_at is not None:
            lifetime_s = min(lifetime_s, (identity.expires_at - now()).total_seconds())
        self._entries.pop(token_hash, None)
        if len(self._entries) >= self._capacity:
            # All live equally long, so the oldest is the one that ends first.
            del self._entries[next(iter(self._entries))]
        self._entries[token_hash] = _Entry(
            identity, began + lifetime_s * _REFRESH_AFTER, began + lifetime_s
        )
