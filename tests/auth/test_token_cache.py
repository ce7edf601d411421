import asyncio
from datetime import timedelta

import pytest

from app.auth.models import TokenKind
from app.auth.repository import Identity
from app.auth.token_cache import TokenCache
from app.database import new_id, now
from tests.auth.support import Clock

TOKEN, OTHER = b"t" * 32, b"o" * 32


def make_identity(**changes: object) -> Identity:
    values = {
        "token_id": new_id(),
        "kind": TokenKind.BEARER,
        "user_id": new_id(),
        "email": "a@example.com",
        "is_admin": False,
        "expires_at": None,
        "last_used_at": None,
    }
    return Identity(**{**values, **changes})  # type: ignore[arg-type]


class Table:
    """Stands where the database does: answers when told to, and counts."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Identity] = {TOKEN: make_identity(), OTHER: make_identity()}
        self.reads = 0
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def load(self, token_hash: bytes, kind: TokenKind) -> Identity | None:
        self.reads += 1
        row = self.rows.get(token_hash)
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return row if row is not None and row.kind == kind else None


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(table: Table, clock: Clock) -> TokenCache:
    return TokenCache(table.load, clock=clock)


async def test_is_read_once_a_second(cache: TokenCache, table: Table, clock: Clock) -> None:
    for _ in range(3):
        assert await cache.look_up(TOKEN, TokenKind.BEARER) == table.rows[TOKEN]
    clock.present += 0.499
    assert cache.get(TOKEN) is table.rows[TOKEN]
    assert table.reads == 1
    # Not used for longer than that, it is not read again until it is.
    clock.present += 0.501
    del table.rows[TOKEN]
    assert await cache.look_up(TOKEN, TokenKind.BEARER) is None
    assert table.reads == 2


async def test_what_is_in_use_is_read_again_before_it_ends(
    cache: TokenCache, table: Table, clock: Clock
) -> None:
    old = await cache.look_up(TOKEN, TokenKind.BEARER)
    table.rows[TOKEN] = make_identity(is_admin=True)
    clock.present += 0.5
    table.answers.clear()
    for _ in range(3):
        # Nobody waits for the reading.
        assert await cache.look_up(TOKEN, TokenKind.BEARER) is old
        await asyncio.sleep(0)
    assert table.reads == 2
    table.answers.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.present += 0.999
    assert cache.get(TOKEN) is table.rows[TOKEN]


async def test_what_is_found_revoked_ahead_of_time_is_forgotten_at_once(
    cache: TokenCache, table: Table, clock: Clock
) -> None:
    await cache.look_up(TOKEN, TokenKind.BEARER)
    del table.rows[TOKEN]
    clock.present += 0.5
    assert cache.get(TOKEN) is not None
    for _ in range(3):
        await asyncio.sleep(0)
    assert cache.get(TOKEN) is None


async def test_a_reading_ahead_that_fails_is_told_to_who_asks_when_it_counts(
    cache: TokenCache, table: Table, clock: Clock
) -> None:
    await cache.look_up(TOKEN, TokenKind.BEARER)
    table.error = OSError("the database is away")
    clock.present += 0.5
    for _ in range(5):
        assert cache.get(TOKEN) is not None
        await asyncio.sleep(0)
    # It is not asked again and again.
    assert table.reads == 2
    clock.present += 0.5
    with pytest.raises(OSError, match="away"):
        await cache.look_up(TOKEN, TokenKind.BEARER)


async def test_the_second_begins_with_the_reading(
    cache: TokenCache, table: Table, clock: Clock
) -> None:
    table.answers.clear()
    look_up = asyncio.create_task(cache.look_up(TOKEN, TokenKind.BEARER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.present += 1
    table.answers.set()
    assert await look_up is not None
    assert cache.get(TOKEN) is None


async def test_another_kind_finds_nothing(cache: TokenCache, table: Table) -> None:
    await cache.look_up(TOKEN, TokenKind.BEARER)
    assert await cache.look_up(TOKEN, TokenKind.API_KEY) is None


async def test_an_unknown_token_is_not_remembered(cache: TokenCache, table: Table) -> None:
    assert await cache.look_up(b"x", TokenKind.BEARER) is None
    table.rows[b"x"] = make_identity()
    assert await cache.look_up(b"x", TokenKind.BEARER) is not None


async def test_is_not_remembered_beyond_its_expiry(table: Table, clock: Clock) -> None:
    cache = TokenCache(table.load, lifetime_s=3600, clock=clock)
    table.rows[TOKEN] = make_identity(expires_at=now() + timedelta(seconds=60))
    await cache.look_up(TOKEN, TokenKind.BEARER)
    assert cache.get(TOKEN) is not None
    clock.present += 60
    assert cache.get(TOKEN) is None


async def test_concurrent_misses_share_one_reading(cache: TokenCache, table: Table) -> None:
    table.answers.clear()
    look_ups = [asyncio.create_task(cache.look_up(TOKEN, TokenKind.BEARER)) for _ in range(9)]
    await asyncio.sleep(0)
    # One leaves; the others still get their answer.
    look_ups[0].cancel()
    await asyncio.sleep(0)
    table.answers.set()
    assert await asyncio.gather(*look_ups[1:]) == [table.rows[TOKEN]] * 8
    assert table.reads == 1


async def test_a_forgotten_token_is_read_again(cache: TokenCache, table: Table) -> None:
    await cache.look_up(TOKEN, TokenKind.BEARER)
    await cache.look_up(OTHER, TokenKind.BEARER)
    del table.rows[TOKEN]
    cache.forget([TOKEN])
    assert await cache.look_up(TOKEN, TokenKind.BEARER) is None
    assert cache.get(OTHER) is not None


async def test_forgetting_reaches_a_reading_in_flight(cache: TokenCache, table: Table) -> None:
    table.answers.clear()
    early = asyncio.create_task(cache.look_up(TOKEN, TokenKind.BEARER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert table.reads == 1
    # Revoked between the reading and its answer.
    del table.rows[TOKEN]
    cache.forget([TOKEN])
    late = asyncio.create_task(cache.look_up(TOKEN, TokenKind.BEARER))
    await asyncio.sleep(0)
    table.answers.set()
    assert await early is not None
    assert await late is None
    assert cache.get(TOKEN) is None
    assert table.reads == 2


async def test_a_failed_reading_fails_all_who_wait_and_is_not_remembered(
    cache: TokenCache, table: Table
) -> None:
    table.answers.clear()
    table.error = OSError("the database is away")
    look_ups = [asyncio.create_task(cache.look_up(TOKEN, TokenKind.BEARER)) for _ in range(3)]
    await asyncio.sleep(0)
    table.answers.set()
    results = await asyncio.gather(*look_ups, return_exceptions=True)
    assert results == [table.error] * 3
    table.error = None
    assert await cache.look_up(TOKEN, TokenKind.BEARER) is not None


async def test_remembers_a_bounded_number(table: Table, clock: Clock) -> None:
    cache = TokenCache(table.load, capacity=10, clock=clock)
    for number in range(25):
        token_hash = bytes([number])
        table.rows[token_hash] = make_identity()
        await cache.look_up(token_hash, TokenKind.BEARER)
    assert len(cache) == 10
    assert cache.get(bytes([15])) is not None
    assert cache.get(bytes([14])) is None
