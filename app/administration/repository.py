"""The SQL of administration. Nothing here decides or commits."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.models import AccessToken, User
from app.history.models import Prediction, Stream


async def list_users(
    session: AsyncSession, email_part: str | None, before: uuid.UUID | None, limit: int
) -> Sequence[User]:
    """Accounts, newest first: their ids grow with time. Those before the id `before`."""
    query = select(User).order_by(User.id.desc()).limit(limit)
    if email_part is not None:
        query = query.where(User.email.contains(email_part.lower(), autoescape=True))
    if before is not None:
        query = query.where(User.id < before)
    return (await session.scalars(query)).all()


async def count_records(
    session: AsyncSession, user_ids: Sequence[uuid.UUID]
) -> Mapping[uuid.UUID, int]:
    """How many items each of these people has in the history; none is left out as 0."""
    counts: Counter[uuid.UUID] = Counter()
    for table in (Prediction, Stream):
        rows = await session.execute(
            select(table.user_id, func.count())
            .where(table.user_id.in_(user_ids))
            .group_by(table.user_id)
        )
        for user_id, count in rows:
            counts[user_id] += count
    return counts


async def find_last_uses(
    session: AsyncSession, user_ids: Sequence[uuid.UUID]
) -> Mapping[uuid.UUID, datetime]:
    """When these people last used a token that there still is, where they have."""
    last_use = func.max(AccessToken.last_used_at, type_=AccessToken.last_used_at.type)
    rows = await session.execute(
        select(AccessToken.user_id, last_use)
        .where(AccessToken.user_id.in_(user_ids), AccessToken.last_used_at.is_not(None))
        .group_by(AccessToken.user_id)
    )
    return {user_id: moment for user_id, moment in rows if moment is not None}


async def lock_users(session: AsyncSession, *user_ids: uuid.UUID) -> None:
    """Keep these accounts from changing until the transaction ends.

    An update that changes nothing takes a row's lock on PostgreSQL and the write lock on SQLite.
    In order, so that two administrators who change each other do not lock each other out.
    """
    for user_id in sorted(user_ids):
        await session.execute(
            update(User)
            .where(User.id == user_id)
            .values(is_admin=User.is_admin)
            .execution_options(synchronize_session=False)
        )
