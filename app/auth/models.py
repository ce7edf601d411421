"""ORM models of accounts and of everything a caller proves itself with."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base, new_id, now


class TokenKind(StrEnum):
    """How a token travels: Authorization header, browser cookie, or X-API-Key."""

    BEARER = "bearer"
    SESSION = "session"
    API_KEY = "api_key"


class User(Base):
    """An account. Deleting it deletes all it owns (foreign keys cascade)."""

    __tablename__ = "users"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    # Normalised to lower case by the service: the constraint then is case-insensitive.
    email: Mapped[str] = mapped_column(String(320), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    is_admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]
    """Since when nobody may use it; null for an account that is in use."""

    @property
    def is_active(self) -> bool:
        return self.disabled_at is None


class AccessToken(Base):
    """A bearer token, a browser session or an API key; only its SHA-256 is kept."""

    __tablename__ = "access_tokens"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(100))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_used_at: Mapped[datetime | None]
    # Indexed for the removal of expired rows.
    expires_at: Mapped[datetime | None] = mapped_column(index=True)

    user: Mapped[User] = relationship(lazy="raise")
