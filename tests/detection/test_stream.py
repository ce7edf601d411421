"""The WebSocket: never an answer about an old picture, and a reason for each end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.auth.models import TokenKind
from app.auth.service import Accounts
from app.detection.dependencies import get_streams
from app.detection.stream import StreamRegistry
from tests.detection.support import current, gated
from tests.support.models import GatedDetector
from tests.support.pictures import jpeg
from tests.support.service import Person, Stream, open_stream
from tests.support.waiting import PATIENCE_S, until

Connect = Callable[[], AbstractAsyncContextManager[Stream]]


@pytest.fixture
async def model(app: FastAPI) -> AsyncIterator[GatedDetector]:
    """The detector that answers in these tests, unless they leave this out."""
    async with gated(app) as model:
        yield model


@pytest.fixture
def streams(app: FastAPI) -> StreamRegistry:
    """The open streams of this test alone."""
    registry = StreamRegistry(max_streams=8, max_per_caller=4)
    app.dependency_overrides[get_streams] = lambda: registry
    return registry


@pytest.fixture
def connect(app: FastAPI, person: Person, streams: StreamRegistry, model: GatedDetector) -> Connect:
    """Open a stream of the person's. Not a fixture itself: it must end in the test's own task."""
    return lambda: open_stream(app, headers={"X-API-Key": person.key})


def frame(number: int) -> bytes:
    """A frame that is told from others by its width."""
    return jpeg(100 + number, 20)


async def received(streams: StreamRegistry, count: int) -> None:
    await until(lambda: streams.total_counts().received == count)


async def ended(streams: StreamRegistry) -> None:
    await until(lambda: len(streams) == 0)


async def the_record(person: Person, streams: StreamRegistry) -> dict[str, Any]:
    """What is kept of the one stream there was."""
    await ended(streams)
    (item,) = await person.history()
    assert item["kind"] == "stream"
    return item


def frames(record: dict[str, Any]) -> tuple[int, int, int, int]:
    """Received, processed, dropped, failed."""
    names = ("received", "processed", "dropped", "failed")
    received, processed, dropped, failed = (record[f"frames_{name}"] for name in names)
    return received, processed, dropped, failed


class TestFrames:
    async def test_the_real_detector_answers(self, app: FastAPI, person: Person) -> None:
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            await stream.change(threshold=0, max_objects=3)
            await stream.send(jpeg(160, 120))
            answer = await stream.answer()
        assert answer["frame"] == 1
        assert answer["dropped"] == 0
        assert answer["image"] == {"width": 160, "height": 120}
        assert answer["timing"].keys() == {"decode_ms", "queue_ms", "inference_ms"}
        assert answer["timing"]["inference_ms"] > 0
        labels = current(app).info.labels
        assert 0 < len(answer["objects"]) <= 3
        for one in answer["objects"]:
            assert one.keys() == {"box", "label", "score"}
            assert one["label"] in labels
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 <= x2 <= 160
            assert 0 <= y1 <= y2 <= 120

    async def test_frames_are_numbered_as_they_arrive(self, connect: Connect) -> None:
        async with connect() as stream:
            for number in range(1, 5):
                await stream.send(frame(number))
                answer = await stream.answer()
                assert answer["frame"] == number
                assert answer["image"]["width"] == 100 + number
                assert answer["objects"] == [
                    {"box": [0, 0, 100 + number, 20], "label": "thing", "score": 0.9}
                ]

    async def test_the_newest_frame_wins(
        self, connect: Connect, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        async with connect() as stream:
            model.gate.shut()
            await stream.send(frame(1))
            await model.gate.has_visitor()
            for number in range(2, 6):
                await stream.send(frame(number))
            await received(streams, 5)
            model.gate.open()
            answers = [await stream.answer() for _ in range(2)]
            assert [answer["frame"] for answer in answers] == [1, 5]
            assert [answer["image"]["width"] for answer in answers] == [101, 105]
            assert answers[1]["dropped"] == 3
            await until(lambda: streams.total_counts().processed == 2)
            counts = streams.total_counts()
            assert counts.processed + counts.dropped == counts.received == 5

    async def test_answered_and_dropped_are_all_that_was_received(
        self, connect: Connect, streams: StreamRegistry
    ) -> None:
        async with connect() as stream:
            for number in range(1, 51):
                await stream.send(frame(number))
            answered = 0
            while True:
                answer = await stream.answer()
                answered += 1
                assert answer["image"]["width"] == 100 + answer["frame"]
                if answer["frame"] == 50:
                    break
            assert answered + answer["dropped"] == 50
            assert streams.total_counts().received == 50

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (b"text", "unsupported_image"),
            (b"", "unsupported_image"),
            (jpeg()[:300], "corrupt_image"),
            (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "corrupt_image"),
        ],
    )
    async def test_a_bad_frame_does_not_end_the_stream(
        self, connect: Connect, bad: bytes, code: str
    ) -> None:
        async with connect() as stream:
            await stream.send(bad)
            answer = await stream.answer()
            assert (answer["frame"], answer["objects"]) == (1, [])
            assert answer["error"]["code"] == code
            assert answer["error"]["detail"]
            await stream.send(frame(2))
            answer = await stream.answer()
            assert answer["frame"] == 2
            assert "error" not in answer

    async def test_a_frame_with_too_many_pixels_does_not_end_the_stream(
        self, app: FastAPI, person: Person
    ) -> None:
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            await stream.send(jpeg(2100, 2000, quality=1))
            assert (await stream.answer())["error"]["code"] == "image_too_large"
            await stream.send(jpeg())
            assert "error" not in await stream.answer()

    async def test_a_model_that_fails_on_a_frame_does_not_end_the_stream(
        self, connect: Connect, model: GatedDetector
    ) -> None:
        async with connect() as stream:
            model.error = RuntimeError("out of memory")
            await stream.send(frame(1))
            assert (await stream.answer())["error"]["code"] == "model_failed"
            model.error = None
            await stream.send(frame(2))
            assert (await stream.answer())["objects"]


class TestSettings:
    async def test_they_count_from_the_next_frame_on(
        self, connect: Connect, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        async with connect() as stream:
            model.gate.shut()
            await stream.send(frame(1))
            await model.gate.has_visitor()
            await stream.send(frame(2))
            await stream.change(threshold=0.95)
            await received(streams, 2)
            model.gate.open()
            first, second = [await stream.answer() for _ in range(2)]
            assert len(first["objects"]) == len(second["objects"]) == 1
            await stream.send(frame(3))
            assert (await stream.answer())["objects"] == []

    async def test_what_is_not_named_stays(self, connect: Connect, model: GatedDetector) -> None:
        async with connect() as stream:
            for change in (
                {"threshold": 0.25},
                {"labels": ["thing", "cat"]},
                {"max_objects": 7},
                {},
            ):
                await stream.change(**change)
            await stream.send(frame(1))
            await stream.answer()
            wanted = model.batches[-1][0].settings
            assert (wanted.threshold, wanted.max_objects) == (0.25, 7)
            assert wanted.labels == frozenset({"thing", "cat"})

    async def test_no_labels_are_all_labels(self, connect: Connect) -> None:
        async with connect() as stream:
            for labels, count in ((["cat"], 0), ([], 1), (["thing"], 1)):
                await stream.change(labels=labels)
                await stream.send(frame(1))
                assert len((await stream.answer())["objects"]) == count

    @pytest.mark.parametrize(
        "text",
        [
            "hello",
            "",
            "{",
            "[]",
            "null",
            '{"threshold": 2}',
            '{"threshold": "high"}',
            '{"max_objects": 0}',
            '{"labels": "cat"}',
            '{"fps": 30}',
            '{"threshold": NaN}',
        ],
    )
    async def test_a_message_that_is_not_understood_ends_the_stream(
        self, connect: Connect, text: str
    ) -> None:
        async with connect() as stream:
            await stream.session.send_text(text)
            end = await stream.closing()
            assert end.code == 1003
            assert end.reason
            assert len(end.reason.encode()) <= 123


async def refusal(
    app: FastAPI, *, query: str = "", headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """The code and reason with which a connection is closed at once."""
    async with open_stream(app, query=query, headers=headers) as stream:
        end = await stream.closing()
        return end.code, end.reason or ""


async def session_cookie(app: FastAPI) -> str:
    """The cookie of somebody who has signed in with a password."""
    email, password = "session@example.com", "correct horse battery staple"
    accounts = Accounts(app.state.authenticator)
    issued = None
    try:
        await accounts.register(email, password)
    finally:
        issued = await accounts.sign_in(email, password, TokenKind.SESSION, "test")
    return f"{app.state.authenticator.session_cookie}={issued.token}"


class TestWhoMay:
    async def test_nobody_without_identity(self, app: FastAPI) -> None:
        code, reason = await refusal(app)
        assert code == 1008
        assert "Sign in" in reason

    async def test_nobody_with_a_dead_token(self, app: FastAPI) -> None:
        dead = "x" * 43
        assert (await refusal(app, query=f"?token=lko_{dead}"))[0] == 1008
        assert (await refusal(app, query="?token=nonsense"))[0] == 1008
        assert (await refusal(app, query="?token="))[0] == 1008
        assert (await refusal(app, headers={"X-API-Key": f"lkk_{dead}"}))[0] == 1008

    async def test_who_brings_a_key_in_the_query(
        self, app: FastAPI, person: Person, model: GatedDetector
    ) -> None:
        origin = {"Origin": "https://elsewhere.example"}
        async with open_stream(app, query=f"?token={person.key}", headers=origin) as stream:
            await stream.send(frame(1))
            assert (await stream.answer())["frame"] == 1

    async def test_a_cookie_counts_for_our_own_pages_only(
        self, app: FastAPI, model: GatedDetector
    ) -> None:
        cookie = {"Cookie": await session_cookie(app)}
        async with open_stream(app, headers={**cookie, "Origin": "http://lookout.test"}) as stream:
            await stream.send(frame(1))
            assert (await stream.answer())["frame"] == 1
        for origin in ("https://evil.example", "http://lookout.test.evil.example", "null"):
            assert (await refusal(app, headers={**cookie, "Origin": origin}))[0] == 1008
        assert (await refusal(app, headers=cookie))[0] == 1008

    async def test_who_is_revoked_in_mid_stream_is_cut_off(
        self,
        connect: Connect,
        streams: StreamRegistry,
        person: Person,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async with connect() as stream:
            monkeypatch.setattr("app.detection.stream._IDENTITY_CHECK_EVERY_S", 0)
            await stream.send(frame(1))
            assert (await stream.answer())["frame"] == 1
            assert (await person.http.delete(f"/me/tokens/{person.key_id}")).status_code == 204
            await stream.send(frame(2))
            assert (await stream.closing()).code == 1008
            await ended(streams)


class TestLimits:
    async def test_a_frame_that_is_too_big_ends_the_stream(
        self, connect: Connect, person: Person, streams: StreamRegistry
    ) -> None:
        async with connect() as stream:
            await stream.send(b"\0" * 2**20)
            assert (await stream.answer())["error"]["code"] == "unsupported_image"
            await stream.send(b"\0" * (2**20 + 1))
            end = await stream.closing()
            assert end.code == 1009
            assert "1,048,576" in (end.reason or "")
            record = await the_record(person, streams)
            assert record["close_code"] == 1009

    async def test_as_many_streams_as_one_may_have(
        self, app: FastAPI, person: Person, model: GatedDetector
    ) -> None:
        registry = StreamRegistry(max_streams=8, max_per_caller=1)
        app.dependency_overrides[get_streams] = lambda: registry
        headers = {"X-API-Key": person.key}
        async with open_stream(app, headers=headers) as stream:
            await stream.send(frame(1))
            await stream.answer()
            code, reason = await refusal(app, headers=headers)
            assert code == 1013
            assert "You have 1 streams" in reason
        await ended(registry)
        # The place is free again.
        async with open_stream(app, headers=headers) as stream:
            await stream.send(frame(1))
            await stream.answer()

    async def test_as_many_streams_as_the_server_carries(
        self, app: FastAPI, person: Person, admin: Person, model: GatedDetector
    ) -> None:
        registry = StreamRegistry(max_streams=1, max_per_caller=8)
        app.dependency_overrides[get_streams] = lambda: registry
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            await stream.send(frame(1))
            await stream.answer()
            assert (await refusal(app, headers={"X-API-Key": admin.key}))[0] == 1013
        assert registry.refused == 1


class TestEnds:
    async def test_a_mistake_of_ours(
        self, connect: Connect, person: Person, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        async with connect() as stream:
            model.preprocess_error = RuntimeError("a mistake")
            await stream.send(frame(1))
            end = await stream.closing()
            assert end.code == 1011
            assert "mistake" not in (end.reason or "")
            record = await the_record(person, streams)
            assert record["close_code"] == 1011

    async def test_a_restart(
        self, connect: Connect, streams: StreamRegistry, person: Person, app: FastAPI
    ) -> None:
        async with connect() as stream:
            await stream.send(frame(1))
            await stream.answer()
            closing = asyncio.create_task(streams.close_all(PATIENCE_S))
            assert (await stream.closing()).code == 1012
            # Who comes now is told to try later.
            assert (await refusal(app, headers={"X-API-Key": person.key}))[0] == 1013
            await closing
            record = await the_record(person, streams)
            assert record["close_code"] == 1012
            assert record["frames_processed"] == 1

    async def test_one_that_vanishes_in_mid_frame(
        self,
        connect: Connect,
        person: Person,
        streams: StreamRegistry,
        model: GatedDetector,
        app: FastAPI,
    ) -> None:
        async with connect() as stream:
            model.gate.shut()
            await stream.send(frame(1))
            await model.gate.has_visitor()
            await stream.send(frame(2))
            await received(streams, 2)
            await stream.vanish()
            await ended(streams)
            model.gate.open()
            assert len(current(app).batcher) == 0
            record = await the_record(person, streams)
            assert record["close_code"] == 1006
            assert frames(record) == (2, 0, 2, 0)
            # What nobody waits for was not computed.
            assert len(model.batches) == 1

    async def test_the_record_of_one_that_ends_normally(
        self, app: FastAPI, person: Person, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
            for data in (frame(1), b"text", frame(3)):
                await stream.send(data)
                await stream.answer()
        record = await the_record(person, streams)
        assert record["model"] == "gated"
        assert record["close_code"] == 1000
        assert frames(record) == (3, 3, 0, 1)
        assert record["label_counts"] == {"thing": 2}
        assert record["duration_s"] > 0
        assert record["latency_ms"] > 0

    async def test_one_without_frames_leaves_no_record(
        self, app: FastAPI, person: Person, streams: StreamRegistry
    ) -> None:
        async with open_stream(app, headers={"X-API-Key": person.key}):
            pass
        await ended(streams)
        assert await person.history() == []

    async def test_one_that_asks_for_it_leaves_no_record(
        self, app: FastAPI, person: Person, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        headers = {"X-API-Key": person.key, "X-No-Store": "1"}
        async with open_stream(app, headers=headers) as stream:
            await stream.send(frame(1))
            await stream.answer()
        await ended(streams)
        assert await person.history() == []


class TestOneEngineManyDoors:
    async def test_uploads_and_frames_share_a_batch(
        self, app: FastAPI, connect: Connect, person: Person, model: GatedDetector
    ) -> None:
        async with connect() as stream:

            async def upload() -> httpx.Response:
                return await person.http.post("/object-detection", files={"image": frame(7)})

            model.gate.shut()
            first = asyncio.create_task(upload())
            await model.gate.has_visitor()
            second = asyncio.create_task(upload())
            await stream.send(frame(1))
            await until(lambda: len(current(app).batcher) == 2)
            model.gate.open()
            assert [(await task).status_code for task in (first, second)] == [200, 200]
            assert (await stream.answer())["frame"] == 1
            assert [len(batch) for batch in model.batches] == [1, 2]

    async def test_four_streams_get_the_same(
        self, app: FastAPI, person: Person, streams: StreamRegistry, model: GatedDetector
    ) -> None:
        async def watch() -> list[int]:
            async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
                answers = []
                for number in range(1, 6):
                    await stream.send(frame(number))
                    answers.append((await stream.answer())["frame"])
                return answers

        assert await asyncio.gather(*(watch() for _ in range(4))) == [[1, 2, 3, 4, 5]] * 4
        await ended(streams)
        assert len(await person.history()) == 4

    async def test_a_prediction_is_not_held_up_by_a_stream(
        self, connect: Connect, person: Person, model: GatedDetector
    ) -> None:
        async with connect() as stream:
            model.gate.shut()
            await stream.send(frame(1))
            await model.gate.has_visitor()
            assert (await person.http.post("/prediction", json={"text": "cpu"})).status_code == 200
            model.gate.open()
            assert (await stream.answer())["frame"] == 1
