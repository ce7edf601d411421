"""ORM models of what was predicted."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database import Base, new_id, now


def join_labels(labels: Iterable[str]) -> str:
    """The distinct labels, in their order, each between line feeds; empty where there is none."""
    distinct = dict.fromkeys(label.replace("\n", " ") for label in labels)
    return "\n".join(["", *distinct, ""]) if distinct else ""


def split_labels(joined: str) -> list[str]:
    """What `join_labels` joined."""
    return joined[1:-1].split("\n") if joined else []


class Prediction(Base):
    """One answered prediction (`kind` text) or detection (`kind` image) of a signed-in caller."""

    __tablename__ = "predictions"
    # Both listings of a person's history: all, and of one model; newest first.
    __table_args__ = (
        Index(None, "user_id", "created_at", "id"),
        Index(None, "user_id", "model", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    input_text: Mapped[str | None] = mapped_column(Text)
    """The text that was classified; null for images."""
    input_name: Mapped[str | None] = mapped_column(String(255))
    """The uploaded file's name, as the client gave it."""
    result: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The answer's own fields: category and probabilities, or objects and image."""
    labels: Mapped[str] = mapped_column(Text)
    """The distinct labels, each between line feeds ("\\ncat\\ndog\\n"), for the label filter."""
    latency_ms: Mapped[float]
    cached: Mapped[bool] = mapped_column(default=False)

    feedback: Mapped["Feedback | None"] = relationship(
        back_populates="prediction",
        lazy="raise",
        passive_deletes=True,
        cascade="all, delete-orphan",
    )
    picture: Mapped["Picture | None"] = relationship(lazy="raise", viewonly=True)


class Picture(Base):
    """A smaller copy of a detection's image; in a table of its own, so that listings stay light."""

    __tablename__ = "pictures"

    prediction_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("predictions.id", ondelete="CASCADE"), primary_key=True
    )
    # Before the copy itself: SQLite reads a row from its start, page by page.
    thumbnail: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, deferred_raiseload=True)
    """JPEG, for lists."""
    image: Mapped[bytes] = mapped_column(LargeBinary, deferred=True, deferred_raiseload=True)
    """JPEG, orientation applied, without metadata."""


class Feedback(Base):
    """What a person says the answer should have been; at most one a prediction."""

    __tablename__ = "feedback"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    prediction_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("predictions.id", ondelete="CASCADE"), unique=True
    )
    label: Mapped[str] = mapped_column(String(200))
    comment: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    prediction: Mapped[Prediction] = relationship(back_populates="feedback", lazy="raise")


class Stream(Base):
    """One WebSocket stream that has ended."""

    __tablename__ = "streams"
    __table_args__ = (
        Index(None, "user_id", "created_at", "id"),
        Index(None, "user_id", "model", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=new_id)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    model: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    """When the stream ended and was recorded."""
    duration_s: Mapped[float]
    frames_received: Mapped[int]
    frames_processed: Mapped[int]
    frames_dropped: Mapped[int]
    frames_failed: Mapped[int]
    latency_ms: Mapped[float | None]
    """Mean time from a frame's arrival to its answer; null when none was answered."""
    label_counts: Mapped[dict[str, int]] = mapped_column(JSON)
    labels: Mapped[str] = mapped_column(Text)
    """The keys of `label_counts`, each between line feeds, as in `Prediction`."""
    close_code: Mapped[int]
