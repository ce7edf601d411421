"""`GET /history` and its items: order, pages, filters, ownership."""

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from app.database import Database, new_id
from app.history.cursor import Cursor
from app.history.exceptions import InvalidCursorError
from app.history.models import Prediction, Stream, join_labels, split_labels
from app.history.recorder import HistoryRecorder
from app.history.records import Record
from app.history.repository import HistoryFilter, newest_first
from tests.history.support import (
    Person,
    image_record,
    minutes,
    stream_record,
    text_record,
)


async def read_pages(person: Person, **query: Any) -> list[str]:
    """The ids of all pages, in order."""
    ids: list[str] = []
    while True:
        answer = await person.client.get("/history", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return ids
        assert page["items"]
        query["cursor"] = page["next_cursor"]


async def test_items_have_the_shape_of_the_contract(
    recorder: HistoryRecorder, person: Person
) -> None:
    moment = datetime(2026, 11, 2, 3, 4, 5, 678901, tzinfo=UTC)
    classified = text_record(person.user_id, created_at=moment)
    detected = image_record(person.user_id, created_at=minutes(-10), labels=("cat", "dog"))
    streamed = stream_record(person.user_id, created_at=minutes(-20))
    await recorder.record(classified, detected, streamed)

    page = (await person.client.get("/history")).json()

    assert page["next_cursor"] is None
    assert page["items"] == [
        {
            "id": str(classified.id),
            "kind": "text",
            "model": "newsgroups",
            "version": "f00d",
            "created_at": "2026-11-02T03:04:05.678Z",
            "input": {"text": "the key is público"},
            "result": {"category": "sci.crypt", "probabilities": {"sci.crypt": 0.75}},
            "labels": ["sci.crypt"],
            "latency_ms": 3.5,
            "cached": False,
            "feedback": None,
        },
        {
            "id": str(detected.id),
            "kind": "image",
            "model": "yolos",
            "version": "beef",
            "created_at": "2026-11-01T11:50:00.000Z",
            "input": {"name": "cat.jpg", "has_picture": False},
            "result": {
                "objects": [{"box": [0.0, 1.0, 20.5, 30.0], "label": "cat", "score": 0.9}],
                "image": {"width": 40, "height": 30},
            },
            "labels": ["cat", "dog"],
            "latency_ms": 150.0,
            "cached": False,
            "feedback": None,
        },
        {
            "id": str(streamed.id),
            "kind": "stream",
            "model": "yolos",
            "version": "beef",
            "created_at": "2026-11-01T11:40:00.000Z",
            "duration_s": 12.5,
            "frames_received": 300,
            "frames_processed": 75,
            "frames_dropped": 224,
            "frames_failed": 1,
            "latency_ms": 160.0,
            "label_counts": {"person": 70, "dining table": 5},
            "close_code": 1000,
        },
    ]
    for item in page["items"]:
        assert (await person.client.get(f"/history/{item['id']}")).json() == item


async def test_pages_hold_every_item_once_though_times_are_equal(
    recorder: HistoryRecorder, person: Person
) -> None:
    records: list[Record] = []
    for number in range(30):
        # Three moments for thirty records of both tables.
        moment = minutes(number % 3)
        make = stream_record if number % 4 == 0 else text_record
        records.append(make(person.user_id, created_at=moment))
    await recorder.record(*records)
    expected = [
        str(record.id)
        for record in sorted(records, key=lambda r: (r.created_at, r.id), reverse=True)
    ]
    for limit in (1, 7, 29, 30, 31, 100):
        assert await read_pages(person, limit=limit) == expected


async def test_pages_that_follow_do_not_move_when_records_arrive_or_go(
    recorder: HistoryRecorder, person: Person
) -> None:
    records = [text_record(person.user_id, created_at=minutes(number)) for number in range(6)]
    await recorder.record(*records)
    first = (await person.client.get("/history", params={"limit": 2})).json()
    newer = [text_record(person.user_id, created_at=minutes(100 + n)) for n in range(3)]
    await recorder.record(*newer)
    # The item that the cursor points at may go: its place stays.
    await person.client.delete(f"/history/{first['items'][-1]['id']}")
    rest = await read_pages(person, limit=2, cursor=first["next_cursor"])
    assert rest == [str(record.id) for record in reversed(records[:4])]


async def test_default_limit_is_20(recorder: HistoryRecorder, person: Person) -> None:
    await recorder.record(*(text_record(person.user_id) for _ in range(21)))
    page = (await person.client.get("/history")).json()
    assert len(page["items"]) == 20
    assert page["next_cursor"] is not None


async def test_an_empty_history_is_an_empty_page(person: Person) -> None:
    answer = await person.client.get("/history")
    assert answer.json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"kind": "text"}, {"t1", "t2"}),
        ({"kind": "image"}, {"i1", "i2"}),
        ({"kind": "stream"}, {"s1"}),
        ({"model": "yolos"}, {"i1", "s1"}),
        ({"model": "yolos", "kind": "image"}, {"i1"}),
        ({"model": "nothing"}, set()),
        ({"label": "cat"}, {"i1", "s1"}),
        ({"label": "CAT"}, {"i1", "s1"}),
        ({"label": "ca"}, set()),
        ({"label": "c%t"}, set()),
        ({"label": "c_t"}, set()),
        ({"label": "100%_\\/"}, {"i2"}),
        ({"label": "dining table"}, {"s1"}),
        ({"from": "2026-11-01T12:02:00Z"}, {"i1", "i2", "s1"}),
        ({"from": "2026-11-01T12:02:00"}, {"i1", "i2", "s1"}),
        ({"from": "2026-11-01T13:02:00+01:00"}, {"i1", "i2", "s1"}),
        ({"to": "2026-11-01T12:02:00Z"}, {"t1", "t2"}),
        ({"from": "2026-11-01T12:01:00Z", "to": "2026-11-01T12:03:00Z"}, {"t2", "i1"}),
        ({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T00:00:00Z"}, "all"),
        ({"kind": "image", "label": "cat", "model": "yolos", "to": "2027-01-01"}, {"i1"}),
    ],
)
async def test_filters(
    recorder: HistoryRecorder, person: Person, query: dict[str, str], expected: set[str] | str
) -> None:
    records: dict[str, Record] = {
        "t1": text_record(person.user_id, created_at=minutes(0)),
        "t2": text_record(person.user_id, created_at=minutes(1)),
        "i1": image_record(person.user_id, created_at=minutes(2), labels=("dog", "cat")),
        "i2": image_record(
            person.user_id, created_at=minutes(3), model="other", labels=("100%_\\/",)
        ),
        "s1": stream_record(
            person.user_id, created_at=minutes(4), label_counts={"cat": 3, "dining table": 1}
        ),
    }
    await recorder.record(*records.values())
    names = {str(record.id): name for name, record in records.items()}
    found = await read_pages(person, limit=2, **query)
    assert len(found) == len(set(found))
    assert {names[item_id] for item_id in found} == (
        set(records) if expected == "all" else expected
    )


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "not base64!",
        "é" * 32,
        "A" * 31,
        "A" * 36,
        "f" * 32,
        "",
        pytest.param(Cursor(minutes(0), new_id()).encode() + "AAAA", id="longer"),
    ],
)
async def test_a_cursor_that_was_not_made_here_is_400(person: Person, cursor: str) -> None:
    answer = await person.client.get("/history", params={"cursor": cursor})
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_cursor"


