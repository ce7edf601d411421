"""The recorder against real databases that lock, break and forget."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, func, select, text

from app.auth.models import User
from app.database import Database, new_id
from app.exceptions import AppError
from app.history.exceptions import (
    HistoryUnavailableError,
    OwnerDeletedError,
    RecordNotKeptError,
)
from app.history.models import Prediction, Stream
from app.history.recorder import HistoryRecorder
from tests.history.support import (
    Hold,
    Person,
    image_record,
    stream_record,
    text_record,
    until,
)


@pytest.fixture
async def second_database(database_url: str) -> AsyncIterator[Database]:
    """Another process's view: what is read here has been committed."""
    other = Database(database_url)
    yield other
    await other.close()


async def read_ids(database: Database, user_id: uuid.UUID) -> list[uuid.UUID]:
    async with database.sessions() as session:
        query = select(Prediction.id).where(Prediction.user_id == user_id)
        return list(await session.scalars(query))


async def test_each_of_200_concurrent_records_is_durable_when_its_call_returns(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    async def record_and_look() -> bool:
        record = text_record(person.user_id)
        await recorder.record(record)
        async with second_database.sessions() as session:
            return await session.get(Prediction, record.id) is not None

    assert all(await asyncio.gather(*(record_and_look() for _ in range(200))))
    assert recorder.records_committed == 200
    assert recorder.groups_committed < 20
    assert recorder.last_group_size > 1
    assert recorder.records_failed == 0


async def test_all_columns_come_back(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    prediction = image_record(person.user_id, labels=("cat", "dog", "cat"), cached=True)
    stream = stream_record(person.user_id)
    await recorder.record(prediction, stream)

    async with second_database.sessions() as session:
        kept = await session.get_one(Prediction, prediction.id)
        for name in ("user_id", "kind", "model", "model_version", "created_at", "input_text"):
            assert getattr(kept, name) == getattr(prediction, name)
        for name in ("input_name", "result", "latency_ms", "cached"):
            assert getattr(kept, name) == getattr(prediction, name)
        assert kept.labels == "\ncat\ndog\n"
        kept_stream = await session.get_one(Stream, stream.id)
        for name in ("user_id", "model", "model_version", "created_at", "duration_s"):
            assert getattr(kept_stream, name) == getattr(stream, name)
        for name in ("frames_received", "frames_processed", "frames_dropped", "frames_failed"):
            assert getattr(kept_stream, name) == getattr(stream, name)
        for name in ("latency_ms", "label_counts", "close_code"):
            assert getattr(kept_stream, name) == getattr(stream, name)
        assert kept_stream.labels == "\nperson\ndining table\n"


async def test_text_that_no_database_holds_is_made_storable(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    record = text_record(
        person.user_id, input_text="nul \x00 surrogate \ud800 é", input_name="n" * 300
    )
    await recorder.record(record)
    async with second_database.sessions() as session:
        kept = await session.get_one(Prediction, record.id)
    assert kept.input_text == "nul \ufffd surrogate ? é"
    assert kept.input_name == "n" * 255


async def test_one_bad_record_in_a_group_harms_one(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    records = [text_record(person.user_id) for _ in range(12)]
    records[3] = text_record(new_id())
    records[7] = text_record(person.user_id, result={"not": object()})

    outcomes = await asyncio.gather(
        *(recorder.record(record) for record in records), return_exceptions=True
    )

    assert isinstance(outcomes[3], OwnerDeletedError)
    assert isinstance(outcomes[7], RecordNotKeptError)
    good = [record.id for number, record in enumerate(records) if number not in (3, 7)]
    assert [outcome for outcome in outcomes if outcome is None] == [None] * 10
    assert sorted(await read_ids(second_database, person.user_id)) == sorted(good)
    assert (recorder.records_committed, recorder.records_failed) == (10, 2)


async def test_the_records_of_one_call_are_kept_together_or_not_at_all(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    with pytest.raises(RecordNotKeptError):
        await recorder.record(
            text_record(person.user_id), text_record(person.user_id, result={"not": object()})
        )
    assert await read_ids(second_database, person.user_id) == []
    await recorder.record(*(text_record(person.user_id) for _ in range(300)))
    assert len(await read_ids(second_database, person.user_id)) == 300
    assert recorder.last_group_size == 300
    await recorder.record()
    assert recorder.groups_committed == 1


async def test_an_account_deleted_meanwhile_is_told_so(
    recorder: HistoryRecorder, database: Database, person: Person
) -> None:
    async with database.sessions() as session, session.begin():
        await session.execute(delete(User).where(User.id == person.user_id))
    with pytest.raises(OwnerDeletedError) as caught:
        await recorder.record(stream_record(person.user_id))
    assert (caught.value.status, caught.value.code) == (401, "account_deleted")


async def test_the_same_record_twice_is_kept_once(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    record = text_record(person.user_id)
    await asyncio.gather(recorder.record(record), recorder.record(record))
    await recorder.record(record)
    assert await read_ids(second_database, person.user_id) == [record.id]


async def test_a_lock_that_lasts_is_503_and_then_over(
    database_url: str, person: Person, hold_writes: Hold
) -> None:
    database = Database(database_url, busy_timeout_s=0.1)
    recorder = HistoryRecorder(database, commit_timeout_s=0.5)
    await recorder.start()
    async with hold_writes():
        outcomes = await asyncio.gather(
            *(recorder.record(text_record(person.user_id)) for _ in range(5)),
            return_exceptions=True,
        )
    for outcome in outcomes:
        assert isinstance(outcome, HistoryUnavailableError)
        assert outcome.status == 503
        assert outcome.headers["Retry-After"] == "1"
    record = text_record(person.user_id)
    await recorder.record(record)
    assert await read_ids(database, person.user_id) == [record.id]
    await recorder.close(5)
    await database.close()


async def test_a_caller_that_leaves_blocks_nobody(
    recorder: HistoryRecorder, second_database: Database, person: Person, hold_writes: Hold
) -> None:
    async with hold_writes():
        in_flight = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: recorder.pending == 0 and len(recorder._in_flight) == 1)
        records = [text_record(person.user_id) for _ in range(5)]
        waiting = [asyncio.create_task(recorder.record(record)) for record in records]
        await until(lambda: recorder.pending == 5)
        in_flight.cancel()
        waiting[2].cancel()
        await asyncio.wait({in_flight, waiting[2]})
        assert in_flight.cancelled()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == [type(None)] * 2
    assert [type(outcome) for outcome in outcomes[3:]] == [type(None)] * 2
    kept = await read_ids(second_database, person.user_id)
    assert {records[index].id for index in (0, 1, 3, 4)} <= set(kept)


async def test_more_than_may_wait_is_refused_at_once(
    database: Database, person: Person, hold_writes: Hold
) -> None:
    recorder = HistoryRecorder(database, max_pending=3, max_group=2)
    await recorder.start()
    async with hold_writes():
        first = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: len(recorder._in_flight) == 1)
        waiting = [
            asyncio.create_task(recorder.record(text_record(person.user_id))) for _ in range(3)
        ]
        await until(lambda: recorder.pending == 3)
        with pytest.raises(HistoryUnavailableError) as caught:
            await recorder.record(text_record(person.user_id))
        assert "Retry-After" in caught.value.headers
    await asyncio.gather(first, *waiting)
    assert len(await read_ids(database, person.user_id)) == 4
    assert recorder.groups_committed == 3
    await recorder.close(5)


async def test_close_writes_what_waits_and_refuses_what_comes(
    recorder: HistoryRecorder, database: Database, person: Person, hold_writes: Hold
) -> None:
    async with hold_writes():
        calls = [
            asyncio.create_task(recorder.record(text_record(person.user_id))) for _ in range(10)
        ]
        await until(lambda: len(recorder._in_flight) + recorder.pending == 10)
        closing = asyncio.create_task(recorder.close(10))
        await asyncio.sleep(0)
        with pytest.raises(HistoryUnavailableError):
            await recorder.record(text_record(person.user_id))
        assert not closing.done()
    await asyncio.gather(*calls, closing)
    assert len(await read_ids(database, person.user_id)) == 10
    with pytest.raises(HistoryUnavailableError):
        await recorder.record(text_record(person.user_id))
    await recorder.start()
    await recorder.record(text_record(person.user_id))


async def test_close_ends_what_cannot_be_written_in_time(
    recorder: HistoryRecorder, person: Person, hold_writes: Hold
) -> None:
    async with hold_writes():
        calls = [
            asyncio.create_task(recorder.record(text_record(person.user_id))) for _ in range(3)
        ]
        await until(lambda: len(recorder._in_flight) == 3)
        late = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: recorder.pending == 1)
        await recorder.close(0.05)
        outcomes = await asyncio.gather(*calls, late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [HistoryUnavailableError] * 4


async def test_nobody_waits_for_a_writer_that_died(
    recorder: HistoryRecorder, database: Database, person: Person, hold_writes: Hold
) -> None:
    async with hold_writes():
        in_flight = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: len(recorder._in_flight) == 1)
        waiting = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: recorder.pending == 1)
        assert recorder._writer is not None
        recorder._writer.cancel()
        outcomes = await asyncio.gather(in_flight, waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [HistoryUnavailableError] * 2
    record = text_record(person.user_id)
    await recorder.record(record)
    assert record.id in await read_ids(database, person.user_id)


async def test_two_recorders_share_one_database(
    recorder: HistoryRecorder, second_database: Database, person: Person
) -> None:
    other = HistoryRecorder(second_database)
    await other.start()
    await asyncio.gather(
        *(
            (recorder, other)[number % 2].record(text_record(person.user_id))
            for number in range(200)
        )
    )
    await other.close(5)
    assert len(await read_ids(second_database, person.user_id)) == 200


async def test_a_database_that_is_not_there_is_503(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port: int
) -> None:
    folder = tmp_path_factory.mktemp("not-a-file")
    threads = threading.active_count()
    for url in (
        f"postgresql+asyncpg://nobody@127.0.0.1:{unused_tcp_port}/none",
        f"sqlite+aiosqlite:///{folder}",
    ):
        database = Database(url)
        recorder = HistoryRecorder(database)
        await recorder.start()
        with pytest.raises(HistoryUnavailableError):
            await recorder.record(text_record(new_id()))
        await recorder.close(1)
        await database.close()
        # aiosqlite's thread tells the loop of its end after the error, which must find the loop.
        await until(lambda: threading.active_count() <= threads)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True, scope="session")
class TestBrokenConnections:
    """PostgreSQL only: a server ends connections, a file does not."""

    async def terminate_others(self, database: Database, *, waiting: bool = False) -> int:
        condition = "AND wait_event_type = 'Lock'" if waiting else ""
        async with database.engine.connect() as connection:
            found = await connection.execute(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                    f"datname = current_database() AND pid <> pg_backend_pid() {condition}"
                )
            )
            return int(found.scalar_one())

    async def test_a_connection_that_breaks_in_mid_transaction_loses_nothing(
        self,
        recorder: HistoryRecorder,
        second_database: Database,
        person: Person,
        hold_writes: Hold,
    ) -> None:
        records = [text_record(person.user_id) for _ in range(8)]
        async with hold_writes():
            calls = [asyncio.create_task(recorder.record(record)) for record in records]
            async with asyncio.timeout(10):
                # The server tells nobody when a backend begins to wait.
                while not await self.terminate_others(second_database, waiting=True):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await asyncio.gather(*calls)
        kept = await read_ids(second_database, person.user_id)
        assert sorted(kept) == sorted(record.id for record in records)

    async def test_a_connection_that_broke_while_idle_is_replaced(
        self, recorder: HistoryRecorder, second_database: Database, person: Person
    ) -> None:
        await recorder.record(text_record(person.user_id))
        assert await self.terminate_others(second_database) >= 1
        await recorder.record(text_record(person.user_id))
        assert len(await read_ids(second_database, person.user_id)) == 2

    async def test_what_was_acknowledged_under_breaking_connections_is_there_once(
        self, recorder: HistoryRecorder, second_database: Database, person: Person
    ) -> None:
        acknowledged: list[uuid.UUID] = []
        sent: list[uuid.UUID] = []
        errors: list[AppError] = []

        async def call() -> None:
            for _ in range(25):
                record = text_record(person.user_id)
                sent.append(record.id)
                try:
                    await recorder.record(record)
                except AppError as error:
                    errors.append(error)
                else:
                    acknowledged.append(record.id)

        calls = asyncio.gather(*(call() for _ in range(16)))
        # Not for as long as the calls last: on a slow machine no connection would live to commit.
        for _ in range(15):
            await self.terminate_others(second_database)
            await asyncio.sleep(0.03)
        await calls
        kept = await read_ids(second_database, person.user_id)
        assert acknowledged
        assert {type(error) for error in errors} <= {HistoryUnavailableError}
        assert len(kept) == len(set(kept))
        assert set(acknowledged) <= set(kept) <= set(sent)
        # The recorder is well again.
        await recorder.record(stream_record(person.user_id))
        async with second_database.sessions() as session:
            count = select(func.count()).where(Stream.user_id == person.user_id)
            assert await session.scalar(count) == 1
