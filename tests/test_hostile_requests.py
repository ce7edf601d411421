"""Requests made to break things: each gets a clear refusal, and the service goes on."""

import gc
import json
import uuid
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx_ws import WebSocketDisconnect

from app.auth.models import User
from tests.support.pictures import jpeg, png_bomb
from tests.support.service import Person, open_stream

_LEVELS = 100_000
_JSON_CALLS = [
    ("POST", "/register"),
    ("PATCH", "/me"),
    ("DELETE", "/me"),
    ("POST", "/me/api-keys"),
    ("POST", "/prediction"),
    ("POST", "/predictions/batch"),
    ("POST", f"/history/{uuid.UUID(int=1)}/feedback"),
    ("PATCH", f"/history/{uuid.UUID(int=1)}/feedback"),
]
_FORM_CALLS = [("POST", "/token"), ("POST", "/login"), ("POST", "/object-detection")]
_BODIES = {
    "arrays": b"[" * _LEVELS + b"]" * _LEVELS,
    "objects": b'{"text":' * _LEVELS + b"1" + b"}" * _LEVELS,
    "unclosed": b"[" * _LEVELS,
    "nested field": b'{"text":' + b"[" * _LEVELS + b"]" * _LEVELS + b"}",
    "surrogate key": b'{"\\ud800": 1}',
    "huge integer": b'{"text":' + b"9" * 100_000 + b"}",
    "huge float": b'{"text": 1e999999}',
    "not a number": b'{"text": NaN}',
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "bad escape": b'{"text": "\\uZZZZ"}',
    "null": b"null",
    "empty": b"",
}


def assert_refused(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert json.dumps(answer.json()["detail"])


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
@pytest.mark.parametrize(("method", "path"), _JSON_CALLS)
async def test_json_that_is_none_is_refused(
    person: Person, method: str, path: str, body: bytes
) -> None:
    for content_type in ("application/json", "application/json; charset=utf-16", "text/plain"):
        answer = await person.http.request(
            method, path, content=body, headers={"Content-Type": content_type}
        )
        assert_refused(answer, 400, 422)


@pytest.mark.parametrize(("method", "path"), _FORM_CALLS)
async def test_a_form_that_is_none_is_refused(person: Person, method: str, path: str) -> None:
    for content_type in (
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
        f"multipart/form-data; boundary={'y' * 5000}",
        "multipart/form-data; boundary=x; charset=nonsense",
        "",
    ):
        for body in _BODIES.values():
            answer = await person.http.request(
                method, path, content=body, headers={"Content-Type": content_type}
            )
            assert_refused(answer, 400, 422)


# Fields that a JSON string of any content may be sent in.
_FIELDS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/register", {"email": "a@example.com", "password": "a long password"}),
    ("PATCH", "/me", {"current_password": "x", "new_password": "a long password"}),
    ("DELETE", "/me", {"current_password": "x"}),
    ("POST", "/prediction", {"text": "x"}),
    ("POST", "/predictions/batch", {"texts": ["x"]}),
    ("POST", f"/history/{uuid.UUID(int=1)}/feedback", {"label": "x", "comment": "x"}),
]