def test_a_cursor_comes_back_to_the_microsecond() -> None:
    for moment in (
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2026, 11, 1, 12, 0, 0, 123457, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ):
        cursor = Cursor(moment, new_id())
        assert Cursor.decode(cursor.encode()) == cursor
    with pytest.raises(InvalidCursorError):
        Cursor.decode("A" * 1000)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"kind": "video"},
        {"label": ""},
        {"label": "nul\x00"},
        {"model": "nul\x00"},
        {"from": "yesterday"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:59:59-14:00"},
        {"lable": "cat"},
    ],
)
async def test_a_query_that_makes_no_sense_is_422(person: Person, query: dict[str, str]) -> None:
    answer = await person.client.get("/history", params=query)
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("path", ["/history", "/history.csv", "/history/summary"])
async def test_a_span_without_a_moment_is_400(person: Person, path: str) -> None:
    for until in ("2026-11-01T00:00:00Z", "2026-10-01T00:00:00Z"):
        answer = await person.client.get(path, params={"from": "2026-11-01T00:00:00Z", "to": until})
        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_time_range"


async def test_nobody_sees_or_deletes_anothers_records(
    recorder: HistoryRecorder, person: Person, stranger: Person
) -> None:
    records: list[Record] = [
        text_record(person.user_id),
        image_record(person.user_id),
        stream_record(person.user_id),
    ]
    await recorder.record(*records)
    assert await read_pages(stranger) == []
    for record in records:
        for call in (stranger.client.get, stranger.client.delete):
            answer = await call(f"/history/{record.id}")
            assert answer.status_code == 404
            assert answer.json()["code"] == "history_item_not_found"
    assert (await stranger.client.delete("/history")).status_code == 204
    assert len(await read_pages(person)) == 3


