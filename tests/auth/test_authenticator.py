import uuid
from datetime import timedelta

import pytest
from loguru import logger

from app.auth.authenticator import Authenticator
from app.auth.models import AccessToken, TokenKind, User
from app.auth.security import hash_token
from app.auth.service import Accounts, IssuedToken
from app.config import Settings
from app.database import Database, now
from tests.auth.support import PASSWORD, QuickPasswords


@pytest.fixture
async def user(accounts: Accounts) -> User:
    return await accounts.register(f"{uuid.uuid4().hex}@example.com", PASSWORD)


@pytest.fixture
async def issued(accounts: Accounts, user: User) -> IssuedToken:
    return await accounts.sign_in(user.email, PASSWORD, TokenKind.BEARER, "test")


async def use(authenticator: Authenticator, issued: IssuedToken) -> None:
    token_hash = hash_token(issued.token.encode())
    # As if a second had passed.
    authenticator.tokens.forget([token_hash])
    assert await authenticator.tokens.look_up(token_hash, TokenKind.BEARER) is not None


async def read(database: Database, issued: IssuedToken) -> AccessToken:
    async with database.sessions() as session:
        return await session.get_one(AccessToken, issued.row.id)


async def set_last_used(database: Database, issued: IssuedToken, seconds_ago: float) -> None:
    async with database.sessions.begin() as session:
        row = await session.get_one(AccessToken, issued.row.id)
        row.last_used_at = now() - timedelta(seconds=seconds_ago)


async def test_the_last_use_is_written_in_the_background(
    authenticator: Authenticator, database: Database, issued: IssuedToken
) -> None:
    before = now()
    await use(authenticator, issued)
    assert (await read(database, issued)).last_used_at is None
    await authenticator.flush()
    last_used_at = (await read(database, issued)).last_used_at
    assert last_used_at is not None
    assert before <= last_used_at <= now()


async def test_the_last_use_is_written_once_a_minute(
    authenticator: Authenticator, database: Database, issued: IssuedToken
) -> None:
    await set_last_used(database, issued, seconds_ago=50)
    present = (await read(database, issued)).last_used_at
    await use(authenticator, issued)
    await authenticator.flush()
    assert (await read(database, issued)).last_used_at == present
    await set_last_used(database, issued, seconds_ago=61)
    before = now()
    await use(authenticator, issued)
    await authenticator.flush()
    last_used_at = (await read(database, issued)).last_used_at
    assert last_used_at is not None
    assert last_used_at >= before


async def test_the_last_use_never_goes_backwards(
    authenticator: Authenticator, database: Database, issued: IssuedToken
) -> None:
    await use(authenticator, issued)
    # Another process wrote a later one in the meantime.
    await set_last_used(database, issued, seconds_ago=-5)
    later = (await read(database, issued)).last_used_at
    await authenticator.flush()
    assert (await read(database, issued)).last_used_at == later


async def test_the_last_use_is_written_at_the_end(
    settings: Settings, database: Database, issued: IssuedToken
) -> None:
    async with Authenticator(settings, database, password_context=QuickPasswords()) as it:
        await use(it, issued)
    assert (await read(database, issued)).last_used_at is not None
    await it.close()


async def test_a_database_that_is_away_breaks_no_background_work(
    settings: Settings, database_url: str, issued: IssuedToken
) -> None:
    database = Database(database_url)
    authenticator = Authenticator(settings, database, password_context=QuickPasswords())
    await use(authenticator, issued)
    unusable = Database("sqlite+aiosqlite:////proc/nowhere.db")
    authenticator.database = unusable
    messages: list[str] = []
    sink = logger.add(messages.append, level="WARNING", format="{message}")
    await authenticator.flush()
    await authenticator.delete_expired_tokens()
    logger.remove(sink)
    assert "the last use of 1 tokens was not recorded" in messages[0]
    assert "expired tokens were not removed" in messages[1]
    await authenticator.close()
    await unusable.close()
    await database.close()


async def test_expired_tokens_are_removed_from_time_to_time(
    authenticator: Authenticator, accounts: Accounts, database: Database, user: User
) -> None:
    tokens = [
        await accounts.create_api_key(user.id, name, expires_at)
        for name, expires_at in [
            ("expired", now() - timedelta(seconds=1)),
            ("valid", now() + timedelta(hours=1)),
            ("eternal", None),
        ]
    ]
    await authenticator.delete_expired_tokens()
    async with database.sessions() as session:
        rows = [await session.get(AccessToken, token.row.id) for token in tokens]
    assert [row and row.name for row in rows] == [None, "valid", "eternal"]
