"""Who is refused at once after a refusal, what they are told, and when they may ask again."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.inference.base import QueueFullError
from app.monitoring.middleware import RequestObserver
from app.shedding import MAX_BODY_BYTES, LoadShedder
from benchmarks.load import drive, http_post
from tests.auth.support import Clock
from tests.databases import temporary_database
from tests.support.servers import running_servers
from tests.support.waiting import PATIENCE_S

KEY = (b"x-api-key", b"lk_one")
FULL = QueueFullError(retry_after_s=3, full="newsgroups")
SIZE = 64


def request(
    *headers: tuple[bytes, bytes],
    path: str = "/prediction",
    query: bytes = b"",
    length: bytes | None = b"20",
) -> dict[str, Any]:
    """The scope of a request, as it is when the application has refused it."""
    sizes = [] if length is None else [(b"content-length", length)]
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": [(b"host", b"lookout"), *sizes, *(headers or (KEY,))],
        "client": ("203.0.113.9", 4711),
        "state": {"model": "newsgroups", "request_id": "first"},
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shedder(clock: Clock) -> LoadShedder:
    observer = RequestObserver(access_log=True)
    return LoadShedder(observer, [(b"x-frame-options", b"DENY")], clock=clock)


def parse(answer: bytes | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of an answer."""
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
    assert int(headers["content-length"]) == len(body)
    return headers, json.loads(body)


def test_nobody_is_refused_before_the_application_has_refused(shedder: LoadShedder) -> None:
    assert not shedder.is_active
    assert shedder.refuse(request()) is None


def test_the_answer_is_that_of_the_application_with_an_id_of_its_own(
    shedder: LoadShedder,
) -> None:
    shedder.remember(request(), FULL)
    headers, body = parse(shedder.refuse(request()))
    assert headers["retry-after"] == "3"
    assert headers["content-type"] == "application/json"
    assert headers["x-frame-options"] == "DENY"
    assert body == {
        "detail": QueueFullError.detail,
        "code": "queue_full",
        "request_id": headers["x-request-id"],
    }
    again, _ = parse(shedder.refuse(request()))
    assert again["x-request-id"] != headers["x-request-id"]
    chosen, body = parse(shedder.refuse(request(KEY, (b"x-request-id", b"mine"))))
    assert chosen["x-request-id"] == body["request_id"] == "mine"
    assert shedder.counts == {"newsgroups": 3}


def test_each_is_in_the_access_log(
    shedder: LoadShedder, capsys: pytest.CaptureFixture[str]
) -> None:
    shedder.remember(request(), FULL)
    headers, _ = parse(shedder.refuse(request()))
    (line,) = capsys.readouterr().err.splitlines()
    assert "POST /prediction 503" in line
    assert headers["x-request-id"] in line
    assert "first" not in line


@pytest.mark.parametrize(
    "other",
    [
        request((b"x-api-key", b"lk_two")),
        request((b"host", b"lookout")),
        request(KEY, (b"authorization", b"Bearer lk_one")),
        request(path="/predictions/batch"),
        request(query=b"a=1"),
        # A proxy's, the same for all.
        request((b"authorization", b"Basic bGtfb25l")),
        request() | {"method": "PUT"},
        # Browsers, which need headers of their own.
        request(KEY, (b"origin", b"https://example.com")),
        request(KEY, (b"cookie", b"lookout_session=1")),
        # Bodies that are not to be read for nothing.
        request(length=b"%d" % (MAX_BODY_BYTES + 1)),
        request(length=b"9" * 5000),
        request(length=b"-1"),
        request(length=None),
        request(KEY, (b"transfer-encoding", b"chunked")),
        request(KEY, (b"expect", b"100-continue")),
    ],
)
def test_others_ask_the_application(shedder: LoadShedder, other: dict[str, Any]) -> None:
    shedder.remember(request(), FULL)
    assert shedder.refuse(other) is None
    # Nor is a refusal of theirs held against the first.
    fresh = LoadShedder(RequestObserver(access_log=False), [])
    fresh.remember(other, FULL)
    assert fresh.refuse(request()) is None


def test_a_token_written_otherwise_is_the_same_caller(shedder: LoadShedder) -> None:
    shedder.remember(request((b"authorization", b"Bearer lk_one")), FULL)
    assert shedder.refuse(request((b"authorization", b"bearer   lk_one "))) is not None


def test_an_error_that_says_nothing_of_the_next_request_is_not_remembered(
    shedder: LoadShedder,
) -> None:
    shedder.remember(request(), QueueFullError(retry_after_s=3))
    assert not shedder.is_active