async def test_deleting_takes_one_item_or_all(recorder: HistoryRecorder, person: Person) -> None:
    records: list[Record] = [
        text_record(person.user_id, created_at=minutes(0)),
        stream_record(person.user_id, created_at=minutes(1)),
        image_record(person.user_id, created_at=minutes(2)),
        stream_record(person.user_id, created_at=minutes(3)),
    ]
    await recorder.record(*records)
    for record in records[:2]:
        answer = await person.client.delete(f"/history/{record.id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await person.client.get(f"/history/{record.id}")).status_code == 404
        assert (await person.client.delete(f"/history/{record.id}")).status_code == 404
    assert await read_pages(person) == [str(records[3].id), str(records[2].id)]
    assert (await person.client.delete("/history")).status_code == 204
    assert await read_pages(person) == []
    assert (await person.client.delete("/history")).status_code == 204


@pytest.mark.parametrize("call", ["GET", "DELETE"])
async def test_an_unknown_item_is_404_and_so_is_what_is_no_id(person: Person, call: str) -> None:
    assert (await person.client.request(call, f"/history/{uuid.uuid4()}")).status_code == 404
    assert (await person.client.request(call, "/history/none")).status_code == 404


async def test_every_call_needs_an_identity(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as nobody:
        calls = 0
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                calls += 1
                answer = await nobody.request(
                    method, path.replace("{id}", str(new_id())), json={"label": "x"}
                )
                assert answer.status_code == 401, (method, path)
                assert answer.json()["code"] == "unauthorized"
        assert calls == 11


def test_labels_survive_being_joined() -> None:
    assert split_labels(join_labels([])) == []
    assert split_labels(join_labels(["a b", "c", "a b"])) == ["a b", "c"]
    assert split_labels(join_labels(["two\nlines"])) == ["two lines"]
    assert split_labels(join_labels([""])) == [""]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("table", [Prediction, Stream])
@pytest.mark.parametrize("before", [None, Cursor(minutes(0), new_id())])
@pytest.mark.parametrize(
    ("narrowed", "index"),
    [
        (HistoryFilter(), "user_id_created_at_id"),
        (HistoryFilter(since=minutes(-1), until=minutes(1)), "user_id_created_at_id"),
        (HistoryFilter(model="yolos"), "user_id_model_created_at_id"),
        (HistoryFilter(model="yolos", since=minutes(-1)), "user_id_model_created_at_id"),
    ],
)
async def test_a_listing_reads_an_index_in_order(
    database: Database,
    table: Any,
    before: Cursor | None,
    narrowed: HistoryFilter,
    index: str,
) -> None:
    query = newest_first(table, new_id(), narrowed, before, 20).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    async with database.engine.connect() as connection:
        plan = [row.detail for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    # One step: no scan of the table, no sorting.
    assert len(plan) == 1, plan
    assert f"USING INDEX ix_{table.__tablename__}_{index} (user_id=?" in plan[0]
