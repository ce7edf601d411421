"""The detector's door for uploads."""

import asyncio
import io
import uuid
from functools import lru_cache
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from app.detection.drawing import label_colour
from tests.detection.support import current, gated
from tests.support.pictures import encode, jpeg, photo, png_bomb, with_orientation
from tests.support.service import Person
from tests.support.timing import read_server_timing
from tests.support.waiting import until
from training.evaluate_detector import held_out_scenes

ALL = {"threshold": "0"}


@lru_cache
def picture_of_digits() -> bytes:
    """A scene in which the detector that ships finds something, as PNG."""
    picture, _ = next(held_out_scenes(1, 3))
    return encode(picture, "PNG")


async def detect(
    client: httpx.AsyncClient,
    image: bytes,
    params: Any = None,
    **headers: str,
) -> httpx.Response:
    return await client.post(
        "/object-detection",
        files={"image": ("picture.jpg", image, "image/jpeg")},
        params=params,
        headers=headers,
    )


class TestOneImage:
    async def test_its_objects_are_found(self, app: FastAPI, person: Person) -> None:
        answer = await detect(person.http, jpeg(320, 240), {"threshold": 0, "max_objects": 1000})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        info = current(app).info
        assert body["image"] == {"width": 320, "height": 240}
        assert (body["model"], body["version"]) == (info.name, info.version)
        assert uuid.UUID(body["id"])
        # Above a threshold of 0 every query of the model is an object.
        assert body["objects"]
        scores = [one["score"] for one in body["objects"]]
        assert scores == sorted(scores, reverse=True)
        for one in body["objects"]:
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 <= x2 <= 320
            assert 0 <= y1 <= y2 <= 240
            assert one["label"] in info.labels

    async def test_its_timing_is_told(self, person: Person) -> None:
        timing = read_server_timing(await detect(person.http, jpeg()))
        assert timing.keys() == {"decode", "queue", "inference", "total"}
        assert min(timing["decode"], timing["inference"]) > 0
        assert timing["total"] >= timing["decode"] + timing["inference"]

    @pytest.mark.parametrize("orientation", range(1, 9))
    async def test_boxes_are_of_the_picture_as_it_is_seen(
        self, person: Person, orientation: int
    ) -> None:
        upright = (await detect(person.http, encode(photo(96, 64), "PNG"), ALL)).json()
        data = with_orientation(photo(96, 64), orientation, "PNG")
        turned = (await detect(person.http, data, ALL)).json()
        assert turned["image"] == {"width": 96, "height": 64}
        assert turned["objects"] == upright["objects"]

    async def test_the_query_decides_what_is_told(self, person: Person) -> None:
        data = await asyncio.to_thread(picture_of_digits)
        every = (await detect(person.http, data, ALL)).json()["objects"]
        scores = [one["score"] for one in every]
        # Between two scores that are told apart, whatever the weights are.
        gap, count = max((a - b, i) for i, (a, b) in enumerate(pairwise(scores), start=1))
        assert gap > 0
        threshold = (scores[count - 1] + scores[count]) / 2
        above = (await detect(person.http, data, {"threshold": threshold})).json()["objects"]
        assert above == every[:count]
        two = (await detect(person.http, data, {**ALL, "max_objects": 2})).json()["objects"]
        assert two == every[:2]
        label = every[0]["label"]
        some = (await detect(person.http, data, {**ALL, "labels": [label]})).json()["objects"]
        assert some == [one for one in every if one["label"] == label]
        none = (await detect(person.http, data, {**ALL, "labels": ["nothing"]})).json()["objects"]
        assert none == []

    async def test_it_is_kept_in_the_history(self, person: Person) -> None:
        body = (await detect(person.http, jpeg(), {**ALL, "max_objects": 3})).json()
        (item,) = await person.history()
        assert item["id"] == body["id"]
        assert item["kind"] == "image"
        assert item["input"] == {"name": "picture.jpg", "has_picture": True}
        assert (item["model"], item["version"]) == (body["model"], body["version"])
        assert item["result"] == {"objects": body["objects"], "image": body["image"]}

    async def test_it_is_not_kept_when_the_caller_says_so(self, person: Person) -> None:
        answer = await detect(person.http, jpeg(), **{"X-No-Store": "1"})
        assert answer.status_code == 200
        assert await person.history() == []

    @pytest.mark.parametrize(
        ("image", "size"),
        [
            (encode(Image.new("RGB", (1, 1)), "PNG"), (1, 1)),
            (encode(Image.new("RGB", (3000, 2)), "PNG"), (3000, 2)),
            (encode(photo().convert("CMYK"), "JPEG"), (64, 48)),
            (encode(photo().convert("LA"), "PNG"), (64, 48)),
            (encode(photo().quantize(8), "PNG"), (64, 48)),
            (encode(photo(), "WEBP"), (64, 48)),
        ],
    )
    async def test_images_of_every_kind(
        self, person: Person, image: bytes, size: tuple[int, int]
    ) -> None:
        answer = await detect(person.http, image)
        assert answer.status_code == 200, answer.text
        assert answer.json()["image"] == {"width": size[0], "height": size[1]}