@pytest.mark.parametrize("text", ["\ud800", "\udfff\ud800a", "\0", "a\0b", "\uffff", "=1+1"])
@pytest.mark.parametrize(("method", "path", "body"), _FIELDS, ids=lambda it: str(it)[:20])
async def test_no_string_breaks_anything(
    app: FastAPI, person: Person, method: str, path: str, body: dict[str, Any], text: str
) -> None:
    async with app.state.database.sessions() as session:
        user = await session.get_one(User, person.user_id)
        user.password_hash = await app.state.authenticator.passwords.hash("the right one")
        await session.commit()
    for name, value in body.items():
        changed = {**body, name: [text] if isinstance(value, list) else text}
        answer = await person.http.request(
            method,
            path,
            content=json.dumps(changed).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code in (200, 400, 403, 404, 422), answer.text


async def test_of_two_equal_keys_the_last_counts(person: Person) -> None:
    answer = await person.http.post(
        "/prediction",
        content=b'{"text": 1, "text": "computer"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200


class TestMultipart:
    @staticmethod
    async def post(person: Person, *parts: bytes, closed: bool = True) -> httpx.Response:
        body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n" * closed
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return await person.http.post("/object-detection", content=body, headers=headers)

    _HEAD = b'Content-Disposition: form-data; name="image"'

    async def test_ten_thousand_parts(self, person: Person) -> None:
        assert_refused(await self.post(person, *[self._HEAD + b"\r\n\r\nx"] * 10_000), 400)
        file = self._HEAD + b'; filename="a"\r\n\r\nx'
        assert_refused(await self.post(person, *[file] * 10_000), 400)

    async def test_a_file_that_is_text(self, person: Person) -> None:
        assert_refused(await self.post(person, self._HEAD + b"\r\n\r\nhello"), 422)

    async def test_a_text_of_megabytes(self, person: Person) -> None:
        huge = self._HEAD + b"\r\n\r\n" + b"x" * 1_050_000
        assert_refused(await self.post(person, huge), 400, 413)

    async def test_parts_without_name_or_end(self, person: Person) -> None:
        assert_refused(await self.post(person, b"Content-Disposition: form-data\r\n\r\nx"), 400)
        assert_refused(await self.post(person, b"\r\nx"), 400)

    # The parser leaves the file that it had begun to the garbage collector.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_a_body_that_ends_too_early(self, person: Person) -> None:
        image = self._HEAD + b'; filename="a.jpg"\r\n\r\n' + jpeg()
        assert_refused(await self.post(person, image, closed=False), 400, 422)
        gc.collect()

    async def test_a_file_name_that_is_no_text(self, person: Person) -> None:
        head = self._HEAD + b'; filename="\xed\xa0\x80\xff%00.jpg"\r\n\r\n'
        answer = await self.post(person, head + jpeg())
        assert answer.status_code == 200, answer.text
        (item,) = await person.history()
        assert item["input"]["name"]

    async def test_a_head_of_megabytes(self, person: Person) -> None:
        long = self._HEAD + b'; filename="' + b"a" * 900_000 + b'"\r\n\r\nx'
        assert_refused(await self.post(person, long), 400)
        many = self._HEAD + b'; filename="a"\r\n' + b"X: y\r\n" * 100_000 + b"\r\nx"
        assert_refused(await self.post(person, many), 400)


async def test_a_decompression_bomb_is_refused_before_it_is_decoded(person: Person) -> None:
    bomb = png_bomb(100_000, 100_000)
    answer = await person.http.post("/object-detection", files={"image": ("a.png", bomb)})
    assert_refused(answer, 413)


@pytest.mark.parametrize(
    "message",
    [
        "[" * _LEVELS + "]" * _LEVELS,
        '{"labels":' + "[" * _LEVELS + "]" * _LEVELS + "}",
        '{"\\ud800": 1}',
        '{"threshold": 1e999}',
        '{"threshold": NaN}',
        '{"labels": ["\\ud800"]}',
        "\0",
        "",
    ],
    ids=lambda message: message[:12],
)
async def test_a_stream_closes_on_a_message_it_cannot_understand(
    app: FastAPI, person: Person, message: str
) -> None:
    async with open_stream(app, headers={"X-API-Key": person.key}) as stream:
        await stream.session.send_text(message)
        with pytest.raises(WebSocketDisconnect) as closed:
            raise await stream.closing()
        assert closed.value.code == 1003


@pytest.mark.parametrize(
    "path",
    [
        "/history?label=%00",
        "/history?cursor=%00",
        "/history?limit=99999999999999999999999",
        "/history?from=0001-01-01T00:00:00%2B23:59",
        "/history?" + "&".join(f"a{number}=1" for number in range(5000)),
        "/history.csv?label=%00",
        "/history/%00",
        "/models/%00",
        "/models/..%2f..%2fmanifest.json",
        "/static/%00",
        "/static/..%2f..%2fconfig.py",
        "/static/" + "a" * 5000,
    ],
    ids=lambda path: path[:24],
)
async def test_a_path_that_leads_nowhere_is_refused(person: Person, path: str) -> None:
    assert_refused(await person.http.get(path), 400, 404, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "x" * 60_000},
        {"X-API-Key": b"\xff\xfe"},
        {"Authorization": b"Bearer \xff"},
        {"Authorization": "Bearer " + "x" * 60_000},
        {"Cookie": "lookout_session=" + "x" * 60_000},
        {"Cookie": b"lookout_session=\xff\xfe"},
    ],
    ids=lambda headers: str(headers)[:28],
)
async def test_a_credential_that_is_none_is_refused(
    visitor: httpx.AsyncClient, headers: dict[str, Any]
) -> None:
    assert_refused(await visitor.get("/me", headers=headers), 401)
