"""`GET /history.csv`: complete, constant in memory, harmless in a spreadsheet."""

import csv
import io
import json
from typing import Any

import pytest

from app.database import Database
from app.history.csv_export import COLUMNS, PAGE_SIZE, export, guard_cell
from app.history.recorder import HistoryRecorder
from app.history.records import Record
from app.history.repository import HistoryFilter
from tests.history.support import Person, image_record, minutes, stream_record, text_record


async def download(person: Person, **query: Any) -> list[dict[str, str]]:
    answer = await person.client.get("/history.csv", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="lookout-history.csv"'
    lines = csv.reader(io.StringIO(answer.content.decode("utf-8"), newline=""), strict=True)
    header, *rows = lines
    assert tuple(header) == COLUMNS
    return [dict(zip(header, row, strict=True)) for row in rows]


async def test_rows_say_what_the_listing_says(recorder: HistoryRecorder, person: Person) -> None:
    hard = 'a "quoted", text\r\nof two lines; é 日本'
    records: list[Record] = [
        text_record(person.user_id, created_at=minutes(2), input_text=hard),
        image_record(person.user_id, created_at=minutes(1), labels=("cat", "dog"), cached=True),
        stream_record(person.user_id, created_at=minutes(0)),
    ]
    await recorder.record(*records)
    await person.client.post(
        f"/history/{records[0].id}/feedback", json={"label": "other", "comment": "why"}
    )

    text, image, stream = await download(person)

    assert text["id"] == str(records[0].id)
    assert text["created_at"] == "2026-11-01T12:02:00.000Z"
    assert text["input"] == hard
    assert (text["feedback_label"], text["feedback_comment"]) == ("other", "why")
    assert (text["cached"], image["cached"]) == ("false", "true")
    assert json.loads(text["result"])["category"] == "sci.crypt"
    assert (image["kind"], image["input"], image["labels"]) == ("image", "cat.jpg", "cat; dog")
    assert (image["latency_ms"], image["version"]) == ("150.0", "beef")
    assert (stream["kind"], stream["frames_dropped"], stream["close_code"]) == (
        "stream",
        "224",
        "1000",
    )
    assert json.loads(stream["label_counts"]) == {"person": 70, "dining table": 5}
    assert (stream["input"], stream["result"]) == ("", "")


async def test_an_empty_history_is_the_header_alone(person: Person) -> None:
    answer = await person.client.get("/history.csv")
    assert answer.content == ",".join(COLUMNS).encode() + b"\r\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
async def test_no_cell_begins_as_a_formula(
    recorder: HistoryRecorder, person: Person, start: str
) -> None:
    evil = f'{start}HYPERLINK("http://evil.example")'
    records = [
        text_record(person.user_id, input_text=evil, labels=(f"{start}label",)),
        image_record(person.user_id, input_name=evil, model=f"{start}model"),
    ]
    await recorder.record(*records)
    await person.client.post(
        f"/history/{records[0].id}/feedback", json={"label": "x", "comment": evil}
    )
    rows = await download(person)
    assert {row["input"] for row in rows} == {f"'{evil}"}
    assert f"'{evil}" in {row["feedback_comment"] for row in rows}
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(start)


def test_only_texts_are_guarded() -> None:
    assert guard_cell(-1.5) == -1.5
    assert guard_cell(None) is None
    assert guard_cell("1 = 1") == "1 = 1"


async def test_filters_and_owner_hold_here_too(
    recorder: HistoryRecorder, person: Person, stranger: Person
) -> None:
    await recorder.record(
        text_record(person.user_id), image_record(person.user_id), stream_record(person.user_id)
    )
    assert [row["kind"] for row in await download(person, kind="image")] == ["image"]
    assert {row["kind"] for row in await download(person, model="yolos")} == {"image", "stream"}
    assert {row["kind"] for row in await download(person, label="person")} == {"stream"}
    assert await download(stranger) == []
    assert (await person.client.get("/history.csv", params={"limit": 3})).status_code == 422


@pytest.mark.parametrize("count", [PAGE_SIZE - 1, PAGE_SIZE, 2 * PAGE_SIZE + 1])
async def test_a_long_history_comes_whole_and_in_pages(
    recorder: HistoryRecorder, database: Database, person: Person, count: int
) -> None:
    records = [
        (text_record if number % 3 else stream_record)(
            person.user_id, created_at=minutes(number // 7)
        )
        for number in range(count)
    ]
    await recorder.record(*records)
    rows = await download(person)
    assert [row["id"] for row in rows] == [
        str(record.id)
        for record in sorted(records, key=lambda r: (r.created_at, r.id), reverse=True)
    ]
    pages = [page async for page in export(database, person.user_id, HistoryFilter())]
    assert len(pages) == count // PAGE_SIZE + 1
    assert all(page.count(b"\r\n") <= PAGE_SIZE + 1 for page in pages)


async def test_a_slow_reader_holds_no_connection(
    recorder: HistoryRecorder, database: Database, person: Person
) -> None:
    await recorder.record(*(text_record(person.user_id) for _ in range(2 * PAGE_SIZE)))
    pages = export(database, person.user_id, HistoryFilter())
    idle = database.engine.pool.checkedout()  # type: ignore[attr-defined]
    await anext(pages)
    assert database.engine.pool.checkedout() == idle  # type: ignore[attr-defined]
    await pages.aclose()  # type: ignore[attr-defined]
