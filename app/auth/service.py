"""Accounts: signing up and in, changing and deleting, tokens and keys.

Unlike other rooms' services this one opens its transactions itself: hashing a password is slow
and must not hold a connection, and tokens are forgotten by the cache after the commit.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import repository
from app.auth.authenticator import Authenticator
from app.auth.models import AccessToken, TokenKind, User
from app.auth.rate_limit import group_address
from app.auth.security import hash_token, make_token, normalize_email
from app.auth.sign_in_limit import WrongPasswordGivenError
from app.database import new_id, now
from app.exceptions import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
)

_SIGN_IN_ATTEMPTS = 3
_MAX_NAME_LENGTH = 100


class EmailAlreadyExistsError(BadRequestError):
    code = "email_already_exists"
    detail = "Email already exists"


class RegistrationClosedError(ForbiddenError):
    code = "registration_closed"
    detail = "Registration is closed here. Ask the administrator for an account."


class WrongCredentialsError(WrongPasswordGivenError, UnauthorizedError):
    """One wording for an unknown email and a wrong password."""

    code = "wrong_credentials"
    detail = "Email or password is wrong."


class WrongPasswordError(WrongPasswordGivenError, ForbiddenError):
    """403 and not 401: the caller is known, and its client shall not sign it out."""

    code = "wrong_password"
    detail = "The current password is wrong."


class AccountDisabledError(ForbiddenError):
    """Told to who knows the password only."""

    code = "account_disabled"
    detail = "This account is disabled. Ask the administrator."


class AccountChangedError(ConflictError):
    code = "account_changed"
    detail = "The account was changed in the meantime. Try again."


class UserNotFoundError(NotFoundError):
    code = "user_not_found"
    detail = "There is no account with this email."


class TokenNotFoundError(NotFoundError):
    code = "token_not_found"
    detail = "There is no such token, or it is not yours."


class KeyMakesNoKeysError(ForbiddenError):
    """Else a leaked key with an expiry could make itself one without."""

    code = "api_key_not_accepted"
    detail = "An API key cannot make API keys. Sign in, or use a bearer token."


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token's row, and the token in clear: it is known here and never again."""

    token: str
    row: AccessToken


@dataclass(slots=True)
class _Work:
    """One transaction, and the hashes of the tokens that the cache forgets after it."""

    session: AsyncSession
    forgotten: list[bytes] = field(default_factory=list)