class TestDrawnPicture:
    @pytest.mark.parametrize(
        ("accept", "image_format"),
        [
            ("image/png", "PNG"),
            ("image/jpeg", "JPEG"),
            ("image/jpeg, image/png;q=0.5", "JPEG"),
            ("image/*", "PNG"),
            ("IMAGE/PNG", "PNG"),
        ],
    )
    async def test_boxes_are_drawn(
        self, app: FastAPI, person: Person, accept: str, image_format: str
    ) -> None:
        async with gated(app):
            answer = await detect(person.http, encode(photo(320, 240), "PNG"), Accept=accept)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == f"image/{image_format.lower()}"
        assert read_server_timing(answer)
        drawn = Image.open(io.BytesIO(answer.content))
        assert drawn.format == image_format
        assert drawn.size == (320, 240)
        # The one box is as large as the picture: its border has the label's colour, its middle
        # is untouched.
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
        colour = np.array(label_colour("thing"))
        tolerance = 0 if image_format == "PNG" else 60
        for y, x in [(120, 0), (239, 160), (238, 160), (150, 319), (150, 318), (0, 319)]:
            assert np.abs(pixels[y, x] - colour).max() <= tolerance, (y, x)
        middle = np.abs(pixels[60:230, 20:300] - np.asarray(photo(320, 240))[60:230, 20:300])
        assert middle.mean() < 3

    @pytest.mark.parametrize(
        "accept",
        ["*/*", "application/json", "application/json, image/png", "text/html", "image/webp, */*"],
    )
    async def test_json_is_what_others_get(self, person: Person, accept: str) -> None:
        answer = await detect(person.http, jpeg(), Accept=accept)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"

    @pytest.mark.parametrize("orientation", [1, 6])
    async def test_it_is_drawn_upright(self, person: Person, orientation: int) -> None:
        data = with_orientation(photo(96, 64), orientation, "JPEG")
        answer = await detect(person.http, data, {"threshold": 1}, Accept="image/png")
        drawn = Image.open(io.BytesIO(answer.content)).convert("RGB")
        assert drawn.size == (96, 64)
        assert np.abs(np.asarray(drawn).astype(int) - np.asarray(photo(96, 64))).mean() < 3

    @pytest.mark.parametrize("size", [(1, 1), (2, 500), (500, 2), (16, 16)])
    async def test_pictures_smaller_than_a_caption(
        self, person: Person, size: tuple[int, int]
    ) -> None:
        data = encode(Image.new("RGB", size, "white"), "PNG")
        answer = await detect(person.http, data, ALL, Accept="image/png")
        assert answer.status_code == 200
        assert Image.open(io.BytesIO(answer.content)).size == size

    async def test_it_is_kept_in_the_history_like_any_other(self, person: Person) -> None:
        await detect(person.http, jpeg(), Accept="image/png")
        assert len(await person.history()) == 1


