"""Pictures in the recorder: committed with their record, and bounded while they wait."""

import asyncio

import pytest
from sqlalchemy import select

from app.database import Database
from app.history.exceptions import HistoryUnavailableError, RecordNotKeptError
from app.history.models import Picture
from app.history.recorder import HistoryRecorder
from app.history.records import PictureCopy
from tests.history.support import Hold, Person, image_record, text_record, until

COPY = PictureCopy(image=b"\xff\xd8 image", thumbnail=b"\xff\xd8 thumbnail")


async def read_pictures(database: Database, *ids: object) -> dict[object, tuple[bytes, bytes]]:
    async with database.sessions() as session:
        query = select(Picture.prediction_id, Picture.image, Picture.thumbnail)
        rows = await session.execute(query.where(Picture.prediction_id.in_(ids)))
        return {row.prediction_id: (row.image, row.thumbnail) for row in rows}


async def test_a_picture_is_kept_with_its_record(
    recorder: HistoryRecorder, database: Database, person: Person
) -> None:
    with_one = image_record(person.user_id, picture=COPY)
    without = image_record(person.user_id)
    await recorder.record(with_one, without, text_record(person.user_id))
    assert await read_pictures(database, with_one.id, without.id) == {
        with_one.id: (COPY.image, COPY.thumbnail)
    }
    # A record whose id is there already counts as written, with its picture.
    await recorder.record(with_one)
    answer = await person.client.get(f"/history/{with_one.id}/image")
    assert answer.content == COPY.image
    assert len((await person.client.get("/history")).json()["items"]) == 3


async def test_record_and_picture_are_kept_together_or_not_at_all(
    recorder: HistoryRecorder, database: Database, person: Person
) -> None:
    bad = image_record(person.user_id, picture=COPY, result={"not": object()})
    good = image_record(person.user_id, picture=COPY)
    outcomes = await asyncio.gather(
        recorder.record(bad), recorder.record(good), return_exceptions=True
    )
    assert isinstance(outcomes[0], RecordNotKeptError)
    assert outcomes[1] is None
    assert set(await read_pictures(database, bad.id, good.id)) == {good.id}


async def test_pictures_that_wait_are_bounded_by_their_bytes(
    database: Database, person: Person, hold_writes: Hold
) -> None:
    recorder = HistoryRecorder(database, max_pending_bytes=2 * COPY.size)
    await recorder.start()
    records = [image_record(person.user_id, picture=COPY) for _ in range(3)]
    async with hold_writes():
        first = asyncio.create_task(recorder.record(records[0]))
        await until(lambda: len(recorder._in_flight) == 1)
        waiting = [asyncio.create_task(recorder.record(record)) for record in records[1:]]
        await until(lambda: recorder.pending == 2)
        with pytest.raises(HistoryUnavailableError):
            await recorder.record(image_record(person.user_id, picture=COPY))
        # There is room for what brings no picture.
        text = asyncio.create_task(recorder.record(text_record(person.user_id)))
        await until(lambda: recorder.pending == 3)
    await asyncio.gather(first, *waiting, text)
    # They have left room for the next.
    await recorder.record(*(image_record(person.user_id, picture=COPY) for _ in range(2)))
    assert len(await read_pictures(database, *(record.id for record in records))) == 3
    await recorder.close(5)