def test_as_many_pass_as_there_are_places(shedder: LoadShedder) -> None:
    two = [request((b"x-api-key", name)) for name in (b"lk_one", b"lk_two")]
    for scope in two:
        shedder.remember(scope, FULL)
    shedder.on_batch("newsgroups", 0, SIZE - 6, SIZE)
    for scope in two:
        passed = [shedder.refuse(scope) is None for _ in range(5)]
        assert passed == [True] * 3 + [False] * 2
    # What was not used is not added up.
    shedder.on_batch("newsgroups", 0, SIZE - 6, SIZE)
    shedder.on_batch("newsgroups", 0, SIZE - 4, SIZE)
    assert [shedder.refuse(two[0]) is None for _ in range(3)] == [True, True, False]


def test_more_callers_than_places_take_turns(shedder: LoadShedder) -> None:
    three = [request((b"x-api-key", b"lk_%d" % number)) for number in range(3)]
    for scope in three:
        shedder.remember(scope, FULL)
    passed = []
    for _ in range(3):
        shedder.on_batch("newsgroups", 0, SIZE - 1, SIZE)
        passed.append([shedder.refuse(scope) is None for scope in three])
    assert [sum(turn) for turn in passed] == [1, 1, 1]
    assert [sum(of_one) for of_one in zip(*passed, strict=True)] == [1, 1, 1]


def test_where_others_fill_each_place_they_may_ask_for_those_of_the_next_batch(
    shedder: LoadShedder,
) -> None:
    shedder.remember(request(), FULL)
    shedder.on_batch("newsgroups", 2, SIZE, SIZE)
    assert [shedder.refuse(request()) is None for _ in range(3)] == [True, True, False]


def test_when_the_queue_is_nearly_empty_all_is_forgotten(shedder: LoadShedder) -> None:
    shedder.remember(request(), FULL)
    other = request(path="/object-detection")
    shedder.remember(other, QueueFullError(full="yolos"))
    shedder.on_batch("newsgroups", 0, 1, SIZE)
    assert shedder.refuse(request()) is None
    assert shedder.refuse(other) is not None


def test_it_is_not_remembered_for_longer_than_a_second_without_a_batch(
    shedder: LoadShedder, clock: Clock
) -> None:
    shedder.remember(request(), FULL)
    clock.present += 0.9
    shedder.on_batch("newsgroups", 0, SIZE, SIZE)
    clock.present += 0.9
    assert shedder.refuse(request()) is not None
    clock.present += 0.2
    assert shedder.refuse(request()) is None


async def test_a_real_server_refuses_early_and_answers_what_it_takes(
    detection_model: Path, tmp_path: Path
) -> None:
    account = {"email": "ada@example.com", "password": "the password of ada"}
    async with (
        temporary_database("sqlite") as url,
        running_servers(
            1, tmp_path, DATABASE_URL=url, DETECTION_MODEL=str(detection_model), QUEUE_SIZE="8"
        ) as (server,),
        server.client() as client,
    ):
        await client.post("/register", json=account)
        form = {"username": account["email"], "password": account["password"]}
        token = (await client.post("/token", data=form)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

        def make(index: int) -> bytes:
            return http_post("/prediction", headers, b'{"text": "number %d"}' % index)

        load = await drive(
            server.port,
            make,
            per_s=5000,
            seconds=2,
            max_connections=200,
            check=lambda _index, body: b'"category"' in body,
        )
        assert set(load.statuses) == {200, 503}
        assert load.wrong == load.unexplained == load.unanswered == 0
        refused = load.statuses[503]
        # The counters are published once a second.
        async with asyncio.timeout(PATIENCE_S):
            counts = await count_refusals(client)
            while sum(counts.values()) < refused:
                await asyncio.sleep(0.1)
                counts = await count_refusals(client)
        assert sum(counts.values()) == refused
        assert counts["shed"] > 0
        # Nothing of it lasts.
        answer = await client.post("/prediction", json={"text": "afterwards"}, headers=headers)
        assert answer.status_code == 200


async def count_refusals(client: httpx.AsyncClient) -> dict[str, float]:
    """By reason, of the text model."""
    text = (await client.get("/metrics")).text
    found = re.findall(
        r'^lookout_inference_refusals_total\{model="newsgroups",reason="(\w+)"\} (\S+)$', text, re.M
    )
    return {reason: float(count) for reason, count in found}