class Accounts:
    """All that is decided about accounts. Cheap to make: the state is the Authenticator's."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._settings = authenticator.settings
        self._sessions = authenticator.database.sessions
        self._passwords = authenticator.passwords

    async def register(self, email: str, password: str, address: str | None = None) -> User:
        """Open an account, if registration is open.

        Each attempt from `address` counts, also that with an email which is taken: who tries many
        would learn whose they are, and each hash costs memory and time. Raises
        RegistrationClosedError, TooManyRequestsError, EmailAlreadyExistsError.
        """
        if not self._settings.registration_open:
            raise RegistrationClosedError
        if address is not None:
            await self._authenticator.registration_limit.check(group_address(address))
        return await self.create(email, password)

    async def create(self, email: str, password: str, *, is_admin: bool = False) -> User:
        """Open an account. Raises EmailAlreadyExistsError; ValueError for no address."""
        email = normalize_email(email)
        async with self._sessions() as session:
            if await repository.find_user(session, email) is not None:
                raise EmailAlreadyExistsError
        password_hash = await self._passwords.hash(password)
        user = User(email=email, password_hash=password_hash, is_admin=is_admin)
        try:
            async with self._transaction() as work:
                work.session.add(user)
        except IntegrityError as error:
            # Two at once: the constraint decides who was first.
            raise EmailAlreadyExistsError from error
        return user

    async def promote(self, email: str) -> User:
        """Make the account an administrator's. Raises UserNotFoundError."""
        async with self._transaction() as work:
            user = await repository.set_admin(work.session, _normalize_or_empty(email))
            if user is None:
                raise UserNotFoundError
            work.forgotten += await repository.list_token_hashes(work.session, user.id)
        return user

    async def list_users(self) -> Sequence[User]:
        """All accounts, oldest first."""
        async with self._sessions() as session:
            return await repository.list_users(session)

    async def sign_in(
        self,
        email: str,
        password: str,
        kind: TokenKind,
        client_name: str,
        address: str | None = None,
    ) -> IssuedToken:
        """Check the password and issue a bearer token or a session named after the client.

        Raises WrongCredentialsError, after the same work for an unknown email and a wrong
        password, TooManySignInsError after too many of them, by email or by `address`, and
        AccountDisabledError after the right one.
        """
        # Spelled as the account is, so that no other spelling has attempts of its own.
        spelling = _normalize_or_empty(email)
        async with self._authenticator.sign_in_limit.attempt(spelling or email, address):
            return await self._sign_in(spelling, password, kind, client_name)

    async def _sign_in(
        self, email: str, password: str, kind: TokenKind, client_name: str
    ) -> IssuedToken:
        lifetime_s = (
            self._settings.session_lifetime_s
            if kind is TokenKind.SESSION
            else self._settings.access_token_lifetime_s
        )
        # Again when the hash changes between reading and claiming it, as it does when two
        # sign-ins replace an old one at once.
        for _ in range(_SIGN_IN_ATTEMPTS):
            async with self._sessions() as session:
                user = await repository.find_user(session, email)
            verified_hash = user.password_hash if user else None
            check = await self._passwords.verify(password, verified_hash)
            if user is None or not check.ok:
                raise WrongCredentialsError
            if not user.is_active:
                raise AccountDisabledError
            issued = _issue(user.id, kind, client_name, now() + timedelta(seconds=lifetime_s))
            async with self._transaction() as work:
                if await repository.claim_account(
                    work.session,
                    user.id,
                    verified_hash=user.password_hash,
                    password_hash=check.replacement or user.password_hash,
                ):
                    work.session.add(issued.row)
                    return issued
        raise AccountChangedError

    async def get(self, user_id: uuid.UUID) -> User:
        """The account. Raises UnauthorizedError when it is gone since the caller was known."""
        async with self._sessions() as session:
            user = await repository.get_user(session, user_id)
        if user is None:
            raise UnauthorizedError
        return user

    async def update(
        self,
        user_id: uuid.UUID,
        token_id: uuid.UUID | None,
        current_password: str,
        *,
        email: str | None,
        new_password: str | None,
    ) -> User:
        """Change email or password, and revoke all sessions and bearer tokens but `token_id`.

        Raises WrongPasswordError, TooManySignInsError, EmailAlreadyExistsError,
        AccountChangedError.
        """
        user, password_hash = await self._verify(user_id, current_password)
        values = {"password_hash": password_hash}
        if new_password is not None:
            values["password_hash"] = await self._passwords.hash(new_password)
        if email is not None:
            values["email"] = normalize_email(email)
        try:
            async with self._transaction() as work:
                await _claim(work.session, user, **values)
                work.forgotten += await repository.delete_tokens(
                    work.session,
                    user_id,
                    keep_id=token_id,
                    kinds=(TokenKind.BEARER, TokenKind.SESSION),
                )
                # Those that stay carry the email.
                work.forgotten += await repository.list_token_hashes(work.session, user_id)
        except IntegrityError as error:
            raise EmailAlreadyExistsError from error
        return await self.get(user_id)

    async def delete(self, user_id: uuid.UUID, current_password: str) -> None:
        """Delete the account with all it owns.

        Raises WrongPasswordError, TooManySignInsError, AccountChangedError.
        """
        user, password_hash = await self._verify(user_id, current_password)
        async with self._transaction() as work:
            await _claim(work.session, user, password_hash=password_hash)
            work.forgotten += await repository.delete_tokens(work.session, user_id)
            await repository.delete_user(work.session, user_id)

    async def create_api_key(
        self, user_id: uuid.UUID, name: str, expires_at: datetime | None
    ) -> IssuedToken:
        """A new API key. Raises UnauthorizedError when the account is gone."""
        issued = _issue(user_id, TokenKind.API_KEY, name, expires_at)
        try:
            async with self._transaction() as work:
                work.session.add(issued.row)
        except IntegrityError as error:
            raise UnauthorizedError from error
        return issued

    async def list_tokens(self, user_id: uuid.UUID) -> Sequence[AccessToken]:
        """The person's valid sessions, bearer tokens and API keys, newest first."""
        async with self._sessions() as session:
            return await repository.list_tokens(session, user_id, now())

    async def revoke(self, user_id: uuid.UUID, token_id: uuid.UUID) -> None:
        """Delete one of the person's tokens. Raises TokenNotFoundError."""
        async with self._transaction() as work:
            work.forgotten += await repository.delete_tokens(
                work.session, user_id, only_id=token_id
            )
            if not work.forgotten:
                raise TokenNotFoundError

    async def _verify(self, user_id: uuid.UUID, password: str) -> tuple[User, str]:
        """The account and the hash it shall have, renewed where its parameters are old."""
        user = await self.get(user_id)
        # Who has come by a session or a key must not find out the password with it.
        async with self._authenticator.sign_in_limit.attempt(user.email, None):
            check = await self._passwords.verify(password, user.password_hash)
            if not check.ok:
                raise WrongPasswordError
        return user, check.replacement or user.password_hash

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[_Work]:
        forgotten: list[bytes] = []
        try:
            async with self._sessions() as session, session.begin():
                yield _Work(session, forgotten)
        finally:
            # Also when the commit's own answer was lost: forgetting costs a look-up only.
            self._authenticator.tokens.forget(forgotten)


async def _claim(session: AsyncSession, user: User, **values: str) -> None:
    if not await repository.claim_account(
        session, user.id, verified_hash=user.password_hash, **values
    ):
        raise AccountChangedError


def _issue(
    user_id: uuid.UUID, kind: TokenKind, name: str, expires_at: datetime | None
) -> IssuedToken:
    token = make_token(kind)
    row = AccessToken(
        # Here and not at the flush: the row is answered without being read again.
        id=new_id(),
        user_id=user_id,
        kind=kind,
        name=name[:_MAX_NAME_LENGTH],
        token_hash=hash_token(token.encode()),
        created_at=now(),
        last_used_at=None,
        expires_at=expires_at,
    )
    return IssuedToken(token, row)


def _normalize_or_empty(email: str) -> str:
    """An address that cannot be one is looked up as the one that nobody has."""
    try:
        return normalize_email(email)
    except ValueError:
        return ""
