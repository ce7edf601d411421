"""The history recorder: group commit.

A durable commit waits for the disk, and a disk takes one commit at a time. So one writer task
takes every record that is waiting and writes all of them in one transaction, and while that
commits, the next group gathers. Nobody waits for company: a lone record is a group of one.
"""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from loguru import logger
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database
from app.database_errors import (
    is_connection_lost,
    is_database_unavailable,
    is_foreign_key_violation,
)
from app.exceptions import AppError
from app.history.exceptions import (
    HistoryUnavailableError,
    OwnerDeletedError,
    RecordNotKeptError,
)
from app.history.models import Picture, Prediction, Stream
from app.history.records import PredictionRecord, Record, StreamRecord

# How long giving a connection back may take when its server does not answer any more.
_RELEASE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """The records of one call of `record()`, and where its caller waits."""

    records: tuple[Record, ...]
    done: asyncio.Future[None]
    picture_bytes: int

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: AppError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class HistoryRecorder:
    """Writes records durably, many callers in one transaction.

    `max_pending` bounds the records that wait and `max_pending_bytes` their pictures, `max_group`
    the records of one transaction (a single call's are never torn apart, so it may be exceeded by
    a call that brings more).
    `commit_timeout_s` ends a transaction that the database neither commits nor refuses; it must
    be longer than SQLite's busy time-out.

    Counters since the start: `groups_committed`, `records_committed`, `records_failed`, and
    `last_group_size`, the records in the last transaction that was committed.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_pending: int = 1000,
        max_pending_bytes: int = 64 * 2**20,
        max_group: int = 128,
        commit_timeout_s: float = 30.0,
    ) -> None:
        self._database = database
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._max_group = max_group
        self._commit_timeout_s = commit_timeout_s
        insert = sqlite_insert if database.dialect == "sqlite" else postgresql_insert
        # A group is written again when its connection broke, and a connection that breaks during
        # a commit does not tell whether the commit happened: the id makes the second time harmless.
        self._insert_predictions = insert(Prediction).on_conflict_do_nothing(index_elements=["id"])
        self._insert_pictures = insert(Picture).on_conflict_do_nothing(
            index_elements=["prediction_id"]
        )
        self._insert_streams = insert(Stream).on_conflict_do_nothing(index_elements=["id"])
        self._queue: deque[_Entry] = deque()
        self._pending = 0
        self._pending_bytes = 0
        self._in_flight: list[_Entry] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._connection: AsyncConnection | None = None
        self._closed = True
        self.groups_committed = 0
        self.records_committed = 0
        self.records_failed = 0
        self.last_group_size = 0

    @property
    def pending(self) -> int:
        """Records that wait for their transaction to begin."""
        return self._pending

    @property
    def problem(self) -> str | None:
        """Why a record would be refused now; None when it would not."""
        if self._closed:
            return "is closed"
        if self._pending >= self._max_pending:
            return "is full"
        return None

    async def start(self) -> None:
        """Accept records from now on."""
        self._closed = False
        self._ensure_writer()

    async def close(self, timeout_s: float) -> None:
        """Refuse new records, write those that wait, and give the connection back.

        What is not written after `timeout_s` seconds fails with `HistoryUnavailableError`.
        """
        self._closed = True
        self._wake.set()
        writer = self._writer
        if writer is not None and not writer.done():
            await asyncio.wait({writer}, timeout=timeout_s)
            if not writer.done():
                logger.error("the history was not written within {} s of closing", timeout_s)
                writer.cancel()
                # The callers first: a driver may take its time to let go of a dead server.
                self._fail_all()
                await asyncio.wait({writer}, timeout=_RELEASE_TIMEOUT_S)
        self._fail_all()

    async def record(self, *records: Record) -> None:
        """Return when all of `records` are durably committed, in one transaction.

        A record whose id is there already counts as written. A caller that is cancelled may
        find its records written or not.

        Raises:
            HistoryUnavailableError: too many records wait, the database cannot be reached, is
                locked or full, or the service is closing. Nothing was kept, unless the
                connection broke in the middle of the commit itself.
            OwnerDeletedError: the account does not exist any more.
            RecordNotKeptError: the database refused these records for another reason.
        """
        if self._closed:
            raise HistoryUnavailableError("The service is closing down.")
        if not records:
            return
        picture_bytes = sum(
            record.picture.size
            for record in records
            if isinstance(record, PredictionRecord) and record.picture is not None
        )
        if self._pending and (
            self._pending + len(records) > self._max_pending
            or self._pending_bytes + picture_bytes > self._max_pending_bytes
        ):
            raise HistoryUnavailableError("Too many answers wait to be kept. Try again shortly.")
        self._ensure_writer()
        entry = _Entry(records, asyncio.get_running_loop().create_future(), picture_bytes)
        self._queue.append(entry)
        self._pending += len(records)
        self._pending_bytes += picture_bytes
        self._wake.set()
        await entry.done

    def _ensure_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups(), name="history-recorder")
            self._writer.add_done_callback(self._on_writer_done)

    def _on_writer_done(self, writer: asyncio.Task[None]) -> None:
        """Nobody waits for a writer that is gone; the next record starts another."""
        if not writer.cancelled() and (error := writer.exception()) is not None:
            logger.opt(exception=error).error("the history's writer died")
        self._fail_all()

    def _fail_all(self) -> None:
        entries = [*self._in_flight, *self._queue]
        self._in_flight = []
        self._queue.clear()
        self._pending = self._pending_bytes = 0
        for entry in entries:
            self._fail(entry, HistoryUnavailableError())

    def _fail(self, entry: _Entry, error: AppError) -> None:
        self.records_failed += len(entry.records)
        entry.fail(error)

    async def _write_groups(self) -> None:
        try:
            while True:
                self._in_flight = self._take_group()
                if self._in_flight:
                    await self._write_group(self._in_flight)
                elif self._closed:
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            await self._release()

    def _take_group(self) -> list[_Entry]:
        """Take what waits, up to the bound, leaving out callers that have gone."""
        group: list[_Entry] = []
        size = 0
        while self._queue:
            count = len(self._queue[0].records)
            if group and size + count > self._max_group:
                break
            entry = self._queue.popleft()
            self._pending -= count
            self._pending_bytes -= entry.picture_bytes
            if not entry.done.done():
                group.append(entry)
                size += count
        return group

    async def _write_group(self, group: list[_Entry]) -> None:
        try:
            await self._commit(group)
        except Exception as error:
            if len(group) == 1 or is_database_unavailable(error):
                self._refuse(group, error)
                return
        else:
            return
        # One record spoils its transaction. Each alone, so that it spoils only its own.
        for position, entry in enumerate(group):
            if entry.done.done():
                continue
            try:
                await self._commit([entry])
            except Exception as error:
                if is_database_unavailable(error):
                    self._refuse(group[position:], error)
                    return
                self._refuse([entry], error)

    def _refuse(self, entries: list[_Entry], error: Exception) -> None:
        reason: type[AppError] = RecordNotKeptError
        if is_database_unavailable(error):
            reason = HistoryUnavailableError
        elif is_foreign_key_violation(error):
            reason = OwnerDeletedError
        # The driver's words alone: SQLAlchemy's would bring the texts of people into the log.
        cause = getattr(error, "orig", None) or error
        logger.warning("{} calls not kept in the history: {!r}", len(entries), cause)
        for entry in entries:
            # An exception each: the traceback of a shared one would grow with every caller.
            self._fail(entry, reason())

    async def _commit(self, entries: list[_Entry]) -> None:
        """Write the records of `entries` in one transaction, and tell their callers."""
        records = [record for entry in entries for record in entry.records]
        predictions = [item.to_row() for item in records if isinstance(item, PredictionRecord)]
        pictures = [
            row
            for item in records
            if isinstance(item, PredictionRecord) and (row := item.to_picture_row())
        ]
        streams = [item.to_row() for item in records if isinstance(item, StreamRecord)]
        for is_last_attempt in (False, True):
            try:
                async with asyncio.timeout(self._commit_timeout_s):
                    if self._connection is None:
                        self._connection = await self._database.engine.connect()
                    if predictions:
                        await self._connection.execute(self._insert_predictions, predictions)
                    if pictures:
                        await self._connection.execute(self._insert_pictures, pictures)
                    if streams:
                        await self._connection.execute(self._insert_streams, streams)
                    await self._connection.commit()
                break
            except Exception as error:
                await self._release()
                # A connection may have died while it was idle. The pool checks the next one.
                if is_last_attempt or not is_connection_lost(error):
                    raise
        self.groups_committed += 1
        self.records_committed += len(records)
        self.last_group_size = len(records)
        for entry in entries:
            entry.succeed()

    async def _release(self) -> None:
        """Give the connection back; what was not committed on it is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                    await connection.close()
