"""The text models' door."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from app.inference.cache import CachingClassifier, PredictionCache
from app.predictions.endpoints import get_text_classifier
from tests.support.engines import serving
from tests.support.models import GatedClassifier
from tests.support.service import Person, post_and_leave
from tests.support.timing import read_server_timing
from tests.support.waiting import until

TEXT = "computer cpu memory ram"
NEWSGROUPS = {
    "comp.sys.mac.hardware",
    "sci.crypt",
    "soc.religion.christian",
    "talk.religion.misc",
}


@asynccontextmanager
async def gated(app: FastAPI, *, queue_size: int = 64) -> AsyncIterator[GatedClassifier]:
    """Let a model answer that a test can hold up."""
    model = GatedClassifier()
    async with serving(model, queue_size=queue_size) as engine:
        classifier = CachingClassifier(engine.get(model.name), PredictionCache(2**20))
        app.dependency_overrides[get_text_classifier] = lambda: classifier
        yield model


async def predict(client: httpx.AsyncClient, text: object = TEXT, **headers: str) -> httpx.Response:
    return await client.post("/prediction", json={"text": text}, headers=headers)


def unheard_of() -> str:
    """A text that no test has asked about."""
    return f"{TEXT} {uuid.uuid4().hex}"


class TestOneText:
    async def test_it_is_classified(self, person: Person) -> None:
        answer = await predict(person.http)
        assert answer.status_code == 200
        body = answer.json()
        assert body["category"] == "comp.sys.mac.hardware"
        assert body["probabilities"].keys() == NEWSGROUPS
        assert sum(body["probabilities"].values()) == pytest.approx(1)
        assert max(body["probabilities"], key=body["probabilities"].get) == body["category"]
        assert next(iter(body["probabilities"])) == body["category"]
        assert body["model"] == "newsgroups"
        assert len(body["version"]) == 12
        assert uuid.UUID(body["id"])
        assert answer.headers["x-request-id"]

    async def test_the_second_time_it_is_remembered(self, person: Person) -> None:
        text = unheard_of()
        first, second = [(await predict(person.http, text)).json() for _ in range(2)]
        assert (first.pop("cached"), second.pop("cached")) == (False, True)
        assert first.pop("id") != second.pop("id")
        assert first == second

    async def test_its_timing_is_told(self, person: Person) -> None:
        timing = read_server_timing(await predict(person.http, unheard_of()))
        assert timing.keys() == {"decode", "queue", "inference", "total"}
        assert timing["total"] >= timing["inference"] > 0

    async def test_it_is_kept_in_the_history(self, person: Person) -> None:
        text = unheard_of()
        body = (await predict(person.http, text)).json()
        (item,) = await person.history()
        assert item["id"] == body["id"]
        assert item["kind"] == "text"
        assert item["input"] == {"text": text}
        assert (item["model"], item["version"]) == (body["model"], body["version"])
        assert item["result"]["category"] == body["category"]
        assert item["result"]["probabilities"] == pytest.approx(body["probabilities"])

    async def test_a_remembered_one_is_kept_as_well(self, person: Person) -> None:
        text = unheard_of()
        ids = [(await predict(person.http, text)).json()["id"] for _ in range(2)]
        assert [item["id"] for item in await person.history()] == ids[::-1]

    async def test_it_is_not_kept_when_the_caller_says_so(self, person: Person) -> None:
        answer = await predict(person.http, **{"X-No-Store": "1"})
        assert answer.status_code == 200
        assert uuid.UUID(answer.json()["id"])
        assert await person.history() == []

    @pytest.mark.parametrize("text", ["Ω ≈ ç √", "\x00", "x" * 100_000, "\U0001f600", " "])
    async def test_any_text_is_classified(self, person: Person, text: str) -> None:
        answer = await predict(person.http, text)
        assert answer.status_code == 200, answer.text
        assert answer.json()["category"] in NEWSGROUPS
        assert len(await person.history()) == 1


class TestRefusals:
    async def test_without_identity(self, visitor: httpx.AsyncClient) -> None:
        answer = await predict(visitor)
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"

    async def test_with_a_dead_key(self, visitor: httpx.AsyncClient) -> None:
        answer = await predict(visitor, **{"X-API-Key": "lkk_" + "x" * 43})
        assert answer.status_code == 401
        assert answer.json()["code"] == "invalid_token"

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"text": ""},
            {"text": None},
            {"text": 7},
            {"text": ["a"]},
            {"text": "a", "lang": "en"},
            [],
        ],
    )
    async def test_a_body_that_is_not_understood(self, person: Person, body: object) -> None:
        answer = await person.http.post("/prediction", json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][0] == "body"

    @pytest.mark.parametrize("body", [b"", b"{", b'{"text": "\\ud800"}', b'{"text": NaN}', b"\xff"])
    async def test_a_body_that_is_no_json(self, person: Person, body: bytes) -> None:
        answer = await person.http.post(
            "/prediction", content=body, headers={"Content-Type": "application/json"}
        )
        assert 400 <= answer.status_code <= 422
        assert answer.json()["detail"]

    async def test_a_text_that_is_too_long(self, person: Person) -> None:
        answer = await predict(person.http, "x" * 100_001)
        assert answer.status_code == 413
        assert answer.json()["code"] == "text_too_long"
        assert "100,001" in answer.json()["detail"]

    async def test_a_body_that_is_too_large(self, person: Person) -> None:
        answer = await person.http.post("/prediction", content=b"x" * (8 * 2**20 + 1))
        assert answer.status_code == 413
        assert answer.json()["code"] == "payload_too_large"

    async def test_a_body_that_grows_too_large(self, person: Person) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(9):
                yield b" " * 2**20

        answer = await person.http.post("/prediction", content=chunks())
        assert answer.status_code == 413
        assert answer.json()["code"] == "payload_too_large"

    async def test_a_deadline_that_passes(self, app: FastAPI, person: Person) -> None:
        async with gated(app) as model:
            model.gate.shut()
            answer = await predict(person.http, **{"X-Timeout-Ms": "50"})
            assert answer.status_code == 504
            assert answer.json()["code"] == "deadline_exceeded"
            assert await person.history() == []

    @pytest.mark.parametrize(
        "value",
        ["0", "-5", "soon", "600001", "1.5", "+5", "", "9" * 5000, "0000000001" + "9" * 5000],
        ids=lambda value: value[:10] or "empty",
    )
    async def test_a_deadline_that_is_none(self, person: Person, value: str) -> None:
        answer = await predict(person.http, **{"X-Timeout-Ms": value})
        assert answer.status_code == 422

    async def test_a_caller_who_leaves_costs_no_compute(self, app: FastAPI, person: Person) -> None:
        async with gated(app) as model:
            model.gate.shut()
            first = asyncio.create_task(predict(person.http, "first"))
            await model.gate.has_visitor()
            batcher = app.dependency_overrides[get_text_classifier]().handle.batcher
            leaves = asyncio.Event()
            leaving = asyncio.create_task(
                post_and_leave(app, "/prediction", {"text": "second"}, person.key, leaves)
            )
            await until(lambda: len(batcher) == 1)
            leaves.set()
            # Nobody sees the status, but the log and the metrics do.
            assert await leaving == 499
            model.gate.open()
            assert (await first).status_code == 200
        assert model.batches == [["first"]]
        assert len(await person.history()) == 1

    async def test_a_full_queue(self, app: FastAPI, person: Person) -> None:
        async with gated(app, queue_size=1) as model:
            model.gate.shut()
            waiting = [asyncio.create_task(predict(person.http, "first"))]
            await model.gate.has_visitor()
            batcher = app.dependency_overrides[get_text_classifier]().handle.batcher
            waiting.append(asyncio.create_task(predict(person.http, "second")))
            await until(lambda: len(batcher) == 1)
            answer = await predict(person.http, "third")
            assert answer.status_code == 503
            assert answer.json()["code"] == "queue_full"
            assert int(answer.headers["retry-after"]) >= 1
            model.gate.open()
            assert [task.status_code for task in await asyncio.gather(*waiting)] == [200, 200]

    async def test_a_text_that_the_model_fails_on(self, app: FastAPI, person: Person) -> None:
        async with gated(app):
            answer = await predict(person.http, "bad")
            assert answer.status_code == 500
            assert answer.json()["code"] == "model_failed"
            assert (await predict(person.http, "good")).status_code == 200


class TestBatch:
    async def test_texts_are_answered_in_order(self, person: Person) -> None:
        texts = [
            "the church and its prayer",
            TEXT,
            "the encryption key of the cipher",
            TEXT,
        ]
        answer = await person.http.post("/predictions/batch", json={"texts": texts})
        assert answer.status_code == 200
        categories = [one["category"] for one in answer.json()]
        assert categories == [
            "soc.religion.christian",
            "comp.sys.mac.hardware",
            "sci.crypt",
            "comp.sys.mac.hardware",
        ]
        alone = [(await predict(person.http, text)).json()["probabilities"] for text in texts]
        for one, other in zip(answer.json(), alone, strict=True):
            assert one["probabilities"] == pytest.approx(other, abs=1e-5)
        assert read_server_timing(answer).keys() == {"decode", "queue", "inference", "total"}

    async def test_each_is_kept_under_its_own_id(self, person: Person) -> None:
        texts = [unheard_of() for _ in range(5)]
        answer = await person.http.post("/predictions/batch", json={"texts": texts})
        ids = [one["id"] for one in answer.json()]
        kept = {item["id"]: item["input"]["text"] for item in await person.history()}
        assert kept == dict(zip(ids, texts, strict=True))

    async def test_as_many_as_there_may_be(self, person: Person) -> None:
        answer = await person.http.post("/predictions/batch", json={"texts": ["a b c"] * 256})
        assert answer.status_code == 200
        assert len(answer.json()) == 256
        assert len({one["id"] for one in answer.json()}) == 256

    @pytest.mark.parametrize("texts", [[], ["x"] * 257, ["a", ""], ["a", None], "a"])
    async def test_what_is_refused(self, person: Person, texts: object) -> None:
        answer = await person.http.post("/predictions/batch", json={"texts": texts})
        assert answer.status_code == 422

    async def test_one_that_is_too_long_refuses_all(self, person: Person) -> None:
        answer = await person.http.post("/predictions/batch", json={"texts": ["a", "x" * 100_001]})
        assert answer.status_code == 413
        assert await person.history() == []

    async def test_one_that_fails_answers_none(self, app: FastAPI, person: Person) -> None:
        async with gated(app):
            answer = await person.http.post("/predictions/batch", json={"texts": ["good", "bad"]})
            assert answer.status_code == 500
            assert await person.history() == []

    async def test_without_identity(self, visitor: httpx.AsyncClient) -> None:
        answer = await visitor.post("/predictions/batch", json={"texts": ["a"]})
        assert answer.status_code == 401

    async def test_many_callers_at_once_get_their_own(self, person: Person) -> None:
        texts = {
            "comp.sys.mac.hardware": "cpu memory disk",
            "sci.crypt": "cipher encryption key",
            "soc.religion.christian": "prayer church christ",
        }
        asked = [label for _ in range(20) for label in texts]
        answers = await asyncio.gather(
            *(predict(person.http, f"{texts[label]} {i}") for i, label in enumerate(asked))
        )
        assert [answer.json()["category"] for answer in answers] == asked


class TestCache:
    async def test_an_administrator_empties_it(self, admin: Person) -> None:
        text = unheard_of()
        await predict(admin.http, text)
        assert (await predict(admin.http, text)).json()["cached"] is True
        assert (await admin.http.delete("/cache")).status_code == 204
        assert (await predict(admin.http, text)).json()["cached"] is False

    async def test_others_may_not(self, person: Person, visitor: httpx.AsyncClient) -> None:
        answer = await person.http.delete("/cache")
        assert answer.status_code == 403
        assert answer.json()["code"] == "admin_required"
        assert (await visitor.delete("/cache")).status_code == 401


class TestModels:
    async def test_all_of_them(self, app: FastAPI, person: Person) -> None:
        answer = await person.http.get("/models")
        assert answer.status_code == 200
        by_task = {model["task"]: model for model in answer.json()}
        assert by_task.keys() == {"text-classification", "object-detection"}
        text = by_task["text-classification"]
        assert text["name"] == "newsgroups"
        assert set(text["labels"]) == NEWSGROUPS
        assert text["quality"]["value"] > 0.8315
        assert text["state"] == "ready"
        assert {"scikit-learn", "joblib"} <= text["libraries"].keys()
        detector = by_task["object-detection"]
        assert detector["name"] == app.state.detector.name
        assert detector["device"]
        assert detector["input_schema"]["max_bytes"] == 2**20

    async def test_one_of_them(self, person: Person) -> None:
        for model in (await person.http.get("/models")).json():
            answer = await person.http.get(f"/models/{model['name']}")
            assert answer.status_code == 200
            assert answer.json() == model

    async def test_one_that_is_not_there(self, person: Person) -> None:
        for name in ("nobody", "hustvl/nobody", "a/b/c"):
            answer = await person.http.get(f"/models/{name}")
            assert answer.status_code == 404
            assert answer.json()["code"] == "model_not_found"

    async def test_without_identity(self, visitor: httpx.AsyncClient) -> None:
        assert (await visitor.get("/models")).status_code == 401
        assert (await visitor.get("/models/newsgroups")).status_code == 401
