"""`GET /history?q=…`: what is found, on both databases, and that it keeps to the other filters."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from app.database import Database, new_id
from app.history.models import Prediction, Stream
from app.history.recorder import HistoryRecorder
from app.history.records import Record
from app.history.repository import HistoryFilter, newest_first
from app.history.search import MAX_SEARCH_LENGTH
from tests.history.support import Person, image_record, minutes, stream_record, text_record


async def search(person: Person, **query: Any) -> list[str]:
    """The ids of all pages, in order."""
    ids: list[str] = []
    while True:
        answer = await person.client.get("/history", params={"limit": 2, **query})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        ids += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            return ids
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cipher", {"text"}),
        ("A CIPHER", {"text"}),
        ("  cipher  ", {"text"}),
        ("second line", {"text"}),
        ("über straße", {"text"}),
        ("ÜBER", {"text"}),
        ("ßE", {"text"}),
        ("Über", {"text"}),
        ("ober", set()),
        ("日本", {"text"}),
        ("[a-z]é", {"text"}),
        ("[a-z]É", {"text"}),
        ("harbour_view", {"image"}),
        ("harbourXview", set()),
        ("%é", {"image"}),
        ("100%", {"image"}),
        ("100_", set()),
        ("%", {"image"}),
        ("/", {"stream"}),
        ("\\", {"stream"}),
        ("*", {"stream"}),
        ("*^ö-", {"stream"}),
        ("?é", set()),
        ("sci.crypt", {"text"}),
        ("sciXcrypt", set()),
        ("dining", {"stream"}),
        ("LYNX", {"image"}),
        ("a lynx, öfter", {"image"}),
        ("bobcat", {"image"}),
        ("unicorn", set()),
    ],
)
async def test_words_are_found_where_people_know_them_from(
    recorder: HistoryRecorder, person: Person, words: str, expected: set[str]
) -> None:
    records: dict[str, Record] = {
        "text": text_record(
            person.user_id, input_text="A Cipher Über Straße\nsecond line 日本 [A-z]é"
        ),
        "image": image_record(
            person.user_id, input_name="harbour_view 100%É.jpg", labels=("cat", "boat")
        ),
        "stream": stream_record(
            person.user_id, label_counts={"dining table": 3, "either/or": 1, "a\\b*^Ö-": 1}
        ),
    }
    await recorder.record(*records.values())
    answer = await person.client.post(
        f"/history/{records['image'].id}/feedback",
        json={"label": "bobcat", "comment": "Or a Lynx, Öfter than not"},
    )
    assert answer.status_code == 201
    names = {str(record.id): name for name, record in records.items()}
    assert {names[found] for found in await search(person, q=words)} == expected


async def test_pages_follow_the_search_and_keep_to_the_other_filters(
    recorder: HistoryRecorder, person: Person
) -> None:
    records: list[Record] = [
        (image_record if number % 3 == 0 else text_record)(
            person.user_id,
            created_at=minutes(number),
            **{"input_name" if number % 3 == 0 else "input_text": f"number {number % 2}"},
        )
        for number in range(24)
    ]
    await recorder.record(*records)
    odd = [str(record.id) for record in reversed(records) if record.created_at.minute % 2]
    assert await search(person, q="NUMBER 1") == odd
    some = await search(person, q="number 1", kind="image", to="2026-11-01T12:10:00Z")
    assert some == [str(records[number].id) for number in (9, 3)]
    assert await search(person, q="number 1", label="cat", model="newsgroups") == []


async def test_the_csv_has_what_the_list_has(recorder: HistoryRecorder, person: Person) -> None:
    await recorder.record(
        text_record(person.user_id, input_text="the first"),
        text_record(person.user_id, input_text="the Second"),
    )
    answer = await person.client.get("/history.csv", params={"q": "second"})
    assert answer.text.count("the Second") == 1
    assert "the first" not in answer.text


async def test_nobody_finds_anothers_words(
    recorder: HistoryRecorder, person: Person, stranger: Person
) -> None:
    await recorder.record(text_record(person.user_id, input_text="mine alone"))
    assert await search(stranger, q="mine alone") == []


@pytest.mark.parametrize("words", ["", "   ", "x" * (MAX_SEARCH_LENGTH + 1), "nul\x00"])
@pytest.mark.parametrize("path", ["/history", "/history.csv"])
async def test_words_that_cannot_be_are_422(person: Person, path: str, words: str) -> None:
    assert (await person.client.get(path, params={"q": words})).status_code == 422


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("table", [Prediction, Stream])
@pytest.mark.parametrize("words", ["plain", "Über"])
async def test_a_search_reads_the_index_from_its_newest_end(
    database: Database, table: Any, words: str
) -> None:
    query = newest_first(table, new_id(), HistoryFilter(words=words), None, 20).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    async with database.engine.connect() as connection:
        plan = [row.detail for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert f"USING INDEX ix_{table.__tablename__}_user_id_created_at_id (user_id=?" in plan[0]
    assert not any("TEMP B-TREE" in step for step in plan), plan
