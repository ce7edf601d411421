"""The SQL of the history. Each statement is bound to one owner."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, delete, literal, select, tuple_
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from sqlalchemy.sql import Select

from app.history.cursor import Cursor
from app.history.models import Feedback, Picture, Prediction, Stream
from app.history.search import matches

HistoryRow = Prediction | Stream
Row = TypeVar("Row", Prediction, Stream)


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """What a listing is narrowed to; None means no condition.

    `label` matches whole labels without regard to case, `words` any part of what `search.matches`
    looks in; `since` is inclusive, `until` exclusive.
    """

    kind: Literal["text", "image", "stream"] | None = None
    model: str | None = None
    label: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: str | None = None


def conditions(
    table: type[Prediction] | type[Stream], user_id: uuid.UUID, narrowed: HistoryFilter
) -> list[ColumnElement[bool]]:
    """The WHERE of a person's rows in `table`."""
    found: list[ColumnElement[bool]] = [table.user_id == user_id]
    if narrowed.kind is not None and table is Prediction:
        found.append(Prediction.kind == narrowed.kind)
    if narrowed.model is not None:
        found.append(table.model == narrowed.model)
    if narrowed.label is not None:
        # SQLite's LIKE ignores case and PostgreSQL's does not: both are made to.
        found.append(table.labels.icontains(f"\n{narrowed.label}\n", autoescape=True))
    if narrowed.since is not None:
        found.append(table.created_at >= narrowed.since)
    if narrowed.until is not None:
        found.append(table.created_at < narrowed.until)
    if narrowed.words is not None:
        found.append(matches(table, narrowed.words))
    return found


def newest_first(
    table: type[Row],
    user_id: uuid.UUID,
    narrowed: HistoryFilter,
    before: Cursor | None,
    limit: int,
) -> Select[Row]:
    """The newest rows of one table that sort before the cursor."""
    query = select(table).where(*conditions(table, user_id, narrowed))
    if before is not None:
        query = query.where(
            tuple_(table.created_at, table.id)
            < tuple_(
                literal(before.created_at, table.created_at.type), literal(before.id, table.id.type)
            )
        )
    return query.order_by(table.created_at.desc(), table.id.desc()).limit(limit)


class HistoryRepository:
    """One person's predictions, streams and feedback."""

    def __init__(self, session: AsyncSession, user_id: uuid.UUID) -> None:
        self._session = session
        self._user_id = user_id

    async def list_newest(
        self, narrowed: HistoryFilter, before: Cursor | None, limit: int
    ) -> Sequence[HistoryRow]:
        """Up to `limit` rows of both tables merged, newest first, equal times by id."""
        rows: list[HistoryRow] = []
        if narrowed.kind != "stream":
            predictions = newest_first(Prediction, self._user_id, narrowed, before, limit)
            rows += await self._session.scalars(
                predictions.options(joinedload(Prediction.feedback), joinedload(Prediction.picture))
            )
        if narrowed.kind in (None, "stream"):
            rows += await self._session.scalars(
                newest_first(Stream, self._user_id, narrowed, before, limit)
            )
        rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        return rows[:limit]

    async def find_prediction(self, prediction_id: uuid.UUID) -> Prediction | None:
        """The prediction with its feedback, and whether there is a picture."""
        return await self._session.scalar(
            select(Prediction)
            .where(Prediction.id == prediction_id, Prediction.user_id == self._user_id)
            .options(joinedload(Prediction.feedback), joinedload(Prediction.picture))
        )

    async def read_picture(self, prediction_id: uuid.UUID, *, thumbnail: bool) -> bytes | None:
        """The JPEG that is kept of a detection's image."""
        return await self._session.scalar(
            select(Picture.thumbnail if thumbnail else Picture.image)
            .join(Prediction, Prediction.id == Picture.prediction_id)
            .where(Prediction.id == prediction_id, Prediction.user_id == self._user_id)
        )

    async def find_stream(self, stream_id: uuid.UUID) -> Stream | None:
        return await self._session.scalar(
            select(Stream).where(Stream.id == stream_id, Stream.user_id == self._user_id)
        )

    async def find(self, item_id: uuid.UUID) -> HistoryRow | None:
        """The prediction or stream with this id."""
        return await self.find_prediction(item_id) or await self.find_stream(item_id)

    async def delete(self, item_id: uuid.UUID) -> bool:
        """Delete a prediction (its feedback goes with it) or a stream; whether there was one."""
        for table in (Prediction, Stream):
            result: CursorResult[Any] = await self._session.execute(  # type: ignore[assignment]
                delete(table).where(table.id == item_id, table.user_id == self._user_id)
            )
            if result.rowcount:
                return True
        return False

    async def delete_all(self) -> None:
        for table in (Prediction, Stream):
            await self._session.execute(delete(table).where(table.user_id == self._user_id))

    async def find_feedback(self, prediction_id: uuid.UUID) -> Feedback | None:
        return await self._session.scalar(
            select(Feedback)
            .join(Feedback.prediction)
            .where(Prediction.id == prediction_id, Prediction.user_id == self._user_id)
        )

    async def add_feedback(self, feedback: Feedback) -> None:
        """Insert; raises SQLAlchemy's `IntegrityError` for a second one or a deleted prediction."""
        self._session.add(feedback)
        await self._session.flush()

    async def delete_feedback(self, feedback_id: uuid.UUID) -> None:
        await self._session.execute(delete(Feedback).where(Feedback.id == feedback_id))
