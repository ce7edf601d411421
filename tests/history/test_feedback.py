"""What people say an answer should have been."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from app.auth.models import User
from app.database import Database, new_id
from app.history.models import Feedback, Prediction, Stream
from app.history.recorder import HistoryRecorder
from tests.history.support import Person, image_record, stream_record, text_record


async def count_rows(database: Database, person: Person) -> tuple[int, int, int]:
    async with database.sessions() as session:
        predictions = select(func.count()).where(Prediction.user_id == person.user_id)
        streams = select(func.count()).where(Stream.user_id == person.user_id)
        feedback = select(func.count()).select_from(Feedback)
        return (
            await session.scalar(predictions) or 0,
            await session.scalar(streams) or 0,
            await session.scalar(feedback) or 0,
        )


async def test_the_life_of_a_feedback(recorder: HistoryRecorder, person: Person) -> None:
    record = image_record(person.user_id)
    await recorder.record(record)
    url = f"/history/{record.id}/feedback"

    created = await person.client.post(url, json={"label": " dog ", "comment": "It barks."})
    assert created.status_code == 201
    assert created.headers["Location"] == url
    body = created.json()
    assert (body["label"], body["comment"]) == ("dog", "It barks.")
    assert body["created_at"] == body["updated_at"]
    assert (await person.client.get(url)).json() == body
    assert (await person.client.get(f"/history/{record.id}")).json()["feedback"] == body
    assert (await person.client.get("/history")).json()["items"][0]["feedback"] == body

    await asyncio.sleep(0.002)
    changed = await person.client.patch(url, json={"label": "wolf"})
    assert changed.status_code == 200
    later = changed.json()
    assert (later["label"], later["comment"]) == ("wolf", "It barks.")
    assert later["created_at"] == body["created_at"]
    assert datetime.fromisoformat(later["updated_at"]) > datetime.fromisoformat(body["updated_at"])
    cleared = await person.client.patch(url, json={"comment": None})
    assert (cleared.json()["label"], cleared.json()["comment"]) == ("wolf", None)
    assert (await person.client.get(url)).json() == cleared.json()

    assert (await person.client.delete(url)).status_code == 204
    for call in (person.client.get, person.client.delete):
        answer = await call(url)
        assert (answer.status_code, answer.json()["code"]) == (404, "feedback_not_found")
    patched = await person.client.patch(url, json={"label": "cat"})
    assert patched.status_code == 404
    assert (await person.client.get(f"/history/{record.id}")).json()["feedback"] is None
    again = await person.client.post(url, json={"label": "cat"})
    assert (again.status_code, again.json()["comment"]) == (201, None)


async def test_a_second_feedback_is_409(recorder: HistoryRecorder, person: Person) -> None:
    record = text_record(person.user_id)
    await recorder.record(record)
    url = f"/history/{record.id}/feedback"
    answers = await asyncio.gather(
        *(person.client.post(url, json={"label": f"label {number}"}) for number in range(4))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    refused = await person.client.post(url, json={"label": "late"})
    assert (refused.status_code, refused.json()["code"]) == (409, "feedback_exists")
    kept = next(answer for answer in answers if answer.status_code == 201)
    assert (await person.client.get(url)).json() == kept.json()


async def test_a_stream_takes_no_feedback(recorder: HistoryRecorder, person: Person) -> None:
    record = stream_record(person.user_id)
    await recorder.record(record)
    url = f"/history/{record.id}/feedback"
    answer = await person.client.post(url, json={"label": "cat"})
    assert (answer.status_code, answer.json()["code"]) == (409, "feedback_not_supported")
    assert (await person.client.get(url)).status_code == 404
    assert (await person.client.patch(url, json={"label": "cat"})).status_code == 404
    assert (await person.client.delete(url)).status_code == 404


async def test_anothers_item_is_404_in_every_call(
    recorder: HistoryRecorder, person: Person, stranger: Person
) -> None:
    prediction, stream = text_record(person.user_id), stream_record(person.user_id)
    await recorder.record(prediction, stream)
    await person.client.post(f"/history/{prediction.id}/feedback", json={"label": "mine"})
    for item_id in (prediction.id, stream.id, new_id()):
        url = f"/history/{item_id}/feedback"
        answers = [
            await stranger.client.post(url, json={"label": "x"}),
            await stranger.client.get(url),
            await stranger.client.patch(url, json={"label": "x"}),
            await stranger.client.delete(url),
        ]
        assert [answer.status_code for answer in answers] == [404] * 4
    kept = await person.client.get(f"/history/{prediction.id}/feedback")
    assert kept.json()["label"] == "mine"


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("POST", {}),
        ("POST", {"label": ""}),
        ("POST", {"label": "  "}),
        ("POST", {"label": None}),
        ("POST", {"label": "x" * 201}),
        ("POST", {"label": "nul\x00"}),
        ("POST", {"label": "x", "comment": "x" * 2001}),
        ("POST", {"label": "x", "comment": "nul\x00"}),
        ("POST", {"label": "x", "note": "typo"}),
        ("PATCH", {}),
        ("PATCH", {"label": None}),
        ("PATCH", {"label": ""}),
        ("PATCH", {"comment": 3}),
        ("PATCH", {"lable": "typo"}),
    ],
)
async def test_a_body_that_makes_no_sense_is_422_and_changes_nothing(
    recorder: HistoryRecorder, person: Person, method: str, body: dict[str, Any]
) -> None:
    record = text_record(person.user_id)
    await recorder.record(record)
    url = f"/history/{record.id}/feedback"
    if method == "PATCH":
        await person.client.post(url, json={"label": "first"})
    before = (await person.client.get(url)).json()
    assert (await person.client.request(method, url, json=body)).status_code == 422
    assert (await person.client.get(url)).json() == before


async def test_feedback_goes_with_its_item_and_everything_with_the_account(
    recorder: HistoryRecorder, database: Database, person: Person
) -> None:
    async with database.sessions() as session, session.begin():
        await session.execute(delete(Feedback))
    records = [text_record(person.user_id) for _ in range(3)]
    await recorder.record(*records, stream_record(person.user_id))
    for record in records:
        await person.client.post(f"/history/{record.id}/feedback", json={"label": "x"})
    assert await count_rows(database, person) == (3, 1, 3)
    await person.client.delete(f"/history/{records[0].id}")
    assert await count_rows(database, person) == (2, 1, 2)
    await person.client.delete("/history")
    assert await count_rows(database, person) == (0, 0, 0)

    await recorder.record(*(again := [text_record(person.user_id)]), stream_record(person.user_id))
    await person.client.post(f"/history/{again[0].id}/feedback", json={"label": "x"})
    async with database.sessions() as session, session.begin():
        await session.execute(delete(User).where(User.id == person.user_id))
    assert await count_rows(database, person) == (0, 0, 0)