class TestRefusals:
    async def test_without_identity(self, visitor: httpx.AsyncClient) -> None:
        answer = await detect(visitor, jpeg())
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"

    @pytest.mark.parametrize(
        "data", [b"", b"text", encode(photo(), "GIF"), encode(photo(), "BMP"), b"<svg/>"]
    )
    async def test_what_is_not_an_accepted_image(self, person: Person, data: bytes) -> None:
        answer = await detect(person.http, data)
        assert answer.status_code == 415
        assert answer.json()["code"] == "unsupported_image"
        assert await person.history() == []

    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    async def test_a_truncated_image(self, person: Person, image_format: str) -> None:
        data = encode(photo(200, 150), image_format)
        answer = await detect(person.http, data[: len(data) // 2])
        assert answer.status_code == 422
        assert answer.json()["code"] == "corrupt_image"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]

    async def test_too_many_bytes(self, person: Person) -> None:
        answer = await detect(person.http, jpeg() + b"\0" * 2**20)
        assert answer.status_code == 413
        assert answer.json()["code"] == "image_too_large"

    async def test_far_too_many_bytes(self, person: Person) -> None:
        answer = await detect(person.http, b"\0" * 2**21)
        assert answer.status_code == 413
        assert answer.json()["code"] == "payload_too_large"

    async def test_too_many_pixels(self, person: Person) -> None:
        answer = await detect(person.http, png_bomb(50_000, 50_000))
        assert answer.status_code == 413
        assert answer.json()["code"] == "image_too_large"
        assert "50000 x 50000" in answer.json()["detail"]

    @pytest.mark.parametrize(
        "params",
        [
            {"threshold": -0.1},
            {"threshold": 1.1},
            {"threshold": "nan"},
            {"threshold": "high"},
            {"max_objects": 0},
            {"max_objects": 1001},
            {"max_objects": 1.5},
            {"labels": [str(i) for i in range(201)]},
        ],
    )
    async def test_settings_that_make_no_sense(
        self, person: Person, params: dict[str, object]
    ) -> None:
        answer = await detect(person.http, jpeg(), params)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][:2] == ["query", next(iter(params))]

    async def test_a_form_without_an_image(self, person: Person) -> None:
        for options in (
            {},
            {"files": {"picture": ("a.jpg", jpeg(), "image/jpeg")}},
            {"data": {"image": "text"}},
            {"content": jpeg(), "headers": {"Content-Type": "image/jpeg"}},
            {"json": {"image": "text"}},
        ):
            answer = await person.http.post("/object-detection", **options)
            assert answer.status_code == 422, options.keys()
            assert answer.json()["detail"][0]["loc"] == ["body", "image"]

    async def test_a_form_that_is_damaged(self, person: Person) -> None:
        answer = await person.http.post(
            "/object-detection",
            content=b"--x\r\nContent-Disposition: form-data",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert answer.status_code in (400, 422)
        answer = await person.http.post(
            "/object-detection", content=b"x", headers={"Content-Type": "multipart/form-data"}
        )
        assert answer.status_code in (400, 422)

    async def test_a_deadline_that_passes(self, app: FastAPI, person: Person) -> None:
        async with gated(app) as model:
            model.gate.shut()
            answer = await detect(person.http, jpeg(), **{"X-Timeout-Ms": "100"})
            assert answer.status_code == 504
            assert answer.json()["code"] == "deadline_exceeded"
            assert await person.history() == []

    async def test_a_full_queue(self, app: FastAPI, person: Person) -> None:
        async with gated(app, queue_size=1) as model:
            model.gate.shut()
            waiting = [asyncio.create_task(detect(person.http, jpeg()))]
            await model.gate.has_visitor()
            waiting.append(asyncio.create_task(detect(person.http, jpeg())))
            await until(lambda: len(current(app).batcher) == 1)
            answer = await detect(person.http, jpeg())
            assert answer.status_code == 503
            assert answer.json()["code"] == "queue_full"
            assert int(answer.headers["retry-after"]) >= 1
            model.gate.open()
            assert [one.status_code for one in await asyncio.gather(*waiting)] == [200, 200]

    async def test_a_model_that_fails(self, app: FastAPI, person: Person) -> None:
        async with gated(app) as model:
            model.error = RuntimeError("out of memory")
            answer = await detect(person.http, jpeg())
            assert answer.status_code == 500
            assert answer.json()["code"] == "model_failed"
            assert "memory" not in answer.text
            model.error = None
            assert (await detect(person.http, jpeg())).status_code == 200


class TestSeveralAtOnce:
    async def test_each_gets_its_own(self, person: Person) -> None:
        """Of several shapes, so that they cannot all share one batch."""
        images = [jpeg(160 + 8 * (i % 5), 120 + 4 * (i % 3)) for i in range(8)]
        together = await asyncio.gather(*(detect(person.http, data, ALL) for data in images))
        for data, answer in zip(images, together, strict=True):
            alone = (await detect(person.http, data, ALL)).json()
            body = answer.json()
            assert body["image"] == alone["image"]
            for one, other in zip(body["objects"], alone["objects"], strict=True):
                assert one["score"] == pytest.approx(other["score"], abs=0.02)

    async def test_a_bad_image_harms_no_other(self, person: Person) -> None:
        images = [jpeg(), b"text", jpeg()[:300], jpeg()]
        answers = await asyncio.gather(*(detect(person.http, data) for data in images))
        assert [answer.status_code for answer in answers] == [200, 415, 422, 200]

    async def test_a_prediction_is_not_held_up_by_a_detection(
        self, app: FastAPI, person: Person
    ) -> None:
        async with gated(app) as model:
            model.gate.shut()
            detection = asyncio.create_task(detect(person.http, jpeg()))
            await model.gate.has_visitor()
            prediction = await person.http.post("/prediction", json={"text": "a cpu"})
            assert prediction.status_code == 200
            assert (await person.http.get("/health/live")).status_code == 200
            assert not detection.done()
            model.gate.open()
            assert (await detection).status_code == 200
