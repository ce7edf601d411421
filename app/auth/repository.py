"""The SQL of accounts and tokens. Nothing here decides or commits."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import CursorResult, bindparam, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.auth.models import AccessToken, TokenKind, User


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a valid token stands for."""

    token_id: uuid.UUID
    kind: str
    user_id: uuid.UUID
    email: str
    is_admin: bool
    expires_at: datetime | None
    last_used_at: datetime | None


async def find_identity(
    session: AsyncSession, token_hash: bytes, kind: TokenKind, moment: datetime
) -> Identity | None:
    """The identity behind a token of that kind which has not expired at `moment`.

    Tokens of a disabled account stand for nobody.
    """
    statement = (
        select(
            AccessToken.id,
            AccessToken.kind,
            User.id,
            User.email,
            User.is_admin,
            AccessToken.expires_at,
            AccessToken.last_used_at,
        )
        .join(User, AccessToken.user_id == User.id)
        .where(
            AccessToken.token_hash == token_hash,
            AccessToken.kind == kind,
            or_(AccessToken.expires_at.is_(None), AccessToken.expires_at > moment),
            User.disabled_at.is_(None),
        )
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else Identity(*row)


async def get_user(session: AsyncSession, user_id: uuid.UUID) -> User | None:
    return await session.get(User, user_id)


async def find_user(session: AsyncSession, email: str) -> User | None:
    """`email` is normalised already."""
    return (await session.scalars(select(User).where(User.email == email))).one_or_none()


async def list_users(session: AsyncSession) -> Sequence[User]:
    return (await session.scalars(select(User).order_by(User.created_at))).all()


async def set_admin(session: AsyncSession, email: str) -> User | None:
    statement = update(User).where(User.email == email).values(is_admin=True).returning(User)
    return (await session.scalars(statement)).one_or_none()


async def claim_account(
    session: AsyncSession, user_id: uuid.UUID, *, verified_hash: str, **values: str
) -> bool:
    """Lock the account if its password is still the one that was verified, and set `values`.

    A password is verified outside the transaction, because that is slow. This update comes first
    in each transaction that trusts it: it takes the row's lock (SQLite: the write lock), so
    that a password change and a sign-in with the old password exclude each other.
    False: the password has changed, or the account is disabled or gone.
    """
    statement = (
        update(User)
        .where(
            User.id == user_id,
            User.password_hash == verified_hash,
            User.disabled_at.is_(None),
        )
        .values(**{"password_hash": verified_hash, **values})
        .execution_options(synchronize_session=False)
    )
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)


async def delete_user(session: AsyncSession, user_id: uuid.UUID) -> None:
    """Delete the account; the database deletes what belongs to it."""
    await session.execute(
        delete(User).where(User.id == user_id).execution_options(synchronize_session=False)
    )


async def list_tokens(
    session: AsyncSession, user_id: uuid.UUID, moment: datetime
) -> Sequence[AccessToken]:
    """The person's tokens that have not expired at `moment`, newest first."""
    statement = (
        select(AccessToken)
        .where(
            AccessToken.user_id == user_id,
            or_(AccessToken.expires_at.is_(None), AccessToken.expires_at > moment),
        )
        .order_by(AccessToken.created_at.desc(), AccessToken.id.desc())
    )
    return (await session.scalars(statement)).all()


async def delete_tokens(
    session: AsyncSession,
    user_id: uuid.UUID,
    *,
    only_id: uuid.UUID | None = None,
    keep_id: uuid.UUID | None = None,
    kinds: Collection[TokenKind] = tuple(TokenKind),
) -> Sequence[bytes]:
    """Delete a person's tokens: one, or all of `kinds` but one. Returns the hashes deleted."""
    statement = delete(AccessToken).where(
        AccessToken.user_id == user_id, AccessToken.kind.in_(kinds)
    )
    if only_id is not None:
        statement = statement.where(AccessToken.id == only_id)
    if keep_id is not None:
        statement = statement.where(AccessToken.id != keep_id)
    returning = statement.returning(AccessToken.token_hash)
    return (
        await session.scalars(returning, execution_options={"synchronize_session": False})
    ).all()


async def list_token_hashes(session: AsyncSession, user_id: uuid.UUID) -> Sequence[bytes]:
    statement = select(AccessToken.token_hash).where(AccessToken.user_id == user_id)
    return (await session.scalars(statement)).all()


async def mark_used(connection: AsyncConnection, moments: Mapping[uuid.UUID, datetime]) -> None:
    """Set `last_used_at`, never backwards; tokens that are gone are passed over."""
    token_id = bindparam("token_id", type_=AccessToken.id.type)
    used_at = bindparam("used_at", type_=AccessToken.last_used_at.type)
    statement = (
        update(AccessToken)
        .where(
            AccessToken.id == token_id,
            or_(AccessToken.last_used_at.is_(None), AccessToken.last_used_at < used_at),
        )
        .values(last_used_at=used_at)
    )
    # In order, so that two processes that mark the same tokens do not lock each other out.
    parameters = [{"token_id": key, "used_at": moments[key]} for key in sorted(moments)]
    await connection.execute(statement, parameters)


async def delete_expired_tokens(connection: AsyncConnection, moment: datetime) -> int:
    """Delete every token that had expired at `moment`. Returns how many."""
    result = await connection.execute(delete(AccessToken).where(AccessToken.expires_at <= moment))
    return result.rowcount
