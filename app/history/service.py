"""What a person may do with their history. Each answer is about the caller's own records."""

import uuid
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from app.database import now
from app.database_errors import is_foreign_key_violation
from app.history.cursor import Cursor
from app.history.exceptions import (
    FeedbackExistsError,
    FeedbackNotFoundError,
    FeedbackNotSupportedError,
    HistoryItemNotFoundError,
    InvalidTimeRangeError,
    PictureNotFoundError,
)
from app.history.models import Feedback, Stream
from app.history.repository import HistoryFilter, HistoryRepository, HistoryRow
from app.history.summary import Summary, SummaryRepository

DEFAULT_SUMMARY_SPAN = timedelta(days=30)


def check_time_range(since: datetime | None, until: datetime | None) -> None:
    """Raise `InvalidTimeRangeError` for a span in which no moment lies."""
    if since is not None and until is not None and since >= until:
        raise InvalidTimeRangeError


class HistoryService:
    """One caller's history in one transaction."""

    def __init__(self, session: AsyncSession, user_id: uuid.UUID) -> None:
        self._repository = HistoryRepository(session, user_id)
        self._summaries = SummaryRepository(session, user_id)
        self._session = session

    async def list_page(
        self, narrowed: HistoryFilter, cursor: str | None, limit: int
    ) -> tuple[list[HistoryRow], str | None]:
        """One page, newest first, and the cursor of the next (None on the last).

        Raises:
            InvalidCursorError: `cursor` was not made here.
            InvalidTimeRangeError: no moment lies in the filter's span.
        """
        check_time_range(narrowed.since, narrowed.until)
        before = None if cursor is None else Cursor.decode(cursor)
        # One more than is shown tells whether there is a next page.
        rows = list(await self._repository.list_newest(narrowed, before, limit + 1))
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        return rows[:limit], Cursor(last.created_at, last.id).encode()

    async def get(self, item_id: uuid.UUID) -> HistoryRow:
        """Raises `HistoryItemNotFoundError`, also for another person's item."""
        row = await self._repository.find(item_id)
        if row is None:
            raise HistoryItemNotFoundError
        return row

    async def get_picture(self, item_id: uuid.UUID, *, thumbnail: bool) -> bytes:
        """The JPEG that is kept of a detection's image.

        Raises:
            HistoryItemNotFoundError: no such item, or another person's.
            PictureNotFoundError: the item has none.
        """
        picture = await self._repository.read_picture(item_id, thumbnail=thumbnail)
        if picture is None:
            await self.get(item_id)
            raise PictureNotFoundError
        return picture

    async def check_picture(self, item_id: uuid.UUID) -> None:
        """Raises as `get_picture`, without reading the picture."""
        row = await self.get(item_id)
        if isinstance(row, Stream) or row.picture is None:
            raise PictureNotFoundError

    async def delete(self, item_id: uuid.UUID) -> None:
        """Raises `HistoryItemNotFoundError`, also for another person's item."""
        if not await self._repository.delete(item_id):
            raise HistoryItemNotFoundError

    async def delete_all(self) -> None:
        """Delete everything the caller has in the history."""
        await self._repository.delete_all()

    async def summarise(self, since: datetime | None, until: datetime | None) -> Summary:
        """Counts and latencies of a span: by default, 30 days up to now."""
        if since is None:
            end = until or now()
            # The first moments of the calendar have no 30 days before them.
            since = end - min(DEFAULT_SUMMARY_SPAN, end - datetime.min.replace(tzinfo=end.tzinfo))
        check_time_range(since, until)
        return await self._summaries.summarise(HistoryFilter(since=since, until=until))

    async def add_feedback(
        self, prediction_id: uuid.UUID, label: str, comment: str | None
    ) -> Feedback:
        """Say what the answer should have been.

        Raises:
            HistoryItemNotFoundError: no such item, or another person's.
            FeedbackNotSupportedError: the item is a stream.
            FeedbackExistsError: there is feedback on it already.
        """
        if await self._repository.find_prediction(prediction_id) is None:
            if await self._repository.find_stream(prediction_id) is not None:
                raise FeedbackNotSupportedError
            raise HistoryItemNotFoundError
        moment = now()
        feedback = Feedback(
            prediction_id=prediction_id,
            label=label,
            comment=comment,
            created_at=moment,
            updated_at=moment,
        )
        try:
            await self._repository.add_feedback(feedback)
        except IntegrityError as error:
            if is_foreign_key_violation(error):
                raise HistoryItemNotFoundError from error
            raise FeedbackExistsError from error
        return feedback

    async def get_feedback(self, prediction_id: uuid.UUID) -> Feedback:
        """Raises `FeedbackNotFoundError`, also for another person's item."""
        feedback = await self._repository.find_feedback(prediction_id)
        if feedback is None:
            raise FeedbackNotFoundError
        return feedback

    async def change_feedback(
        self, prediction_id: uuid.UUID, changes: dict[str, str | None]
    ) -> Feedback:
        """Set the named fields. Raises `FeedbackNotFoundError`."""
        feedback = await self.get_feedback(prediction_id)
        for name, value in changes.items():
            setattr(feedback, name, value)
        feedback.updated_at = now()
        try:
            await self._session.flush()
        except StaleDataError as error:
            raise FeedbackNotFoundError from error
        return feedback

    async def delete_feedback(self, prediction_id: uuid.UUID) -> None:
        """Raises `FeedbackNotFoundError`."""
        feedback = await self.get_feedback(prediction_id)
        await self._repository.delete_feedback(feedback.id)
