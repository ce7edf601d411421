"""The application as a whole: its document, its start and end, and several processes of it."""

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.databases import temporary_database
from tests.support.checkpoints import write_checkpoint
from tests.support.manifests import write_manifest
from tests.support.pictures import jpeg
from tests.support.servers import Server, environment, running_servers
from tests.support.service import ROOT, Person, http_client, new_person, open_stream, running_app
from tests.support.waiting import PATIENCE_S, until

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def small_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector") / "small"
    write_checkpoint(folder)
    return folder


class TestDocument:
    """The OpenAPI document, which clients are generated from."""

    @pytest.fixture
    async def document(self, visitor: httpx.AsyncClient) -> dict[str, Any]:
        answer = await visitor.get("/openapi.json")
        assert answer.status_code == 200
        document: dict[str, Any] = answer.json()
        return document

    def operations(self, document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return [
            (f"{method.upper()} {path}", operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    async def test_every_operation_says_what_it_is(self, document: dict[str, Any]) -> None:
        operations = self.operations(document)
        assert len(operations) > 25
        known = {tag["name"] for tag in document["tags"]}
        for name, operation in operations:
            assert operation.get("summary"), name
            assert operation.get("tags"), name
            assert set(operation["tags"]) <= known, name
        ids = [operation["operationId"] for _, operation in operations]
        assert len(set(ids)) == len(ids)

    async def test_what_needs_an_identity_declares_its_refusals(
        self, document: dict[str, Any]
    ) -> None:
        for name, operation in self.operations(document):
            if operation.get("security"):
                assert "401" in operation["responses"], name
                error = operation["responses"]["401"]["content"]["application/json"]["schema"]
                assert error == {"$ref": "#/components/schemas/ErrorResponse"}, name

    async def test_inference_declares_all_its_errors(self, document: dict[str, Any]) -> None:
        common = {"200", "401", "403", "413", "422", "429", "503", "504"}
        paths = document["paths"]
        for path in ("/prediction", "/predictions/batch"):
            assert common <= paths[path]["post"]["responses"].keys()
        detection = paths["/object-detection"]["post"]["responses"]
        assert common | {"415"} <= detection.keys()
        assert {"application/json", "image/png", "image/jpeg"} <= detection["200"]["content"].keys()

    async def test_every_reference_leads_somewhere(self, document: dict[str, Any]) -> None:
        pattern = r'"\$ref": "#/components/schemas/([^"]+)"'
        references = set(re.findall(pattern, json.dumps(document)))
        assert references
        assert references <= document["components"]["schemas"].keys()

    async def test_the_three_ways_in_are_there(self, document: dict[str, Any]) -> None:
        schemes = {one["type"] for one in document["components"]["securitySchemes"].values()}
        assert schemes == {"oauth2", "apiKey"}


class TestEveryAnswer:
    async def test_it_has_an_id_that_the_client_may_choose(
        self, visitor: httpx.AsyncClient
    ) -> None:
        answer = await visitor.get("/health/live", headers={"X-Request-ID": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        answer = await visitor.get("/nowhere", headers={"X-Request-ID": "not mine\n"})
        assert answer.headers["x-request-id"] not in ("", "not mine")
        assert answer.json()["request_id"] == answer.headers["x-request-id"]

    async def test_a_path_that_is_not_there(self, visitor: httpx.AsyncClient) -> None:
        answer = await visitor.get("/nowhere")
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"

    async def test_a_method_that_is_not_there(self, visitor: httpx.AsyncClient) -> None:
        answer = await visitor.put("/prediction", json={"text": "a"})
        assert answer.status_code == 405
        assert answer.json()["code"] == "method_not_allowed"
        assert "POST" in answer.headers["allow"]

    async def test_it_has_the_security_headers(self, visitor: httpx.AsyncClient) -> None:
        headers = (await visitor.get("/health/live")).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
async def open_app(request: pytest.FixtureRequest, small_detector: Path) -> AsyncIterator[FastAPI]:
    """A service that serves callers without identity, six times a minute."""
    async with (
        temporary_database(request.param) as url,
        running_app(
            url, small_detector, anonymous_inference=True, anonymous_requests_per_minute=6
        ) as app,
    ):
        yield app


class TestAnonymousInference:
    """On both databases, since nothing may be kept in either."""

    def anonymous(self, app: FastAPI, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://lookout.test")

    async def test_it_serves_and_keeps_nothing(self, open_app: FastAPI) -> None:
        async with self.anonymous(open_app, "198.51.100.1") as client:
            text = await client.post("/prediction", json={"text": "a cpu"})
            image = await client.post("/object-detection", files={"image": jpeg()})
            assert (text.status_code, image.status_code) == (200, 200)
            assert (await client.get("/history")).status_code == 401
        async with open_app.state.database.engine.connect() as connection:
            rows = await connection.exec_driver_sql("SELECT count(*) FROM predictions")
            assert rows.scalar_one() == 0

    async def test_it_serves_streams(self, open_app: FastAPI) -> None:
        async with open_stream(open_app) as stream:
            await stream.send(jpeg())
            assert (await stream.answer())["frame"] == 1

    async def test_too_many_requests_of_one_address(self, open_app: FastAPI) -> None:
        async with self.anonymous(open_app, "198.51.100.2") as client:
            statuses = [
                (await client.post("/prediction", json={"text": "a"})).status_code for _ in range(8)
            ]
            assert statuses[:6] == [200] * 6
            assert 429 in statuses[6:]
            answer = await client.post("/prediction", json={"text": "a"})
            assert answer.json()["code"] == "too_many_requests"
            assert int(answer.headers["retry-after"]) >= 1
        async with self.anonymous(open_app, "198.51.100.3") as client:
            assert (await client.get("/models")).status_code == 200

    async def test_who_has_an_account_has_no_such_limit(self, open_app: FastAPI) -> None:
        async with new_person(open_app) as person:
            for _ in range(10):
                answer = await person.http.post("/prediction", json={"text": "a"})
                assert answer.status_code == 200
            assert len(await person.history()) == 10

    async def test_a_dead_key_is_not_an_anonymous_caller(self, open_app: FastAPI) -> None:
        async with http_client(open_app, headers={"X-API-Key": "lkk_" + "x" * 43}) as client:
            answer = await client.post("/prediction", json={"text": "a"})
            assert answer.status_code == 401


class TestLife:
    async def test_what_is_in_progress_at_the_end_is_finished(self, small_detector: Path) -> None:
        threads = set(threading.enumerate())
        async with temporary_database("sqlite") as url:
            async with running_app(url, small_detector) as app, new_person(app) as person:
                tasks = [
                    asyncio.create_task(person.http.post("/prediction", json={"text": f"text {i}"}))
                    for i in range(20)
                ]
                await until(lambda: app.state.engine.get("newsgroups").batcher.stats.submitted > 0)
            answers = await asyncio.gather(*tasks)
        assert {answer.status_code for answer in answers} <= {200, 503}
        left = [thread.name for thread in set(threading.enumerate()) - threads]
        assert not [name for name in left if name.startswith("model-")]

    async def test_the_same_process_can_start_it_again(self, small_detector: Path) -> None:
        async with temporary_database("sqlite") as url:
            for _ in range(2):
                async with running_app(url, small_detector) as app, http_client(app) as client:
                    assert (await client.get("/health/ready")).status_code == 200


async def fail_to_start(**settings: str) -> str:
    """What a server says that cannot start."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app.serve"],
        cwd=ROOT,
        env=environment(PORT="1", **settings),
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE_S,
        check=False,
    )
    assert done.returncode not in (0, None), done.stderr
    return done.stderr


class TestFailedStart:
    """One clear sentence, and no traceback to look for it in."""

    async def test_a_model_that_was_named_and_cannot_be_had(self, tmp_path: Path) -> None:
        models = tmp_path / "models"
        (models / "newsgroups").mkdir(parents=True)
        (models / "newsgroups" / "pipeline.joblib").write_bytes(b"first")
        write_manifest(models, "newsgroups")
        (models / "newsgroups" / "pipeline.joblib").write_bytes(b"second")
        settings = {
            "DATABASE_URL": f"sqlite:///{tmp_path}/lookout.db",
            "DETECTION_MODEL": str(models / "newsgroups"),
        }
        unknown, tampered, no_models = await asyncio.gather(
            fail_to_start(**settings | {"DETECTION_MODEL": "hustvl/nobody"}),
            fail_to_start(**settings, MODELS_DIR=str(models)),
            fail_to_start(**settings, MODELS_DIR=str(tmp_path / "nowhere")),
        )
        assert "hustvl/nobody is not cached" in unknown
        assert "is not the file of the manifest" in tampered
        assert "manifest.json cannot be read" in no_models
        for errors in (unknown, tampered, no_models):
            assert "Lookout cannot start" in errors
            assert "Traceback" not in errors

    async def test_a_setting_that_makes_no_sense(self) -> None:
        device, production = await asyncio.gather(
            fail_to_start(DEVICE="abacus"), fail_to_start(ENVIRONMENT="production", SECRET_KEY="")
        )
        assert "device" in device.lower()
        assert "SECRET_KEY" in production
        assert "Traceback" not in device + production


class Account:
    """Somebody who signed up at one of several servers."""

    def __init__(self, name: str) -> None:
        self.email = f"{name}@example.com"

    async def register(self, server: Server) -> None:
        async with server.client() as client:
            answer = await client.post(
                "/register", json={"email": self.email, "password": PASSWORD}
            )
            assert answer.status_code == 201, answer.text

    async def sign_in(self, server: Server) -> dict[str, str]:
        async with server.client() as client:
            form = {"username": self.email, "password": PASSWORD}
            answer = await client.post("/token", data=form)
            assert answer.status_code == 200, answer.text
            return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture(scope="module")
async def servers(
    small_detector: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Server]]:
    folder = tmp_path_factory.mktemp("two")
    async with (
        temporary_database("sqlite") as url,
        running_servers(
            2, folder, DATABASE_URL=url, DETECTION_MODEL=str(small_detector)
        ) as servers,
    ):
        yield servers


class TestTwoProcesses:
    """On one SQLite database."""

    async def test_what_one_revokes_is_dead_in_the_other(self, servers: list[Server]) -> None:
        one, other = servers
        account = Account("revoked")
        await account.register(one)
        token = await account.sign_in(other)
        async with one.client(headers=token) as here, other.client(headers=token) as there:
            for client in (here, there):
                answer = await client.post("/prediction", json={"text": "a cpu"})
                assert answer.status_code == 200
            assert (await here.post("/logout")).status_code == 204
            # At once where it was revoked …
            assert (await here.get("/me")).status_code == 401
            # … and soon in the other.
            async with asyncio.timeout(PATIENCE_S):
                # Another process knows no event of ours.
                while (await there.get("/me")).status_code != 401:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            answer = await there.post("/prediction", json={"text": "a cpu"})
            assert answer.status_code == 401

    async def test_both_write_the_history_at_once(self, servers: list[Server]) -> None:
        account = Account("busy")
        await account.register(servers[0])
        token = await account.sign_in(servers[0])
        async with servers[0].client(headers=token) as a, servers[1].client(headers=token) as b:
            answers = await asyncio.gather(
                *(
                    client.post("/prediction", json={"text": f"text {i}"})
                    for i in range(30)
                    for client in (a, b)
                )
            )
            assert {answer.status_code for answer in answers} == {200}
            ids = {answer.json()["id"] for answer in answers}
            for client in (a, b):
                page = (await client.get("/history", params={"limit": 100})).json()["items"]
                assert {item["id"] for item in page} == ids


def stream_url(server: Server, headers: dict[str, str]) -> str:
    token = headers["Authorization"].removeprefix("Bearer ")
    return f"ws://127.0.0.1:{server.port}/object-detection?token={token}"


async def test_a_server_that_ends_tells_its_streams_and_keeps_their_records(
    small_detector: Path, tmp_path: Path
) -> None:
    async with (
        temporary_database("sqlite") as url,
        running_servers(
            1,
            tmp_path,
            DATABASE_URL=url,
            DETECTION_MODEL=str(small_detector),
            MAX_IMAGE_BYTES=str(2**20),
        ) as (server,),
    ):
        account = Account("streaming")
        await account.register(server)
        address = stream_url(server, await account.sign_in(server))

        async with connect(address, max_size=None) as socket:
            await socket.send(jpeg())
            assert '"frame":1' in str(await socket.recv())
            await socket.send(b"\0" * (2**20 + 1))
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1009

        async with connect(f"{address}x") as socket:
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1008

        async with connect(address) as socket:
            await socket.send(jpeg())
            assert '"frame":1' in str(await socket.recv())
            stopping = asyncio.create_task(server.stop())
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1012
            # uvicorn ends by the signal itself, when all else is done.
            assert await stopping in (0, -signal.SIGTERM), server.log
        assert "Traceback" not in server.log

        database = sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"))
        try:
            rows = database.execute(
                "SELECT close_code, frames_processed FROM streams ORDER BY created_at"
            ).fetchall()
        finally:
            database.close()
        assert [code for code, _ in rows] == [1009, 1012]
        assert [processed for _, processed in rows] == [1, 1]


async def test_people_see_only_their_own(app: FastAPI, person: Person, admin: Person) -> None:
    answer = await person.http.post("/prediction", json={"text": "mine"})
    assert await admin.history() == []
    item = f"/history/{answer.json()['id']}"
    assert (await person.http.get(item)).status_code == 200
    assert (await admin.http.get(item)).status_code == 404
