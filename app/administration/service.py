"""What an administrator may do with other people's accounts.

As in `auth`, transactions are opened here: tokens are forgotten by the cache after the commit.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from loguru import logger
from sqlalchemy.ext.asyncio import AsyncSession

from app.administration import repository
from app.auth.authenticator import Authenticator
from app.auth.dependencies import AdminRequiredError
from app.auth.models import TokenKind, User
from app.auth.repository import delete_tokens, delete_user, get_user, list_token_hashes
from app.auth.service import UserNotFoundError
from app.database import now
from app.exceptions import ConflictError


class OwnAccountError(ConflictError):
    code = "own_account"
    detail = "Your own account is not changed here: that is for another administrator to do."


@dataclass(frozen=True, slots=True)
class UserSummary:
    """An account, and what is known of its use."""

    id: uuid.UUID
    email: str
    created_at: datetime
    is_admin: bool
    is_active: bool
    disabled_at: datetime | None
    records: int
    last_seen_at: datetime | None


@dataclass(slots=True)
class _Work:
    """One transaction on another's account, and the tokens that the cache forgets after it."""

    session: AsyncSession
    user: User
    forgotten: list[bytes] = field(default_factory=list)


class Administration:
    """The service of one request. Cheap to make: the state is the Authenticator's."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._tokens = authenticator.tokens
        self._sessions = authenticator.database.sessions

    async def list_page(
        self, email_part: str | None, before: uuid.UUID | None, limit: int
    ) -> tuple[list[UserSummary], str | None]:
        """One page of the accounts, newest first, and the cursor of the next (None on the last)."""
        async with self._sessions() as session:
            # One more than is shown tells whether there is a next page.
            users = await repository.list_users(session, email_part, before, limit + 1)
            summaries = await _summarise(session, users[:limit])
        return summaries, str(users[limit - 1].id) if len(users) > limit else None

    async def change(
        self,
        admin_id: uuid.UUID,
        user_id: uuid.UUID,
        *,
        is_admin: bool | None = None,
        is_active: bool | None = None,
    ) -> UserSummary:
        """Set what is not None.

        Disabling ends the person's sessions and bearer tokens for good; their API keys work again
        when the account is enabled. Raises OwnAccountError, AdminRequiredError, UserNotFoundError.
        """
        async with self._changing(admin_id, user_id) as work:
            user = work.user
            if is_admin is not None:
                user.is_admin = is_admin
            if is_active is True:
                user.disabled_at = None
            elif is_active is False and user.is_active:
                user.disabled_at = now()
                kinds = (TokenKind.BEARER, TokenKind.SESSION)
                work.forgotten += await delete_tokens(work.session, user_id, kinds=kinds)
            await work.session.flush()
            (summary,) = await _summarise(work.session, [user])
        logger.info(
            "administrator {} set account {}: is_admin={}, is_active={}",
            admin_id,
            user_id,
            summary.is_admin,
            summary.is_active,
        )
        return summary

    async def delete(self, admin_id: uuid.UUID, user_id: uuid.UUID) -> None:
        """Delete the account with all it owns. Raises as `change`."""
        async with self._changing(admin_id, user_id) as work:
            await delete_user(work.session, user_id)
        logger.info("administrator {} deleted account {}", admin_id, user_id)

    @asynccontextmanager
    async def _changing(self, admin_id: uuid.UUID, user_id: uuid.UUID) -> AsyncIterator[_Work]:
        """A transaction in which both accounts stand still.

        Nobody changes their own account, and who changes another's is an administrator when the
        transaction ends: so there always is one left, also when two withdraw each other's rights
        at once. The second of them is refused.
        """
        if admin_id == user_id:
            raise OwnAccountError
        forgotten: list[bytes] = []
        try:
            async with self._sessions() as session, session.begin():
                await repository.lock_users(session, admin_id, user_id)
                admin = await get_user(session, admin_id)
                if admin is None or not admin.is_admin or not admin.is_active:
                    raise AdminRequiredError
                user = await get_user(session, user_id)
                if user is None:
                    raise UserNotFoundError("There is no such account.")
                # They carry what is changed here.
                forgotten += await list_token_hashes(session, user_id)
                yield _Work(session, user, forgotten)
        finally:
            # Also when the commit's own answer was lost: forgetting costs a look-up only.
            self._tokens.forget(forgotten)


async def _summarise(session: AsyncSession, users: Sequence[User]) -> list[UserSummary]:
    ids = [user.id for user in users]
    records = await repository.count_records(session, ids)
    last_uses = await repository.find_last_uses(session, ids)
    return [
        UserSummary(
            id=user.id,
            email=user.email,
            created_at=user.created_at,
            is_admin=user.is_admin,
            is_active=user.is_active,
            disabled_at=user.disabled_at,
            records=records.get(user.id, 0),
            last_seen_at=last_uses.get(user.id),
        )
        for user in users
    ]
