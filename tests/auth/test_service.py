import asyncio
import logging
import uuid
from collections.abc import Callable
from io import StringIO

import httpx
import pytest
from loguru import logger

from app.auth.authenticator import Authenticator
from app.auth.models import TokenKind, User
from app.auth.security import hash_token
from app.auth.service import (
    AccountChangedError,
    Accounts,
    EmailAlreadyExistsError,
    WrongCredentialsError,
)
from app.config import Settings
from app.database import Database
from app.exceptions import UnauthorizedError
from tests.auth.support import PASSWORD, QuickPasswords, Visitor


@pytest.fixture
async def user(accounts: Accounts) -> User:
    return await accounts.register(f"{uuid.uuid4().hex}@example.com", PASSWORD)


class Interrupting(QuickPasswords):
    """Lets something happen between reading a password's hash and trusting it."""

    def __init__(self) -> None:
        super().__init__()
        self.interruptions: list[Callable[[], None]] = []

    def verify_and_update(self, secret: str, hash: str) -> tuple[bool, str | None]:  # noqa: A002
        if self.interruptions:
            self.interruptions.pop(0)()
        return super().verify_and_update(secret, hash)


class TestSignIn:
    async def test_verifies_once_for_unknown_and_known_alike(
        self, settings: Settings, database: Database, user: User
    ) -> None:
        context = QuickPasswords()
        authenticator = Authenticator(settings, database, password_context=context)
        accounts = Accounts(authenticator)
        for email in (user.email, "nobody@example.com", "no address", ""):
            context.verified.clear()
            with pytest.raises(WrongCredentialsError):
                await accounts.sign_in(email, "wrong password", TokenKind.BEARER, "test")
            assert [secret for secret, _ in context.verified] == ["wrong password"]
        await authenticator.close()

    async def test_renews_a_hash_of_old_parameters(
        self, settings: Settings, database: Database, user: User
    ) -> None:
        context = QuickPasswords(argon2__time_cost=2)
        authenticator = Authenticator(settings, database, password_context=context)
        accounts = Accounts(authenticator)
        with pytest.raises(WrongCredentialsError):
            await accounts.sign_in(user.email, "wrong password", TokenKind.BEARER, "test")
        assert (await accounts.get(user.id)).password_hash == user.password_hash
        await accounts.sign_in(user.email, PASSWORD, TokenKind.BEARER, "test")
        renewed = (await accounts.get(user.id)).password_hash
        assert ",t=2," in renewed
        await accounts.sign_in(user.email, PASSWORD, TokenKind.BEARER, "test")
        assert (await accounts.get(user.id)).password_hash == renewed
        await authenticator.close()

    async def test_many_at_once_renew_an_old_hash(
        self, settings: Settings, database: Database, user: User
    ) -> None:
        context = QuickPasswords(argon2__time_cost=2)
        authenticator = Authenticator(settings, database, password_context=context)
        accounts = Accounts(authenticator)
        issued = await asyncio.gather(
            *(accounts.sign_in(user.email, PASSWORD, TokenKind.BEARER, "test") for _ in range(4))
        )
        assert len({it.token for it in issued}) == 4
        assert len(await accounts.list_tokens(user.id)) == 4
        await authenticator.close()

    async def test_the_old_password_wins_no_race_against_its_change(
        self, settings: Settings, database: Database, accounts: Accounts, user: User
    ) -> None:
        context = Interrupting()
        slow = Authenticator(settings, database, password_context=context)
        loop = asyncio.get_running_loop()

        def change_password() -> None:
            change = accounts.update(
                user.id, None, PASSWORD, email=None, new_password="another good password"
            )
            asyncio.run_coroutine_threadsafe(change, loop).result(30)

        context.interruptions.append(change_password)
        with pytest.raises(WrongCredentialsError):
            await Accounts(slow).sign_in(user.email, PASSWORD, TokenKind.BEARER, "test")
        assert await accounts.list_tokens(user.id) == []
        await slow.close()

    async def test_a_change_in_the_midst_of_another_is_refused(
        self, settings: Settings, database: Database, accounts: Accounts, user: User
    ) -> None:
        context = Interrupting()
        slow = Authenticator(settings, database, password_context=context)
        loop = asyncio.get_running_loop()

        def change_password() -> None:
            change = accounts.update(
                user.id, None, PASSWORD, email=None, new_password="another good password"
            )
            asyncio.run_coroutine_threadsafe(change, loop).result(30)

        context.interruptions.append(change_password)
        with pytest.raises(AccountChangedError):
            await Accounts(slow).delete(user.id, PASSWORD)
        assert (await accounts.get(user.id)).email == user.email
        await slow.close()


async def test_two_changes_to_one_email_at_once_are_one(accounts: Accounts) -> None:
    users = [await accounts.register(f"{uuid.uuid4().hex}@example.com", PASSWORD) for _ in "ab"]
    email = f"{uuid.uuid4().hex}@example.com"
    results = await asyncio.gather(
        *(
            accounts.update(user.id, None, PASSWORD, email=email, new_password=None)
            for user in users
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == [
        EmailAlreadyExistsError.__name__,
        User.__name__,
    ]


async def test_a_deleted_persons_cached_token_makes_no_key(accounts: Accounts, user: User) -> None:
    await accounts.delete(user.id, PASSWORD)
    with pytest.raises(UnauthorizedError):
        await accounts.create_api_key(user.id, "late", None)
    with pytest.raises(UnauthorizedError):
        await accounts.get(user.id)


class TestProcesses:
    """Two authenticators over one database are what two server processes are."""

    async def test_a_revoked_token_is_dead_here_at_once_and_there_within_a_second(
        self,
        settings: Settings,
        database_url: str,
        accounts: Accounts,
        user: User,
        authenticator: Authenticator,
    ) -> None:
        moment = 0.0
        database = Database(database_url)
        other = Authenticator(
            settings, database, password_context=QuickPasswords(), clock=lambda: moment
        )
        issued = await accounts.sign_in(user.email, PASSWORD, TokenKind.BEARER, "test")
        token_hash = hash_token(issued.token.encode())
        for one in (authenticator, other):
            assert await one.tokens.look_up(token_hash, TokenKind.BEARER) is not None

        await accounts.revoke(user.id, issued.row.id)

        assert await authenticator.tokens.look_up(token_hash, TokenKind.BEARER) is None
        moment = 1.0
        assert await other.tokens.look_up(token_hash, TokenKind.BEARER) is None
        await other.close()
        await database.close()


async def test_no_secret_is_ever_logged(ada: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    written = StringIO()
    sink = logger.add(written, level=0, diagnose=True, backtrace=True)
    names = ("app", "sqlalchemy.engine", "sqlalchemy.pool", "passlib", "fastapi")
    for name in names:
        caplog.set_level(logging.DEBUG, name)
    secrets = [PASSWORD]
    try:
        token = await ada.token()
        secrets.append(token)
        secrets.append((await ada.api_key())["key"])
        await ada.login()
        secrets.append(ada.http.cookies["lookout_session"])
        answers: list[httpx.Response] = [
            await ada.http.get("/me", headers={"Authorization": f"Bearer {token}"}),
            await ada.http.get("/me", headers={"X-API-Key": secrets[2]}),
            await ada.http.get("/me", headers={"X-API-Key": token}),
            await ada.http.post("/logout", headers=await ada.csrf()),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 401, 204]
    finally:
        logger.remove(sink)
    log = written.getvalue() + caplog.text
    assert "access_tokens" in log  # SQLAlchemy did log.
    for secret in secrets:
        assert secret not in log
