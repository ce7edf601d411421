"""Uploaded images in the history: kept with their record, shown to its owner, gone with it."""

import asyncio
import io
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import func, select

from app.auth.models import User
from app.detection.dependencies import get_picture_keeper
from app.detection.keeping import PictureKeeper, make_copy
from app.history.models import Picture
from app.inference.images import ImageLimits
from tests.databases import temporary_database
from tests.detection.support import current, gated
from tests.support.pictures import encode, jpeg, photo, with_orientation
from tests.support.service import Person, http_client, new_person, open_stream, running_app
from tests.support.waiting import until

LIMITS = ImageLimits(max_bytes=2**22, max_pixels=4_000_000)


async def detect(client: httpx.AsyncClient, image: bytes, **headers: str) -> httpx.Response:
    files = {"image": ("picture.jpg", image, "image/jpeg")}
    answer = await client.post("/object-detection", files=files, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


async def count_pictures(app: FastAPI) -> int:
    async with app.state.database.sessions() as session:
        return int(await session.scalar(select(func.count()).select_from(Picture)))


async def test_the_picture_is_shown_as_it_is_seen(person: Person) -> None:
    upright = photo(1600, 800)
    body = (await detect(person.http, with_orientation(upright, 6, "PNG"))).json()
    (item,) = await person.history()
    assert item["input"]["has_picture"]

    answer = await person.http.get(f"/history/{body['id']}/image")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "private, no-cache"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (1024, 512)
    # What boxes are scaled by.
    assert item["result"]["image"] == {"width": 1600, "height": 800}

    small = await person.http.get(f"/history/{body['id']}/image", params={"size": "thumbnail"})
    assert Image.open(io.BytesIO(small.content)).size == (160, 80)
    assert small.headers["etag"] != answer.headers["etag"]


@pytest.mark.parametrize("size", ["full", "thumbnail"])
async def test_a_picture_that_the_caller_has_is_not_sent_again(person: Person, size: str) -> None:
    path = f"/history/{(await detect(person.http, jpeg())).json()['id']}/image"
    tag = (await person.http.get(path, params={"size": size})).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        headers = {"If-None-Match": known}
        answer = await person.http.get(path, params={"size": size}, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    answer = await person.http.get(path, params={"size": size}, headers={"If-None-Match": '"x"'})
    assert answer.status_code == 200


async def test_of_a_drawn_picture_the_original_is_kept(person: Person) -> None:
    data = encode(photo(320, 240), "PNG")
    await detect(person.http, data, Accept="image/png")
    (item,) = await person.history()
    kept = await person.http.get(f"/history/{item['id']}/image")
    assert kept.content == make_copy(data, LIMITS, 1024).image


async def test_nothing_is_kept_where_the_caller_says_so(app: FastAPI, person: Person) -> None:
    before = await count_pictures(app)
    body = (await detect(person.http, jpeg(), **{"X-No-Store": "1"})).json()
    assert (await person.http.get(f"/history/{body['id']}/image")).status_code == 404
    assert await count_pictures(app) == before


async def test_streams_keep_no_pictures(app: FastAPI, person: Person) -> None:
    before = await count_pictures(app)
    async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
        await stream.send(jpeg())
        await stream.answer()
    assert await count_pictures(app) == before


async def test_where_there_is_none_it_is_404(person: Person) -> None:
    text = (await person.http.post("/prediction", json={"text": "computer"})).json()
    answer = await person.http.get(f"/history/{text['id']}/image")
    assert (answer.status_code, answer.json()["code"]) == (404, "picture_not_found")
    tag = {"If-None-Match": f'"{text["id"].replace("-", "")}-full"'}
    answer = await person.http.get(f"/history/{text['id']}/image", headers=tag)
    assert (answer.status_code, answer.json()["code"]) == (404, "picture_not_found")


async def test_nobody_sees_anothers_picture(app: FastAPI, person: Person) -> None:
    path = f"/history/{(await detect(person.http, jpeg())).json()['id']}/image"
    tag = (await person.http.get(path)).headers["etag"]
    async with new_person(app) as stranger:
        for headers in ({}, {"If-None-Match": tag}):
            answer = await stranger.http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "history_item_not_found")


async def test_the_picture_goes_with_its_record(app: FastAPI, person: Person) -> None:
    before = await count_pictures(app)
    one, *_ = [(await detect(person.http, jpeg())).json()["id"] for _ in range(3)]
    assert await count_pictures(app) == before + 3
    await person.http.delete(f"/history/{one}")
    assert (await person.http.get(f"/history/{one}/image")).status_code == 404
    assert await count_pictures(app) == before + 2
    await person.http.delete("/history")
    assert await count_pictures(app) == before


async def test_the_picture_goes_with_the_account(app: FastAPI) -> None:
    before = await count_pictures(app)
    async with new_person(app) as person:
        await detect(person.http, jpeg())
        assert await count_pictures(app) == before + 1
        async with app.state.database.sessions() as session, session.begin():
            await session.delete(await session.get_one(User, person.user_id))
    assert await count_pictures(app) == before


async def test_an_answer_does_not_depend_on_its_copy(app: FastAPI, person: Person) -> None:
    # One that finds every image too large, which the detector does not.
    keeper = PictureKeeper(longest_edge=128, limits=ImageLimits(max_bytes=1, max_pixels=1))
    app.dependency_overrides[get_picture_keeper] = lambda: keeper
    body = (await detect(person.http, jpeg())).json()
    (item,) = await person.history()
    assert item["id"] == body["id"]
    assert not item["input"]["has_picture"]
    keeper.close()


async def test_a_bad_image_is_refused_as_ever(person: Person) -> None:
    files = {"image": ("a.jpg", jpeg(320, 240)[:900], "image/jpeg")}
    answer = await person.http.post("/object-detection", files=files)
    assert (answer.status_code, answer.json()["code"]) == (422, "corrupt_image")
    assert await person.history() == []


async def test_an_image_that_is_refused_at_once_costs_no_copy(app: FastAPI, person: Person) -> None:
    async with gated(app, queue_size=1) as model:
        model.gate.shut()
        waiting = [asyncio.create_task(detect(person.http, jpeg()))]
        await model.gate.has_visitor()
        waiting.append(asyncio.create_task(detect(person.http, jpeg())))
        await until(lambda: len(current(app).batcher) == 1)
        keeper = PictureKeeper(longest_edge=128, limits=LIMITS)
        app.dependency_overrides[get_picture_keeper] = lambda: keeper
        answer = await person.http.post("/object-detection", files={"image": ("a.jpg", jpeg())})
        assert answer.status_code == 503
        # A pool starts its threads for its first work.
        assert not keeper._pool._threads
        model.gate.open()
        await asyncio.gather(*waiting)
    assert [item["input"]["has_picture"] for item in await person.history()] == [True, True]


async def test_no_picture_is_kept_where_the_settings_say_so(detection_model: Path) -> None:
    async with (
        temporary_database("sqlite") as url,
        running_app(url, detection_model, keep_images=False) as app,
        new_person(app) as person,
    ):
        await detect(person.http, jpeg())
        (item,) = await person.history()
        assert not item["input"]["has_picture"]
        assert await count_pictures(app) == 0


async def test_nothing_is_kept_of_people_without_an_account(detection_model: Path) -> None:
    async with (
        temporary_database("sqlite") as url,
        running_app(url, detection_model, anonymous_inference=True) as app,
        http_client(app) as nobody,
    ):
        await detect(nobody, jpeg())
        assert await count_pictures(app) == 0
